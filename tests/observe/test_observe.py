"""Rounds of observing a mesh on a real broker: what is measured, what is wrong, and who may observe."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from mesh_pipelines.observe.notify import notify
from mesh_pipelines.observe.observe import observe, watch
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.lease import Lease, LeaseLost
from mesh_pipelines.observe.store.prometheus import metrics_text
from mesh_pipelines.observe.store.records import Current, Health
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

CLICKS = """
- {name: page, logicalType: string, primaryKey: true}
- {name: ms, logicalType: integer, logicalTypeOptions: {minimum: 0}}
- {name: at, logicalType: timestamp}
"""
JSON = "- {property: mesh.wireFormat, value: json}"
WAIT_S = 60


@pytest.fixture
def history(settings: Settings) -> Iterator[History]:
    opened = History.open(settings)
    yield opened
    opened.close()


def promise(settings: Settings, name: str, text: str) -> None:
    """Add service levels to a contract that is there."""
    file = settings.assets.joinpath(*name.split("."), "contract.yaml")
    file.write_text(f"{file.read_text()}slaProperties:\n{text}")


def applied(settings: Settings) -> Platform:
    platform = Platform.open(settings)
    assert not platform.broken, platform.broken
    apply_contracts(platform, platform.in_order)
    return platform


def send(settings: Settings, topic: str, *rows: dict[str, Any] | bytes) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers})
    for number, row in enumerate(rows):
        value = row if isinstance(row, bytes) else json.dumps(row).encode()
        producer.produce(topic, key=str(number).encode(), value=value)
    assert producer.flush(30) == 0


def clicks(count: int = 3, ms: int = 1, at: str = "2026-01-01T00:00:00Z") -> list[dict[str, Any]]:
    return [{"page": str(number), "ms": ms, "at": at} for number in range(count)]


def state(history: History, name: str) -> Current:
    [found] = history.current(name)
    return found


def until(condition: Callable[[], bool], told: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


def test_a_product_from_its_contract_to_its_first_fault(settings: Settings, history: History, contract: Any) -> None:
    name = contract("clicks", CLICKS, more=JSON)
    promise(
        settings,
        name,
        "  - {property: freshness, value: 1, unit: h}\n"
        "  - {property: freshness, value: 1, unit: d, element: at}\n"
        "  - {property: retention, value: 1, unit: y}\n"
        "  - {property: errorRate, value: 10, unit: percent}\n"
        "  - {property: timeToRepair, value: 1, unit: h}\n"
        "  - {property: availability, value: 99, unit: percent}\n",
    )
    now = datetime.now(UTC)
    observe(Platform.open(settings), history, now)
    assert (state(history, name).health, history.incidents()) == (Health.UNKNOWN, [])
    platform = applied(settings)
    send(settings, name, *clicks(9))
    run(platform)
    done = observe(platform, history, now + timedelta(seconds=10))
    assert (done.problems, done.opened) == ((), tuple(one.id for one in history.incidents()))
    found = {one.objective: one for one in history.objectives(name)}
    assert found["freshness"].met
    assert found["freshness:at"].met is False
    assert found["freshness:at"].measured == pytest.approx(
        (now + timedelta(seconds=10) - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()
    )
    assert found["retention"].met
    assert found["availability"].measured == 100
    assert [(one.kind, one.subject) for one in history.incidents(name)] == [("objective", "freshness:at")]
    send(settings, name, *clicks(8, ms=-1, at=now.isoformat()), b"poison")
    run(platform)
    observe(platform, history, now + timedelta(seconds=20))
    blocked = state(history, name)
    assert (blocked.health, blocked.version, blocked.quarantined, blocked.rules_failed) == (Health.BAD, 1, 1, 1)
    assert blocked.reasons[0] == "version 2 is blocked by ms.minimum"
    rules = {one.rule: one for one in history.rule_states(name)}
    assert (rules["ms.minimum"].state, rules["ms.minimum"].blocks, rules["ms.minimum"].bad) == ("fail", True, 8)
    assert rules["ms.minimum"].since == rules["ms.minimum"].at > rules["key.unique"].since  # type: ignore[operator]
    assert {one.kind for one in history.incidents(name, open_only=True)} == {"objective", "blocked"}
    send(settings, name, *clicks(9, at=now.isoformat()))
    run(platform)
    for seconds in (30, 40, 50):
        observe(platform, history, now + timedelta(seconds=seconds))
    assert state(history, name).health is Health.GOOD
    assert history.incidents(open_only=True) == []
    error_rate = next(one for one in history.objectives(name) if one.objective == "errorRate")
    assert error_rate.measured == pytest.approx(100 / 27)
    repair = next(one for one in history.objectives(name) if one.objective == "timeToRepair")
    assert (repair.met, repair.measured, repair.attainment) == (True, 40, 1)
    assert [(one.version, one.new_rows) for one in history.publications(name)] == [(2, 18), (1, 9)]
    [day] = history.product_days(name, since=now.date())
    assert (day.audits, day.blocked, day.published, day.landed_rows, day.quarantined) == (3, 1, 2, 18, 1)
    assert sum(one.audits for one in history.mesh_days(since=now.date())) == 3
    assert [one.value for one in history.samples(name, "quarantined", since=now)] == [0, 1, 1, 1, 1]
    [revision] = history.revisions(name)
    assert "errorRate" in revision.document
    text = metrics_text(history).decode()
    labels = f'domain="{name.split(".")[0]}",product="clicks"'
    assert f"mesh_version{{{labels}}} 2.0" in text
    assert f'mesh_rules{{{labels},state="pass"}}' in text
    assert f'mesh_incidents_open{{{labels},severity="bad"}} 0.0' in text


def test_a_broken_rule_that_warns_is_a_warning_which_pages_show_and_nobody_is_sent(
    settings: Settings, history: History, contract: Any
) -> None:
    quality = """
      - {name: short, type: sql, query: "SELECT max(ms) FROM {object}", mustBeLessThan: 100, severity: low}
      - {name: numbers, type: sql, query: "SELECT sum(page::INTEGER) FROM {object}", mustBeLessThan: 9, severity: low}
