"""The delta between two positions against the difference of two folds: rows, broken rules, and the overlay."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mesh_pipelines.engine import create_view
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.delta import Delta
from mesh_pipelines.lake.overlay import Overlay
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.state import Base
from mesh_pipelines.positions import PartitionOffset, Position, Version
from mesh_pipelines.rules.mask import MISKEYED
from mesh_pipelines.settings import Settings
from tests.building import contract_text, log_row, log_table, written

AMOUNT = "logicalType: integer, logicalTypeOptions: {minimum: 3}"
PROPERTIES = """
- {name: id, logicalType: string, primaryKey: true}
- {name: amount, %s}
- {name: note, logicalType: string, required: true}
"""


@dataclass(frozen=True)
class Event:
    """An event of a topic; without an amount it deletes. ``keyed`` says that the message's key is the key's text."""

    partition: int
    key: str
    amount: int | None
    note: str | None = "x"
    keyed: bool = True
    fate: str = "ok"


@dataclass(frozen=True)
class Landed:
    """An event at its offset."""

    offset: int
    event: Event


# By the bits of the rules amount.minimum, id.required and note.required, as the mask has them.
Counts = Mapping[int, int]
BATCHES = st.lists(
    st.lists(
        st.builds(
            Event,
            st.integers(0, 2),
            st.sampled_from("abcdef"),
            st.none() | st.integers(0, 6),
            st.none() | st.just("x"),
            st.booleans(),
            st.sampled_from(["ok", "ok", "ok", "undecodable", "diverted"]),
        ),
        max_size=12,
    ),
    min_size=1,
    max_size=5,
)


class Log:
    """A product's log that grows batch by batch, and everything that was landed in it."""

    def __init__(self, home: Path, kind: str, amount: str) -> None:
        partitions = "- {property: mesh.partitions, value: 3}"
        text = contract_text("shop.orders", PROPERTIES % amount, kind=kind, settings=partitions)
        self.tables = ProductTables(open_catalog(Settings(home=home)), written(home / "assets", text))
        self.tables.create()
        self.position = Position("cluster", "shop.orders", "topic")
        self.landed: list[Landed] = []
        self._stored: Position | None = None

    def land(self, events: list[Event]) -> None:
        batch: list[Landed] = []
        for one in events:
            offset = self.position.next_offset(one.partition)
            batch.append(Landed(offset, one))
            self.position = self.position.advance({one.partition: PartitionOffset(offset + 1 + one.partition)})
        self.tables.log.append(log_table(self.tables.product, map(_row, batch)), self._stored, self.position)
        self._stored = self.position
        self.landed += batch

    def counts(self) -> tuple[int, Counts]:
        """The live rows now and, by bit, how many of them break a rule; folded in Python."""
        mask = self.tables.mask
        rows = self.rows()
        broken: Counter[int] = Counter()
        for one in rows:
            assert one.amount is not None
            broken[mask.bits["amount.minimum"]] += one.amount < 3
            broken[mask.bits["note.required"]] += one.note is None
            broken[MISKEYED] += not one.keyed
        return len(rows), {bit: broken[bit] for bit in (*mask.bits.values(), MISKEYED)}

    def rows(self) -> list[Event]:
        known = sorted((one for one in self.landed if one.event.fate == "ok"), key=_place)
        if not self.tables.product.event_type.folds_by_key:
            return [one.event for one in known if one.event.amount is not None]
        latest = {_key(one.event): one.event for one in known}
        return [one for one in latest.values() if one.amount is not None]

    def by_key(self) -> dict[bytes, Landed]:
        """The latest event of each message key, tombstones included."""
        return {_key(one.event): one for one in sorted(self.landed, key=_place) if one.event.fate == "ok"}


def _place(one: Landed) -> tuple[int, int]:
    return one.event.partition, one.offset


def _key(one: Event) -> bytes:
    return one.key.encode() if one.keyed else b"other " + one.key.encode()


def _row(one: Landed) -> dict[str, object]:
    found = one.event
    return log_row(
        one.offset,
        {"id": found.key, "amount": found.amount, "note": found.note},
        partition=found.partition,
        key=_key(found),
        op="delete" if found.amount is None else "upsert",
        fate=found.fate,
    )


