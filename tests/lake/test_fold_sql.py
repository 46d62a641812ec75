"""The fold's SQL, each part by itself: latest events, events onto a base, and conditions about positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.lake import fold
from mesh_pipelines.positions import PartitionOffset, Position

Coordinate = tuple[int, int, int]


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        columns = "_generation INTEGER, _partition INTEGER, _offset BIGINT, _key BLOB, _op VARCHAR, _redrive INTEGER"
        for name in ("base", "tail"):
            opened.execute(f"CREATE TABLE {name} ({columns}, value INTEGER)")
        yield opened


@dataclass(frozen=True)
class Event:
    at: Coordinate
    key: str
    op: str
    redrive: int | None = None


COORDINATES = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 6))
EVENTS = st.lists(
    st.builds(Event, COORDINATES, st.sampled_from("abcd"), st.sampled_from(["upsert", "upsert", "delete"])),
    max_size=20,
    unique_by=lambda one: one.at,
)


def fill(engine: duckdb.DuckDBPyConnection, name: str, events: list[Event]) -> None:
    engine.execute(f"DELETE FROM {name}")
    rows = [[*one.at, one.key.encode(), one.op, one.redrive, number] for number, one in enumerate(events)]
    if rows:
        engine.executemany(f"INSERT INTO {name} VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def places(engine: duckdb.DuckDBPyConnection, relation: str) -> list[Coordinate]:
    return sorted(engine.execute(f"SELECT _generation, _partition, _offset FROM {relation}").fetchall())


def newest(events: list[Event]) -> dict[str, Coordinate]:
    found: dict[str, Coordinate] = {}
    for one in events:
        found[one.key] = max(one.at, found.get(one.key, one.at))
    return found


@settings(max_examples=40)
@given(EVENTS)
def test_the_latest_of_each_key_is_the_one_of_the_highest_coordinate(engine: Any, events: list[Event]) -> None:
    fill(engine, "tail", events)
    assert places(engine, fold.latest("tail")) == sorted(newest(events).values())


@settings(max_examples=40)
@given(EVENTS)
def test_tombstones_are_kept_and_left_out_by_readers(engine: Any, events: list[Event]) -> None:
    fill(engine, "tail", events)
    live = engine.execute(f"SELECT count(*) FROM {fold.latest('tail')} WHERE {fold.LIVE}").fetchone()[0]
    ops = {one.at: one.op for one in events}
    assert live == sum(ops[at] != "delete" for at in newest(events).values())


@settings(max_examples=40)
@given(EVENTS, st.data())
def test_events_onto_a_base_are_the_fold_of_all(engine: Any, events: list[Event], data: st.DataObject) -> None:
    """However they are split: a redrive, or a key in another partition, may lie before the row that it meets."""
    chosen = data.draw(st.sets(st.sampled_from(events))) if events else set()
    fill(engine, "base", [one for one in events if one in chosen])
    fill(engine, "tail", [one for one in events if one not in chosen])
    engine.execute(f"CREATE OR REPLACE TEMP TABLE folded AS FROM {fold.latest('base')}")
    assert places(engine, fold.onto("folded", "tail")) == sorted(newest(events).values())


def test_folding_gives_the_columns_of_the_events_and_no_other(engine: Any) -> None:
    fill(engine, "base", [Event((0, 0, 0), "a", "upsert")])
    fill(engine, "tail", [Event((0, 0, 1), "b", "upsert")])
    columns = [one[0] for one in engine.execute("FROM tail").description]
    for relation in (fold.latest("tail"), fold.onto("base", "tail")):
        assert [one[0] for one in engine.execute(f"FROM {relation}").description] == columns


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ((0, 0, 2**63 - 1), (0, 1, 0)),
        ((0, 2**31 - 1, 2**63 - 1), (1, 0, 0)),
        ((0, 0, 0), (0, 0, 1)),
        ((2**31 - 2, 2**31 - 1, 2**63 - 1), (2**31 - 1, 0, 0)),
    ],
)
def test_one_number_orders_as_the_three_do_up_to_their_ends(
    engine: Any, earlier: Coordinate, later: Coordinate
) -> None:
    fill(engine, "tail", [Event(later, "a", "upsert"), Event(earlier, "a", "delete")])
    assert places(engine, fold.latest("tail")) == [later]
    numbers = dict(engine.execute(f"SELECT _op, {fold.COORDINATE} FROM tail").fetchall())
    assert numbers["delete"] < numbers["upsert"]


POSITIONS = st.builds(
    Position,
    st.just("c"),
    st.just("t"),
    st.just("i"),
    st.dictionaries(st.integers(0, 2), st.builds(PartitionOffset, st.integers(0, 6))),
    generation=st.integers(0, 2),
    redrives=st.integers(0, 2),
)
REDRIVEN = st.lists(
    st.builds(Event, COORDINATES, st.just("a"), st.just("upsert"), st.none() | st.integers(1, 3)),
    max_size=20,
    unique_by=lambda one: one.at,
)


def lies_before(one: Event, position: Position) -> bool:
    generation, partition, offset = one.at
    if (one.redrive or 0) > position.redrives:
        return False
    if generation != position.generation:
        return generation < position.generation
    return offset < position.next_offset(partition)


@settings(max_examples=40)
@given(REDRIVEN, POSITIONS)
def test_what_lies_before_a_position(engine: Any, events: list[Event], position: Position) -> None:
    fill(engine, "tail", events)
    found = places(engine, f"tail WHERE {fold.before(position)}")
    assert found == sorted(one.at for one in events if lies_before(one, position))


@settings(max_examples=40)
@given(REDRIVEN, POSITIONS, POSITIONS)
def test_what_lies_between_two_positions(engine: Any, events: list[Event], one: Position, other: Position) -> None:
    fill(engine, "tail", events)
    found = places(engine, f"tail WHERE {fold.between(one, other)}")
    assert found == sorted(e.at for e in events if lies_before(e, other) and not lies_before(e, one))
    assert places(engine, f"tail WHERE {fold.between(None, other)}") == places(
        engine, f"tail WHERE {fold.before(other)}"
    )


def test_nothing_lies_before_a_topic_that_was_never_read(engine: Any) -> None:
    fill(engine, "tail", [Event((0, 0, 0), "a", "upsert")])
    assert places(engine, f"tail WHERE {fold.before(Position('c', 't', 'i'))}") == []


def test_a_digest_is_of_the_keys_bytes(engine: Any) -> None:
    import hashlib

    for key in (b"", b"a", b"\x00\xff", "é".encode()):
        [(found,)] = engine.execute(f"SELECT {fold.digest('?')}", [key]).fetchall()
        assert found == hashlib.sha256(key).hexdigest()[:32]


def test_names_are_quoted() -> None:
    assert fold.columns(["a", 'b"c', "select"]) == '"a", "b""c", "select"'
    assert fold.columns([]) == ""


def test_only_events_that_were_taken_over_are_folded(engine: Any) -> None:
    fates: Mapping[str, bool] = {"ok": True, "undecodable": False, "diverted": False}
    for fate, taken in fates.items():
        [(found,)] = engine.execute(f"SELECT {fold.TAKEN_OVER} FROM (SELECT ? AS _fate)", [fate]).fetchall()
        assert found is taken
