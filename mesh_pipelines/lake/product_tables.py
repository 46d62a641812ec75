"""One product's tables: its catalog and its contract, bound in one place and handed on as one thing.

Whatever reads or writes a product's tables is given these. A version is read under the contract it was made under, so
the same tables may be bound to another contract of the product: ``ProductTables(catalog, that_contract)``.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.load import ContractFiles
from mesh_pipelines.lake.applied import AppliedContract, columns_of
from mesh_pipelines.lake.base import BaseTable
from mesh_pipelines.lake.catalog import Kind, create_namespace
from mesh_pipelines.lake.checks import Checks
from mesh_pipelines.lake.commit import TABLE_PROPERTIES
from mesh_pipelines.lake.delta import Changes
from mesh_pipelines.lake.log import Log
from mesh_pipelines.lake.lost import refuse_over_lost
from mesh_pipelines.lake.state import State
from mesh_pipelines.lake.tables import ProductTable, kinds
from mesh_pipelines.lake.versions import Versions
from mesh_pipelines.rules.mask import Mask, mask_of

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

# What a step works on; versions and checks are where writers meet, and are always looked at as they are.
_PINNED: frozenset[Kind] = frozenset({"log", "base"})


class ProductTables:
    """A product's tables in a catalog, under one contract of it.

    ``pinned`` is for one step: its log and its base stay as they were when first loaded (see ``ProductTable``).
    """

    def __init__(self, catalog: Catalog, product: DataProduct, *, pinned: bool = False) -> None:
        self.product = product
        self._catalog = catalog
        every: tuple[Kind, ...] = ("log", "base", "versions", "checks")
        self._tables = {kind: ProductTable(catalog, product, kind, pinned=pinned and kind in _PINNED) for kind in every}
        self.log = Log(self._tables["log"])
        self.versions = Versions(self._tables["versions"])
        self.checks = Checks(self._tables["checks"])
        self.state = State(self._tables["log"], self._tables["base"], self.versions)

    def pinned(self) -> ProductTables:
        """These tables for one step, during which log and base are loaded once."""
        return ProductTables(self._catalog, self.product, pinned=True)

    def under(self, contract_hash: str) -> DataProduct:
        """The product under the contract of this hash: what a version that was audited under it means.

        Versions from before contracts were kept are read by the given contract.
        """
        if contract_hash == self.product.contract_hash:
            return self.product
        kept = self.versions.contract(contract_hash)
        return kept.product if kept else self.product

    def columns(self) -> Table:
        """The table that has every column of the contract: its log, or the base of a product without one."""
        return self.load("log" if self.product.has_log else "base")

    def apply(self, files: ContractFiles, by: str, topic: str | None = None) -> None:
        """Let the product's contract, which is made of these files, rule from now on; ``by`` is who applied it.

        ``topic`` is as in ``Versions.apply``.

        Raises:
            ConcurrentWriter: another writer committed meanwhile; transient.
        """
        columns = columns_of(self.product, self.columns())
        self.versions.apply(AppliedContract(self.product, files, columns), by, topic)

    @cached_property
    def base(self) -> BaseTable:
        """The product's base, to be written."""
        return BaseTable(self.state, self._tables["base"], self.mask)

    @cached_property
    def changes(self) -> Changes:
        """What changes the product's rows from one position to the next."""
        return Changes(self.state, self._tables["base"], self.mask)

    @cached_property
    def mask(self) -> Mask:
        """The contract's row rules as the bits of one number."""
        return mask_of(self.product)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The tables the product has."""
        return kinds(self.product)

    def name(self, kind: Kind) -> tuple[str, str, str]:
        """A table's identifier in the catalog."""
        return self._tables[kind].name

    def load(self, kind: Kind) -> Table:
        """A table as it is now, or as it was when it was pinned.

        Raises:
            TableMissing: the product was not applied.
            TableDamaged: it was, and the table's metadata is gone or torn.
        """
        return self._tables[kind].load()

    def up_to_date(self, kind: Kind) -> Table:
        """What ``load`` gives, with all the columns it is read and written by.

        Raises:
            TableMissing: the product was not applied.
            TableOutdated: it was, but not since the table has these columns.
        """
        return self._tables[kind].up_to_date()

    def missing(self) -> list[Kind]:
        """The tables the product should have and does not."""
        return [kind for kind in self.kinds if not self._tables[kind].exists]

    def were_created(self) -> bool:
        """Whether any of the product's tables exists: where none does, it was never applied."""
        return len(self.missing()) < len(self.kinds)

    def exist(self) -> bool:
        """Whether all of the product's tables exist."""
        return not self.missing()

    def create(self) -> list[Kind]:
        """Create what is missing; gives what was created.

        Raises:
            TablesLost: the warehouse has one of them.
        """
        missing = self.missing()
        if missing:
            refuse_over_lost(self._catalog, self.product.fqn, missing)
            create_namespace(self._catalog, (self.product.domain,))
            create_namespace(self._catalog, (self.product.domain, self.product.name))
        for kind in missing:
            table = self._tables[kind]
            self._catalog.create_table_if_not_exists(table.name, schema=table.schema, properties=dict(TABLE_PROPERTIES))
        return missing
