"""The base: a cached result. For a keyed stream its fold at a position, for a derived product its computed rows.

Copy-on-write of a keyed table costs the table and not the delta. So a version is the base and the log's short tail
behind it; from time to time the tail is taken in as files of its own, and what it replaced stays in the older files as
dead rows, which an overlay names. Only when there are too many of those are the files with most of them rewritten,
as a log-structured file system cleans its segments (Rosenblum and Ousterhout, 1992). Rewriting the whole base each
time was ruled out: a tail short enough to be read fast made it too dear, whatever its length.

Files hold live rows or tombstones and never both, so who reads a version opens no file of tombstones, and columns
without nulls have none in the files either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from mesh_pipelines.contract.envelope import BREAKS, DIGEST, KEY, OP, Op
from mesh_pipelines.lake import delta, overlay
from mesh_pipelines.lake.commit import ROWS_PER_FILE, current_files, replace_files, write_files
from mesh_pipelines.lake.files import DataFiles
from mesh_pipelines.lake.fold import LIVE, digest
from mesh_pipelines.lake.fold import columns as fold_columns
from mesh_pipelines.lake.log import POSITION
from mesh_pipelines.lake.overlay import Overlay
from mesh_pipelines.lake.state import REPLACED, RULES, UNAUDITED, Base, Part, State
from mesh_pipelines.lake.tables import ProductTable
from mesh_pipelines.lake.tiers import worth_merging
from mesh_pipelines.positions import Position
from mesh_pipelines.rules.mask import Mask

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

# The tail that is kept, as a share of the base's rows, and the dead rows that are kept, as a share of the live ones.
# Reading costs the rows of base and tail, dead ones included: up to 1 + DEAD_SHARE + 2 * TAIL_SHARE of the live ones,
# as the share of dead rows is looked at when the tail is taken in. What a delta writes is itself (the log, and once
# more when that is compacted) and w rows of the base for each of its own. A file that is cleaned when u of it is live
# frees 1 - u for u that is copied, so w = 1 / (1 - u). With random keys files die evenly from 1 to u, so the dead rows
# are -ln(u) / (1 - u) - 1 of the live ones: 0.6 at u = 0.36, where w = 1.6.
TAIL_SHARE = 0.05
DEAD_SHARE = 0.6
# The events taken in, as a share of the base's rows, after which an audit looks at every row again, so that an error in
# the counts that are added up, if there ever was one, ends there.
UNAUDITED_SHARE = 0.4
# Files that a base may have besides one for every ``ROWS_PER_FILE`` rows. Each costs a reader half a millisecond.
_FEW_FILES = 12


def worth_taking_in(base_rows: int, tail_offsets: int, tail_rows: int) -> bool:
    """Whether the tail behind the base has grown so long that it is cheaper to read as a part of the base.

    ``tail_rows``: the tail that is too short to be felt, whatever the base (``MESH_BASE_TAIL_ROWS``).
    """
    return tail_offsets > max(tail_rows, TAIL_SHARE * base_rows)


class BaseTable:
    """The base of a product, by whoever writes it: each change is one commit."""

    def __init__(self, state: State, base: ProductTable, mask: Mask) -> None:
        self._state = state
        self._base = base
        self._mask = mask

    def keep_up(
        self, engine: duckdb.DuckDBPyConnection, position: Position, *, tail_rows: int
    ) -> tuple[Base | None, bool]:
        """The base to fold a version at this position from, rewritten first if it cannot be extended.

        That is if its rows were judged by other rules, or if the position does not follow it: what came later may then
        lie before it. Gives None while the stream is short and has no base; second, whether it was rewritten.
        """
        newest = next(iter(self._state.bases_before(position)), None)
        if newest is None:
            tail = sum(offset.next_offset for offset in position.partitions.values())
            if not worth_taking_in(0, tail, tail_rows):
                return None, False
        elif newest.rules == self._mask.fingerprint and position.follows(newest.position):
            return newest, False
        return self.rewrite(engine, position), True

    def rewrite(self, engine: duckdb.DuckDBPyConnection, position: Position, *, from_log: bool = False) -> Base:
        """Fold up to a position and make that the base; ``from_log`` starts at the log's first event.

        Raises:
            ConcurrentWriter: another writer rewrote the base meanwhile.
        """
        table = self._base.up_to_date()
        former = None if from_log else next(iter(self._state.bases_before(position)), None)
        files = self._write(engine, self._state.folded(former, position))
        return _commit(table, current_files(table), files, Base(0, position, self._mask.fingerprint))

    def is_tail_long(self, base: Base, position: Position, tail_rows: int) -> bool:
        """Whether the tail from a base to a position is worth taking in."""
        return worth_taking_in(self.size(base), base.position.lag_to(position), tail_rows)

    def size(self, base: Base) -> int:
        """The rows that a base holds, dead ones and tombstones included."""
        return sum(file.record_count for file in self._base.files().at(base.snapshot_id))

    def keep(self, known: Overlay) -> str:
        """Write an overlay beside the base's files; gives its address."""
        return overlay.write(self._base.up_to_date(), known)

    def take_in(self, engine: duckdb.DuckDBPyConnection, base: Base, known: Overlay, position: Position) -> Base:
        """Make the state at a position the base, by its overlay of this base: the cost is the tail's.

        ``unaudited`` of what it gives is 0 when it is time for an audit of all rows.

        Raises:
            ConcurrentWriter: another writer rewrote the base meanwhile.
        """
        files = self._base.files()
        current = files.table.current_snapshot()
        if current is None or current.snapshot_id != base.snapshot_id:
            return self.rewrite(engine, position)
        held = files.at(base.snapshot_id)
        old = _worth_cleaning(files, held, known)
        cleaned = {file.file_path for file in old}
        engine.register("overlay_taken_in", known.to_arrow())
        rows = self._state.overlaid(base, (known, "overlay_taken_in"), position, Part(files=cleaned))
        new = self._write(engine, rows)
        kept = known.of(file.file_path for file in held if file.file_path not in cleaned)
        unaudited = base.unaudited + base.position.lag_to(position)
        if unaudited > UNAUDITED_SHARE * sum(file.record_count for file in held):
            unaudited = 0
        replaced = self.keep(kept) if kept.base else None
        return _commit(files.table, old, new, Base(0, position, base.rules, replaced, unaudited))

    def write_result(self, rows: pa.RecordBatchReader) -> int:
        """Make these rows the derived product's newest result; gives the snapshot's id.

        Raises:
            ConcurrentWriter: another run stored its result meanwhile.
        """
        table = self._base.up_to_date()
        files = write_files(table, cast(rows, self._base.schema))
        return replace_files(table, current_files(table), files, {})

    def _write(self, engine: duckdb.DuckDBPyConnection, folded: str) -> list[DataFile]:
        """Write a folded relation as files of the base: live rows by key, and tombstones in files of their own."""
        table, schema = self._base.up_to_date(), self._base.schema
        columns = (
            f"{self._state.event_columns}, unhex({digest(KEY)}) AS {DIGEST}, {delta.judged(self._mask)} AS {BREAKS}"
        )
        reader = engine.sql(
            f"SELECT {fold_columns(schema.names)} FROM (SELECT {columns} FROM {folded}) ORDER BY NOT {LIVE}, {KEY}"
        ).to_arrow_reader(100_000)
        live, tombstones = _split(cast(reader, schema))
        return [*write_files(table, live), *write_files(table, tombstones)]


