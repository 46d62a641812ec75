from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from mesh_pipelines.errors import StorageUnavailable, UsageError
from mesh_pipelines.observe.store import schema
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.records import ContractRevision, Delivery, Publication, RuleState
from mesh_pipelines.observe.store.writer import Finding

NOW = datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=UTC)
TODAY = NOW.date()


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.db")
    yield opened
    opened.close()


def result(rule: str = "some", state: str = "pass", at: datetime = NOW, candidate: str = "c1") -> RuleState:
    return RuleState(
        product="shop.orders",
        rule=rule,
        check="rowCount",
        dimension="completeness",
        on_failure="block",
        state=state,
        rows=10,
        bad=3 if state == "fail" else 0,
        measured=10.0,
        threshold="must be 0",
        message="",
        version=1,
        candidate_id=candidate,
        contract_version="1.0.0",
        at=at,
        run=None,
        blocks=state == "fail",
        since=None,
    )


def test_audits_are_counted_once_and_by_day(history: History) -> None:
    for _ in range(2):
        with history.writing() as writer:
            writer.audit([result(), result("other", "fail"), result("none", "vacuous")], NOW, "c1")
    with history.writing() as writer:
        assert not writer.audit([result()], NOW, "c1")
    [day] = history.product_days("shop.orders", since=TODAY)
    assert (day.evaluated, day.passed, day.failed, day.audits, day.blocked) == (2, 1, 1, 1, 1)
    assert [replace(day, product="shop.orders") for day in history.mesh_days(since=TODAY)] == [day]
    assert history.product_days(since=TODAY) == [day]
    assert history.product_days("", since=TODAY) == []
    assert history.product_days(since=TODAY + timedelta(days=1)) == []
    days = {day.rule: day for day in history.rule_days("shop.orders", since=TODAY)}
    assert (days["other"].failed, days["other"].bad, days["none"].vacuous, days["none"].evaluated) == (1, 3, 1, 0)
    assert history.rule_days(since=TODAY, rule="other") == [days["other"]]
    assert history.dimension_days(None, since=TODAY) == [("completeness", TODAY, 2, 1)]
    assert history.dimension_days(["shop.orders", "no.such"], since=TODAY) == [("completeness", TODAY, 2, 1)]
    assert history.dimension_days([], since=TODAY) == []


def test_a_rule_keeps_the_time_since_which_it_is_as_it_is(history: History) -> None:
    for minutes, state in enumerate(("pass", "fail", "fail", "pass")):
        at = NOW + timedelta(minutes=minutes)
        with history.writing() as writer:
            writer.audit([result("b", state, at), result("a", at=at)], at, f"c{minutes}")
        [b, a] = history.rule_states("shop.orders")
        assert (b.rule, a.rule) == ("b", "a")
        assert b.since == NOW + timedelta(minutes=(0, 1, 1, 3)[minutes])
        assert a.since == NOW
    with history.writing() as writer:
        writer.audit([result("a", at=at)], at, "c9")
    assert [state.rule for state in history.rule_states("shop.orders")] == ["a"]


def test_nothing_of_a_round_that_fails_is_kept(history: History) -> None:
    with pytest.raises(ZeroDivisionError), history.writing() as writer:
        writer.audit([result()], NOW, "c1")
        _ = 1 / 0
    assert history.rule_states("shop.orders") == []
    with history.writing() as writer:
        assert writer.audit([result()], NOW, "c1")


def test_samples_and_their_days(history: History) -> None:
    with history.writing() as writer:
        for minutes, value in enumerate((3.0, 1.0, 2.0)):
            writer.sample("shop.orders", "lag", NOW + timedelta(minutes=minutes), value)
        writer.sample("shop.orders", "rows", NOW, 7.0)
    assert [one.value for one in history.samples("shop.orders", "lag", since=NOW)] == [3.0, 1.0, 2.0]
    assert history.samples("shop.orders", "lag", since=NOW)[0].at == NOW
    assert len(history.samples("shop.orders", "lag", since=NOW + timedelta(seconds=1))) == 2
    [day] = history.measure_days("shop.orders", "lag", since=TODAY)
    assert (day.n, day.minimum, day.maximum, day.mean, day.last) == (3, 1.0, 3.0, 2.0, 2.0)
    assert history.samples("no.such", "lag", since=NOW) == []


