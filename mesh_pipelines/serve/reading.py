"""Reading a product from Python: one version of it, as Arrow, pandas or a DuckDB relation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import arrow_schema
from mesh_pipelines.engine import View
from mesh_pipelines.errors import UsageError
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.positions import Version
from mesh_pipelines.serve.door import Reader, rows_view

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa
    from pyiceberg.catalog import Catalog


@dataclass(frozen=True)
class Reading:
    """One version of one product, not yet read; each method reads it in another form.

    The version was pinned when this was made: what is published later does not change it.
    """

    tables: ProductTables
    version: Version
    reader: Reader = Reader.PROGRAM

    @property
    def product(self) -> DataProduct:
        """What is read, under the contract that the version was audited under."""
        return self.tables.under(self.version.contract_hash)

    def sql(self) -> str:
        """The rows as a SELECT over data files, contract columns in order."""
        return self.view().sql

    def view(self) -> View:
        """The rows as a SELECT over data files, and what files these are."""
        return rows_view(self.tables, self.version, self.reader)

    def duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """The rows as a lazy relation, on this connection or on one of its own."""
        import duckdb

        if connection is None:
            connection = duckdb.connect()
            connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(self.sql())

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table in the contract's columns and types."""
        return self.duckdb().to_arrow_table().cast(arrow_schema(self.product))

    def pandas(self) -> pd.DataFrame:
        """The rows as a DataFrame with Arrow-backed columns, so that integers with nulls stay integers."""
        import pandas as pd

        return self.arrow().to_pandas(types_mapper=pd.ArrowDtype)


def read_version(
    catalog: Catalog,
    product: DataProduct,
    *,
    version: int | None = None,
    as_of: datetime | str | None = None,
) -> Reading:
    """Pin a version of the product: the published one, one by number, or the one published at a moment.

    Raises:
        NothingPublished, UnknownVersion: that version does not exist.
        UsageError: both ``version`` and ``as_of`` were given, or ``as_of`` is not an ISO 8601 time.
    """
    if version is not None and as_of is not None:
        raise UsageError("give either version or as_of, not both")
    tables = ProductTables(catalog, product)
    if version is not None:
        return Reading(tables, tables.versions.at(version))
    if as_of is not None:
        return Reading(tables, tables.versions.as_of(_moment(as_of)))
    return Reading(tables, tables.versions.current())


def _moment(as_of: datetime | str) -> datetime:
    if isinstance(as_of, datetime):
        return as_of
    try:
        return datetime.fromisoformat(as_of)
    except ValueError as error:
        raise UsageError(
            f"as_of must be an ISO 8601 time, got {as_of!r}", next_step="write it as 2013-01-31T12:00:00Z"
        ) from error
