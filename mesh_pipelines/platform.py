"""The one object every step is handed: settings, the products of the assets folder, and open doors to the services.

A contract's file proposes, the contract that was applied rules (``lake/applied.py``): ``proposed`` are the files,
``products`` what steps and readers go by. Doors are opened when first used, so a command that only reads contracts
starts no client and opens no catalog.
"""

from __future__ import annotations

import difflib
import getpass
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, wraps
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from mesh_pipelines.contract.model import DataProduct, Field
from mesh_pipelines.contract.read.load import ContractFiles, files_of, load_products
from mesh_pipelines.contract.telling import unquoted
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import ContractInvalid, ContractNotApplied, TableDamaged, UnknownProduct
from mesh_pipelines.kafka.registry import Registry
from mesh_pipelines.lake.applied import applied_hashes, catalogued, kept_contract
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.properties import TableProperties
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from mesh_pipelines.kafka.admin import StreamAdmin
    from mesh_pipelines.lake.product_tables import ProductTables

P = ParamSpec("P")
T = TypeVar("T")

# Under the home folder: contracts that were sound as they stand.
_KEPT = "contracts.json"
_DOORS = ("catalog", "tables", "streams", "registry")


@dataclass(eq=False)
class Platform:
    """Settings, contracts as their files have them by ``domain.name``, the faults of broken ones, and clients."""

    settings: Settings
    proposed: Mapping[str, DataProduct]
    broken: Mapping[str, ContractInvalid] = field(default_factory=dict[str, ContractInvalid])

    @classmethod
    def open(cls, settings: Settings | None = None) -> Platform:
        """The platform of these settings (default: this process's environment); broken contracts are set aside."""
        settings = settings or Settings.load()
        loaded = load_products(settings.assets, settings.home / _KEPT)
        return cls(settings, loaded.products, loaded.broken)

    def reloaded(self) -> Platform:
        """The same platform with the contracts as they are now; doors that were opened stay open."""
        fresh = Platform.open(self.settings)
        for door in _DOORS:
            if door in self.__dict__:
                fresh.__dict__[door] = self.__dict__[door]
        return fresh

    @cached_property
    def products(self) -> Mapping[str, DataProduct]:
        """The products that have a file, by ``domain.name``: under the contract applied last, else as proposed."""
        hashes = self.applied_hashes(sorted({*self.proposed, *self.broken}))
        ruling: dict[str, DataProduct | None] = {}
        for name in sorted({*self.proposed, *hashes}):
            try:
                ruling[name] = self._under(name, hashes.get(name))
            except TableDamaged:
                ruling[name] = self.proposed.get(name)
        return {name: product for name, product in ruling.items() if product}

    @cached_property
    def in_order(self) -> tuple[DataProduct, ...]:
        """All products, every one after its inputs."""
        return ordered(self.products)

    def product(self, fqn: str) -> DataProduct:
        """The product named ``domain.name``, under the contract applied last; it needs no file once it was applied.

        Raises:
            ContractInvalid: its contract was never applied and has faults.
            UnknownProduct: that product does not exist; similar names are given.
        """
        if "products" in self.__dict__ and fqn in self.products:
            return self.products[fqn]
        if "." in fqn and (product := self._under(fqn, self.applied_hashes([fqn]).get(fqn))):
            return product
        if fqn in self.broken:
            raise self.broken[fqn]
        raise self._unknown(fqn)

    def proposal(self, fqn: str) -> DataProduct | ContractInvalid:
        """A product as its file has it, or the faults of the file.

        Raises:
            UnknownProduct: it has no file; near names are given.
        """
        found = self.proposed.get(fqn) or self.broken.get(fqn)
        if found is None:
            raise self._unknown(fqn)
        return found

    @cached_property
    def fileless(self) -> Mapping[str, DataProduct]:
        """Products that were applied and have no contract file: their versions stay readable, and nothing runs them."""
        hashes = self.applied_hashes(set(catalogued(self.tables)) - {*self.proposed, *self.broken})
        return {name: found for name, hash_ in sorted(hashes.items()) if hash_ and (found := self._under(name, hash_))}

    def _unknown(self, fqn: str) -> UnknownProduct:
        near = difflib.get_close_matches(fqn, [*self.proposed, *self.broken], n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        return UnknownProduct(f"no contract under {self.settings.assets} declares {fqn}{hint}", next_step="mesh status")

    def applied_hashes(self, names: Iterable[str]) -> dict[str, str | None]:
        """By product: the hash of the contract applied last; None for tables from before contracts were kept.

        Products without tables are left out, and those whose tables are damaged: steps and readers say so of them.
        """
        names = list(names)
        try:
            return applied_hashes(self.tables, names)
        except TableDamaged:
            found: dict[str, str | None] = {}
            for name in names:
                with suppress(TableDamaged):
                    found |= applied_hashes(self.tables, [name])
            return found

    def ruling(self, product: DataProduct) -> DataProduct:
        """The product under the contract applied last, looked up now; as it is where it was never applied.

        Tables made before contracts were kept take the file's contract, if it is that of their newest candidate.

        Raises:
            ContractNotApplied: those tables were made under another contract than the file's.
        """
        name = product.fqn
        hashes = applied_hashes(self.tables, [name])
        if name not in hashes:
            return product
        applied = hashes[name]
        if applied is None:
            return self._adopted(product)
        if applied == product.contract_hash:
            return product
        found = self._under(name, applied)
        assert found is not None, f"{name}: its tables have a contract"
        return found

    def unapplied(self, names: Iterable[str]) -> dict[str, str]:
        """By product: what its file says that is not applied, and so changes nothing; only those that differ."""
        found = {name: self._difference(name, applied) for name, applied in self.applied_hashes(names).items()}
        return {name: text for name, text in found.items() if text}

    def _difference(self, fqn: str, applied: str | None) -> str | None:
        proposed = self.proposed.get(fqn)
        if applied is None or (proposed and proposed.contract_hash == applied):
            return None
        if proposed:
            return f"contract {proposed.contract_version} is not applied: mesh plan {fqn}"
        stays = f"contract {self.product(fqn).contract_version} stays applied"
        if fqn in self.broken:
            return f"its contract file has {counted(len(self.broken[fqn].faults), 'fault')} (mesh lint {fqn}); {stays}"
        return f"it has no contract file under {self.settings.assets}, so nothing runs it; {stays}"

    def files_of(self, product: DataProduct) -> ContractFiles:
        """The texts that a product's contract was applied with; those of its folder where it never was.

        Raises:
            ContractInvalid: it never was, and a file cannot be read or is not the one that was checked.
        """
        if product.fqn in self.applied_hashes([product.fqn]):
            kept = self.tables_of(product).versions.contract(product.contract_hash)
            if kept:
                return kept.files
        return files_of(product)

    def contracts_changed(self) -> None:
        """Forget what was applied: a contract has been applied since."""
        for name in ("products", "in_order", "fileless"):
            self.__dict__.pop(name, None)

    def _under(self, fqn: str, applied: str | None) -> DataProduct | None:
        proposed = self.proposed.get(fqn)
        if applied is None or (proposed and proposed.contract_hash == applied):
            return proposed

        return kept_contract(self.catalog, self.settings.assets, fqn, applied)

    def _adopted(self, product: DataProduct) -> DataProduct:
        from mesh_pipelines.lake.product_tables import ProductTables

        proposed = self.proposed.get(product.fqn, product)
        tables = ProductTables(self.catalog, proposed)
        newest = tables.versions.newest()
        if newest and newest.contract_hash != proposed.contract_hash:
            raise ContractNotApplied(
                f"{product.fqn}: its contract file differs from the contract of its newest version",
                next_step="mesh apply",
            )
        tables.apply(files_of(proposed), operator())
        return proposed

    @cached_property
    def catalog(self) -> Catalog:
        """The Iceberg catalog."""
        return open_catalog(self.settings)

    @cached_property
    def tables(self) -> TableProperties:
        """The properties of the catalog's tables, many at once."""
        return TableProperties(self.catalog)

    def tables_of(self, product: DataProduct) -> ProductTables:
        """The tables of one product, under this contract of it; every look at them is at what they are then."""
        from mesh_pipelines.lake.product_tables import ProductTables

        return ProductTables(self.catalog, product)

    @cached_property
    def streams(self) -> StreamAdmin:
        """The broker's topics."""
        from mesh_pipelines.kafka.admin import StreamAdmin

        return StreamAdmin(self.settings)

    @cached_property
    def registry(self) -> Registry:
        """The schema registry."""
        return Registry(self.settings)


class Readable(Mapping[str, DataProduct]):
    """Every product that can be read, looked up when it is asked for; iterating gives those that have a file."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def __getitem__(self, fqn: str) -> DataProduct:
        try:
            return self._platform.product(fqn)
        except (UnknownProduct, ContractInvalid) as error:
            raise KeyError(fqn) from error

    def __iter__(self) -> Iterator[str]:
        return iter({**self._platform.proposed, **self._platform.broken})

    def __len__(self) -> int:
        return len(self._platform.proposed) + len(self._platform.broken)


def fields_behind(platform: Platform, product: DataProduct) -> tuple[Field, ...]:
    """The fields of whatever a step of a product reads: its own and its inputs', under the contracts that rule."""
    inputs = (platform.products[name] for name in product.inputs if name in platform.products)
    return tuple(each for one in (product, *inputs) for each in one.fields)


@contextmanager
def discreet(platform: Platform, product: DataProduct) -> Generator[None]:
    """Errors of what is done for a product tell no value that is not public, whatever a library says in them.

    Whoever called keeps them: in a log, in Dagster's storage, in the history, in lineage.
    """
    try:
        yield
    except Exception as error:
        told = unquoted(error, fields_behind(platform, product))
        if told is error:
            raise
        raise told from None


def ordered(products: Mapping[str, DataProduct]) -> tuple[DataProduct, ...]:
    """Products, each after those of its inputs that are among them; else by name."""
    graph = {
        name: sorted(one for one in products[name].inputs if one in products and one != name)
        for name in sorted(products)
    }
    return tuple(products[name] for name in TopologicalSorter(graph).static_order())


def by_applied_contract(
    step: Callable[Concatenate[Platform, DataProduct, P], T],
) -> Callable[Concatenate[Platform, DataProduct, P], T]:
    """A step that uses the product's applied contract, whichever it is given: a caller's may be out of date."""

    @wraps(step)
    def bound(platform: Platform, product: DataProduct, *args: P.args, **kwargs: P.kwargs) -> T:
        return step(platform, platform.ruling(product), *args, **kwargs)

    return bound


def operator() -> str:
    """Who runs this process: the user's name, or the number of one without a name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
