"""Findings of rounds become incidents that last: opened once, gone on with, closed, and the same within an hour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh_pipelines.contract.objectives import Comparison, Objective
from mesh_pipelines.observe.incidents import Incidents, OfIncidents, judge_incidents
from mesh_pipelines.observe.judge import Promise
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.records import Incident
from mesh_pipelines.observe.store.writer import Finding

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
STALLED = Finding("stalled", "", "its stream broke off", "M301", "bad", NOW - timedelta(minutes=5))
LATE = Finding("objective", "freshness", "too old", "2 h", "bad", NOW)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.db")
    yield opened
    opened.close()


class Rounds:
    """Rounds of observing one product, a minute after one another."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.now = NOW
        self.calm: Mapping[str, int] = {}

    def see(self, *found: Finding, unknown: tuple[str, ...] = (), after: timedelta = timedelta(minutes=1)) -> Incidents:
        self.now += after
        incidents = Incidents(self.history, self.now)
        with self.history.writing() as writer:
            self.calm = incidents.reconcile(writer, "shop.orders", found, self.calm, unknown)
        return incidents

    def known(self) -> list[Incident]:
        return list(self.history.incidents_since(datetime(2000, 1, 1, tzinfo=UTC)))

    def only(self) -> Incident:
        [incident] = self.known()
        return incident


@pytest.fixture
def rounds(history: History) -> Rounds:
    return Rounds(history)


def test_nothing_found_is_no_incident(rounds: Rounds) -> None:
    done = rounds.see()
    assert (done.opened, done.closed, rounds.known()) == ([], [], [])


def test_a_finding_opens_an_incident_once(rounds: Rounds) -> None:
    first = rounds.see(STALLED)
    opened_at = rounds.now
    again = rounds.see(STALLED)
    incident = rounds.only()
    assert first.opened == [incident.id]
    assert (again.opened, again.closed) == ([], [])
    assert (incident.opened_at, incident.began_at, incident.closed_at) == (opened_at, STALLED.began_at, None)
    assert (incident.kind, incident.title, incident.severity) == ("stalled", STALLED.title, "bad")


def test_two_subjects_of_one_kind_are_two_incidents(rounds: Rounds) -> None:
    done = rounds.see(LATE, replace(LATE, subject="latency"))
    assert len(done.opened) == 2
    assert {one.subject for one in rounds.known()} == {"freshness", "latency"}


def test_an_incident_goes_on_with_what_is_said_of_it_now(rounds: Rounds) -> None:
    rounds.see(STALLED)
    worse = replace(STALLED, title="it broke off again", detail="M302")
    done = rounds.see(worse)
    assert done.opened == []
    assert (rounds.only().title, rounds.only().detail) == (worse.title, worse.detail)
    # When it began and was noticed does not change with its words.
    assert rounds.only().began_at == STALLED.began_at


def test_what_is_found_no_more_is_closed_at_once(rounds: Rounds) -> None:
    opened = rounds.see(STALLED).opened
    done = rounds.see()
    assert done.closed == opened
    assert rounds.only().closed_at == rounds.now
    assert rounds.calm == {}
    assert rounds.see().closed == []


def test_a_service_level_is_well_after_three_good_rounds(rounds: Rounds) -> None:
    opened = rounds.see(LATE).opened
    for good in (1, 2):
        assert rounds.see().closed == []
        assert rounds.calm == {"objective:freshness": good}
    assert rounds.see().closed == opened
    assert rounds.calm == {}


def test_good_rounds_have_to_follow_one_another(rounds: Rounds) -> None:
    rounds.see(LATE)
    rounds.see()
    rounds.see()
    rounds.see(LATE)
    assert rounds.calm == {}
    rounds.see()
    assert rounds.see().closed == []
    assert rounds.only().closed_at is None


def test_what_could_not_be_looked_at_stays_as_it_is(rounds: Rounds) -> None:
    rounds.see(STALLED)
    assert rounds.see(unknown=("stalled",)).closed == []
    assert rounds.only().closed_at is None
    assert rounds.see(unknown=("objective",)).closed == [rounds.only().id]


