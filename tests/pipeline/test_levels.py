"""What a product lacks, how far it is behind and whether it is well: from levels alone, without tables or a broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import BrokerUnreachable, ContractInvalid, NotAuthorized, TopicRecreated
from mesh_pipelines.lake.standing import Standing
from mesh_pipelines.observe.health import Observed, Problem, health, problems, without_file, worst
from mesh_pipelines.observe.store.records import Health
from mesh_pipelines.pipeline.attempts import Failure, Mark
from mesh_pipelines.pipeline.due import Need, need, to_run, waiting
from mesh_pipelines.pipeline.lag import Lag, lag
from mesh_pipelines.pipeline.level import Level, Streams, unreadable
from mesh_pipelines.positions import Bounds, PartitionOffset, Position, Verdict, Version
from tests.building import contract_text, version_of, written

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> DataProduct:
    return written(tmp_path_factory.mktemp("assets"), contract_text("shop.orders"))


@pytest.fixture(scope="module")
def totals(tmp_path_factory: pytest.TempPathFactory) -> DataProduct:
    inputs = "- {property: mesh.inputs, value: [shop.orders, shop.lines]}"
    text = contract_text("shop.totals", alignment="aggregate-aligned", settings=inputs)
    return written(tmp_path_factory.mktemp("assets"), text, "SELECT 1 AS id")


def at(*offsets: int, **more: Any) -> Position:
    return replace(
        Position("cluster", "shop.orders", "topic", {n: PartitionOffset(one) for n, one in enumerate(offsets)}), **more
    )


def holds(begin: Position, end: Position) -> Bounds:
    return Bounds(begin, end)


def published(product: DataProduct, position: Position, number: int = 1, **more: Any) -> Version:
    return replace(version_of(product, number, position), published_at="2026-03-04T11:00:00+00:00", **more)


def landed(product: DataProduct, seen: Position, **more: Any) -> Standing:
    """A product whose newest version is published and has all that landed."""
    version = published(product, seen)
    return replace(Standing(True, version, version, seen, landed=3), **more)


def level(product: DataProduct, standing: Standing, **more: Any) -> Level:
    return replace(Level(product, standing, holds(at(0), at(5)) if product.topic else None), **more)


def lacks(of: Level) -> tuple[str | None, str | None]:
    found = need(of, NOW)
    return found.what, found.held


def test_what_is_not_applied_is_not_run(orders: DataProduct) -> None:
    assert lacks(level(orders, Standing(False))) == (None, "it is not applied")


def test_a_new_source_is_due_once_its_topic_was_written_to(orders: DataProduct) -> None:
    assert lacks(level(orders, Standing(True), bounds=holds(at(0), at(0)))) == (None, None)
    assert lacks(level(orders, Standing(True), bounds=holds(at(2), at(1_205)))) == ("1,203 events wait", None)
    # All that it held is gone by now: a first version without rows is what there is to say.
    assert lacks(level(orders, Standing(True), bounds=holds(at(5), at(5)))) == ("0 events wait", None)


def test_a_source_that_has_everything_lacks_nothing(orders: DataProduct) -> None:
    assert lacks(level(orders, landed(orders, at(5)))) == (None, None)
    assert not need(level(orders, landed(orders, at(5))), NOW).is_due


def test_events_past_the_newest_version_make_it_due(orders: DataProduct) -> None:
    found = need(level(orders, landed(orders, at(3))), NOW)
    assert (found.what, found.is_due) == ("2 events wait", True)


def test_what_landed_and_is_in_no_version_makes_it_due(orders: DataProduct) -> None:
    standing = landed(orders, at(3), position=at(5))
    assert lacks(level(orders, standing))[0] == "landed events are in no version yet"
    # A redrive moves no offset, and is to be seen all the same.
    assert (
        lacks(level(orders, landed(orders, at(5), position=at(5, redrives=1))))[0]
        == "landed events are in no version yet"
    )


def test_another_contract_makes_it_due(orders: DataProduct) -> None:
    standing = landed(orders, at(5))
    assert standing.newest
    older = replace(standing, newest=replace(standing.newest, contract_hash="another"))
    assert lacks(level(orders, older))[0] == "its contract changed"


@pytest.mark.parametrize("passed", [True, False])
def test_a_version_that_passed_and_is_not_published_makes_it_due(orders: DataProduct, passed: bool) -> None:
    standing = replace(landed(orders, at(5)), newest=version_of(orders, 2, at(5), passed=passed))
    assert lacks(level(orders, standing))[0] == ("version 2 is not published" if passed else None)


def test_a_topic_that_is_not_there_or_cannot_be_asked_holds_it(orders: DataProduct) -> None:
    assert lacks(level(orders, Standing(True), bounds=None)) == (None, "its topic shop.orders does not exist")
    unasked = level(orders, Standing(True), bounds=None, unasked=NotAuthorized("no right to describe it"))
    assert lacks(unasked) == (None, "no right to describe it")


def inputs_of(**numbers: int | None) -> Mapping[str, Standing]:
    found: dict[str, Standing] = {}
    for name, number in numbers.items():
        version = Version(
            *(f"shop.{name}", number or 0, "c", "1.0.0", "hash", "2026-03-04T10:00:00+00:00", 10 * (number or 0)),
            published_at=f"2026-03-04T10:0{number or 0}:00+00:00",
        )
        found[f"shop.{name}"] = Standing(True, version if number else None)
    return found


def made_from(product: DataProduct, **numbers: int) -> Standing:
    used = {f"shop.{name}": number for name, number in numbers.items()}
    extents = {name: 10 * number for name, number in used.items()}
    version = replace(
        version_of(product, 1, at(0)),
        position=None,
        published_at="2026-03-04T11:00:00+00:00",
        input_versions=used,
        input_extents=extents,
    )
    return Standing(True, version, version)


def test_a_derived_product_is_due_by_the_versions_that_readers_of_its_inputs_see(totals: DataProduct) -> None:
    standing = made_from(totals, orders=2, lines=3)
    assert lacks(level(totals, standing, inputs=inputs_of(orders=2, lines=3))) == (None, None)
    assert lacks(level(totals, standing, inputs=inputs_of(orders=4, lines=3)))[0] == "shop.orders changed"
    assert lacks(level(totals, standing, inputs=inputs_of(orders=4, lines=5)))[0] == "shop.lines, shop.orders changed"
    # A rollback of an input is a change like any other.
    assert lacks(level(totals, standing, inputs=inputs_of(orders=1, lines=3)))[0] == "shop.orders changed"


def test_a_derived_product_waits_for_all_of_its_inputs(totals: DataProduct) -> None:
    assert lacks(level(totals, Standing(True), inputs=inputs_of(orders=1, lines=1))) == ("it was never computed", None)
    some = level(totals, Standing(True), inputs=inputs_of(orders=1, lines=None))
    assert lacks(some) == ("it was never computed", "its input shop.lines has no published version")
    assert not need(some, NOW).is_due
    assert lacks(level(totals, Standing(True), inputs=inputs_of(lines=1)))[1] == (
        "the contract of its input shop.orders has faults"
    )


def failure(product: DataProduct, standing: Standing, **more: Any) -> Failure:
    offsets = {n: one.next_offset for n, one in standing.position.partitions.items()} if standing.position else None
    mark = Mark(product.contract_hash, (0, 0, 0) if standing.position else None, offsets)
    plain = Failure(
        "land", "M402", "it is away", "mesh doctor", False, mark, NOW, NOW, until=NOW + timedelta(minutes=1)
    )
    return replace(plain, **more)


def test_a_failed_product_waits_until_its_time_has_come_or_someone_did_something(orders: DataProduct) -> None:
    standing = landed(orders, at(3))
    failed = level(orders, standing, failure=failure(orders, standing))
    assert need(failed, NOW).held
    assert need(failed, NOW + timedelta(minutes=1)).held is None
    applied = replace(failed, product=replace(orders, contract_hash="another"))
    assert need(applied, NOW).held is None
    moved = replace(failed, standing=replace(standing, position=at(3, generation=1)))
    assert need(moved, NOW).held is None


POSITIONS = st.lists(st.integers(0, 30), min_size=1, max_size=4)


@given(read=st.none() | POSITIONS, begin=POSITIONS, more=POSITIONS)
def test_what_waits_is_what_is_kept_and_not_read(read: list[int] | None, begin: list[int], more: list[int]) -> None:
    end = [first + more[n % len(more)] for n, first in enumerate(begin)]
    known = [*(read or []), *([0] * len(begin))]
    assert waiting(at(*read) if read is not None else None, holds(at(*begin), at(*end))) == sum(
        len(set(range(begin[n], end[n])) - set(range(known[n]))) for n in range(len(begin))
    )


def test_of_another_topic_everything_waits() -> None:
    bounds = holds(at(2, 0), at(5, 4))
    assert waiting(at(5, 4), bounds) == 0
    assert waiting(replace(at(5, 4), topic_id="another"), bounds) == 7
    assert waiting(replace(at(5, 4), cluster_id="another"), bounds) == 7


def needs_of(products: Mapping[str, tuple[DataProduct, bool, bool]]) -> list[Need]:
    return [
        Need(Level(product, Standing(True)), "something" if is_due else None, "held" if is_held else None)
        for product, is_due, is_held in products.values()
    ]


def test_what_is_derived_from_a_derived_product_that_runs_runs_with_it(
    orders: DataProduct, totals: DataProduct
) -> None:
    assert totals.transform
    best = replace(totals, name="best", transform=replace(totals.transform, inputs=("shop.totals",)))
    last = replace(totals, name="last", transform=replace(totals.transform, inputs=("shop.best",)))
    chain = {"totals": (totals, True, False), "best": (best, False, False), "last": (last, False, False)}
    assert [one.name for one in to_run(needs_of(chain))] == ["totals", "best", "last"]
    assert [one.name for one in to_run(needs_of({**chain, "best": (best, False, True)}))] == ["totals"]
    assert to_run(needs_of({**chain, "totals": (totals, False, False)})) == []


def test_sources_take_nothing_along(orders: DataProduct, totals: DataProduct) -> None:
    found = to_run(needs_of({"orders": (orders, True, False), "totals": (totals, False, False)}))
    assert [one.name for one in found] == ["orders"]
    assert to_run([]) == []


def test_a_source_is_behind_by_offsets(orders: DataProduct) -> None:
    assert lag(level(orders, landed(orders, at(3)))) == Lag(2)
    assert lag(level(orders, Standing(True))) == Lag(5)
    assert lag(level(orders, landed(orders, at(3)), bounds=None)) == Lag(None)
    # What landed and is not published is behind, too.
    assert lag(level(orders, landed(orders, at(3), position=at(5)))) == Lag(2)


def test_a_derived_product_is_behind_by_versions_and_what_they_read(totals: DataProduct) -> None:
    standing = made_from(totals, orders=2, lines=3)
    assert lag(level(totals, standing, inputs=inputs_of(orders=2, lines=3))) == Lag(0, 0, None)
    found = lag(level(totals, standing, inputs=inputs_of(orders=4, lines=4)))
    assert (found.rows, found.versions) == (30, 3)
    # Since the first of the versions that it lacks.
    assert found.since == datetime(2026, 3, 4, 10, 4, tzinfo=UTC)


def test_an_input_that_was_taken_back_is_one_version_and_no_rows(totals: DataProduct) -> None:
    found = lag(level(totals, made_from(totals, orders=3, lines=3), inputs=inputs_of(orders=2, lines=3)))
    assert (found.rows, found.versions) == (0, 1)


def test_what_an_input_of_another_release_had_read_is_not_known(totals: DataProduct) -> None:
    standing = made_from(totals, orders=2, lines=3)
    assert standing.published
    older = replace(standing, published=replace(standing.published, input_extents={}))
    assert lag(level(totals, older, inputs=inputs_of(orders=4, lines=3))).rows is None


def test_before_all_inputs_have_a_version_there_is_nothing_to_be_late_with(totals: DataProduct) -> None:
    some = lag(level(totals, Standing(True), inputs=inputs_of(orders=1, lines=None)))
    assert (some.rows, some.versions, some.since) == (10, 1, None)
    every = lag(level(totals, Standing(True), inputs=inputs_of(orders=1, lines=2)))
    # Since the last of them was there.
    assert (every.rows, every.versions, every.since) == (30, 3, datetime(2026, 3, 4, 10, 2, tzinfo=UTC))


def found(of: Level, now: datetime = NOW, observed: Observed | None = None) -> list[tuple[str, str, str]]:
    return [(one.kind, one.severity, one.text) for one in problems(of, now, observed)]


def test_a_product_that_has_everything_is_well(orders: DataProduct) -> None:
    well = level(orders, landed(orders, at(5)))
    assert problems(well, NOW) == []
    assert worst([]) is None


def test_a_product_without_tables_was_not_applied_or_has_lost_them(orders: DataProduct) -> None:
    missing = level(orders, Standing(False, missing="M405 its table log does not exist"))
    [new] = problems(missing, NOW)
    assert (new.severity, new.code, new.text) == ("warning", "M405", "its table log does not exist")
    assert new.next_step == "mesh apply shop.orders"
    [lost] = problems(missing, NOW, Observed(version=3))
    assert lost.severity == "bad"


@pytest.mark.parametrize(
    ("more", "kind", "code"),
    [
        ({"bounds": None}, "stalled", "M404"),
        ({"bounds": None, "unasked": BrokerUnreachable("no answer")}, "unasked", "M401"),
        ({"broken": TopicRecreated("shop.orders", "it was created again")}, "stalled", "M301"),
    ],
)
def test_a_stream_that_cannot_be_read_on_is_bad(
    orders: DataProduct, more: dict[str, Any], kind: str, code: str
) -> None:
    [problem] = problems(level(orders, landed(orders, at(5)), **more), NOW)
    assert (problem.kind, problem.severity, problem.code) == (kind, "bad", code)
    assert problem.next_step


def test_a_blocked_version_names_its_rules(orders: DataProduct) -> None:
    verdict = Verdict("c2", orders.contract_hash, False, 3, 2, 0, 0, 0, "now", blocking=("amount.minimum", "total"))
    newest = replace(version_of(orders, 2, at(5)), verdict=verdict)
    [problem] = problems(level(orders, replace(landed(orders, at(5)), newest=newest)), NOW)
    assert (problem.kind, problem.text) == ("blocked", "version 2 blocked by amount.minimum, total")


@pytest.mark.parametrize(
    ("transient", "count", "severity", "times"),
    [
        (False, 1, "bad", "once"),
        (True, 1, "warning", "once"),
        (True, 2, "warning", "2 times"),
        (True, 3, "bad", "3 times"),
    ],
)
def test_a_failed_attempt_is_told_and_is_bad_where_it_does_not_pass(
    orders: DataProduct, transient: bool, count: int, severity: str, times: str
) -> None:
    standing = landed(orders, at(5))
    failed = failure(orders, standing, transient=transient, count=count)
    [problem] = problems(level(orders, standing, failure=failed), NOW)
    assert (problem.kind, problem.severity) == ("failing", severity)
    assert problem.text == f"land failed {times}: it is away; tried again at 12:01:00 UTC"
    assert str(problem) == f"M402 {problem.text}"


def test_a_failure_is_told_once_and_not_after_it_was_mended(orders: DataProduct) -> None:
    standing = landed(orders, at(5))
    failed = failure(orders, standing)
    assert problems(level(orders, standing, failure=replace(failed, step="audit")), NOW) == []
    away = level(orders, standing, bounds=None, unasked=BrokerUnreachable("no answer"), failure=failed)
    assert [one.kind for one in problems(away, NOW)] == ["unasked"]
    broken = TopicRecreated("shop.orders", "it was created again")
    stopped = level(orders, standing, broken=broken, failure=replace(failed, code=broken.code))
    assert [one.kind for one in problems(stopped, NOW)] == ["stalled"]
    other = replace(stopped, failure=replace(failed, code="M402"))
    assert [one.kind for one in problems(other, NOW)] == ["stalled", "failing"]
    mended = level(replace(orders, contract_hash="another"), standing, failure=failed)
    assert "failing" not in {one.kind for one in problems(mended, NOW)}


def test_what_was_observed_is_told_and_events_that_wait_only_while_they_do(orders: DataProduct) -> None:
    observed = Observed(missed=("freshness: 2 h, promised: 1 h",), stalled="events wait for 2 h")
    behind = found(level(orders, landed(orders, at(3))), NOW, observed)
    assert behind == [
        ("objective", "bad", "freshness: 2 h, promised: 1 h"),
        ("stalled", "bad", "events wait for 2 h"),
    ]
    assert found(level(orders, landed(orders, at(5))), NOW, observed) == behind[:1]


def test_the_worst_comes_first(orders: DataProduct) -> None:
    standing = landed(orders, at(5))
    proposed = replace(orders, contract_version="2.0.0", contract_hash="proposed")
    mixed = level(
        orders,
        standing,
        proposed=proposed,
        faults=ContractInvalid("shop.orders", []),
        failure=failure(orders, standing, transient=True),
    )
    everything = problems(mixed, NOW, Observed(missed=("late",)))
    assert [one.severity for one in everything] == ["bad", "bad", "warning", "notice"]
    assert everything[-1].text == "contract 2.0.0 is not applied"
    first = worst(everything)
    assert first is everything[0]


def test_a_notice_makes_nothing_worse(orders: DataProduct) -> None:
    notice = without_file("shop.gone")
    assert worst([notice]) is None
    assert health([notice.severity], is_published=True) is Health.GOOD


@pytest.mark.parametrize(
    ("severities", "is_published", "said"),
    [
        ([], True, Health.GOOD),
        ([], False, Health.UNKNOWN),
        (["notice", "warning"], True, Health.WARNING),
        (["warning"], False, Health.UNKNOWN),
        (["warning", "bad"], True, Health.BAD),
        (["bad"], False, Health.BAD),
    ],
)
def test_health_is_the_worst_and_unknown_before_a_version(severities, is_published: bool, said: Health) -> None:
    assert health(severities, is_published=is_published) is said


def test_a_derived_product_that_its_inputs_left_behind_for_too_long_is_bad(totals: DataProduct) -> None:
    behind = level(totals, made_from(totals, orders=2, lines=3), inputs=inputs_of(orders=4, lines=3))
    assert found(behind, datetime(2026, 3, 4, 10, 4, 1, tzinfo=UTC)) == []
    [(kind, severity, text)] = found(behind, datetime(2026, 3, 6, tzinfo=UTC))
    assert (kind, severity) == ("behind", "bad")
    assert text.startswith("behind its inputs for ")


def test_tables_that_cannot_be_read_are_told_with_what_the_stream_says(orders: DataProduct) -> None:
    bounds = holds(at(0), at(5))
    known = unreadable(orders, "M410 it is damaged", Streams({"shop.orders": bounds}))
    assert (known.bounds, known.standing.applied, known.standing.missing) == (bounds, False, "M410 it is damaged")
    [problem] = problems(known, NOW)
    assert (problem.kind, problem.code) == ("broken", "M410")


def test_streams_say_why_a_topic_could_not_be_asked(orders: DataProduct, totals: DataProduct) -> None:
    hidden, away = NotAuthorized("hidden"), BrokerUnreachable("away")
    assert Streams().unasked(orders) is None
    assert Streams(hidden={"shop.orders": hidden}).unasked(orders) is hidden
    assert Streams(hidden={"shop.other": hidden}).unasked(orders) is None
    assert Streams(hidden={"shop.orders": hidden}, problem=away).unasked(orders) is away
    assert Streams(problem=away).unasked(totals) is None


def test_a_problem_without_a_code_is_its_text() -> None:
    assert str(Problem("waits", "notice", "it waits", "")) == "it waits"
