"""Whether a stream is still the one a log was read from, and where to go on: from positions alone, without a broker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import (
    ClusterChanged,
    OffsetsTrimmed,
    PartitionsAdded,
    StreamDiscontinuity,
    StreamTruncated,
    TopicRecreated,
    TopicRenamed,
)
from mesh_pipelines.kafka.continuity import broken_off, check, go_on, truncation
from mesh_pipelines.pipeline.level import discontinuity
from mesh_pipelines.positions import Bounds, PartitionOffset, Position
from tests.building import contract_text, written


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataProduct]:
    assets = tmp_path_factory.mktemp("assets")
    return {kind: written(assets / kind, contract_text("shop.orders", kind=kind)) for kind in ("state", "measurement")}


@pytest.fixture(scope="module")
def orders(products: dict[str, DataProduct]) -> DataProduct:
    return products["state"]


def at(*offsets: int, topic: str = "shop.orders", topic_id: str = "id", cluster: str = "c1") -> Position:
    return Position(cluster, topic, topic_id, {n: PartitionOffset(offset) for n, offset in enumerate(offsets)})


def test_a_stream_that_goes_on_is_no_fault(orders: DataProduct) -> None:
    check(orders, at(5, 0), at(0, 0), at(9, 3))
    check(orders, at(5, 0), at(5, 0), at(5, 0))
    assert broken_off(orders, at(5), at(9)) is None
    assert discontinuity(orders, at(5), Bounds(at(0), at(9))) is None


@pytest.mark.parametrize(
    ("end", "error", "said"),
    [
        (at(9, 9, cluster="c2"), ClusterChanged, "the broker is cluster c2, but the log was read from cluster c1"),
        (at(9, 9, topic="other"), TopicRenamed, "the contract now names the topic other"),
        (at(9, 9, topic_id="new"), TopicRecreated, "was deleted and created again (id id is now new)"),
    ],
)
def test_another_stream_is_told_with_what_may_be_lost(
    orders: DataProduct, end: Position, error: type[StreamDiscontinuity], said: str
) -> None:
    with pytest.raises(error) as caught:
        check(orders, at(5, 3), at(0, 0), end)
    assert said in caught.value.message
    assert "[0] 5, [1] 3" in caught.value.message
    found = broken_off(orders, at(5, 3), end)
    assert type(found) is error


def test_another_cluster_is_told_before_another_name(orders: DataProduct) -> None:
    with pytest.raises(ClusterChanged):
        check(orders, at(5), at(0), at(9, topic="other", topic_id="new", cluster="c2"))
    with pytest.raises(TopicRenamed):
        check(orders, at(5), at(0), at(9, topic="other", topic_id="new"))


def test_offsets_that_were_dropped_before_they_were_landed_are_named(orders: DataProduct) -> None:
    with pytest.raises(OffsetsTrimmed, match=r"\(partition 0: 5 to 6, partition 2: 0 to 2\)"):
        check(orders, at(5, 9, 0), at(7, 9, 3), at(9, 9, 9))


def test_offsets_that_were_landed_and_are_gone_are_named(orders: DataProduct) -> None:
    with pytest.raises(StreamTruncated, match=r"\(partition 0: 3 to 4, partition 1: 0 to 8\)"):
        check(orders, at(5, 9, 2), at(0, 0, 0), at(3, 0, 2))


def test_added_partitions_stop_what_folds_by_key_only(products: dict[str, DataProduct]) -> None:
    with pytest.raises(PartitionsAdded, match="now has 3 partitions, but the log was read from 2"):
        check(products["state"], at(5, 3), at(0, 0, 0), at(9, 9, 0))
    check(products["measurement"], at(5, 3), at(0, 0, 0), at(9, 9, 0))


def test_partitions_added_before_anything_was_landed_move_no_key(orders: DataProduct) -> None:
    check(orders, at(0, 0), at(0, 0, 0), at(9, 9, 9))


OFFSETS = st.lists(st.integers(0, 20), min_size=1, max_size=4)


@given(stored=OFFSETS, begin=OFFSETS, end=OFFSETS)
def test_a_check_passes_exactly_if_nothing_between_is_missing(
    products: dict[str, DataProduct], stored: list[int], begin: list[int], end: list[int]
) -> None:
    places = range(max(map(len, (stored, begin, end))))
    stored, begin, end = ([*one, *(0 for _ in places)][: len(places)] for one in (stored, begin, end))
    sound = all(begin[n] <= stored[n] <= end[n] for n in places)
    found = discontinuity(products["measurement"], at(*stored), Bounds(at(*begin), at(*end)))
    assert (found is None) is sound


def test_after_trimmed_offsets_it_goes_on_with_what_is_left(orders: DataProduct) -> None:
    stored, begin, end = at(5, 9), at(7, 2), at(9, 9)
    after = go_on(OffsetsTrimmed("shop.orders", ""), stored, begin, end, {})
    assert after == at(7, 9)
    check(orders, after, begin, end)


def test_after_a_truncation_a_generation_begins_at_the_cut(orders: DataProduct) -> None:
    stored, begin, end = at(5, 9), at(0, 0), at(3, 12)
    after = go_on(truncation("shop.orders", stored, {0: 3}), stored, begin, end, {0: 3})
    assert after == replace(at(3, 9), generation=1)
    check(orders, after, begin, end)


def test_after_added_partitions_a_generation_begins_and_nothing_is_read_twice(orders: DataProduct) -> None:
    stored, begin, end = at(5, 9), at(0, 0, 0), at(6, 9, 4)
    after = go_on(PartitionsAdded("shop.orders", ""), stored, begin, end, {})
    assert after == replace(at(5, 9, 0), generation=1)
    check(orders, after, begin, end)


@pytest.mark.parametrize("kind", [ClusterChanged, TopicRenamed, TopicRecreated])
def test_of_another_stream_everything_is_read(orders: DataProduct, kind: type[StreamDiscontinuity]) -> None:
    stored = replace(at(5, 9), redrives=2, rebuilds=1, generation=3)
    begin, end = at(2, cluster="c2", topic_id="new"), at(7, cluster="c2", topic_id="new")
    after = go_on(kind("shop.orders", ""), stored, begin, end, {})
    assert after == replace(begin, redrives=2, rebuilds=1, generation=4)
    check(orders, after, begin, end)


def test_a_truncation_names_partitions_in_their_order() -> None:
    error = truncation("shop.orders", at(5, 9, 7), {2: 6, 0: 1})
    assert "(partition 0: 1 to 4, partition 2: 6 to 6)" in error.message


def test_of_a_thousand_partitions_three_are_named(orders: DataProduct) -> None:
    stored, begin, end = at(*[5] * 1000), at(*[9] * 1000), at(*[20] * 1000)
    with pytest.raises(OffsetsTrimmed, match=r"partition 2: 5 to 8 and 997 more\)"):
        check(orders, stored, begin, end)
    with pytest.raises(TopicRecreated, match=r"\[0\] 5, \[1\] 5, \[2\] 5 and 997 more are lost"):
        check(orders, stored, begin, at(*[20] * 1000, topic_id="new"))
    with pytest.raises(StreamTruncated, match=r"partition 2: 1 to 4 and 997 more\)"):
        check(orders, stored, at(*[0] * 1000), at(*[1] * 1000))