@contextmanager
def log_of(kind: str, amount: str = AMOUNT) -> Iterator[Log]:
    with tempfile.TemporaryDirectory() as home:
        yield Log(Path(home), kind, amount)


def is_the_difference(found: Delta, before: tuple[int, Counts], after: tuple[int, Counts]) -> None:
    assert found.counted
    assert found.came.rows - found.replaced.rows == after[0] - before[0]
    assert {bit: found.change(bit) for bit in after[1]} == {bit: after[1][bit] - before[1][bit] for bit in after[1]}


def read_by(log: Log, used: Base, found: Overlay) -> list[tuple[str, int, str | None]]:
    """The state by this base and overlay alone."""
    address = log.tables.base.keep(found)
    assert log.tables.state.overlay(None) is None
    version = Version(
        *("shop.orders", 1, "c", "1", log.tables.product.contract_hash, "now", 0),
        position=log.position,
        base_snapshot_id=used.snapshot_id,
        overlay=address,
    )
    with closing(duckdb.connect()) as connection:
        create_view(connection, "state", log.tables.state.sql(version))
        return connection.sql("SELECT id, amount, note FROM state").fetchall()


def lies_behind(former: Mapping[bytes, Landed], came: list[Landed]) -> bool:
    """Whether every new event lies behind the row it meets: of its key's, the last."""
    newest = {_key(one.event): one for one in sorted(came, key=_place) if one.event.fate == "ok"}
    return all(key not in former or _place(former[key]) < _place(one) for key, one in newest.items())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(batches=BATCHES, chance=st.randoms(use_true_random=False))
def test_the_delta_of_a_keyed_product_is_the_difference_of_two_folds(
    batches: list[list[Event]], chance: random.Random
) -> None:
    with log_of("state") as log, closing(duckdb.connect()) as engine:
        log.land([Event(0, "a", 1), Event(1, "b", None), Event(2, "c", 5, None, False)])
        used = log.tables.base.rewrite(engine, log.position)
        before = (log.position, Overlay())
        for batch in batches:
            counts, former, known = log.counts(), log.by_key(), len(log.landed)
            log.land(batch)
            found = log.tables.changes.folded(engine, used, before, log.position)
            behind = lies_behind(former, log.landed[known:])
            event(f"the delta is known: {behind}")
            assert (found is not None) == behind
            if found is None or chance.random() < 0.3:
                used = log.tables.base.rewrite(engine, log.position)
                before = (log.position, Overlay())
                continue
            is_the_difference(found, counts, log.counts())
            state_now = [(one.key, one.amount, one.note) for one in log.rows()]
            assert Counter(read_by(log, used, found.overlay)) == Counter(state_now)
            before = (log.position, found.overlay)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(batches=BATCHES)
def test_the_delta_of_measurements_is_what_came(batches: list[list[Event]]) -> None:
    measured = [[one for one in batch if one.amount is not None] for batch in batches]
    with log_of("measurement") as log, closing(duckdb.connect()) as engine:
        log.land([Event(0, "a", 1)])
        for batch in measured:
            counts, position = log.counts(), log.position
            log.land(batch)
            found = log.tables.changes.appended(engine, position, log.position)
            is_the_difference(found, counts, log.counts())
            assert found.replaced.rows == 0


@pytest.mark.parametrize("kind", ["state", "measurement"])
def test_a_row_that_cannot_be_judged_leaves_the_counts_unknown(kind: str) -> None:
    wide = "logicalType: number, physicalType: 'decimal(38, 0)', logicalTypeOptions: {minimum: 0.5}"
    with log_of(kind, wide) as log, closing(duckdb.connect()) as engine:
        log.land([Event(0, "a", 1)])
        used = log.tables.base.rewrite(engine, log.position) if kind == "state" else None
        for amount, counted in ((10**38 - 1, False), (5, True)):
            position = log.position
            log.land([Event(0, "b", amount)])
            if used:
                found = log.tables.changes.folded(engine, used, (position, Overlay()), log.position)
                used = log.tables.base.rewrite(engine, log.position)
            else:
                found = log.tables.changes.appended(engine, position, log.position)
            assert found is not None
            # Of a keyed product the second event replaces the row that cannot be judged.
            assert found.counted == (counted and kind == "measurement")
            assert found.came.rows == 1