"""
    name = contract("clicks", CLICKS, more=JSON, quality=quality)
    file = settings.assets.joinpath(*name.split("."), "contract.yaml")
    file.write_text(
        f"{file.read_text()}support:\n"
        '  - {channel: hook, tool: webhook, url: "http://127.0.0.1:1/hook", scope: notifications}\n'
    )
    platform, now = applied(settings), datetime.now(UTC)
    rounds = iter(range(10, 100, 10))

    def observed(*rows: dict[str, Any]) -> tuple[Health, int | None, dict[str, str]]:
        send(settings, name, *rows)
        run(platform)
        at = now + timedelta(seconds=next(rounds))
        observe(platform, history, at)
        incidents = history.incidents(name, open_only=True)
        assert all((one.kind, one.severity) == ("rule", "warning") for one in incidents)
        assert notify(history, settings, at) == []
        found = state(history, name)
        assert set(found.reasons) == {one.title for one in incidents}
        return found.health, found.version, {one.subject: one.title for one in incidents}

    assert observed(*clicks(3)) == (Health.GOOD, 1, {})
    broken = {"short": "the rule short is broken"}
    assert observed(*clicks(1, ms=100)) == (Health.WARNING, 2, broken)
    [incident] = history.incidents(name)
    assert (incident.detail, incident.version) == ("measured 100, promised: mustBeLessThan 100", 2)
    failed = {"numbers": "the rule numbers could not be computed"}
    assert observed({"page": "home", "ms": 1, "at": "2026-01-01T00:00:00Z"}) == (Health.WARNING, 3, failed)
    assert f'mesh_incidents_open{{domain="{name.split(".")[0]}",product="clicks",severity="warning"}} 1.0' in (
        metrics_text(history).decode()
    )
    assert observed(*clicks(1)) == (Health.GOOD, 4, {})
    # The channel is one that a rule which blocks is told to.
    send(settings, name, *clicks(1, ms=-1))
    run(platform)
    observe(platform, history, now + timedelta(seconds=100))
    [told] = notify(history, settings, now + timedelta(seconds=100))
    assert told.channel == "http://127.0.0.1:1/hook"


def test_what_happened_before_it_was_observed_is_read_from_the_tables_once(
    settings: Settings, history: History, contract: Any
) -> None:
    name = contract("clicks", CLICKS, more=JSON)
    platform = applied(settings)
    for _ in range(3):
        send(settings, name, *clicks())
        run(platform)
    for _ in range(2):
        observe(platform, history)
    assert [(one.version, one.new_rows) for one in history.publications(name)] == [(3, 3), (2, 3), (1, 3)]
    assert sum(one.audits for one in history.product_days(name, since=datetime.now(UTC).date())) == 3


def test_red_within_a_round_of_when_the_producer_stops_and_green_again_with_it(
    settings: Settings, history: History, contract: Any
) -> None:
    """A watcher beside a producer and the steps, on their own clocks; a derived product follows its input."""
    name = contract("clicks", CLICKS, more=JSON)
    derived = contract(
        "pages",
        "- {name: page, logicalType: string, primaryKey: true}",
        alignment="aggregate-aligned",
        more=f"- {{property: mesh.inputs, value: [{name}]}}",
        transform=f"SELECT page FROM {name}",
    )
    for one in (name, derived):
        promise(settings, one, "  - {property: freshness, value: 5, unit: s}\n")
    platform = applied(settings)
    stop, producing = threading.Event(), threading.Event()
    producing.set()

    def produce() -> None:
        while not stop.wait(0.2):
            if producing.is_set():
                send(settings, name, *clicks())
                run(platform)

    threads = [
        threading.Thread(target=produce),
        threading.Thread(target=watch, args=(lambda: Platform.open(settings), history, 0.5, stop)),
    ]
    for thread in threads:
        thread.start()

    def healths() -> list[tuple[str, Health, tuple[str, ...]]]:
        return [(one.product, one.health, one.reasons) for one in history.current()]

    def all_are(health: Health) -> bool:
        return [health] * 2 == [one[1] for one in healths()]

    try:
        until(lambda: all_are(Health.GOOD), healths)
        producing.clear()
        until(lambda: all_are(Health.BAD), healths)
        assert all("freshness" in reasons[0] for _, _, reasons in healths())
        producing.set()
        until(lambda: all_are(Health.GOOD), healths)
        producing.clear()
        until(lambda: all_are(Health.BAD), healths)
    finally:
        stop.set()
        for thread in threads:
            thread.join(WAIT_S)
    assert not any(thread.is_alive() for thread in threads)


def test_an_edited_or_broken_contract_shows_in_the_next_round(
    settings: Settings, history: History, contract: Any
) -> None:
    name, other = contract("clicks", CLICKS, more=JSON), contract("views", CLICKS, more=JSON)
    platform = applied(settings)
    send(settings, name, *clicks())
    run(platform)
    observe(platform, history)
    file = settings.assets.joinpath(*name.split("."), "contract.yaml")
    sound = file.read_text()
    file.write_text(sound.replace("version: ", "vershun: "))
    platform = platform.reloaded()
    observe(platform, history)
    broken = state(history, name)
    assert (broken.health, broken.version, broken.reasons) == (Health.BAD, 1, ("its contract has faults",))
    assert [(one.kind, one.product) for one in history.incidents(open_only=True)] == [("broken", name)]
    file.write_text(sound.replace('version: "1.0.0"', 'version: "1.1.0"'))
    settings.assets.joinpath(*other.split("."), "contract.yaml").unlink()
    platform = applied(settings)
    run(platform)
    observe(platform, history)
    assert history.incidents(open_only=True) == []
    assert [one.product for one in history.current()] == [name]
    assert [one.version for one in history.revisions(name)] == ["1.1.0", "1.0.0"]


def test_one_product_that_cannot_be_read_stops_no_other(settings: Settings, history: History, contract: Any) -> None:
    names = [contract(one, CLICKS, more=JSON) for one in ("clicks", "views")]
    platform = applied(settings)
    for name in names:
        send(settings, name, *clicks())
    run(platform)
    now = datetime.now(UTC)
    observe(platform, history, now)
    torn = platform.tables_of(platform.product(names[0])).load("versions").metadata_location
    Path(torn.removeprefix("file://")).write_text("{ torn")
    observe(Platform.open(settings), history, now + timedelta(seconds=10))
    assert [state(history, name).health for name in names] == [Health.BAD, Health.GOOD]
    assert [(one.product, one.kind) for one in history.incidents(open_only=True)] == [(names[0], "broken")]
    assert [one.value for one in history.samples(names[0], "available", since=now)] == [1, 0]


def test_without_a_broker_rounds_go_on(settings: Settings, history: History, contract: Any) -> None:
    name = contract("clicks", CLICKS, more=JSON)
    platform = applied(settings)
    send(settings, name, *clicks())
    run(platform)
    observe(platform, history)
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1", "timeout_s": 1.0})
    observe(Platform.open(away), history)
    seen = state(history, name)
    assert (seen.lag, seen.version) == (None, 1)
    assert seen.problem
    assert seen.problem.startswith("M401")


def test_of_two_that_observe_one_waits(settings: Settings, history: History, tmp_path: Path, contract: Any) -> None:
    contract("clicks", CLICKS, more=JSON)
    platform = Platform.open(settings)
    with_lease, without = Lease(history), Lease(history)
    assert with_lease.take()
    assert not without.take()
    observe(platform, history, lease=with_lease)
    observed = history.observed_at()
    with pytest.raises(LeaseLost):
        observe(platform, history, lease=without)
    assert history.observed_at() == observed
    # The first is gone without a word: the second takes over when its time is up.
    short = Lease(history, 0.3)
    with_lease.release()
    assert short.take()
    until(without.take, lambda: "it was not taken over")
    with pytest.raises(LeaseLost):
        observe(platform, history, lease=short)