def test_incidents_open_go_on_and_close(history: History) -> None:
    finding = Finding("blocked", "some", "version 2 is blocked", "no rows", "bad", NOW - timedelta(minutes=1), 2, "r")
    with history.writing() as writer:
        number = writer.open("shop.orders", finding, NOW)
        other = writer.open("shop.items", finding, NOW + timedelta(minutes=1))
    assert [one.id for one in history.incidents()] == [other, number]
    assert [one.id for one in history.incidents("shop.orders", open_only=True)] == [number]
    with history.writing() as writer:
        writer.update(number, replace(finding, title="version 3 is blocked"))
        writer.close(number, NOW + timedelta(hours=1))
    assert history.incidents("shop.orders", open_only=True) == []
    closed = history.incident(number)
    assert closed
    assert (closed.title, closed.closed_at) == ("version 3 is blocked", NOW + timedelta(hours=1))
    assert [one.id for one in history.incidents_since(NOW + timedelta(hours=2))] == [other]
    assert history.acknowledge(number, "ann", "a known fault") == history.incident(number)
    with pytest.raises(UsageError, match="no incident has the number 99"):
        history.acknowledge(99, "ann", "")


def test_a_publication_far_from_the_usual_is_marked(history: History) -> None:
    with history.writing() as writer:
        for number in range(1, 12):
            new = 5_000 if number == 11 else 100 + number
            writer.publication(Publication("a.b", number, NOW, 10, new, 1.0, 0, None, False))
            writer.publication(Publication("a.b", number, NOW, 10, new, 1.0, 0, None, False))
    assert [one.version for one in history.publications("a.b") if one.anomalous] == [11]
    assert history.product_days("a.b", since=TODAY)[0].published == 11


def test_a_contract_is_kept_as_it_was_first_seen(history: History) -> None:
    for at, text in ((NOW, "one"), (NOW + timedelta(hours=1), "changed under the same hash")):
        with history.writing() as writer:
            writer.revision(ContractRevision("a.b", "1.0.0", "h", at, text))
    assert history.revisions("a.b") == [ContractRevision("a.b", "1.0.0", "h", NOW, "one")]


def test_only_one_holder_has_a_lease_and_another_takes_over(history: History) -> None:
    def take(holder: str, after: float) -> bool:
        with history.writing() as writer:
            return writer.lease("observe", holder, NOW + timedelta(seconds=after), 30)

    assert take("one", 0)
    assert not take("two", 10)
    assert take("one", 20)
    assert not take("two", 49)
    assert take("two", 51)
    with history.writing() as writer:
        writer.release("observe", "one")
    assert not take("one", 52)


def test_how_messages_stand_comes_back_as_it_was(history: History) -> None:
    deliveries = [Delivery(1, "mailto:a@b.c", "opened", NOW, 0, None, None), Delivery(1, "x", None, None, 2, NOW, "no")]
    with history.writing() as writer:
        for one in deliveries:
            writer.delivery(one)
    assert sorted(history.deliveries(), key=lambda one: one.channel) == deliveries


def test_readers_in_many_threads_see_whole_rounds(history: History) -> None:
    failures: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            days = history.mesh_days(since=TODAY)
            counts = [(day.evaluated, day.audits) for day in days]
            if any(evaluated != 2 * audits for evaluated, audits in counts):
                failures.append(str(counts))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        with history.writing() as writer:
            writer.audit([result(), result("other")], NOW, f"c{number}")
    done.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_cache_of_another_form_is_counted_anew_and_the_rest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "history.db"
    with closing(History(file)) as history, history.writing() as writer:
        writer.audit([result()], NOW, "c1")
        writer.landed("shop.orders", NOW, 5, 1)
        writer.sample("shop.orders", "lag", NOW, 1.0)
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with closing(History(file)) as history:
        [day] = history.product_days("shop.orders", since=TODAY)
        assert (day.audits, day.landed_rows, day.quarantined) == (0, 5, 1)
        assert history.rule_states("shop.orders") == []
        assert len(history.samples("shop.orders", "lag", since=NOW)) == 1
        with history.writing() as writer:
            assert writer.audit([result()], NOW, "c1")
    monkeypatch.undo()
    with pytest.raises(StorageUnavailable, match="newer version"):
        History(file)


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(b"no database " * 200), lambda file: file.mkdir()])
def test_a_file_that_is_none_is_an_error_that_names_it(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    file = tmp_path / "history.db"
    spoil(file)
    with pytest.raises(StorageUnavailable, match="history.db cannot be used"):
        History(file)


def test_a_closed_history_says_so(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    history.close()
    with pytest.raises(StorageUnavailable, match="closed"):
        history.current()
    with closing(sqlite3.connect(history.file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_days_are_days_of_utc(history: History) -> None:
    late = datetime.fromisoformat("2026-03-04T23:30:00-05:00")
    with history.writing() as writer:
        writer.landed("a.b", late, 1, 0)
    assert [day.day for day in history.mesh_days(since=TODAY)] == [date(2026, 3, 5)]
