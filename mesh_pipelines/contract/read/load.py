"""A product's folder to a ``DataProduct``: the standard's schema first, then the model, then our policies.

Each stage collects all it finds, and one broken contract never hides another: ``load_products`` gives the sound
products and, beside them, the faults of the others. Nothing outside a product's own folder is read on its behalf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mesh_pipelines.collector import without_collector
from mesh_pipelines.contract import names
from mesh_pipelines.contract.model import TRANSFORM, DataProduct
from mesh_pipelines.contract.read.between import faults_between
from mesh_pipelines.contract.read.contract_file import (
    CONTRACT,
    LOOKED_FOR,
    contract_file,
    contract_files,
    contract_under_other_name,
)
from mesh_pipelines.contract.read.document import FaultyDocument, parse_document, read_document, read_text
from mesh_pipelines.contract.read.kept import Kept
from mesh_pipelines.errors import ContractInvalid, Fault
from mesh_pipelines.formats.registered import schema_files


@dataclass(frozen=True)
class ContractFiles:
    """The texts of the files that make a contract; ``schemas`` has those of events, by the name of their file."""

    contract: str
    transform: str = ""
    schemas: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Loaded:
    """The products of an assets folder: sound ones, and the faults of broken ones, both by ``domain.name``."""

    products: Mapping[str, DataProduct] = field(default_factory=dict[str, DataProduct])
    broken: Mapping[str, ContractInvalid] = field(default_factory=dict[str, ContractInvalid])


def product_files(folder: Path) -> tuple[str, ...]:
    """The names of the files that the product of a folder is made of, whether or not each is there."""
    contracts = [file.name for file in contract_files(folder)] or [CONTRACT]
    return *contracts, TRANSFORM, *schema_files()


def load_products(assets: Path, kept: Path | None = None) -> Loaded:
    """Every product under ``<assets>/<domain>/<product>/``; a folder without a product's files is not one.

    ``kept`` is a file that spares reading contracts again that have not changed.
    """
    with without_collector():
        return _load(assets, Kept(kept))


def _load(assets: Path, keeper: Kept) -> Loaded:
    products: dict[str, DataProduct] = {}
    broken: dict[str, ContractInvalid] = {}
    for folder in product_folders(assets):
        name = _fqn(folder)
        try:
            _check_links(folder)
            products[name] = keeper.product(folder, product_files(folder), load_product)
        except ContractInvalid as error:
            broken[name] = error
    keeper.save()
    between: dict[str, list[Fault]] = {}
    for name, fault in faults_between(products, broken.keys()):
        between.setdefault(name, []).append(fault)
    for name, faults in between.items():
        broken[name] = ContractInvalid(name, tuple(faults))
        del products[name]
    return Loaded(products, dict(sorted(broken.items())))


def load_product(folder: Path) -> DataProduct:
    """The product of one folder.

    Raises:
        ContractInvalid: with every fault of its files.
    """
    if not folder.parent.name:
        folder = folder.absolute()
    _check_links(folder)
    _check_one_contract(folder)
    # The standard's schema and the parsers of rules are not needed for what is kept.
    from mesh_pipelines.contract.read.build import build_product, read_texts
    from mesh_pipelines.contract.read.standard import check

    try:
        document = read_document(contract_file(folder))
        return build_product(folder, document, check(document), read_texts(folder))
    except FaultyDocument as error:
        raise ContractInvalid(_fqn(folder), tuple(sorted(set(error.faults)))) from error


def read_files(folder: Path) -> ContractFiles:
    """The texts that the product of a folder is made of, as they stand.

    Raises:
        ContractInvalid: a file cannot be read.
    """
    from mesh_pipelines.contract.read.build import read_texts

    texts = read_texts(folder)
    if texts.faults:
        raise ContractInvalid(_fqn(folder), texts.faults)
    try:
        return ContractFiles(read_text(contract_file(folder)), texts.transform, texts.schemas)
    except FaultyDocument as error:
        raise ContractInvalid(_fqn(folder), tuple(error.faults)) from error


def files_of(product: DataProduct) -> ContractFiles:
    """The texts that a product was made of: those of its folder, if they still make just this contract.

    Raises:
        ContractInvalid: a file cannot be read, or says something else than what was read and checked.
    """
    files = read_files(product.folder)
    try:
        found = hash_of(product.folder, files)
    except FaultyDocument as error:
        raise ContractInvalid(product.fqn, tuple(error.faults)) from error
    if found != product.contract_hash:
        fault = Fault(contract_file(product.folder), 0, "", "has changed since it was checked", "try again")
        raise ContractInvalid(product.fqn, (fault,))
    return files


def hash_of(folder: Path, files: ContractFiles) -> str:
    """The contract hash of these texts.

    Raises:
        FaultyDocument: the contract is not YAML.
    """
    from mesh_pipelines.contract.read.build import Texts, contract_hash

    document = parse_document(contract_file(folder), files.contract)
    return contract_hash(document, Texts(files.transform, files.schemas))


def product_of(folder: Path, files: ContractFiles) -> DataProduct | None:
    """The product of a contract as it was applied: faults that it has by rules of a later day do not count.

    ``folder`` gives the product its name; nothing is read from it. None where the texts cannot be understood.
    """
    from mesh_pipelines.contract.read.build import Texts, rebuild_product
    from mesh_pipelines.contract.read.standard import check

    try:
        document = parse_document(contract_file(folder), files.contract)
        return rebuild_product(folder, document, check(document), Texts(files.transform, files.schemas))
    except FaultyDocument:
        return None


def product_folders(assets: Path) -> Iterator[Path]:
    """The folders of products, sound or not; what begins with a dot or an underscore holds none."""
    for domain in _folders(assets):
        for folder in _folders(domain):
            found = {entry.name for entry in folder.iterdir()}
            if found & {*product_files(folder)} or contract_under_other_name(folder):
                yield folder


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith((".", "_")))


def _check_links(folder: Path) -> None:
    """Refuse links: what a product is made of is in its folder, where review and version control see it."""
    links = [
        path
        for path in (folder.parent, folder, *(folder / name for name in product_files(folder)))
        if path.is_symlink()
    ]
    if links:
        fix = "put the file or folder itself there"
        faults = [Fault(path, 0, "", "must not be a link", fix) for path in links]
        raise ContractInvalid(_fqn(folder), tuple(sorted(faults)))


def _check_one_contract(folder: Path) -> None:
    """Refuse a folder with two contracts, or with one under a name that is looked for nowhere."""
    found = contract_files(folder)
    if len(found) > 1:
        fix = "keep one of them; a product has one contract"
        others = ", ".join(file.name for file in found)
        faults = [Fault(found[0], 0, "", f"is not the only contract here: {others}", fix)]
        raise ContractInvalid(_fqn(folder), tuple(faults))
    if not found and folder.is_dir() and (other := contract_under_other_name(folder)):
        fault = Fault(other, 0, "", f"is not the name of a contract: {LOOKED_FOR}", f"rename it to {CONTRACT}")
        raise ContractInvalid(_fqn(folder), (fault,))


def _fqn(folder: Path) -> str:
    return names.fqn(folder.parent.name, folder.name)
