"""Upkeep of a product's tables: fewer and bigger files, fewer snapshots, no orphans.

pyiceberg rewrites no files and removes none, so both are done here, by one rule: what any kept version reads stays as
it is. Compaction swaps files for others with the same rows in one commit; files leave the disk only when nothing has
named them for an age floor, so that a reader that planned before can finish.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from mesh_pipelines.contract.envelope import FATE, OP
from mesh_pipelines.lake.catalog import Kind
from mesh_pipelines.lake.commit import current_files, expire_ids, replace_files, rows_of, write_files
from mesh_pipelines.lake.files import DataFiles
from mesh_pipelines.lake.log import FATES, POSITION
from mesh_pipelines.lake.overlay import FOLDER
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.state import bases_of
from mesh_pipelines.lake.tiers import worth_merging

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile, ManifestFile
    from pyiceberg.table import Table

# A query that planned its files an hour ago is over; a writer that has not committed its files for an hour is dead.
AGE_FLOOR_S = 3600.0
_UNNAMED = "unnamed.json"


@dataclass(frozen=True)
class Compacted:
    """The number of data files before and after."""

    files_before: int
    files_after: int


@dataclass(frozen=True)
class Expired:
    """Snapshots dropped from the metadata and files removed from disk."""

    snapshots: int
    files: int


def compact(tables: ProductTables, kind: Kind) -> Compacted:
    """Merge the table's small files of like size in one commit; rows, position and counts stay as they are.

    A base is left as it is: which of its rows are dead is known by file and row, and it merges its files itself.

    Raises:
        ConcurrentWriter: another writer committed meanwhile; nothing was changed.
    """
    table = tables.load(kind)
    files = current_files(table)
    groups = [] if kind == "base" else [worth_merging(group) for group in _alike(table, files)]
    small = [file for group in groups for file in group]
    if not small:
        return Compacted(len(files), len(files))
    merged = [file for group in groups for file in write_files(table, rows_of(table, group))]
    kept = {name: value for name, value in table.properties.items() if name == POSITION or name.startswith(FATES)}
    replace_files(table, small, merged, kept)
    return Compacted(len(files), len(files) - len(small) + len(merged))


def _alike(table: Table, files: Sequence[DataFile]) -> Iterable[list[DataFile]]:
    """The files of a log by what they hold, as landing keeps it apart; those of another table together."""
    groups: dict[Any, list[DataFile]] = {}
    data = DataFiles(table)
    held = [name for name in (OP, FATE) if data.has(name)]
    for file in files:
        groups.setdefault(tuple(data.bounds(file, name) for name in held), []).append(file)
    return groups.values()


def expire(tables: ProductTables, keep: int, *, age_floor_s: float = AGE_FLOOR_S) -> Expired:
    """Drop snapshots that no kept version needs, then the files that nothing has named for ``age_floor_s`` seconds.

    Kept are the last ``keep`` published versions, the one readers see, the newest candidate, and those with a tag.
    """
    versions = tables.versions
    known, tagged = versions.all(), set(versions.tags().values())
    kept = [*known[-keep:], *(version for version in known if version.number in tagged)]
    kept += [version for version in (versions.published(), versions.newest()) if version]
    needed = {version.base_snapshot_id for version in kept}
    overlays = [version.overlay for version in kept if version.overlay]
    snapshots = files = 0
    for kind in tables.kinds:
        table = tables.load(kind)
        current = table.current_snapshot()
        drop = [
            snapshot.snapshot_id
            for snapshot in table.metadata.snapshots
            if snapshot.snapshot_id not in needed and (current is None or snapshot.snapshot_id != current.snapshot_id)
        ]
        snapshots += expire_ids(table, drop)
        table = tables.load(kind)
        replaced = [base.replaced for base in bases_of(table) if base.replaced] if kind == "base" else []
        files += remove_orphans(table, age_floor_s, named=[*overlays, *replaced])
    return Expired(snapshots, files)


def remove_orphans(table: Table, age_floor_s: float = AGE_FLOOR_S, *, named: Iterable[str] = ()) -> int:
    """Remove the table's local files that nothing has named for as long as the floor, in seconds; gives how many.

    ``named`` are addresses that others than the table's metadata name.

    A file that a compaction replaced a moment ago may be old and still be read by a query that planned before. So the
    time counts from when upkeep first saw that nothing names the file, which it notes beside the table's metadata.
    """
    location = urlparse(table.location())
    if location.scheme not in ("file", ""):
        return 0
    folder = Path(location.path)
    kept = _named(table) | {_local(address) for address in named}
    now = time.time()
    patterns = ("data/**/*.parquet", f"{FOLDER}/*.parquet", "metadata/*.avro", "metadata/*.json")
    found = [file for pattern in patterns for file in folder.glob(pattern)]
    notes = folder / "metadata" / _UNNAMED
    since = _read_notes(notes)
    unnamed = {file: since.get(file.name, now) for file in found if file not in kept and file != notes}
    # A file younger than the floor may be a writer's that has not committed yet.
    gone = [file for file, seen in unnamed.items() if max(seen, _modified(file)) <= now - age_floor_s]
    for file in gone:
        file.unlink(missing_ok=True)
    _write_notes(notes, {file.name: seen for file, seen in unnamed.items() if file not in gone})
    return len(gone)


def _named(table: Table) -> set[Path]:
    """Every file that the table's present metadata leads to."""
    uris = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    manifests: dict[str, ManifestFile] = {}
    for snapshot in table.metadata.snapshots:
        uris.add(snapshot.manifest_list)
        manifests |= {manifest.manifest_path: manifest for manifest in snapshot.manifests(table.io)}
    for path, manifest in manifests.items():
        uris.add(path)
        uris |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io)}
    return {_local(uri) for uri in uris}


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _read_notes(notes: Path) -> dict[str, float]:
    try:
        return json.loads(notes.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _write_notes(notes: Path, since: dict[str, float]) -> None:
    aside = notes.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(since))
    aside.replace(notes)


def _local(uri: str) -> Path:
    return Path(urlparse(uri).path)
