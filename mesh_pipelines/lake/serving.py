"""The serving file: a DuckDB database with one view per published product, for BI tools and notebooks.

It is written aside and swapped in by a rename: who has the old file open keeps reading the versions it names, who
opens it next sees the new ones, and nobody sees anything between. Data files that a view names stay on disk for the
upkeep's age floor after they have been replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.sql import literal, quote
from mesh_pipelines.errors import TableMissing, TableOutdated
from mesh_pipelines.failpoints import reach
from mesh_pipelines.lake.state import state_sql
from mesh_pipelines.lake.versions import Versions
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.catalog import Catalog


def write_serving_file(settings: Settings, products: Iterable[DataProduct], catalog: Catalog) -> Path:
    """Write the file anew with the versions published now, and swap it in; gives its path."""
    import duckdb

    target = settings.serving_file
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    with duckdb.connect(str(aside)) as connection:
        for product in products:
            _write_view(connection, product, catalog)
    reach("serving.written")
    os.replace(aside, target)
    return target


def _write_view(connection: duckdb.DuckDBPyConnection, product: DataProduct, catalog: Catalog) -> None:
    """A product that waits for ``mesh apply`` has no view meanwhile: the others' publishing does not wait for it."""
    try:
        published = Versions(catalog, product).published()
        if published is None:
            return
        select = state_sql(catalog, product, published)
    except (TableMissing, TableOutdated):
        return
    name = f"{quote(product.domain)}.{quote(product.name)}"
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(product.domain)}")
    connection.execute(f"CREATE VIEW {name} AS {select}")
    about = f"version {published.number}, published {published.published_at}: {product.description}"
    connection.execute(f"COMMENT ON VIEW {name} IS {literal(about)}")
