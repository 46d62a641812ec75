"""What is measured, and what it means: a product looked at again and again, without any service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.model import DataProduct, RuleKind, ServiceLevel
from mesh_pipelines.contract.objectives import objectives
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.errors import BrokerUnreachable
from mesh_pipelines.lake.standing import Standing
from mesh_pipelines.observe.judge import FAST_BURN, Judged, Judgement, Promise, Shares
from mesh_pipelines.observe.measure import Mark, Measured, Memory, Round, Seen, measure, remember
from mesh_pipelines.observe.status import status_of
from mesh_pipelines.observe.store.records import Current, Health, RuleState
from mesh_pipelines.pipeline.level import Level, discontinuity
from mesh_pipelines.positions import Bounds, PartitionOffset, Position, Verdict, Version

ASSETS = Path(__file__).parents[2] / "assets"
START = datetime(2026, 3, 4, 12, tzinfo=UTC)
FLIGHTS = load_product(ASSETS / "operations/flights")
PUNCTUALITY = load_product(ASSETS / "insights/punctuality")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def position(*offsets: int, topic_id: str = "t") -> Position:
    return Position("c", "operations.flights", topic_id, {n: PartitionOffset(one) for n, one in enumerate(offsets)})


def version(number: int, seconds: float, reached: Position | None = None, **more: Any) -> Version:
    moment = at(seconds).isoformat()
    return Version(
        "operations.flights", number, f"c{number}", "1", "h", moment, 10, position=reached, published_at=moment, **more
    )


@dataclass
class Observed:
    """A product under observation: what each look measured."""

    product: DataProduct = FLIGHTS
    memory: Memory = field(default_factory=Memory)
    before: Memory = field(default_factory=Memory)
    last: datetime | None = None
    measured: Measured = field(default_factory=Measured)
    seen: Seen | None = None

    def look(
        self,
        seconds: float,
        end: Position | None = None,
        published: Version | None = None,
        marks: Mapping[str, tuple[Mark, ...]] | None = None,
        **standing: Any,
    ) -> Measured:
        stands = Standing(**{"applied": True, "published": published, "newest": published, **standing})
        bounds = Bounds(replace(end, partitions={}), end) if end else None
        broken = discontinuity(self.product, stands.position, bounds) if stands.position and bounds else None
        away = None if bounds else BrokerUnreachable("it does not answer")
        level = Level(self.product, stands, bounds, away if self.product.topic else None, broken=broken)
        self.seen = Seen(level, status_of(level, at(seconds)))
        self.before = self.memory
        self.memory = remember(self.seen, self.before, marks or {}, at(seconds))
        # It is stored as text between two looks.
        self.memory = msgspec.json.decode(msgspec.json.encode(self.memory), type=Memory)
        self.measured = measure(self.seen, self.before, self.memory, Round(at(seconds), self.last, marks or {}))
        self.last = at(seconds)
        return self.measured

    def state(self, *, rules: tuple[RuleState, ...] = (), shares: Shares | None = None) -> Current:
        assert self.seen
        assert self.last
        judged = [
            Promise(self.product.fqn, one, self.last).judge(self.measured, shares or Shares())
            for one in objectives(self.product)
        ]
        judgement = self.judgement(judged, rules, self.last)
        return judgement.current(judgement.findings())

    def judgement(self, judged: Sequence[Judged], rules: Sequence[RuleState], now: datetime) -> Judgement:
        assert self.seen
        return Judgement(self.seen, self.before, self.measured, judged, rules, now)


def test_the_status_counts_what_is_not_checked_beside_the_rules() -> None:
    one = replace(FLIGHTS.rules[0], id="elsewhere", kind=RuleKind.NOT_CHECKED)
    observed = Observed(replace(FLIGHTS, rules=(*FLIGHTS.rules, one)))
    kept = Verdict("c1", "h", passed=True, rules=3, failed=0, warned=0, errors=0, vacuous=0, at="2026-01-01")
    for verdict in (None, kept):
        observed.look(0, None, version(1, 0, verdict=verdict))
        assert observed.seen
        assert (observed.seen.status.not_checked, observed.seen.status.rules_passed) == (1, 3 if verdict else None)


def test_freshness_grows_when_the_producer_stops_and_recovers() -> None:
    flights = Observed()
    flights.look(0, position(10), version(1, -60, position(10)))
    assert flights.measured.freshness == 60
    assert flights.state().health is Health.GOOD
    flights.look(10, position(20), version(1, -60, position(10)))
    assert (flights.measured.freshness, flights.measured.latency) == (70, 0)
    flights.look(20, position(20), version(2, 15, position(20)))
    # The events were first seen at 10.
    assert (flights.measured.freshness, flights.measured.latency) == (10, 0)
    flights.look(905, position(20), version(2, 15, position(20)))
    assert flights.state().health is Health.GOOD
    flights.look(915, position(20), version(2, 15, position(20)))
    late = flights.state()
    assert late.health is Health.BAD
    assert late.reasons[0] == "freshness: 15.1 minutes, promised: no older than 15 minutes"
    flights.look(925, position(21), version(3, 924, position(21)))
    assert flights.measured.freshness == 1
    assert flights.state().health is Health.GOOD


def test_latency_is_the_age_of_the_oldest_event_that_is_not_published() -> None:
    flights = Observed()
    flights.look(0, position(10, 10), version(1, 0, position(10, 10)))
    flights.look(10, position(12, 10), version(1, 0, position(10, 10)))
    flights.look(20, position(12, 15), version(1, 0, position(10, 10)))
    assert flights.measured.latency == 10
    flights.look(30, position(13, 15), version(2, 30, position(12, 10)))
    assert flights.measured.latency == 10
    flights.look(40, position(13, 15), version(3, 40, position(13, 15)))
    assert flights.measured.latency == 0


def test_a_rollback_takes_freshness_back_and_leaves_events_waiting() -> None:
    flights = Observed()
    flights.look(0, position(10), version(1, 0, position(10)))
    flights.look(100, position(20), version(2, 100, position(20)))
    assert flights.measured.freshness == 0
    flights.look(110, position(20), version(1, 0, position(10)))
    assert flights.measured.freshness == 110
    flights.look(120, position(20), version(1, 0, position(10)))
    assert flights.measured.latency == 10


def test_a_new_contract_makes_no_data_newer() -> None:
    flights = Observed()
    flights.look(0, position(10), version(1, 0, position(10)))
    flights.look(50, position(10), version(2, 50, position(10)))
    assert (flights.measured.freshness, flights.measured.frequency) == (50, 50)


def test_without_the_broker_ages_go_on_and_lag_is_not_known() -> None:
    flights = Observed()
    flights.look(0, position(10), version(1, 0, position(10)))
    flights.look(60, None, version(1, 0, position(10)))
    assert (flights.measured.freshness, flights.measured.lag, flights.measured.latency) == (60, None, None)
    flights.look(70, position(15), version(2, 65, position(15)))
    assert flights.measured.freshness == 5


def test_a_derived_product_is_as_fresh_as_what_it_was_made_of() -> None:
    inputs = {"operations.flights": (Mark(1, at(0), at(0)), Mark(2, at(50), at(45)))}
    derived = Observed(PUNCTUALITY)
    derived.look(60, None, version(1, 55, input_versions={"operations.flights": 2}), inputs)
    assert (derived.measured.freshness, derived.measured.latency) == (15, 0)
    # A newer version of its input waits: it is behind from when that was published.
    inputs = {"operations.flights": (*inputs["operations.flights"], Mark(3, at(70), at(69)))}
    derived.look(100, None, version(1, 55, input_versions={"operations.flights": 2}), inputs)
    assert (derived.measured.freshness, derived.measured.latency) == (55, 30)
    derived.look(110, None, version(2, 105, input_versions={"operations.flights": 3}), inputs)
    assert (derived.measured.freshness, derived.measured.latency) == (41, 0)


def test_rates_of_landing_and_of_errors() -> None:
    flights = Observed()
    flights.look(0, position(10), version(1, 0, position(10)), landed=1_000, quarantined=5)
    assert (flights.measured.landing_rate, flights.measured.throughput) == (None, None)
    assert flights.measured.error_rate == 0.5
    flights.look(10, position(10), version(1, 0, position(10)), landed=1_500, quarantined=15)
    assert (flights.measured.landing_rate, flights.measured.landed, flights.measured.held) == (50, 500, 10)
    assert flights.measured.throughput == 50
    assert flights.measured.error_rate == 1
    flights.look(86_400 + 20, position(10), version(1, 0, position(10)), landed=1_600, quarantined=15)
    # Of the hundred that landed within a day none is held back.
    assert flights.measured.error_rate == 0
    assert flights.measured.landed == 100
    flights.look(86_400 + 30, position(10), version(1, 0, position(10)), landed=1_600, quarantined=0)
    assert flights.measured.held == 0


def test_a_version_that_was_there_and_cannot_be_read_is_unavailable() -> None:
    flights = Observed()
    assert flights.look(0, position(10)).available is None
    assert flights.look(10, position(10), version(1, 10, position(10))).available is True
    assert flights.look(20, position(10), None, missing="M405 gone").available is False
    assert flights.state().health is Health.BAD


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (position(100, topic_id="another"), "M301 the topic operations.flights was deleted and created again"),
        (position(40), "M304 the broker lost events of operations.flights that were landed"),
    ],
)
def test_a_stream_that_broke_off_is_stalled_at_once(end: Position, told: str) -> None:
    flights = Observed()
    published = version(1, 0, position(50))
    flights.look(0, position(50), published, position=position(50))
    assert flights.state().health is Health.GOOD
    for seconds in (10, 20):
        flights.look(seconds, end, published, position=position(50))
        assert flights.state().health is Health.BAD
        assert flights.seen
        found = flights.judgement((), (), at(seconds)).findings()
        assert [one.kind for one in found] == ["stalled"]
        assert told in found[0].detail


def test_events_that_wait_too_long_are_a_stall_unless_a_rule_blocks_them() -> None:
    flights = Observed()
    published = version(1, 0, position(50))
    flights.look(0, position(50), published)
    flights.look(10, position(60), published)
    flights.look(910, position(60), published)
    assert flights.seen
    found = flights.judgement((), (), at(910)).findings()
    assert [(one.kind, one.began_at) for one in found] == [("stalled", at(10))]
    verdict = Verdict("c2", "h", False, 1, 1, 0, 0, 0, at(20).isoformat(), ("some",))
    flights.look(920, position(60), published, newest=replace(published, number=2, verdict=verdict))
    rule = RuleState(
        *("operations.flights", "some", "rowCount", "", "block", "fail", 9, 3, 3.0, "mustBe 0", ""),
        *(2, "c2", "1", at(20), "run", True, at(20)),
    )
    found = flights.judgement((), [rule], at(920)).findings()
    assert [(one.kind, one.subject, one.run, one.began_at) for one in found] == [("blocked", "some", "run", at(20))]
    assert flights.state(rules=(rule,)).reasons[0] == "version 2 is blocked by some"


def test_a_product_without_a_version_is_unknown() -> None:
    flights = Observed()
    flights.look(0, position(0))
    assert flights.state().health is Health.UNKNOWN
    assert flights.state().reasons == ("nothing is published yet",)


def product_with(*levels: ServiceLevel) -> DataProduct:
    return replace(FLIGHTS, service_levels=levels)


def test_budget_and_burn() -> None:
    [objective] = objectives(product_with(ServiceLevel("freshness", 1, "m")))
    shares = Shares(window=(995, 999), hour=(80, 99), day=(900, 999))
    missed = Promise("a.b", objective, START).judge(Measured(freshness=61), shares)
    assert missed.good is False
    assert missed.state.attainment == pytest.approx(0.995)
    assert missed.state.budget_left == pytest.approx(0.5)
    assert missed.state.burn_1h == pytest.approx(20)
    assert missed.state.burn_24h == pytest.approx(10)
    assert missed.state.since == START
    later = Promise("a.b", objective, at(60), missed.state).judge(Measured(freshness=70), shares)
    assert later.state.since == START
    met = Promise("a.b", objective, at(60), missed.state).judge(Measured(freshness=60), shares)
    assert (met.good, met.state.since) == (True, at(60))
    unknown = Promise("a.b", objective, START).judge(Measured(), Shares())
    assert (unknown.good, unknown.state.met, unknown.state.attainment, unknown.state.since) == (None,) * 4


def test_a_short_miss_is_no_incident() -> None:
    product = product_with(ServiceLevel("freshness", 1, "m"))
    [objective] = objectives(product)
    flights = Observed(product)
    flights.look(0, position(1), version(1, -61, position(1)))
    assert flights.seen

    def incidents(hour: tuple[int, int]) -> list[str]:
        judged = Promise(product.fqn, objective, START).judge(flights.measured, Shares(hour, hour, (8_600, 8_640)))
        assert flights.seen
        return [one.kind for one in flights.judgement([judged], (), START).findings()]

    assert incidents((359, 359)) == []
    assert incidents((300, 359)) == ["objective"]


def test_availability_is_measured_over_its_window() -> None:
    [objective] = objectives(product_with(ServiceLevel("availability", 99, "%")))

    def judged(available: bool | None, good: int, total: int) -> Judged:
        return Promise("a.b", objective, START).judge(Measured(available=available), Shares((good, total)))

    assert judged(False, 999, 999).state.measured == pytest.approx(99.9)
    assert judged(False, 999, 999).state.met is True
    assert judged(False, 999, 999).good is False
    assert judged(True, 900, 999).state.met is False
    assert judged(None, 0, 0).state.met is None


def test_throughput_is_asked_for_only_while_events_wait_and_retention_only_where_events_were_lost() -> None:
    throughput, retention = objectives(product_with(ServiceLevel("throughput", 10), ServiceLevel("retention", 1, "d")))

    def good(objective: Any, measured: Measured, *, lost: bool = False) -> bool | None:
        return Promise("a.b", objective, START).judge(measured, Shares(), lost=lost).good

    assert good(throughput, Measured(throughput=1, lag=0)) is True
    assert good(throughput, Measured(throughput=1, lag=5)) is False
    assert good(throughput, Measured(throughput=10, lag=5)) is True
    assert good(retention, Measured(retention=60)) is True
    assert good(retention, Measured(retention=60), lost=True) is False
    assert good(retention, Measured(retention=90_000), lost=True) is True
    assert FAST_BURN > 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=200))
def test_freshness_and_latency_are_never_better_than_they_are(steps: list[tuple[int, bool]]) -> None:
    """Against a reference that knows when every event came: one look is the most that is added, nothing is left out."""
    flights = Observed()
    published, came = version(1, 0, position(1)), [0.0]
    flights.look(0, position(1), published)
    for number, (new, publishes) in enumerate(steps, start=1):
        seconds = 10.0 * number
        came += [seconds - 5] * new
        if publishes:
            published = version(number + 1, seconds - 2, position(len(came)))
        flights.look(seconds, position(len(came)), published)
        assert published.position
        reached = published.position.next_offset(0)
        waiting = came[reached:]
        latency = seconds - waiting[0] if waiting else 0.0
        freshness = seconds - came[reached - 1]
        assert flights.measured.latency is not None
        assert flights.measured.freshness is not None
        assert latency - 10 <= flights.measured.latency <= latency
        assert freshness - 10 <= flights.measured.freshness <= freshness
        assert len(flights.memory.moves) <= 64
        assert len(flights.memory.marks) <= 64