def test_what_comes_back_within_the_hour_is_the_same_incident(rounds: Rounds) -> None:
    [number] = rounds.see(STALLED).opened
    rounds.see()
    done = rounds.see(STALLED, after=timedelta(minutes=58))
    assert done.opened == [number]
    assert rounds.only().closed_at is None


def test_what_comes_back_later_is_another_incident(rounds: Rounds) -> None:
    [number] = rounds.see(STALLED).opened
    rounds.see()
    [other] = rounds.see(STALLED, after=timedelta(minutes=61)).opened
    assert other != number
    assert [one.closed_at is None for one in sorted(rounds.known(), key=lambda one: one.id)] == [False, True]


def test_a_product_that_is_gone_has_no_open_incidents(rounds: Rounds) -> None:
    rounds.see(STALLED, LATE)
    incidents = Incidents(rounds.history, rounds.now + timedelta(minutes=1))
    with rounds.history.writing() as writer:
        incidents.end(writer, "shop.orders")
        incidents.end(writer, "shop.never")
    assert len(incidents.closed) == 2
    assert all(one.closed_at for one in rounds.known())
    again = Incidents(rounds.history, rounds.now + timedelta(minutes=2))
    with rounds.history.writing() as writer:
        again.end(writer, "shop.orders")
    assert again.closed == []


def test_products_do_not_share_incidents(rounds: Rounds) -> None:
    rounds.see(STALLED)
    other = Incidents(rounds.history, rounds.now)
    with rounds.history.writing() as writer:
        other.reconcile(writer, "shop.returns", [], {})
    assert other.closed == []
    assert rounds.only().closed_at is None


REPAIR = Objective("timeToRepair", "timeToRepair", 3600, "s", Comparison.AT_MOST, "over within 1 h", 0.9)


def incident(opened: datetime, **more: object) -> Incident:
    plain = Incident(
        id=1,
        product="shop.orders",
        kind="stalled",
        subject="",
        title="",
        detail="",
        severity="bad",
        began_at=opened - timedelta(seconds=30),
        opened_at=opened,
        closed_at=opened + timedelta(minutes=10),
        version=None,
        run=None,
        acknowledged_by=None,
        acknowledged_at=None,
        note=None,
    )
    return replace(plain, **more)


def judged(objective: Objective, incidents: list[Incident], now: datetime = NOW) -> OfIncidents:
    return judge_incidents(Promise("shop.orders", objective, now), incidents)


def test_an_objective_about_incidents_without_any_is_not_measured() -> None:
    found = judged(REPAIR, [], NOW)
    assert (found.days, found.state.measured, found.state.met, found.state.attainment) == ({}, None, None, None)


def test_incidents_count_on_the_day_they_were_opened_and_the_slowest_is_shown() -> None:
    today, before = NOW - timedelta(hours=3), NOW - timedelta(days=2)
    slow = incident(before, closed_at=before + timedelta(hours=2))
    found = judged(REPAIR, [incident(today), slow, incident(before)], NOW)
    assert found.days == {today.date(): (1, 1), before.date(): (1, 2)}
    assert (found.state.measured, found.state.met) == (7200, False)
    assert found.state.attainment == pytest.approx(2 / 3)


def test_an_open_incident_takes_as_long_as_it_has_so_far() -> None:
    lasting = incident(NOW - timedelta(minutes=59), closed_at=None)
    assert judged(REPAIR, [lasting], NOW).state.met is True
    assert judged(REPAIR, [lasting], NOW + timedelta(minutes=2)).state.met is False


def test_warnings_do_not_count() -> None:
    assert judged(REPAIR, [incident(NOW, severity="warning")], NOW).days == {}


def test_how_long_it_took_to_notice_and_to_tell() -> None:
    detect = replace(REPAIR, property="timeToDetect", promised=60)
    notify = replace(REPAIR, property="timeToNotify", promised=60)
    told = incident(NOW, told_at=NOW + timedelta(seconds=61))
    assert judged(detect, [told], NOW).state.measured == 30
    assert judged(notify, [told], NOW).state.measured == 61
    assert judged(notify, [told], NOW).state.met is False
    # Of one that was not told of it is not known yet.
    assert judged(notify, [incident(NOW)], NOW).days == {}
