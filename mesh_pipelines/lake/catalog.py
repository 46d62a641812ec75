"""The Iceberg catalog and the names of a product's tables in it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import SettingInvalid, StorageUnavailable, TableDamaged, TableMissing
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

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

    uri = settings.catalog
    kind = "rest" if uri.startswith(("http://", "https://")) else "sql"
    properties = {"type": kind, "uri": uri, "warehouse": settings.warehouse_uri, **settings.catalog_config}
    try:
        if uri.startswith("sqlite:///"):
            _prepare(Path(uri.removeprefix("sqlite:///")))
        return load_catalog("mesh", **properties)
    except (ArgumentError, NotInstalledError, ImportError, ValueError) as error:
        raise SettingInvalid(
            f"MESH_CATALOG_URI or MESH_CATALOG_CONFIG: {error}", next_step="see docs/settings.md"
        ) from error
    except (OSError, sqlite3.Error, SQLAlchemyError, RESTError) as error:
        raise StorageUnavailable(
            f"the catalog {without_password(uri)} cannot be opened: {error}",
            next_step="check MESH_HOME, MESH_CATALOG_URI and MESH_CATALOG_CONFIG",
        ) from error


def without_password(uri: str) -> str:
    """An address as it may be shown."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)


def _prepare(file: Path) -> None:
    """Create an SQLite catalog's file with a write-ahead log, under which who reads never holds up who writes."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


class Pinned:
    """A catalog in which a table that was loaded stays as it was, but for what this process commits to it.

    For one step of one product: loading a table costs 4 ms of parsing, and a step asks for the same one many times. A
    commit through it holds on the state that was loaded, as ever.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._loaded: dict[tuple[str, ...], Table] = {}

    def load_table(self, identifier: tuple[str, ...]) -> Table:
        """The table, loaded once."""
        if identifier not in self._loaded:
            self._loaded[identifier] = self._catalog.load_table(identifier)
        return self._loaded[identifier]


def table_name(product: DataProduct, kind: Kind) -> tuple[str, str, str]:
    """The table's identifier: namespace ``domain.product``, then what the table is."""
    return product.domain, product.name, kind


def load(catalog: Catalog | Pinned, product: DataProduct, kind: Kind) -> Table:
    """The product's table as it is now.

    Raises:
        TableMissing: the product was not applied.
        TableDamaged: it was, and the table's metadata is gone or torn.
    """
    from pyiceberg.exceptions import NoSuchTableError, ValidationError

    try:
        try:
            return catalog.load_table(table_name(product, kind))
        except FileNotFoundError:
            # Writers remove the metadata of many commits ago: what the catalog named may be that by now.
            return catalog.load_table(table_name(product, kind))
    except NoSuchTableError as error:
        raise table_missing(product, kind) from error
    except (FileNotFoundError, ValidationError) as error:
        raise TableDamaged(
            f"{product.fqn}: the metadata of its table {kind} cannot be read: {str(error).splitlines()[0]}",
            next_step="restore it from a copy of the warehouse",
        ) from error


def table_missing(product: DataProduct, kind: Kind) -> TableMissing:
    """The error of a table that should be there."""
    return TableMissing(f"{product.fqn}: its table {kind} does not exist", next_step="mesh apply")
