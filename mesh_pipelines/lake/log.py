"""The log: an append-only table of every landed event, and the only place that knows how far its stream was read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mesh_pipelines.contract.envelope import (
    FATE,
    GENERATION,
    KEY,
    OFFSET,
    OP,
    PARTITION,
    RAW,
    REASON,
    REDRIVE,
    RULE,
    TIMESTAMP,
    Fate,
    Op,
)
from mesh_pipelines.contract.types import log_schema
from mesh_pipelines.errors import ConcurrentWriter, PartitionsAdded, UnknownVersion
from mesh_pipelines.lake.commit import append, replace_files, rows_of, write_files
from mesh_pipelines.lake.filters import all_of, equal, one_of
from mesh_pipelines.lake.nulls import keep_nulls
from mesh_pipelines.lake.tables import ProductTable
from mesh_pipelines.positions import Position

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

POSITION = "mesh.position"
# Counts of events by fate ride in the properties, so that nobody scans a log to know them.
FATES = "mesh.fates."
LOSSES = "mesh.losses"
REDRIVEN = "mesh.redriven"
# Iceberg tags: the log as it was before each rebuild, for the versions read from it.
BEFORE_REBUILD = "mesh.before-rebuild-"

# Events of a commit that are few: those of a landing that keeps up with its topic.
_FEW_ROWS = 65_536

OnProgress = Callable[[int, int], None]


class Log:
    """One product's log table."""

    def __init__(self, table: ProductTable) -> None:
        self._table = table
        self._product = table.product

    def position(self) -> Position | None:
        """How far the stream was read; None before the first landing.

        Raises:
            TableMissing: the product was not applied.
        """
        return stored_position(self._table.load())

    def fates(self) -> dict[str, int]:
        """The number of landed events by fate."""
        return _fates(self._table.load().properties)

    def rows(self) -> int:
        """The number of landed events, whatever their fate."""
        return count_of(self._table.load())

    def quarantined(self) -> int:
        """The number of events that are held back now."""
        return quarantined_in(self._table.load().properties)

    def losses(self) -> list[dict[str, Any]]:
        """The losses operators accepted, oldest first: what, when, by whom, and the positions before and after."""
        return _losses(self._table.load().properties)

    def append(
        self, rows: pa.Table, before: Position | None, after: Position, *, loss: Mapping[str, Any] | None = None
    ) -> None:
        """Add events and move the position from ``before`` to ``after``, in one commit.

        ``rows`` has the columns of ``log_schema`` and may be empty: a stream can move on without events (transaction
        markers, compaction). ``loss`` is added to the accepted losses with it.

        Raises:
            ConcurrentWriter: the log is not at ``before``, or another writer committed meanwhile. Nothing was added.
        """
        table = self._table.up_to_date()
        stored = stored_position(table)
        if stored != before:
            raise ConcurrentWriter(
                f"{self._product.fqn}: another writer landed events first; nothing of this landing was kept",
                next_step=f"mesh land {self._product.fqn}",
            )
        counts = _fates(table.properties)
        for fate, count in _count_fates(rows).items():
            counts[fate] = counts.get(fate, 0) + count
        properties = {POSITION: after.to_json(), **fate_properties(counts)}
        if loss:
            properties[LOSSES] = json.dumps([*_losses(table.properties), dict(loss)])
        append(table, _apart(rows), properties, summary=[POSITION])

    def redrive(self, mend: Callable[[pa.Table], pa.Table], on_progress: OnProgress | None = None) -> int:
        """Bring quarantined events back where they lie: the files that hold them are rewritten, in one commit.

        ``mend`` gets quarantined rows (``log_schema``) and gives them decoded again, in order; those that are OK now
        are taken over as part of the next redrive, the others stay as they were. ``on_progress`` gets (files looked
        at, files). Gives how many came back; where none does, nothing is committed.

        Raises:
            ConcurrentWriter: another writer committed meanwhile. Nothing was changed.
        """
        table = self._table.up_to_date()
        position = stored_position(table)
        if position is None:
            return 0
        after = replace(position, redrives=position.redrives + 1)
        counts = _fates(table.properties)
        old: list[DataFile] = []
        new: list[DataFile] = []
        files = _quarantine_files(table)
        for at, file in enumerate(files):
            mended = _mend(rows_of(table, [file]).read_all(), mend, after.redrives, counts)
            if mended is not None:
                old.append(file)
                new += write_files(table, mended.to_reader())
            if on_progress:
                on_progress(at + 1, len(files))
        if not old:
            return 0
        came_back = counts[Fate.OK] - _fates(table.properties).get(Fate.OK, 0)
        redriven = self.redriven() + came_back
        properties = {POSITION: after.to_json(), REDRIVEN: str(redriven), **fate_properties(counts)}
        replace_files(table, old, new, properties)
        return came_back

    def redriven(self) -> int:
        """The number of events that redrives brought back, in all."""
        return redriven_in(self._table.load().properties)

    def quarantined_at(self, generation: int, partition: int, offset: int) -> pa.Table:
        """The quarantined event at these coordinates, as a table of one row or none."""
        at = (equal(GENERATION, generation), equal(PARTITION, partition), equal(OFFSET, offset))
        table = self._table.up_to_date()
        keep_nulls()
        rows = table.scan(row_filter=all_of(_held(), *at)).to_arrow()
        schema = log_schema(self._product)
        return rows.select(schema.names).cast(schema)

    def quarantine(self, limit: int | None = None) -> pa.Table:
        """The newest events that were not taken over: coordinates, key, fate, rule, reason and raw bytes."""
        columns = (GENERATION, PARTITION, OFFSET, TIMESTAMP, KEY, FATE, RULE, REASON, RAW)
        table = self._table.load()
        rows = table.scan(row_filter=_held(), selected_fields=columns).to_arrow()
        newest = rows.select(list(columns)).sort_by(
            [(TIMESTAMP, "descending"), (PARTITION, "ascending"), (OFFSET, "descending")]
        )
        return newest if limit is None else newest.slice(0, limit)


