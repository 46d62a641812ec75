"""What changed between two positions of a stream, found at the cost of what changed: for counts, and for overlays.

The rows that the new events replace are looked up in the base by a digest of their key, 16 bytes a row, of which ten
million take a tenth of a second; what rules they broke is stored with them (``rules/mask.py``), so no wide column is
read. By the key itself it took four times as long, and by all columns of the rules more than ten times.

Whether an event replaces its key's row is decided by coordinates and not by arrival, so it is looked at whether every
new event lies behind the row it meets. One that does not is not a fault, but needs the whole fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mesh_pipelines.contract.envelope import BREAKS, DIGEST, GENERATION, KEY, OFFSET, OP, PARTITION, Op
from mesh_pipelines.lake import fold
from mesh_pipelines.lake.files import DataFiles
from mesh_pipelines.lake.overlay import ROW, Overlay
from mesh_pipelines.lake.state import Base, State
from mesh_pipelines.lake.tables import ProductTable
from mesh_pipelines.local_path import local_path
from mesh_pipelines.positions import Position
from mesh_pipelines.rules.mask import MISKEYED, Mask
from mesh_pipelines.sql.quote import literal, quote

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.manifest import DataFile

ARRIVED = "arrived"


@dataclass(frozen=True)
class Tally:
    """Live rows, and how many of them break each rule of a mask, by bit; no counts where one row's are unknown."""

    rows: int
    by_bit: tuple[int, ...] | None

    def bad(self, bit: int) -> int:
        """The rows that break the rule of a bit."""
        assert self.by_bit is not None
        return self.by_bit[bit]


@dataclass(frozen=True)
class Delta:
    """Rows that came and rows that they replaced; ``overlay`` is that of the state after them, over the same base."""

    came: Tally
    replaced: Tally
    overlay: Overlay = field(default_factory=Overlay)

    def change(self, bit: int) -> int:
        """How many more rows break the rule of a bit than did before."""
        return self.came.bad(bit) - self.replaced.bad(bit)

    @property
    def counted(self) -> bool:
        """Whether the rules of all these rows are known."""
        return self.came.by_bit is not None and self.replaced.by_bit is not None


class Changes:
    """What changes a product's rows between two positions of its stream, each found in a connection of the caller's.

    It leaves the events that came in that connection as the table ``arrived``, narrow: whose key, where, and what they
    break.
    """

    def __init__(self, state: State, base: ProductTable, mask: Mask) -> None:
        self._product = state.product
        self._state = state
        self._base = base
        self._mask = mask

    def appended(self, engine: duckdb.DuckDBPyConnection, after: Position, until: Position) -> Delta:
        """The delta of a product whose events are its rows: nothing is replaced."""
        self._arrive(engine, after, until)
        return Delta(_tally(engine.execute(f"SELECT {BREAKS} FROM {ARRIVED}").fetchnumpy()[BREAKS]), _tally([]))

    def folded(
        self,
        engine: duckdb.DuckDBPyConnection,
        base: Base,
        before: tuple[Position, Overlay],
        until: Position,
    ) -> Delta | None:
        """The delta of a keyed product from a state, given by its position and its overlay of the base, to a position.

        None if an event does not lie behind the row it meets, which only the whole fold can tell apart. ``until`` has
        to follow both positions.
        """
        after, former = before
        self._arrive(engine, after, until)
        engine.register("overlay_before", former.to_arrow())
        files = self._base.files()
        held = files.at(base.snapshot_id)
        in_base = _Found(engine, _in_base_sql(files, held))
        tail = self._state.tail(base, (former, "overlay_before"), after)
        in_tail = _Found(engine, self._in_tail_sql(tail))
        grown, gone = former, np.zeros(len(in_base.place), np.bool_)
        for number, file in enumerate(held):
            at = in_base.group == number
            if at.any():
                gone[at] = former.replaced(file.file_path, in_base.place[at])
                grown = grown.with_base(file.file_path, file.record_count, in_base.place[at])
        if (in_base.later & ~gone).any() or in_tail.later.any():
            return None
        newest = engine.execute(f"SELECT {PARTITION}, {OFFSET} FROM {ARRIVED} WHERE newest").fetchnumpy()
        at_partition, at_offset = (np.asarray(newest[name], np.int64) for name in (PARTITION, OFFSET))
        for partition, offset in until.partitions.items():
            first = base.position.next_offset(partition)
            current, gone_there = at_offset[at_partition == partition], in_tail.place[in_tail.group == partition]
            grown = grown.with_tail(partition, first, offset.next_offset - first, current, gone_there)
        came = engine.execute(f"SELECT {BREAKS} FROM {ARRIVED} WHERE newest AND live").fetchnumpy()[BREAKS]
        replaced = np.ma.concatenate([in_base.breaks[in_base.live & ~gone], in_tail.breaks[in_tail.live]])
        return Delta(_tally(came), _tally(replaced), grown)

    def _arrive(self, engine: duckdb.DuckDBPyConnection, after: Position, until: Position) -> None:
        unique = sorted({name for rule in self._product.rules for name in rule.fields if rule.kind == "unique"})
        newest = "TRUE"
        if self._product.event_type.folds_by_key:
            newest = f"{fold.COORDINATE} = max({fold.COORDINATE}) OVER (PARTITION BY {KEY})"
        engine.execute(
            f"CREATE OR REPLACE TEMP TABLE {ARRIVED} AS SELECT {KEY}, {fold.digest(KEY)}::UUID AS {DIGEST}, "
            f"{GENERATION}, {PARTITION}, {OFFSET}, {fold.LIVE} AS live, {newest} AS newest, "
            f"{judged(self._mask)} AS {BREAKS}{''.join(f', {quote(name)}' for name in unique)} "
            f"FROM {self._state.events(after, until)}"
        )

    def _in_tail_sql(self, tail: str) -> str:
        met = (
            f"SELECT tail.*, tail.{PARTITION} > new.{PARTITION} AS later FROM ({tail}) AS tail "
            f"JOIN (SELECT {KEY}, {PARTITION} FROM {ARRIVED} WHERE newest) AS new ON tail.{KEY} = new.{KEY}"
        )
        return (
            f"SELECT {PARTITION} AS place_group, {OFFSET} AS place, {fold.LIVE} AS live, "
            f"{judged(self._mask)} AS {BREAKS}, later FROM ({met})"
        )