def _worth_cleaning(data: DataFiles, files: Sequence[DataFile], known: Overlay) -> list[DataFile]:
    """The files to rewrite: those with most dead rows while there are too many of these, and small files."""
    tombstones = [file for file in files if data.bounds(file, OP) == (Op.DELETE, Op.DELETE)]
    old = worth_merging(tombstones)
    dead = {file.file_path: known.dead(file.file_path) for file in files}
    rows = sum(file.record_count for file in files)
    too_many = sum(dead.values()) - DEAD_SHARE * (rows - sum(dead.values()))
    kept = [file for file in files if file not in tombstones]
    kept.sort(key=lambda file: dead[file.file_path] / file.record_count)
    while kept and too_many > 0:
        old.append(kept.pop())
        too_many -= dead[old[-1].file_path]
    kept.sort(key=lambda file: file.record_count, reverse=True)
    return old + kept[_FEW_FILES + rows // ROWS_PER_FILE :]


def _split(rows: pa.RecordBatchReader) -> tuple[pa.RecordBatchReader, pa.RecordBatchReader]:
    """Live rows, and the tombstones that come after them; the first has to be read to its end before the second."""
    from mesh_pipelines.arrow_compute import pc

    rest: list[pa.RecordBatch] = []

    def live() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            count = pc.sum(pc.not_equal(batch[OP], str(Op.DELETE))).as_py()
            if count:
                yield batch.slice(0, count)
            if count < batch.num_rows:
                rest.append(batch.slice(count))
                return

    def tombstones() -> Iterator[pa.RecordBatch]:
        yield from rest
        yield from rows

    return tuple(pa.RecordBatchReader.from_batches(rows.schema, part()) for part in (live, tombstones))


def _commit(table: Table, old: Sequence[DataFile], new: Sequence[DataFile], made: Base) -> Base:
    properties = {
        POSITION: made.position.to_json(),
        RULES: made.rules,
        REPLACED: made.replaced or "",
        UNAUDITED: str(made.unaudited),
    }
    snapshot_id = replace_files(table, old, new, properties)
    return replace(made, snapshot_id=snapshot_id)


def cast(reader: pa.RecordBatchReader, schema: pa.Schema) -> pa.RecordBatchReader:
    """The same rows under exactly this schema, batch by batch."""
    batches = (
        batch
        for piece in reader
        for batch in pa.Table.from_batches([piece]).cast(schema).to_batches()
        if batch.num_rows
    )
    return pa.RecordBatchReader.from_batches(schema, batches)
