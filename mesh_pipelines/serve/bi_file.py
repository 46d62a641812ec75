"""The serving file: a DuckDB database with one view per published product, for BI tools and notebooks.

It is written aside and swapped in by a rename: who has the old file open keeps reading the versions it names, who
opens it next sees the new ones, and nobody sees anything between. Data files that a view names stay on disk for the
upkeep's age floor after they have been replaced.

Each view's comment carries a mark of the contract and the tables it was made from. So a write begins with a copy of
the file as it is and makes only those views again whose mark is out of date, whoever changed their tables; a publish
costs its own product and not the mesh. Marks in a file beside it were ruled out: two files are not swapped at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import TableMissing, TableOutdated
from mesh_pipelines.failpoints import reach
from mesh_pipelines.lake.catalog import table_name
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.properties import Name, TableProperties
from mesh_pipelines.lake.tables import kinds
from mesh_pipelines.lake.versions import published_in
from mesh_pipelines.positions import Version
from mesh_pipelines.serve.door import Reader, rows_view
from mesh_pipelines.settings import Settings
from mesh_pipelines.sql.quote import literal, quote

if TYPE_CHECKING:
    import duckdb

_MARK = "\nread from "


def write_serving_file(settings: Settings, products: Iterable[DataProduct], tables: TableProperties) -> Path:
    """Bring the file to the versions published now, and swap it in; gives its path."""
    target = settings.serving_file
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    wanted = _marked(list(products), tables)
    with _copy(target, aside) as connection:
        there = _marks(connection)
        for name, mark in there.items():
            if name not in wanted or wanted[name][1] != mark:
                connection.execute(f"DROP VIEW {'.'.join(map(quote, name))}")
        anew = [(product, mark) for name, (product, mark) in wanted.items() if there.get(name) != mark]
        versions = tables.of(table_name(product, "versions") for product, _ in anew)
        for product, mark in anew:
            published = published_in(versions.get(table_name(product, "versions"), {}))
            if published:
                _write_view(connection, ProductTables(tables.catalog, product), published, mark)
    reach("serving.written")
    os.replace(aside, target)
    return target


def _marked(products: list[DataProduct], tables: TableProperties) -> dict[Name, tuple[DataProduct, str]]:
    """The products by domain and name, each with a mark of the contract and the tables that its view is made from."""
    locations = tables.locations([table_name(product, kind) for product in products for kind in kinds(product)])
    return {(product.domain, product.name): (product, _mark(product, locations)) for product in products}


def _mark(product: DataProduct, locations: Mapping[Name, str]) -> str:
    made_from = [locations.get(table_name(product, kind), "") for kind in kinds(product) if kind != "checks"]
    return hashlib.sha256(" ".join((product.contract_hash, *made_from)).encode()).hexdigest()[:16]


def _copy(target: Path, aside: Path) -> duckdb.DuckDBPyConnection:
    """A copy of the file as it is; a new one if it does not exist or cannot be read."""
    import duckdb

    aside.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        shutil.copyfile(target, aside)
    try:
        return duckdb.connect(str(aside))
    except duckdb.Error:
        aside.unlink(missing_ok=True)
        return duckdb.connect(str(aside))


def _marks(connection: duckdb.DuckDBPyConnection) -> dict[Name, str]:
    views = connection.execute("SELECT schema_name, view_name, comment FROM duckdb_views() WHERE NOT internal")
    return {(schema, view): (comment or "").rpartition(_MARK)[2] for schema, view, comment in views.fetchall()}


def _write_view(connection: duckdb.DuckDBPyConnection, tables: ProductTables, published: Version, mark: str) -> None:
    """A product that waits for ``mesh apply`` has no view meanwhile: the others' publishing does not wait for it."""
    product = tables.product
    try:
        select = rows_view(tables, published, Reader.PROGRAM).sql
    except (TableMissing, TableOutdated):
        return
    name = f"{quote(product.domain)}.{quote(product.name)}"
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(product.domain)}")
    connection.execute(f"CREATE VIEW {name} AS {select}")
    about = f"version {published.number}, published {published.published_at}: {product.about.text}{_MARK}{mark}"
    connection.execute(f"COMMENT ON VIEW {name} IS {literal(about)}")
