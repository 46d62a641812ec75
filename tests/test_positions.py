"""Positions in a topic: an order that moves forward only, and texts that come back as they were."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.errors import WrittenByNewer
from mesh_pipelines.positions import UNKNOWN_EPOCH, UNKNOWN_ID, PartitionOffset, Position, Verdict, Version

OFFSETS = st.dictionaries(st.integers(0, 4), st.builds(PartitionOffset, st.integers(0, 50), st.integers(-1, 5)))
SMALL = st.integers(0, 2)
POSITIONS = st.builds(
    Position,
    st.sampled_from(["c1", "c2"]),
    st.just("shop.orders"),
    st.just("id"),
    OFFSETS,
    generation=SMALL,
    redrives=SMALL,
    rebuilds=SMALL,
)
START = Position("cluster", "shop.orders", "id")


def at(*offsets: int, **marks: int) -> Position:
    return replace(START, partitions={n: PartitionOffset(offset) for n, offset in enumerate(offsets)}, **marks)


@given(POSITIONS)
def test_a_position_comes_back_from_its_text(position: Position) -> None:
    assert Position.from_json(position.to_json()) == position


@given(OFFSETS, st.randoms())
def test_equal_positions_give_equal_text(offsets: dict[int, PartitionOffset], chance) -> None:
    shuffled = list(offsets.items())
    chance.shuffle(shuffled)
    one, other = replace(START, partitions=offsets), replace(START, partitions=dict(shuffled))
    assert one.to_json() == other.to_json()


def test_a_text_of_before_redrives_and_rebuilds_were_known_is_read() -> None:
    text = (
        '{"cluster_id":"c","topic":"t","topic_id":"i","generation":1,'
        '"partitions":{"3":{"next_offset":7,"leader_epoch":2}}}'
    )
    found = Position.from_json(text)
    assert found == Position("c", "t", "i", {3: PartitionOffset(7, 2)}, generation=1)
    assert (found.redrives, found.rebuilds) == (0, 0)


def test_a_partition_never_read_is_at_its_first_offset() -> None:
    assert at(4).next_offset(0) == 4
    assert at(4).next_offset(1) == 0
    assert PartitionOffset(4).leader_epoch == UNKNOWN_EPOCH


@given(POSITIONS, OFFSETS)
def test_a_position_moves_forward_or_not_at_all(position: Position, offsets: dict[int, PartitionOffset]) -> None:
    back = [n for n, offset in offsets.items() if offset.next_offset < position.next_offset(n)]
    if back:
        with pytest.raises(ValueError, match=r"shop\.orders\[\d\] would go back from"):
            position.advance(offsets)
        return
    moved = position.advance(offsets)
    assert moved.covers(position)
    assert moved.follows(position)
    assert {n: moved.partitions[n] for n in offsets} == offsets
    assert position.partitions.keys() | offsets.keys() == moved.partitions.keys()


def test_the_message_of_a_move_backwards_names_both_offsets() -> None:
    with pytest.raises(ValueError, match=r"shop\.orders\[0\] would go back from 5 to 3"):
        at(5).advance({0: PartitionOffset(3)})


@given(POSITIONS)
def test_a_position_covers_continues_and_follows_itself(position: Position) -> None:
    assert position.covers(position)
    assert position.continues(position)
    assert position.follows(position)
    assert position.lag_to(position) == 0


@given(POSITIONS, POSITIONS)
def test_following_is_continuing_is_covering(one: Position, other: Position) -> None:
    if one.follows(other):
        assert one.continues(other)
    if one.continues(other):
        assert one.covers(other)


@given(POSITIONS, POSITIONS, POSITIONS)
def test_following_is_transitive(one: Position, two: Position, three: Position) -> None:
    if one.follows(two) and two.follows(three):
        assert one.follows(three)


@pytest.mark.parametrize(
    ("later", "earlier", "covers", "continues", "follows"),
    [
        (at(5), at(3), True, True, True),
        (at(3), at(5), False, False, False),
        # In a partition each is ahead of the other.
        (at(5, 0), at(0, 5), False, False, False),
        # All of a former generation lies before a later one, whatever its offsets.
        (at(0, generation=1), at(9), True, True, False),
        (at(9), at(0, generation=1), False, False, False),
        # What a redrive brought back is not part of a position before it.
        (at(5, redrives=1), at(5), True, True, False),
        (at(5), at(5, redrives=1), False, False, False),
        (at(0, generation=1), at(9, redrives=1), False, False, False),
        # A log that was read anew stands above every earlier one, and nothing can be folded on from there.
        (at(0, rebuilds=1), at(9, redrives=3, generation=2), True, False, False),
        (at(9, redrives=3, generation=2), at(0, rebuilds=1), False, False, False),
    ],
)
def test_what_lies_before_what(
    later: Position, earlier: Position, covers: bool, continues: bool, follows: bool
) -> None:
    assert later.covers(earlier) is covers
    assert later.continues(earlier) is continues
    assert later.follows(earlier) is follows


def test_the_lag_counts_every_partition_of_the_end_and_none_twice() -> None:
    assert at(2, 10).lag_to(at(5, 4, 7)) == 3 + 0 + 7
    assert START.lag_to(at(5, 4)) == 9
    assert at(5).lag_to(START) == 0


VERDICT = Verdict("c1", "hash", False, 3, 1, 1, 1, 0, "2026-01-01T00:00:00+00:00", blocking=("one", "two"))


@pytest.mark.parametrize("position", [None, at(3, 4, generation=1)])
@pytest.mark.parametrize("verdict", [None, VERDICT])
def test_a_version_comes_back_from_its_text(position: Position | None, verdict: Verdict | None) -> None:
    version = Version(
        *("shop.orders", 3, "c1", "1.0.0", "hash", "2026-01-01T00:00:00+00:00", 7),
        position=position,
        verdict=verdict,
        input_versions={"shop.lines": 2},
        input_extents={"shop.lines": 40},
        bad={"amount.minimum": 2},
    )
    assert Version.from_json(version.to_json()) == version


def test_the_extent_of_a_version_is_its_offsets_or_without_a_stream_its_rows() -> None:
    version = Version(*("shop.orders", 3, "c1", "1.0.0", "hash", "now", 7))
    assert version.extent == 7
    assert replace(version, position=at(3, 4)).extent == 7
    assert replace(version, position=at(30, 4)).extent == 34
    assert replace(version, position=START).extent == 0


@pytest.mark.parametrize("where", [("version",), ("position",), ("verdict",), ("position", "partitions", "0")])
def test_what_a_newer_release_stored_is_refused_with_its_names(where: tuple[str, ...]) -> None:
    verdict = Verdict("c", "h", True, 1, 0, 0, 0, 0, "2026-01-01T00:00:00+00:00")
    version = Version("shop.orders", 1, "c", "1.0.0", "h", "at", 3, position=at(3), verdict=verdict)
    stored = json.loads(version.to_json())
    assert Version.from_json(json.dumps(stored)) == version
    place = stored
    for key in where if where != ("version",) else ():
        place = place[key]
    place["epochs"] = 1
    with pytest.raises(WrittenByNewer, match="has epochs, which this release does not know"):
        Version.from_json(json.dumps(stored))


@pytest.mark.parametrize("stored", ["null", '"None"', '"AAAAAAAAAAAAAAAAAAAAAA"', '""'])
def test_an_id_that_is_none_is_never_taken_for_one(stored: str) -> None:
    text = f'{{"cluster_id":{stored},"topic":"t","topic_id":{stored},"partitions":{{}}}}'
    position = Position.from_json(text)
    assert (position.cluster_id, position.topic_id) == (UNKNOWN_ID, UNKNOWN_ID)
    known = Position("c", "t", "i")
    assert position.is_in(known)
    assert position.named(known) == known
    assert not known.is_in(position)
    assert known.named(position) == known
