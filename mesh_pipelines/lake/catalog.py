"""The Iceberg catalog and the names of a product's tables in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import SettingInvalid, StorageUnavailable, TableMissing
from mesh_pipelines.settings import Settings, revealed

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

_REST = "mesh_pipelines.lake.rest.BoundedRestCatalog"
Kind = Literal["log", "base", "versions", "checks"]


def open_catalog(settings: Settings) -> Catalog:
    """The catalog of these settings: REST for an http(s) address, else an SQL catalog; SQLite's file is created.

    Raises:
        SettingInvalid: they name none that can be opened.
        StorageUnavailable: it cannot be reached, or made; transient.
    """
    from pyiceberg.catalog import load_catalog
    from pyiceberg.exceptions import NotInstalledError, RESTError
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    uri = settings.catalog.reveal()
    kind = {"py-catalog-impl": _REST} if uri.startswith(("http://", "https://")) else {"type": "sql"}
    properties = {**kind, "uri": uri, "warehouse": settings.warehouse_uri, **revealed(settings.catalog_config)}
    if "type" in properties:
        # Theirs, in place of ours.
        properties.pop("py-catalog-impl", None)
    try:
        if uri.startswith("sqlite:///"):
            _prepare(Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])))
        return load_catalog("mesh", **properties)
    except (ArgumentError, NotInstalledError, ImportError, ValueError) as error:
        raise SettingInvalid(
            f"MESH_CATALOG_URI or MESH_CATALOG_CONFIG: {error}", next_step="see docs/settings.md"
        ) from error
    except (OSError, sqlite3.Error, SQLAlchemyError, RESTError) as error:
        raise StorageUnavailable(
            f"the catalog {settings.catalog} cannot be opened: {error}",
            next_step="check MESH_HOME, MESH_CATALOG_URI and MESH_CATALOG_CONFIG",
        ) from error


def _prepare(file: Path) -> None:
    """Create an SQLite catalog's file with a write-ahead log, under which who reads never holds up who writes."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def table_name(product: DataProduct, kind: Kind) -> tuple[str, str, str]:
    """The table's identifier: namespace ``domain.product``, then what the table is."""
    return product.domain, product.name, kind


def table_missing(product: DataProduct, kind: Kind) -> TableMissing:
    """The error of a table that should be there."""
    return TableMissing(f"{product.fqn}: its table {kind} does not exist", next_step="mesh apply")


def create_namespace(catalog: Catalog, name: tuple[str, ...]) -> None:
    """Make sure that there is a namespace; an SQL catalog looks before it writes, and may lose a race to another."""
    from sqlalchemy.exc import IntegrityError

    try:
        catalog.create_namespace_if_not_exists(name)
    except IntegrityError:
        if not catalog.namespace_exists(name):
            raise
