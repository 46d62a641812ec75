"""Upkeep of a product's tables: fewer and bigger files, fewer snapshots, no orphans.

pyiceberg rewrites no files and removes none, so both are done here, by one rule: what any kept version reads stays as
it is. Compaction swaps files for others with the same rows in one commit; files leave the disk only when no snapshot
that is left names them and they are older than an age floor, so that a reader that planned before can finish.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.lake.catalog import Kind, load
from mesh_pipelines.lake.commit import current_files, expire_ids, replace_files, write_files
from mesh_pipelines.lake.log import FATES, POSITION
from mesh_pipelines.lake.tables import kinds
from mesh_pipelines.lake.versions import Versions

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

# Files under this many rows are worth merging; bigger ones are as good as they get.
SMALL_ROWS = 200_000
# A query that planned its files an hour ago is over; a writer that has not committed its files for an hour is dead.
AGE_FLOOR_S = 3600.0


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


def compact(catalog: Catalog, product: DataProduct, kind: Kind) -> Compacted:
    """Merge the table's small files in one commit; rows, position and counts stay as they are.

    Raises:
        ConcurrentWriter: another writer committed meanwhile; nothing was changed.
    """
    table = load(catalog, product, kind)
    files = current_files(table)
    small = [file for file in files if file.record_count < SMALL_ROWS]
    if len(small) < 2:
        return Compacted(len(files), len(files))
    merged = write_files(table, _rows_of(table, small))
    kept = {name: value for name, value in table.properties.items() if name == POSITION or name.startswith(FATES)}
    replace_files(table, small, merged, kept, f"{product.fqn}.{kind}")
    return Compacted(len(files), len(files) - len(small) + len(merged))


def expire(catalog: Catalog, product: DataProduct, keep: int, *, age_floor_s: float = AGE_FLOOR_S) -> Expired:
    """Drop snapshots that neither the last ``keep`` published versions nor the newest candidate needs, then orphans."""
    versions = Versions(catalog, product)
    needed = {version.base_snapshot_id for version in versions.all()[-keep:]}
    newest = versions.newest()
    if newest:
        needed.add(newest.base_snapshot_id)
    snapshots = files = 0
    for kind in kinds(product):
        table = load(catalog, product, kind)
        current = table.current_snapshot()
        drop = [
            snapshot.snapshot_id
            for snapshot in table.metadata.snapshots
            if snapshot.snapshot_id not in needed and (current is None or snapshot.snapshot_id != current.snapshot_id)
        ]
        expire_ids(table, drop)
        snapshots += len(drop)
        files += remove_orphans(load(catalog, product, kind), age_floor_s)
    return Expired(snapshots, files)


def remove_orphans(table: Table, age_floor_s: float = AGE_FLOOR_S) -> int:
    """Remove the table's local data files that no snapshot names and that are older than the floor, in seconds."""
    location = urlparse(table.location())
    if location.scheme not in ("file", ""):
        return 0
    named = {
        _local(entry.data_file.file_path)
        for snapshot in table.metadata.snapshots
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    }
    oldest = time.time() - age_floor_s
    folder = Path(location.path) / "data"
    orphans = [file for file in folder.rglob("*.parquet") if file not in named and file.stat().st_mtime < oldest]
    for file in orphans:
        file.unlink()
    return len(orphans)


def _rows_of(table: Table, files: list[DataFile]):
    """The rows of these files under the table's current schema, streamed in file order."""
    import pyarrow as pa
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow

    wanted = {file.file_path for file in files}
    tasks = [task for task in table.scan().plan_files() if task.file.file_path in wanted]
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue(), case_sensitive=True)
    batches = (batch.cast(schema) for batch in scan.to_record_batches(tasks))
    return pa.RecordBatchReader.from_batches(schema, batches)


def _local(uri: str) -> Path:
    return Path(urlparse(uri).path)
