"""A product's versions: the pointer that readers follow, every version by number and time, rollbacks and names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import (
    ConcurrentWriter,
    NothingPublished,
    TableMissing,
    Unaudited,
    UnknownVersion,
    UsageError,
)
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.versions import LAST, MOVES, NEWEST, PUBLISHED, Versions, moved_since, newest_in, published_in
from mesh_pipelines.positions import PartitionOffset, Position, Version
from mesh_pipelines.settings import Settings
from tests.building import contract_text, publish_version, start_of, version_of, written


@pytest.fixture
def tables(local_settings: Settings) -> ProductTables:
    product = written(local_settings.assets, contract_text("shop.orders"))
    found = ProductTables(open_catalog(local_settings), product)
    found.create()
    return found


@pytest.fixture
def versions(tables: ProductTables) -> Versions:
    return tables.versions


def at(product: DataProduct, offset: int) -> Position:
    return start_of(product).advance({0: PartitionOffset(offset)})


def publish(tables: ProductTables, number: int) -> Version:
    return publish_version(tables, version_of(tables.product, number, at(tables.product, number)))


def seconds(number: int) -> datetime:
    """When ``publish`` published a version."""
    return datetime(2024, 1, 1, 0, 0, number, tzinfo=UTC)


def test_before_the_first_version_there_is_none(versions: Versions) -> None:
    assert (versions.published(), versions.newest(), versions.all(), versions.next_number()) == (None, None, [], 1)
    with pytest.raises(NothingPublished, match="nothing is published yet"):
        versions.current()
    with pytest.raises(NothingPublished):
        versions.at(1)
    with pytest.raises(UnknownVersion, match="nothing was published at"):
        versions.as_of(datetime.now(UTC))


def test_a_product_that_was_not_applied_has_no_versions_to_ask(local_settings: Settings) -> None:
    product = written(local_settings.assets, contract_text("shop.orders"))
    with pytest.raises(TableMissing):
        ProductTables(open_catalog(local_settings), product).versions.published()


def test_a_candidate_is_seen_by_nobody_until_it_is_published(tables: ProductTables, versions: Versions) -> None:
    candidate = version_of(tables.product, 1, at(tables.product, 5))
    versions.propose(candidate)
    assert (versions.newest(), versions.published(), versions.all()) == (candidate, None, [])
    assert versions.next_number() == 1
    published = versions.publish("c1", tables.product.contract_hash, "2024-01-01T00:00:01+00:00")
    assert published == replace(candidate, published_at="2024-01-01T00:00:01+00:00")
    assert (versions.current(), versions.newest(), versions.all()) == (published, published, [published])
    assert versions.next_number() == 2


def test_publishing_twice_changes_nothing(tables: ProductTables, versions: Versions) -> None:
    first = publish(tables, 1)
    again = versions.publish("c1", tables.product.contract_hash, "2030-01-01T00:00:00+00:00")
    assert again == first
    assert versions.all() == [first]


def test_a_candidate_may_be_replaced_by_one_that_has_read_further(tables: ProductTables, versions: Versions) -> None:
    near, far = (
        replace(version_of(tables.product, 1, at(tables.product, to)), candidate_id=f"at{to}") for to in (5, 9)
    )
    versions.propose(near)
    versions.propose(far)
    assert versions.newest() == far
    with pytest.raises(ConcurrentWriter, match="another run stored a newer candidate"):
        versions.propose(near)
    assert versions.newest() == far


@pytest.mark.parametrize("number", [1, 3])
def test_a_candidate_has_the_next_number(tables: ProductTables, versions: Versions, number: int) -> None:
    publish(tables, 1)
    with pytest.raises(ConcurrentWriter):
        versions.propose(version_of(tables.product, number, at(tables.product, 9)))


def unaudited(tables: ProductTables, candidate: Version, contract_hash: str | None = None) -> str:
    tables.versions.propose(candidate)
    with pytest.raises(Unaudited) as caught:
        tables.versions.publish(candidate.candidate_id, contract_hash or tables.product.contract_hash, "now")
    assert tables.versions.published() is None
    return caught.value.message


def test_nothing_is_published_without_a_passing_verdict_for_exactly_it(tables: ProductTables) -> None:
    sound = version_of(tables.product, 1, at(tables.product, 5))
    assert sound.verdict
    assert "was never audited" in unaudited(tables, replace(sound, verdict=None))
    other = replace(sound, verdict=replace(sound.verdict, candidate_id="c9"))
    assert "the stored verdict is for candidate c9" in unaudited(tables, other)
    failed = replace(sound, verdict=replace(sound.verdict, passed=False, blocking=("total",)))
    assert "its audit failed (total)" in unaudited(tables, failed)
    assert "the contract has changed" in unaudited(tables, sound, "another")
    assert "the contract has changed" in unaudited(tables, replace(sound, contract_hash="another"), "another")


def test_only_the_newest_candidate_is_published(tables: ProductTables, versions: Versions) -> None:
    versions.propose(version_of(tables.product, 1, at(tables.product, 5)))
    with pytest.raises(Unaudited, match="candidate c7 is not the newest one"):
        versions.publish("c7", tables.product.contract_hash, "now")


def test_every_version_is_found_by_its_number(tables: ProductTables, versions: Versions) -> None:
    published = [publish(tables, number) for number in (1, 2, 3)]
    assert versions.all() == published
    assert [versions.at(number) for number in (1, 2, 3)] == published
    with pytest.raises(UnknownVersion, match=r"the version must be 1 to 3, got 4"):
        versions.at(4)
    with pytest.raises(UnknownVersion):
        versions.at(0)


def test_every_version_is_found_by_the_time_it_was_the_one_to_see(tables: ProductTables, versions: Versions) -> None:
    for number in (1, 2, 3):
        publish(tables, number)
    moment = timedelta(microseconds=1)
    with pytest.raises(UnknownVersion):
        versions.as_of(seconds(1) - moment)
    for number in (1, 2, 3):
        assert versions.as_of(seconds(number)).number == number
        assert versions.as_of(seconds(number) + moment).number == number
    # A moment without a zone is one in UTC.
    assert versions.as_of(seconds(2).replace(tzinfo=None)).number == 2


def test_the_versions_since_a_moment_are_those_stored_since(tables: ProductTables, versions: Versions) -> None:
    began = datetime.now(UTC)
    publish(tables, 1)
    between = datetime.now(UTC)
    publish(tables, 2)
    assert [one.number for one in versions.published_since(began)] == [1, 2]
    assert [one.number for one in versions.published_since(between)] == [2]
    assert versions.published_since(datetime.now(UTC) + timedelta(seconds=1)) == []


def test_a_rollback_takes_readers_back_and_keeps_every_version(tables: ProductTables, versions: Versions) -> None:
    first, second, third = (publish(tables, number) for number in (1, 2, 3))
    assert versions.roll_back(1, "it was wrong") == first
    assert versions.current() == first
    assert versions.all() == [
        first,
        replace(second, withdrawn="it was wrong"),
        replace(third, withdrawn="it was wrong"),
    ]
    assert versions.newest() == replace(third, withdrawn="it was wrong")
    assert versions.at(3).withdrawn == "it was wrong"
    assert versions.as_of(datetime.now(UTC)).number == 1
    # The stream's side stays: numbers are never used twice.
    assert versions.next_number() == 4
    with pytest.raises(UnknownVersion):
        versions.roll_back(9, "never was")


def test_after_a_rollback_it_goes_on_and_forward_again(tables: ProductTables, versions: Versions) -> None:
    for number in (1, 2):
        publish(tables, number)
    versions.roll_back(1, "first")
    third = publish(tables, 3)
    assert versions.current() == third
    assert [one.withdrawn for one in versions.all()] == [None, "first", None]
    # Readers may be taken to what was withdrawn, which is then withdrawn no more.
    assert versions.roll_back(2, "second").withdrawn is None
    assert [one.withdrawn for one in versions.all()] == [None, None, "second"]
    assert versions.current().number == 2


def test_a_name_keeps_a_version_and_belongs_to_one(tables: ProductTables, versions: Versions) -> None:
    for number in (1, 2):
        publish(tables, number)
    versions.tag(1, "year-end")
    versions.tag(1, "year-end")
    versions.tag(1, "audit")
    assert versions.tags() == {"year-end": 1, "audit": 1}
    with pytest.raises(UsageError, match="version 1 has the tag year-end") as caught:
        versions.tag(2, "year-end")
    assert caught.value.next_step
    assert "--move" in caught.value.next_step
    versions.tag(2, "year-end", move=True)
    assert versions.tags() == {"year-end": 2, "audit": 1}
    versions.untag("year-end")
    assert versions.tags() == {"audit": 1}
    with pytest.raises(UnknownVersion, match="no version has the tag year-end"):
        versions.untag("year-end")
    with pytest.raises(UnknownVersion):
        versions.tag(7, "never")
    # Names change no version.
    assert [one.number for one in versions.all()] == [1, 2]


def test_a_version_whose_rows_were_rebuilt_is_the_same_version(tables: ProductTables, versions: Versions) -> None:
    first, second = publish(tables, 1), publish(tables, 2)
    rebuilt = replace(first, base_snapshot_id=7)
    versions.restore(rebuilt)
    assert versions.all() == [rebuilt, second]
    assert versions.current() == second
    again = replace(second, base_snapshot_id=8)
    versions.restore(again)
    assert (versions.current(), versions.newest()) == (again, again)


def test_the_properties_alone_say_what_is_published(tables: ProductTables) -> None:
    publish(tables, 1)
    tables.versions.propose(version_of(tables.product, 2, at(tables.product, 9)))
    properties = tables.load("versions").properties
    assert published_in(properties) == tables.versions.published()
    assert newest_in(properties) == tables.versions.newest()
    assert properties[LAST] == "1"
    assert (published_in({}), newest_in({PUBLISHED: ""}), newest_in({NEWEST: ""})) == (None, None, None)


def moves(*numbers: int) -> dict[str, str]:
    made = [[number, seconds(place).isoformat()] for place, number in enumerate(numbers)]
    return {MOVES: str(made).replace("'", '"')}


@pytest.mark.parametrize(
    ("went", "number", "left"),
    [
        ((), 1, None),
        ((1,), 1, None),
        ((1, 2), 1, 1),
        ((1, 2), 2, None),
        # After a rollback readers see the first again, and left it after they last came there.
        ((1, 2, 1), 1, None),
        ((1, 2, 1, 3), 1, 3),
        ((1, 2, 1, 3), 2, 2),
        # Too long ago to be known: the oldest known move.
        ((5, 6), 2, 0),
    ],
)
def test_when_readers_left_a_version(went: tuple[int, ...], number: int, left: int | None) -> None:
    assert moved_since(moves(*went), number) == (None if left is None else seconds(left))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_readers_have_left_every_version_but_the_last(went: list[int]) -> None:
    for number in set(went):
        left = moved_since(moves(*went), number)
        assert (left is None) is (went[-1] == number)
        if left:
            assert went[left.second - 1] == number
            assert number not in went[left.second :]


def test_moves_are_kept_and_not_for_ever(tables: ProductTables, versions: Versions, monkeypatch: Any) -> None:
    monkeypatch.setattr("mesh_pipelines.lake.versions._MOVES_KEPT", 2)
    for number in (1, 2, 3):
        publish(tables, number)
    properties = tables.load("versions").properties
    assert moved_since(properties, 3) is None
    assert moved_since(properties, 2) == seconds(3)
    assert moved_since(properties, 1) == seconds(2)