def snapshot_of(table: Table, position: Position) -> int | None:
    """The log's snapshot that a position belongs to; None for the current one.

    Raises:
        UnknownVersion: that log no longer exists.
    """
    stored = stored_position(table)
    if stored is None or stored.rebuilds <= position.rebuilds:
        return None
    kept = table.metadata.refs.get(f"{BEFORE_REBUILD}{position.rebuilds + 1}")
    if kept is None:
        name = ".".join(table.name()[:-1])
        raise UnknownVersion(
            f"{name}: the log that this version was read from no longer exists", next_step=f"mesh run {name}"
        )
    return kept.snapshot_id


def stored_position(table: Table) -> Position | None:
    """How far the stream was read, as a log table says it."""
    return position_in(table.properties)


def position_in(properties: Mapping[str, str]) -> Position | None:
    """How far the stream was read, as a log's properties say it."""
    text = properties.get(POSITION)
    return Position.from_json(text) if text else None


def quarantined_in(properties: Mapping[str, str]) -> int:
    """The number of events held back now, as a log's properties say it."""
    return sum(count for fate, count in _fates(properties).items() if fate != Fate.OK)


def landed_in(properties: Mapping[str, str]) -> int:
    """The number of landed events, whatever their fate, as a log's properties say it."""
    return sum(_fates(properties).values())


def losses_in(properties: Mapping[str, str]) -> int:
    """The number of losses that operators accepted, as a log's properties say it; added partitions lose nothing."""
    return sum(loss["accepted"] != PartitionsAdded.accept for loss in _losses(properties))


def redriven_in(properties: Mapping[str, str]) -> int:
    """The number of events that redrives brought back, as a log's properties say it."""
    return int(properties.get(REDRIVEN, 0))


