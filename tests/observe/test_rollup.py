"""What is kept for how long, and that pages' queries use an index whatever the size."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.prometheus import metrics_text
from mesh_pipelines.observe.store.records import Publication
from mesh_pipelines.observe.store.rollup import tidy, tidy_daily
from mesh_pipelines.observe.store.times import micros
from mesh_pipelines.observe.store.writer import Finding

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
EVER = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.db")
    yield opened
    opened.close()


def test_samples_are_thinned_to_the_first_of_each_hour_and_then_dropped(history: History) -> None:
    with history.writing() as writer:
        for minutes in range(0, 60 * 24 * 4, 20):
            writer.sample("a.b", "lag", NOW - timedelta(minutes=minutes), float(minutes))
        writer.sample("a.b", "lag", NOW - timedelta(days=31), 1.0)
        writer.sample("a.c", "lag", NOW - timedelta(days=3), 1.0)
    days = history.measure_days("a.b", "lag", since=EVER.date())
    tidy(history, 400, NOW)
    kept = [one.at for one in history.samples("a.b", "lag", since=EVER)]
    old = [at for at in kept if at < NOW - timedelta(days=2)]
    assert len(kept) - len(old) == 2 * 24 * 3 + 1
    hours = [at.replace(minute=0) for at in old]
    assert len(set(hours)) == len(hours) == 49
    assert all(at.minute < 20 for at in old[1:])
    assert len(history.samples("a.c", "lag", since=EVER)) == 1
    assert history.measure_days("a.b", "lag", since=EVER.date()) == days


def test_days_and_what_is_over_are_dropped_when_they_are_old(history: History) -> None:
    old, older = NOW - timedelta(days=99), NOW - timedelta(days=101)
    finding = Finding("blocked", "some", "", "", "bad", older)
    with history.writing() as writer:
        for at in (old, older):
            writer.landed("a.b", at, 5, 0)
            writer.tally("a.b", "freshness", at, good=True)
            writer.sample("a.b", "lag", at, 1.0)
        over, going_on = writer.open("a.b", finding, older), writer.open("a.b", finding, older)
        writer.close(over, older)
    tidy(history, 100, NOW)
    assert [one.day for one in history.mesh_days(since=EVER.date())] == [old.date()]
    assert [one.day for one in history.objective_days(since=EVER.date())] == [old.date()]
    assert [one.day for one in history.measure_days("a.b", "lag", since=EVER.date())] == [old.date()]
    assert [one.id for one in history.incidents()] == [going_on]
    assert history.shares_of_slots(0) == {}


def test_publications_of_long_ago_leave_the_last_hundred(history: History) -> None:
    with history.writing() as writer:
        for number in range(1, 151):
            writer.publication(Publication("a.b", number, NOW - timedelta(days=40), 1, 1, 1.0, 0, None, False))
        for number in range(1, 4):
            writer.publication(Publication("a.c", number, NOW - timedelta(days=40), 1, 1, 1.0, 0, None, False))
    tidy(history, 400, NOW)
    assert [one.version for one in history.publications("a.b", limit=200)] == list(range(150, 50, -1))
    assert len(history.publications("a.c")) == 3


def test_upkeep_is_done_once_a_day(history: History) -> None:
    assert tidy_daily(history, 400, NOW)
    assert not tidy_daily(history, 400, NOW + timedelta(hours=11))
    assert tidy_daily(history, 400, NOW + timedelta(hours=12))


def test_a_made_up_past_is_whole(history: History, synthetic: Callable[..., list[str]]) -> None:
    names = synthetic(history, 30, 40, 1, until=NOW)
    since = NOW.date() - timedelta(days=39)
    assert [one.product for one in history.current()] == sorted(names)
    assert len(history.product_days(names[0], since=since)) == len(history.mesh_days(since=since)) == 40
    assert sum(one.evaluated for one in history.mesh_days(since=since)) == 30 * 40 * 5 * 24
    assert sum(evaluated for _, _, evaluated, _ in history.dimension_days(names, since=since)) == 30 * 40 * 5 * 24
    assert history.dimension_days(names, since=since) == history.dimension_days(None, since=since)
    assert len(history.rule_days(names[3], since=since)) == 200
    assert metrics_text(history).count(b"mesh_version{") == 30
    assert history.observed_at() == NOW


# What a page asks for, and a plan of which would be slow at any size.
PAGES: list[Callable[[History, str], object]] = [
    lambda history, name: history.current(),
    lambda history, name: history.current(name),
    lambda history, name: history.rule_states(name),
    lambda history, name: history.rule_days(name, since=EVER.date()),
    lambda history, name: history.rule_days(since=NOW.date()),
    lambda history, name: history.product_days(name, since=EVER.date()),
    lambda history, name: history.product_days(since=NOW.date()),
    lambda history, name: history.mesh_days(since=EVER.date()),
    lambda history, name: history.dimension_days(None, since=EVER.date()),
    lambda history, name: history.dimension_days([name], since=EVER.date()),
    lambda history, name: history.samples(name, "lag", since=EVER),
    lambda history, name: history.measure_days(name, "lag", since=EVER.date()),
    lambda history, name: history.objectives(),
    lambda history, name: history.objective_days(name, since=EVER.date()),
    lambda history, name: history.incidents(),
    lambda history, name: history.incidents(name, open_only=True),
    lambda history, name: history.publications(name),
    lambda history, name: history.revisions(name),
    lambda history, name: history.shares(NOW.date()),
    lambda history, name: history.known_until(),
]
GROWING = ("rule_days", "dimension_days", "product_days", "measure_days", "objective_days", "samples", "audits")


@pytest.mark.parametrize("page", PAGES, ids=range(len(PAGES)))
def test_no_page_reads_all_of_a_table_that_grows(
    page: Callable[[History, str], object],
    history: History,
    synthetic: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = synthetic(history, 3, 3, 1, until=NOW)[0]
    plans: list[str] = []

    class Explained(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
            if sql.startswith("SELECT"):
                plans.extend(row[3] for row in super().execute(f"EXPLAIN QUERY PLAN {sql}", *values))
            return super().execute(sql, *values)

    with closing(History(history.file)) as explained:
        connect = sqlite3.connect
        monkeypatch.setattr(
            "mesh_pipelines.observe.store.history.sqlite3.connect",
            lambda file, **options: connect(file, factory=Explained, **options),
        )
        page(explained, name)
    assert plans
    assert not [plan for plan in plans for table in GROWING if plan.startswith(f"SCAN {table}")]


def test_observed_at_is_kept_to_the_microsecond(history: History) -> None:
    at = datetime(2026, 3, 4, 12, 30, 1, 234567, tzinfo=UTC)
    with history.writing() as writer:
        writer.note("observed_at", micros(at))
    assert history.observed_at() == at
