"""One commit to an Iceberg table: rows, files and properties together, or nothing.

pyiceberg's default retries re-base a losing writer on the winner's snapshot, which doubles its rows; every table of
the mesh therefore has retries off and a losing writer gets ``ConcurrentWriter``. Setting properties alone carries no
guard at all, so each commit here adds a snapshot, whose branch assertion is the compare-and-set.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mesh_pipelines.errors import ConcurrentWriter
from mesh_pipelines.failpoints import reach
from mesh_pipelines.lake.files import DataFiles
from mesh_pipelines.lake.nulls import keep_nulls
from mesh_pipelines.lake.parquet import write_file

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.table import Transaction as IcebergTransaction

TABLE_PROPERTIES: Mapping[str, str] = {
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "10",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "1",
}

# Commit time grows with the snapshots in the metadata (each transaction copies them all), so few are kept. What a
# version needs of old snapshots is held by upkeep, not by count.
_SNAPSHOTS_BETWEEN_UPKEEP = 20
_SNAPSHOTS_KEPT = 5

# Rows written per data file when a whole table is rewritten: bounds memory, and keeps files near 50 MB.
ROWS_PER_FILE = 500_000

# Files that a commit encodes at a time: the halves of a chunk. More of them would each hold a row group in memory.
_ENCODERS = 2


@contextmanager
def transaction(table: Table) -> Generator[IcebergTransaction]:
    """A transaction that is committed at the end of the block, on exactly the state ``table`` was loaded with.

    Raises:
        ConcurrentWriter: another writer committed to the table since it was loaded.
    """
    from pyiceberg.exceptions import CommitFailedException

    from mesh_pipelines.lake.transaction import Transaction

    what = ".".join(table.name())
    if table.properties.get("commit.retry.num-retries") != "0":
        raise AssertionError(f"{what}: its table would retry a lost commit and double rows")
    kind = table.name()[-1]
    try:
        with Transaction(table) as opened:
            yield opened
            reach(f"{kind}.written")
    except CommitFailedException as error:
        raise ConcurrentWriter(
            f"{what}: another writer committed first; nothing of this attempt was kept", next_step="run it again"
        ) from error
    reach(f"{kind}.committed")


def append(
    table: Table,
    rows: pa.Table | Sequence[pa.Table],
    properties: Mapping[str, str],
    *,
    summary: Iterable[str] = (),
) -> None:
    """Append rows, each table of them as files of its own, and set table properties, in one commit.

    The files of several tables are encoded side by side: two halves in half the time of the whole.

    ``summary`` names the properties that also go into the snapshot's summary, which each later commit copies.
    """
    import pyarrow as pa

    lineage = {name: properties[name] for name in summary}
    with transaction(table) as opened:
        with opened.update_snapshot(snapshot_properties=lineage).merge_append() as added:
            for file in _written_side_by_side(table, [rows] if isinstance(rows, pa.Table) else rows):
                added.append_data_file(file)
        opened.set_properties(dict(properties))
    shed_snapshots(table)


def replace_files(
    table: Table,
    old: Iterable[DataFile],
    new: Iterable[DataFile],
    properties: Mapping[str, str],
    *,
    keep_as: str = "",
) -> int:
    """Swap data files in one commit and set table properties with it; gives the new snapshot's id.

    ``keep_as`` names the tag under which the table as it was stays readable.
    """
    from pyiceberg.table.update.snapshot import ManageSnapshots

    former = table.current_snapshot()
    with transaction(table) as opened:
        with opened.update_snapshot(snapshot_properties=dict(properties)).overwrite() as overwrite:
            for file in old:
                overwrite.delete_data_file(file)
            for file in new:
                overwrite.append_data_file(file)
        # After the files: pyiceberg keeps one requirement of each kind, and that about the branch has to be it.
        if keep_as and former:
            with ManageSnapshots(opened) as snapshots:
                snapshots.create_tag(former.snapshot_id, keep_as)
        if properties:
            opened.set_properties(dict(properties))
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id


def write_files(table: Table, reader: pa.RecordBatchReader) -> list[DataFile]:
    """Write the reader's rows as data files of the table, not yet part of it; memory is bounded by one file."""
    import pyarrow as pa

    written: list[DataFile] = []
    gathered: list[pa.RecordBatch] = []
    rows = 0

    def flush() -> None:
        nonlocal gathered, rows
        if gathered:
            written.append(write_file(table, pa.Table.from_batches(gathered)))
        gathered, rows = [], 0

    for batch in reader:
        gathered.append(batch)
        rows += batch.num_rows
        if rows >= ROWS_PER_FILE:
            flush()
    flush()
    return written


def _written_side_by_side(table: Table, parts: Sequence[pa.Table]) -> list[DataFile]:
    # It changes the library, which is not for several threads to do.
    keep_nulls()
    with ThreadPoolExecutor(_ENCODERS, thread_name_prefix="encoder") as encoders:
        written = encoders.map(lambda part: write_files(table, part.to_reader()), parts)
        return [file for files in written for file in files]


def rows_of(table: Table, files: Iterable[DataFile]) -> pa.RecordBatchReader:
    """The rows of these files under the table's current schema, streamed in file order."""
    import pyarrow as pa
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
    from pyiceberg.table import FileScanTask

    keep_nulls()
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    scan = ArrowScan(table.metadata, table.io, DataFiles(table).filled_schema(), AlwaysTrue(), case_sensitive=True)
    tasks = [FileScanTask(file) for file in files]
    batches = (batch.cast(schema) for batch in scan.to_record_batches(tasks))
    return pa.RecordBatchReader.from_batches(schema, batches)


def current_files(table: Table) -> list[DataFile]:
    """The data files of the table's current snapshot."""
    return [task.file for task in table.scan().plan_files()]


def shed_snapshots(table: Table) -> None:
    """Drop the metadata of old snapshots of an append-only table, now and then."""
    snapshots = table.metadata.snapshots
    if len(snapshots) < _SNAPSHOTS_BETWEEN_UPKEEP:
        return
    oldest = sorted(snapshots, key=lambda snapshot: snapshot.timestamp_ms)[:-_SNAPSHOTS_KEPT]
    expire_ids(table, [snapshot.snapshot_id for snapshot in oldest])


def expire_ids(table: Table, ids: Iterable[int]) -> int:
    """Expire these snapshots but for those with a tag; gives how many.

    Losing the commit to another writer is not a fault, the next upkeep does it.
    """
    from pyiceberg.exceptions import CommitFailedException
    from pyiceberg.table.update.snapshot import ExpireSnapshots

    from mesh_pipelines.lake.transaction import Transaction

    tagged = {reference.snapshot_id for reference in table.metadata.refs.values()}
    loose = [snapshot_id for snapshot_id in ids if snapshot_id not in tagged]
    if not loose:
        return 0
    try:
        ExpireSnapshots(Transaction(table, autocommit=True)).by_ids(loose).commit()
    except CommitFailedException:
        table.refresh()
        return 0
    return len(loose)
