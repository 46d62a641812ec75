"""Contracts as they were applied: immutable, found by hash, beside the tables they rule.

A contract's file proposes; what was applied rules. Every step goes by the contract applied last, and a version is read
for ever by the contract it was audited under, whatever became of the file. So the texts are kept with the product's
tables, one file a contract, named by its hash: whoever can read the tables can read the contracts that explain them.
Rows of a table were ruled out, since a contract is asked for by its hash alone and never scanned for; table properties
were, since every commit would copy the text.

With the texts goes the field id of each column at that time. A column that is renamed later keeps its id, so a version
from before finds it under its current name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.names import fqn, parts
from mesh_pipelines.contract.read.load import ContractFiles, product_of
from mesh_pipelines.errors import TableDamaged, WrittenByNewer

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from mesh_pipelines.lake.properties import TableProperties

# The hash of the contract applied last, a property of the table of versions.
APPLIED = "mesh.applied"
# The id of the topic that ``mesh apply`` created for the product or took over, beside it; ``FOREIGN`` for another's.
TOPIC = "mesh.topic"
FOREIGN = "foreign"
_FOLDER = "contracts"
# What was read of a contract never changes: by the address of its file.
_read: dict[str, AppliedContract] = {}


@dataclass(frozen=True)
class AppliedContract:
    """A contract as it was applied, and the field id of each of its columns at that time (empty: not known)."""

    product: DataProduct
    files: ContractFiles
    columns: Mapping[str, int] = field(default_factory=dict[str, int])


def applied_hash(properties: Mapping[str, str]) -> str | None:
    """The hash of the contract applied last, as the properties of a table of versions say it."""
    return properties.get(APPLIED)


def applied_hashes(tables: TableProperties, names: Iterable[str]) -> dict[str, str | None]:
    """By product, as ``domain.name``: the hash of the contract applied last; None for tables older than this record.

    Products without tables are left out.
    """
    wanted = {name: (*parts(name), "versions") for name in names}
    found = tables.of(wanted.values())
    return {name: applied_hash(found[table]) for name, table in wanted.items() if table in found}


def catalogued(tables: TableProperties) -> list[str]:
    """The products that have tables, as ``domain.name``, whether or not there is a contract's file."""
    return sorted(f"{name[0]}.{name[1]}" for name in tables.names() if len(name) == 3 and name[2] == "versions")


def kept_contract(catalog: Catalog, assets: Path, fqn: str, contract_hash: str) -> DataProduct:
    """The product ``domain.name`` under a contract that was applied; its file need not be there any more.

    ``assets`` is the folder that its file is, or was, under.

    Raises:
        TableDamaged: what was applied is gone.
    """
    domain, name = parts(fqn)
    table = catalog.load_table((domain, name, "versions"))
    kept = find(table, assets / domain / name, contract_hash)
    if kept is None:
        raise _damaged(fqn, _address(table, contract_hash))
    return kept.product


def store(table: Table, contract: AppliedContract) -> None:
    """Put a contract's file beside the table of versions, before a commit names it."""
    address = _address(table, contract.product.contract_hash)
    text = json.dumps({**asdict(contract.files), "columns": dict(contract.columns)}, ensure_ascii=False)
    with table.io.new_output(address).create(overwrite=True) as stream:
        stream.write(text.encode())


def renamed(table: Table, product: DataProduct, kept: AppliedContract) -> DataProduct:
    """A kept contract with its fields under the names that their columns have in the table now.

    ``product`` is the current contract, whose aliases say what became of a field whose id is not known.
    """
    schema = table.schema()
    former = {alias: one.name for one in product.fields for alias in one.former_columns}

    def now(name: str) -> str:
        if name in kept.columns and (found := schema.find_column_name(kept.columns[name])):
            return found
        return name if name in schema.column_names else former.get(name, name)

    fields = tuple(replace(one, name=now(one.name)) for one in kept.product.fields)
    return replace(kept.product, fields=fields)


def columns_of(product: DataProduct, table: Table) -> dict[str, int]:
    """The field id of each of the contract's columns in a table."""
    known = {column.name: column.field_id for column in table.schema().fields}
    return {one.name: known[one.name] for one in product.fields if one.name in known}


def find(table: Table, folder: Path, contract_hash: str) -> AppliedContract | None:
    """The contract of this hash beside a table of versions; None where it was not kept. ``folder`` names the product.

    Raises:
        TableDamaged: the file is there and does not hold that contract.
    """
    address = _address(table, contract_hash)
    if address not in _read:
        try:
            with table.io.new_input(address).open() as stream:
                raw = json.loads(stream.read())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _damaged(_fqn(folder), address) from error
        _read[address] = _decoded(folder, contract_hash, raw, address)
    return _read[address]


def _decoded(folder: Path, contract_hash: str, raw: dict[str, Any], address: str) -> AppliedContract:
    columns = raw.pop("columns", {})
    if unknown := raw.keys() - {one.name for one in fields(ContractFiles)}:
        raise WrittenByNewer(f"{_fqn(folder)}: {address}", unknown)
    files = ContractFiles(**raw)
    kept = product_of(folder, files)
    if kept is None or kept.contract_hash != contract_hash:
        raise _damaged(_fqn(folder), address)
    return AppliedContract(kept, files, columns)


def _fqn(folder: Path) -> str:
    return fqn(folder.parent.name, folder.name)


def _damaged(fqn: str, address: str) -> TableDamaged:
    return TableDamaged(
        f"{fqn}: {address} does not contain the contract that was applied",
        next_step="restore it from a copy of the warehouse",
    )


def _address(table: Table, contract_hash: str) -> str:
    return f"{table.location()}/{_FOLDER}/{contract_hash}.json"
