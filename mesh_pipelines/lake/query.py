"""One SELECT over published versions, in a DuckDB that can reach nothing else.

The versions are pinned before the query runs, so one query sees one state of every product. The engine may read the
data files of the products named and no other file, loads no extension, and its configuration is locked.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.sql import literal, quote
from mesh_pipelines.errors import QueryInvalid, UnknownProduct
from mesh_pipelines.lake.read import read_version
from mesh_pipelines.lake.state import state_sql
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.catalog import Catalog


def query(
    settings: Settings,
    products: Mapping[str, DataProduct],
    catalog: Catalog,
    sql: str,
    versions: Mapping[str, int] | None = None,
) -> pa.RecordBatchReader:
    """The rows of one SELECT over ``domain.product`` names, streamed.

    ``versions`` pins products to a version number; the others are read at their published version.

    Raises:
        QueryInvalid: it is not one SELECT, or DuckDB refuses it.
        UnknownProduct, NothingPublished, UnknownVersion: a product it names cannot be read.
    """
    import duckdb

    pinned = versions or {}
    named = [_product(products, name) for name in sorted(_tables(sql))]
    views = {
        product.fqn: (
            product,
            state_sql(catalog, product, read_version(catalog, product, version=pinned.get(product.fqn)).version),
        )
        for product in named
    }
    connection = _confined(settings)
    try:
        for product, select in views.values():
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(product.domain)}")
            connection.execute(f"CREATE VIEW {quote(product.domain)}.{quote(product.name)} AS {select}")
        connection.execute("SET lock_configuration = true")
        return connection.sql(sql).to_arrow_reader(50_000)
    except duckdb.Error as error:
        raise QueryInvalid(str(error).strip(), next_step='mesh query "SELECT ... FROM domain.product"') from error


def _confined(settings: Settings) -> duckdb.DuckDBPyConnection:
    """An in-memory database that reads the warehouse and its spill folder, and no other path or address."""
    import duckdb

    spill = settings.home / "spill"
    spill.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        config={
            "memory_limit": settings.memory_limit,
            "temp_directory": str(spill),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    warehouse = settings.warehouse_uri.removeprefix("file://")
    connection.execute(f"SET allowed_directories = [{literal(warehouse)}]")
    connection.execute("SET enable_external_access = false")
    return connection


def _tables(sql: str) -> set[str]:
    """The ``domain.product`` names one SELECT reads.

    Raises:
        QueryInvalid: the text does not parse, is not exactly one SELECT, or reads a file or a function's table.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.scope import traverse_scope

    try:
        statements = [statement for statement in sqlglot.parse(sql, dialect="duckdb") if statement]
    except SqlglotError as error:
        raise QueryInvalid(str(error).strip().splitlines()[0]) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise QueryInvalid("it must be exactly one SELECT")
    tables = {
        source
        for scope in traverse_scope(statements[0])
        for source in scope.sources.values()
        if isinstance(source, exp.Table)
    }
    names: set[str] = set()
    for table in tables:
        if isinstance(table.this, exp.Identifier) and table.db and not table.catalog:
            names.add(f"{table.db}.{table.name}")
        elif isinstance(table.this, exp.Identifier):
            raise UnknownProduct(f"{table.name}: name a product as domain.product", next_step="mesh status")
        else:
            raise QueryInvalid(f"{table.sql(dialect='duckdb')}: only products can be read")
    return names


def _product(products: Mapping[str, DataProduct], name: str) -> DataProduct:
    if name in products:
        return products[name]
    near = difflib.get_close_matches(name, list(products), n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise UnknownProduct(f"there is no product {name}{hint}", next_step="mesh status")
