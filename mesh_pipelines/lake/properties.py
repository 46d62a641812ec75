"""The properties of many tables as they are now, in one go: all that a sensor and a status need to know of a mesh.

Loading a table through pyiceberg builds its whole metadata, schemas and snapshots included: milliseconds each, and a
thousand products have thousands of tables. An SQL catalog gives the metadata file of every table in one query, and a
metadata file never changes. So only those that are new since the last time are read, and of them only the properties.
A catalog of another kind is asked table by table, in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from mesh_pipelines.errors import TableDamaged
from mesh_pipelines.lake.moved import NEWEST_FORMAT, gone, newer
from mesh_pipelines.local_path import local_path

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.table import Table

Name = tuple[str, ...]
Properties = Mapping[str, str]
T = TypeVar("T")
R = TypeVar("R")

# Requests and reads wait most of their time.
_THREADS = 16


class _Metadata(msgspec.Struct):
    """What is read of a metadata file; the rest is passed over without being built."""

    properties: dict[str, str] = {}
    format_version: int = msgspec.field(default=1, name="format-version")


class TableProperties:
    """Reads tables of one catalog; every answer is of the moment it is asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._known: dict[str, Properties] = {}

    def locations(self, names: Iterable[Name]) -> dict[Name, str]:
        """The metadata file of those of the tables that exist: another one after every commit."""
        from pyiceberg.catalog.sql import SqlCatalog

        wanted = list(names)
        if isinstance(self.catalog, SqlCatalog):
            known = _locations(self.catalog)
            return {name: known[name] for name in wanted if name in known}
        found = _in_threads(self._loaded, wanted)
        return {name: table.metadata_location for name, table in zip(wanted, found, strict=True) if table}

    def names(self) -> set[Name]:
        """Every table of the catalog."""
        from pyiceberg.catalog.sql import SqlCatalog

        if isinstance(self.catalog, SqlCatalog):
            return set(_locations(self.catalog))
        spaces = [space for outer in self.catalog.list_namespaces() for space in self.catalog.list_namespaces(outer)]
        return {name for found in _in_threads(self.catalog.list_tables, spaces) for name in found}

    def existing(self, names: Iterable[Name]) -> set[Name]:
        """Those of the tables that exist."""
        from pyiceberg.catalog.sql import SqlCatalog

        wanted = list(names)
        if isinstance(self.catalog, SqlCatalog):
            return _locations(self.catalog).keys() & set(wanted)
        there = _in_threads(self.catalog.table_exists, wanted)
        return {name for name, exists in zip(wanted, there, strict=True) if exists}

    def of(self, names: Iterable[Name]) -> dict[Name, Properties]:
        """The properties of those of the tables that exist."""
        from pyiceberg.catalog.sql import SqlCatalog

        wanted = list(names)
        if isinstance(self.catalog, SqlCatalog):
            return self._of_files(self.catalog, wanted)
        found = _in_threads(self._loaded, wanted)
        return {name: table.properties for name, table in zip(wanted, found, strict=True) if table}

    def _of_files(self, catalog: SqlCatalog, names: list[Name]) -> dict[Name, Properties]:
        locations = _locations(catalog)
        self._known = {one: self._known[one] for one in self._known.keys() & set(locations.values())}
        wanted = {name: locations[name] for name in names if name in locations}
        new = [(name, location) for name, location in wanted.items() if location not in self._known]
        # A local file is read sooner than handed to a thread.
        local = all(_local(location) for _, location in new)
        read = map(self._read, new) if local else _in_threads(self._read, new)
        for (name, location), properties in zip(new, read, strict=True):
            if properties is None:
                del wanted[name]
            else:
                self._known[location] = properties
        return {name: self._known[location] for name, location in wanted.items()}

    def _read(self, named: tuple[Name, str]) -> Properties | None:
        from pyiceberg.serializers import Compressor

        name, location = named
        unpack = Compressor.get_compressor(location).stream_decompressor
        try:
            with self._open(location) as stream, unpack(stream) as plain:
                found = msgspec.json.decode(plain.read(), type=_Metadata)
        except FileNotFoundError:
            # Writers drop metadata of ten commits ago: the table has moved on since the catalog was asked.
            try:
                table = self._loaded(name)
            except FileNotFoundError as error:
                raise gone(self.catalog, name, location) from error
            return table.properties if table else None
        except msgspec.MsgspecError as error:
            raise TableDamaged(
                f"{'.'.join(name[:-1])}: the metadata of its table {name[-1]} cannot be read: {error}",
                next_step="restore it from a copy of the warehouse",
            ) from error
        if found.format_version > NEWEST_FORMAT:
            raise newer(name, found.format_version)
        return found.properties

    def _open(self, location: str) -> Any:
        if path := _local(location):
            # pyiceberg's own reader imports Arrow's datasets, and pandas with them, before the first byte.
            return open(path, "rb")
        from pyiceberg.io import load_file_io

        return load_file_io(self.catalog.properties, location).new_input(location).open()

    def _loaded(self, name: Name) -> Table | None:
        from pyiceberg.exceptions import NoSuchTableError

        try:
            return self.catalog.load_table(name)
        except NoSuchTableError:
            return None


def _local(location: str) -> str | None:
    """The path of a file on this machine; None for what lies elsewhere."""
    path = local_path(location)
    return None if "://" in path else path


def _locations(catalog: SqlCatalog) -> dict[Name, str]:
    """The metadata file of every table of the catalog, as of one moment."""
    from pyiceberg.catalog.sql import IcebergTables
    from sqlalchemy import select

    columns = (IcebergTables.table_namespace, IcebergTables.table_name, IcebergTables.metadata_location)
    with catalog.engine.connect() as connection:
        rows = connection.execute(select(*columns).where(IcebergTables.catalog_name == catalog.name)).all()
    return {(*namespace.split("."), name): location for namespace, name, location in rows if location}


def _in_threads(work: Callable[[T], R], items: list[T]) -> list[R]:
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="properties") as threads:
        return list(threads.map(work, items))