def oldest_in(table: Table) -> datetime | None:
    """The time of the oldest event that a log table holds, by its files' statistics; None where it holds none."""
    from pyiceberg.conversions import from_bytes

    column = table.schema().find_field(TIMESTAMP)
    bounds = [(task.file.lower_bounds or {}).get(column.field_id) for task in table.scan().plan_files()]
    stamps: list[Any] = [from_bytes(column.field_type, bound) for bound in bounds if bound]
    return datetime.fromtimestamp(min(stamps) / 1e6, UTC) if stamps else None


def count_of(table: Table) -> int:
    """The number of landed events, as a log table counted them."""
    return sum(_fates(table.properties).values())


def fate_properties(counts: Mapping[str, int]) -> dict[str, str]:
    """The properties that say how many events a log holds by fate."""
    return {FATES + fate: str(count) for fate, count in counts.items()}


def _quarantine_files(table: Table) -> list[DataFile]:
    return [task.file for task in table.scan(row_filter=_held()).plan_files()]


def _held() -> BooleanExpression:
    """Quarantined events; "not OK" would say the same, but leave out no file by its statistics."""
    return one_of(FATE, [str(fate) for fate in Fate if fate is not Fate.OK])


def _mend(
    rows: pa.Table, mend: Callable[[pa.Table], pa.Table], redrive: int, counts: dict[str, int]
) -> pa.Table | None:
    """A file's rows with its quarantined events as ``mend`` gives them where they pass now; None where none does.

    ``counts`` of events by fate are kept in step.
    """
    import numpy as np

    from mesh_pipelines.arrow_compute import pc

    held = np.flatnonzero(pc.not_equal(rows[FATE], str(Fate.OK)).to_numpy(zero_copy_only=False))
    if not len(held):
        return None
    before = rows.take(pa.array(held))
    anew = mend(before)
    passes = pc.equal(anew[FATE], str(Fate.OK)).to_numpy(zero_copy_only=False)
    if not passes.any():
        return None
    for fate, count in _count_fates(before.filter(pa.array(passes))).items():
        counts[fate] -= count
    counts[Fate.OK] = counts.get(Fate.OK, 0) + int(passes.sum())
    taken = anew.filter(pa.array(passes)).select(rows.column_names).cast(rows.schema)
    number = rows.schema.get_field_index(REDRIVE)
    taken = taken.set_column(number, rows.schema.field(REDRIVE), pa.repeat(pa.scalar(redrive, pa.int32()), len(taken)))
    order = np.arange(len(rows))
    order[held[passes]] = len(rows) + np.arange(len(taken))
    return pa.concat_tables([rows, taken]).take(pa.array(order))


def _losses(properties: Mapping[str, str]) -> list[dict[str, Any]]:
    return json.loads(properties.get(LOSSES, "[]"))


def _fates(properties: Mapping[str, str]) -> dict[str, int]:
    return {name.removeprefix(FATES): int(value) for name, value in properties.items() if name.startswith(FATES)}


def _apart(rows: pa.Table) -> list[pa.Table]:
    """Events by what readers do with them: rows, tombstones, and those held back; each kind goes into its own files.

    A file of rows alone has nulls only where the data have them, which makes it faster to read. Many events are not
    taken apart by kind: they will be folded into a base before they are read often, and it would copy every row. They
    are halved, since a long landing waits for its writing, and the halves are encoded side by side.
    """
    from mesh_pipelines.arrow_compute import pc

    if rows.num_rows > _FEW_ROWS:
        half = (rows.num_rows + 1) // 2
        return [rows.slice(0, half), rows.slice(half)]
    ok, dead = pc.equal(rows[FATE], str(Fate.OK)), pc.equal(rows[OP], str(Op.DELETE))
    kinds = (pc.and_not(ok, dead), pc.and_(ok, dead), pc.invert(ok))
    return [part for kind in kinds if (part := rows.filter(kind)).num_rows]


def _count_fates(rows: pa.Table) -> dict[str, int]:
    from mesh_pipelines.arrow_compute import pc

    return {pair["values"]: pair["counts"] for pair in pc.value_counts(rows[FATE]).to_pylist()}