class _Found:
    """Rows that new events meet: where they lie (group and place), whether live, later, and what they break."""

    def __init__(self, engine: duckdb.DuckDBPyConnection, sql: str) -> None:
        found = engine.execute(sql).fetchnumpy()
        self.group: npt.NDArray[np.int64] = np.asarray(found["place_group"], np.int64)
        self.place: npt.NDArray[np.int64] = np.asarray(found["place"], np.int64)
        self.live: npt.NDArray[np.bool_] = np.asarray(found["live"], np.bool_)
        self.later: npt.NDArray[np.bool_] = np.asarray(found["later"], np.bool_)
        self.breaks: Any = np.ma.asarray(found[BREAKS])


def judged(mask: Mask) -> str:
    """What an event breaks, as SQL; null for a tombstone, which carries nothing to judge."""
    return f"CASE WHEN {fold.LIVE} THEN {mask.sql} END"


def _in_base_sql(data: DataFiles, files: Sequence[DataFile]) -> str:
    paths = literal([local_path(file.file_path) for file in files])
    # Mostly all rows are of one generation, and one column less is read of them all.
    ranges = {data.bounds(file, GENERATION) for file in files}
    known = ranges.pop() if len(ranges) == 1 else None
    generation = literal(known[0]) if known and known[0] == known[1] else f"base.{GENERATION}"
    return (
        f"SELECT list_position({paths}, base.filename) - 1 AS place_group, base.{ROW} AS place, "
        f"base.{OP} <> {literal(str(Op.DELETE))} AS live, base.{BREAKS}, "
        f"({generation}, base.{PARTITION}) > (new.{GENERATION}, new.{PARTITION}) AS later "
        f"FROM {data.by_name(files)} AS base "
        f"JOIN {ARRIVED} AS new ON base.{DIGEST} = new.{DIGEST} WHERE new.newest"
    )


def _tally(breaks: Sequence[int] | Any) -> Tally:
    numbers = np.ma.asarray(breaks, dtype=np.int64) if len(breaks) else np.ma.zeros(0, np.int64)
    if np.ma.count_masked(numbers):
        return Tally(len(numbers), None)
    plain = np.asarray(numbers, np.int64)
    return Tally(len(plain), tuple(int(((plain >> bit) & 1).sum()) for bit in range(MISKEYED + 1)))
