"""``mesh import``: files in, product folders out, each with a contract that lints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh_pipelines.contract.read.contract_file import CONTRACT, contract_files
from mesh_pipelines.contract.read.document import FaultyDocument, read_text
from mesh_pipelines.errors import UsageError
from mesh_pipelines.plan.imports.bring import Brought, Wanted, bring, objects
from mesh_pipelines.plan.imports.names import Names
from mesh_pipelines.plan.imports.repair import repair
from mesh_pipelines.plan.imports.text import dump, load

_OTHER_FORMAT = "bring it to ODCS 3 first, for instance with datacontract export --format odcs"


@dataclass(frozen=True)
class Imported:
    """One schema object of a file: the product it became, or the reasons why it became none.

    ``notes`` say what was changed, kept aside or left out; ``written`` is None where nothing was written.
    """

    source: Path
    object: str
    product: str = ""
    written: Path | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def import_files(files: Sequence[Path], assets: Path, wanted: Wanted, *, replace: bool = False) -> Iterator[Imported]:
    """Bring the contracts of files into product folders, one product for each schema object.

    ``replace`` lets it write over contracts that are there.
    """
    taken: dict[str, Names] = {}

    def names(domain: str) -> Names:
        return taken.setdefault(domain, Names())

    for file in files:
        try:
            documents = load(read_text(file), file.name)
        except FaultyDocument as error:
            yield Imported(file, "", problems=tuple(fault.problem for fault in error.faults))
            continue
        except UsageError as error:
            yield Imported(file, "", problems=(error.message,))
            continue
        for document in documents:
            problem = _not_this_standard(document)
            if problem:
                yield Imported(file, "", problems=(problem,))
                continue
            for index, one in enumerate(objects(document)):
                called = str(one.get("name") or one.get("physicalName") or index)
                yield _import(file, called, bring(document, index, wanted, names), assets, replace=replace)
        if not documents:
            yield Imported(file, "", problems=("it is no mapping, and so no contract",))


def _not_this_standard(document: Any) -> str:
    version = str(document.get("apiVersion") or "")
    if "dataContractSpecification" in document:
        return f"it is written by the Data Contract Specification; {_OTHER_FORMAT}"
    if version and not version.lstrip("v").startswith("3"):
        return f"it is of version {version}; {_OTHER_FORMAT}"
    if document.get("kind", "DataContract") != "DataContract":
        return f"it is of kind {document.get('kind')}, not DataContract"
    return "" if objects(document) else "it has no schema object, so there is nothing to make a product of"


def _import(file: Path, called: str, brought: Brought, assets: Path, *, replace: bool) -> Imported:
    product = f"{brought.domain}.{brought.name}"
    folder = assets / brought.domain / brought.name
    there = contract_files(folder)
    if there and not replace:
        problem = f"{there[0]} exists; --replace writes over it, --domain puts it elsewhere"
        return Imported(file, called, product, problems=(problem,))
    if not objects(brought.document)[0].get("properties"):
        problem = "it has no property that can be a column"
        return Imported(file, called, product, notes=tuple(brought.notes), problems=(problem,))
    faults = repair(brought, folder)
    notes = tuple(brought.notes)
    if faults:
        problems = tuple(f"{fault.field}: {fault.problem} ({fault.fix})" for fault in faults)
        return Imported(file, called, product, notes=notes, problems=problems)
    target = there[0] if len(there) == 1 else folder / CONTRACT
    folder.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        return Imported(file, called, product, problems=(f"{target} must not be a link",))
    target.write_text(dump(brought.document), encoding="utf-8")
    return Imported(file, called, product, target, notes)
