"""Tables whose files are in the warehouse and that the catalog does not know: how they are noticed, and the way back.

A catalog that is lost, replaced or pointed to elsewhere looks like one that is new: without this, apply would create
empty tables over a product's files, and all that was landed would be out of reach without a word. So nothing is created
where there is something to lose, and ``recover`` registers the newest metadata of each table again.

Metadata files are numbered by their commits. A commit writes its file before the catalog takes it, so the newest file
may be of a commit that was not finished: it is complete in itself, and is taken; a torn one is passed over. A table
that was created and never written to has nothing to lose. Catalogs with servers of their own place tables themselves
and are not looked into: only those of SQL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from mesh_pipelines.contract.names import parts
from mesh_pipelines.errors import MeshError, TablesLost
from mesh_pipelines.lake.catalog import Kind, create_namespace
from mesh_pipelines.local_path import local_path

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from mesh_pipelines.lake.properties import TableProperties

_METADATA = re.compile(r"(\d+)-.*\.metadata\.json(?:\.gz)?|(\d+)-.*\.gz\.metadata\.json")
# The table of versions is what makes a product known: it comes last.
_ORDER: tuple[Kind, ...] = ("log", "base", "checks", "versions")


class _Metadata(msgspec.Struct, rename="kebab"):
    """What is read of a metadata file."""

    location: str
    last_updated_ms: int
    current_snapshot_id: int | None = None
    properties: dict[str, str] = {}

    @property
    def has_history(self) -> bool:
        return self.current_snapshot_id not in (None, -1) or any(name.startswith("mesh.") for name in self.properties)


@dataclass(frozen=True)
class LostTable:
    """A table of a product in the warehouse: its folder, and its newest metadata and when that was written.

    ``metadata`` is None where data is there and no metadata that can be read. ``is_empty`` says that it was never
    written to: that one need not be recovered, but is, beside others.
    """

    product: str
    kind: Kind
    folder: str
    metadata: str | None = None
    written_at: datetime | None = None
    is_empty: bool = False

    @property
    def error(self) -> TablesLost:
        """What is said of it wherever it is met."""
        if self.metadata is None:
            return TablesLost(
                f"{self.product}: the warehouse has files of its table {self.kind}, and no metadata that can be read",
                next_step=f"restore {self.folder} from a copy of the warehouse, or move it away to begin anew",
            )
        return TablesLost(
            f"{self.product}: the warehouse has its table {self.kind}, which the catalog does not know",
            next_step=f"mesh recover {self.product}; or restore the catalog, or move {self.folder} away to begin anew",
        )


def lost_table(catalog: Catalog, product: str, kind: Kind) -> LostTable | None:
    """What the warehouse has of a table that the catalog does not have; None where there is nothing to lose."""
    place = _warehouse(catalog)
    found = _look(catalog, product, kind, f"{place}/{product}/{kind}") if place else None
    return None if found and found.is_empty else found


def lost_in(tables: TableProperties) -> dict[str, list[LostTable]]:
    """By product, as ``domain.name``: what the warehouse has and the catalog does not know."""
    catalog, place = tables.catalog, _warehouse(tables.catalog)
    if place is None:
        return {}
    known = tables.names()
    found: dict[str, list[LostTable]] = {}
    for product in sorted(name for name in _names(catalog, place) if name.count(".") == 1):
        lacking: list[Kind] = [kind for kind in _ORDER if (*parts(product), kind) not in known]
        each = [one for kind in lacking if (one := _look(catalog, product, kind, f"{place}/{product}/{kind}"))]
        if not all(one.is_empty for one in each):
            found[product] = each
    return found


def recover(catalog: Catalog, table: LostTable) -> None:
    """Register a table again.

    Raises:
        TablesLost: it has no metadata, or was written for another folder.
    """
    if table.metadata is None:
        raise table.error
    metadata = _read(catalog, table.metadata)
    if metadata is None or metadata.location.rstrip("/") != table.folder:
        there = metadata.location if metadata else "nothing"
        raise TablesLost(
            f"{table.product}: its table {table.kind} in {table.folder} was written as {there}",
            next_step=f"move the folder back, or make {_path(there)} a link to it, then mesh recover {table.product}",
        )
    domain, name = parts(table.product)
    create_namespace(catalog, (domain,))
    create_namespace(catalog, (domain, name))
    catalog.register_table((domain, name, table.kind), table.metadata)


def refuse_over_lost(catalog: Catalog, product: str, kinds: Iterable[Kind]) -> None:
    """Check that none of these tables, which the catalog does not have, is in the warehouse.

    Raises:
        TablesLost: one is.
    """
    for kind in kinds:
        if found := lost_table(catalog, product, kind):
            raise found.error


def missing_or_lost(catalog: Catalog, product: str, kind: Kind, missing: MeshError) -> MeshError:
    """The error of a table that the catalog does not have."""
    found = lost_table(catalog, product, kind)
    return found.error if found else missing


def _warehouse(catalog: Catalog) -> str | None:
    from pyiceberg.catalog.sql import SqlCatalog

    place = catalog.properties.get("warehouse") if isinstance(catalog, SqlCatalog) else None
    return place.rstrip("/") if place else None


def _look(catalog: Catalog, product: str, kind: Kind, folder: str) -> LostTable | None:
    newest: tuple[str, _Metadata] | None = None
    for number, files in _numbered(_names(catalog, f"{folder}/metadata")):
        read = [(one, found) for name in files if (found := _read(catalog, one := f"{folder}/metadata/{name}"))]
        if read:
            newest = max(read, key=lambda one: one[1].last_updated_ms)
            break
        if number == 0:
            break
    if newest is None:
        return LostTable(product, kind, folder) if _names(catalog, f"{folder}/data") else None
    location, metadata = newest
    at = datetime.fromtimestamp(metadata.last_updated_ms / 1000, UTC)
    return LostTable(product, kind, folder, location, at, not metadata.has_history)


def _numbered(names: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Metadata files by their number, the highest first."""
    found: dict[int, list[str]] = {}
    for name in names:
        if match := _METADATA.fullmatch(name):
            found.setdefault(int(match[1] or match[2]), []).append(name)
    for number in sorted(found, reverse=True):
        yield number, found[number]


def _read(catalog: Catalog, location: str) -> _Metadata | None:
    """A metadata file; None where it is torn, or gone by now."""
    from pyiceberg.io import load_file_io
    from pyiceberg.serializers import Compressor

    unpack = Compressor.get_compressor(location).stream_decompressor
    opened = load_file_io(catalog.properties, location).new_input(location)
    with suppress(OSError, EOFError, msgspec.MsgspecError), opened.open() as stream, unpack(stream) as plain:
        return msgspec.json.decode(plain.read(), type=_Metadata)
    return None


def _names(catalog: Catalog, folder: str) -> list[str]:
    """What a folder of the warehouse has in it; nothing where there is no such folder."""
    if "://" not in (path := local_path(folder)):
        with suppress(FileNotFoundError, NotADirectoryError):
            return os.listdir(path)
        return []
    return _remote_names(catalog, folder)


def _remote_names(catalog: Catalog, folder: str) -> list[str]:
    from pyarrow.fs import FileSelector
    from pyiceberg.io import load_file_io

    io: Any = load_file_io(catalog.properties, folder)
    scheme, netloc, path = io.parse_location(folder)
    found = io.fs_by_scheme(scheme, netloc).get_file_info(FileSelector(path, allow_not_found=True))
    return [one.base_name for one in found]


def _path(location: str) -> str:
    return local_path(location)


assert set(_ORDER) == set(get_args(Kind))
