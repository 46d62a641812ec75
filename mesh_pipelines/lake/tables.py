"""Which tables a product has, what columns each has by its contract, and how one of them is loaded."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import pyarrow as pa

from mesh_pipelines.audit.history import RESULT_SCHEMA
from mesh_pipelines.contract.envelope import BREAKS, DIGEST, GENERATION, KEY, OFFSET, OP, PARTITION, TIMESTAMP
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import arrow_schema, log_schema
from mesh_pipelines.errors import TableDamaged, TableOutdated
from mesh_pipelines.lake.catalog import Kind, table_missing, table_name
from mesh_pipelines.lake.files import DataFiles
from mesh_pipelines.lake.lost import missing_or_lost

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

BASE_ENVELOPE = (GENERATION, PARTITION, OFFSET, TIMESTAMP, KEY, OP)
# What a base's rows carry besides, so that a few of them are found and judged without reading the others.
BASE_INDEX = pa.schema([pa.field(DIGEST, pa.uuid()), pa.field(BREAKS, pa.int64())])
VERSIONS_SCHEMA = pa.schema(
    [
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("transition", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("candidate_id", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
    ]
)


def table_schema(product: DataProduct, kind: Kind) -> pa.Schema:
    """The table's columns as the contract has them now."""
    match kind:
        case "log":
            return log_schema(product)
        case "base" if not product.has_log:
            return arrow_schema(product)
        case "base":
            log = log_schema(product)
            return pa.schema([*(log.field(name) for name in BASE_ENVELOPE), *BASE_INDEX, *arrow_schema(product)])
        case "versions":
            return VERSIONS_SCHEMA
        case "checks":
            return RESULT_SCHEMA


def kinds(product: DataProduct) -> tuple[Kind, ...]:
    """The tables the product has."""
    if not product.has_log:
        return ("base", "versions", "checks")
    if product.event_type.folds_by_key:
        return ("log", "base", "versions", "checks")
    return ("log", "versions", "checks")


class ProductTable:
    """One of a product's tables, as the catalog has it.

    A ``pinned`` one is loaded once and then stays as it was, but for what this process commits to it: loading costs 4
    ms of parsing, and one step asks for the same table many times. A commit through it holds on the state that was
    loaded, as ever.
    """

    def __init__(self, catalog: Catalog, product: DataProduct, kind: Kind, *, pinned: bool = False) -> None:
        self.product = product
        self.kind: Kind = kind
        self._catalog = catalog
        self._pinned = pinned
        self._loaded: Table | None = None
        self._read: set[str] = set()

    @property
    def name(self) -> tuple[str, str, str]:
        """Its identifier in the catalog."""
        return table_name(self.product, self.kind)

    @property
    def schema(self) -> pa.Schema:
        """Its columns as the contract has them."""
        return table_schema(self.product, self.kind)

    @property
    def exists(self) -> bool:
        """Whether it was created."""
        return self._catalog.table_exists(self.name)

    def load(self) -> Table:
        """The table as it is now, or as it was when it was pinned.

        Raises:
            TableMissing: the product was not applied.
            TablesLost: it was, and the catalog does not know it any more.
            TableDamaged: it was, and the table's metadata is gone or torn.
        """
        if self._loaded is not None:
            return self._loaded
        table = self._load()
        if self._pinned:
            self._loaded = table
        return table

    def up_to_date(self) -> Table:
        """What ``load`` gives, with all the columns it is read and written by.

        Raises:
            TableMissing: the product was not applied.
            TableOutdated: it was, but not since the table has these columns.
        """
        table = self.load()
        known = {column.name for column in table.schema().fields}
        lacking = [name for name in self.schema.names if name not in known]
        if lacking:
            raise TableOutdated(
                f"{self.product.fqn}: its table {self.kind} lacks {', '.join(lacking)} because it is older",
                next_step="mesh apply",
            )
        return table

    def files(self) -> DataFiles:
        """The data files of what ``up_to_date`` gives."""
        return DataFiles(self.up_to_date(), self._read)

    def bound_to(self, product: DataProduct) -> ProductTable:
        """The same table under another contract of the product, pinned to the same state if this one is."""
        other = copy(self)
        other.product = product
        return other

    def noting(self, read: set[str]) -> ProductTable:
        """The same table, which adds the paths of the files that SQL was given for to ``read``."""
        other = copy(self)
        other._read = read
        return other

    def note(self, path: str) -> None:
        """Add the path of a file that SQL reads beside the data files."""
        self._read.add(path)

    def _load(self) -> Table:
        from pyiceberg.exceptions import NoSuchTableError, ValidationError

        try:
            try:
                return self._catalog.load_table(self.name)
            except FileNotFoundError:
                # Writers remove the metadata of many commits ago: what the catalog named may be that by now.
                return self._catalog.load_table(self.name)
        except NoSuchTableError as error:
            missing = table_missing(self.product, self.kind)
            raise missing_or_lost(self._catalog, self.product.fqn, self.kind, missing) from error
        except (FileNotFoundError, ValidationError) as error:
            raise TableDamaged(
                f"{self.product.fqn}: the metadata of its table {self.kind} cannot be read: "
                f"{str(error).splitlines()[0]}",
                next_step="restore it from a copy of the warehouse",
            ) from error
