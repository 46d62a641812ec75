"""What is due is seen in every state of a product, sources and derived ones, and waited for."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import BrokerUnreachable, MeshError, Undecodable
from mesh_pipelines.lake.catalog import table_name
from mesh_pipelines.pipeline.attempts import failure_of, forget
from mesh_pipelines.pipeline.due import Need, await_due, due, needs, to_run
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.repair.rollback import rollback
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

CLICKS = """
- {name: page, logicalType: string, primaryKey: true}
- {name: ms, logicalType: integer, logicalTypeOptions: {minimum: 0}}
"""
JSON = "- {property: mesh.wireFormat, value: json}"
HOUR = timedelta(hours=1)


def applied(settings: Settings) -> Platform:
    platform = Platform.open(settings)
    assert not platform.broken, platform.broken
    apply_contracts(platform, platform.in_order)
    return platform


@pytest.fixture
def platform(settings: Settings, contract: Any) -> Platform:
    """One product, applied."""
    contract("clicks", CLICKS, more=JSON)
    return applied(settings)


class Chain:
    """clicks (a topic) <- pages <- totals, applied; pages has a rule of its own, totals a domain."""

    def __init__(self, settings: Settings, contract: Any) -> None:
        self.clicks = contract("clicks", CLICKS, more=JSON)
        fields = "- {name: page, logicalType: string, primaryKey: true}\n- {name: ms, logicalType: integer%s}"
        derived: dict[str, Any] = {"alignment": "aggregate-aligned"}
        self.pages = contract(
            *("pages", fields % ", logicalTypeOptions: {maximum: 100}"),
            more=f"- {{property: mesh.inputs, value: [{self.clicks}]}}",
            transform=f"SELECT page, ms FROM {self.clicks}",
            **derived,
        )
        self.totals = contract(
            *("totals", fields % ""),
            domain="report",
            more=f"- {{property: mesh.inputs, value: [{self.pages}]}}",
            transform=f"SELECT page, ms FROM {self.pages}",
            **derived,
        )
        self.platform = applied(settings)

    def product(self, name: str) -> DataProduct:
        return self.platform.product(name)

    def send(self, ms: int) -> None:
        send(self.platform, ms, self.clicks)

    def run(self, *names: str) -> list[MeshError | None]:
        return [one.error for one in run(self.platform, names)]

    def due(self, now: datetime | None = None) -> list[str]:
        return [one.fqn for one in due(self.platform, self.platform.in_order, now)]

    def need(self, name: str) -> Need:
        return {one.product.fqn: one for one in needs(self.platform, self.platform.in_order)}[name]


@pytest.fixture
def chain(settings: Settings, contract: Any) -> Chain:
    return Chain(settings, contract)


def send(platform: Platform, ms: int | str, topic: str = "") -> None:
    producer = Producer({"bootstrap.servers": platform.settings.brokers})
    value = f'{{"page": "a", "ms": {ms}}}'.encode() if isinstance(ms, int) else ms.encode()
    producer.produce(topic or platform.in_order[0].fqn, key=b"a", value=value)
    assert producer.flush(30) == 0


def test_due_from_the_first_event_to_the_last_step(platform: Platform, settings: Settings, contract: Any) -> None:
    [product] = platform.in_order

    def is_due() -> bool:
        return due(platform, [product]) == [product]

    assert not is_due()
    send(platform, 1)
    assert is_due()
    land(platform, product)
    assert is_due()
    snapshot(platform, product)
    assert is_due()
    publish(platform, product)
    assert not is_due()
    send(platform, -1)
    land(platform, product)
    snapshot(platform, product)
    assert not is_due(), "a blocked candidate waits for other data or another contract"
    contract("clicks", CLICKS.replace("minimum: 0", "minimum: -5"), more=JSON, version="1.1.0")
    assert not is_due(), "a contract that is not applied changes nothing"
    changed = Platform.open(settings)
    apply_contracts(changed, changed.in_order)
    assert due(changed, changed.in_order) == list(changed.in_order)
    platform.catalog.drop_table(table_name(product, "checks"))
    assert due(changed, changed.in_order) == [], "a product that is not applied is not due"


def test_a_derived_product_is_due_by_the_versions_that_readers_of_its_inputs_see(chain: Chain) -> None:
    assert chain.due() == []
    never = chain.need(chain.pages)
    assert (never.what, never.held) == (
        "it was never computed",
        f"its input {chain.clicks} has no published version",
    )
    chain.send(1)
    assert chain.due() == [chain.clicks]
    assert chain.run(chain.clicks) == [None]
    assert chain.due() == [chain.pages]
    snapshot(chain.platform, chain.product(chain.pages))
    assert chain.need(chain.pages).what == "version 1 is not published"
    publish(chain.platform, chain.product(chain.pages))
    assert chain.due() == [chain.totals]
    assert chain.run(chain.totals) == [None]
    assert chain.due() == []
    chain.send(2)
    assert chain.run() == [None] * 3
    assert chain.due() == [], "a run of all takes what its inputs just published"
    rollback(chain.platform, chain.product(chain.clicks), 1, "wrong")
    assert chain.need(chain.pages).what == f"{chain.clicks} changed"
    assert chain.run(chain.pages, chain.totals) == [None, None]
    assert chain.due() == []
    versions = chain.platform.tables_of(chain.product(chain.pages)).versions
    assert [one.input_versions[chain.clicks] for one in versions.all()] == [1, 2, 1]


def test_a_version_published_while_a_derived_product_runs_is_not_missed(chain: Chain) -> None:
    chain.send(1)
    chain.run()
    chain.send(2)
    chain.run(chain.clicks)
    snapshot(chain.platform, chain.product(chain.pages))
    chain.send(3)
    chain.run(chain.clicks)
    publish(chain.platform, chain.product(chain.pages))
    assert chain.due() == [chain.pages, chain.totals]


def test_a_run_takes_what_is_derived_from_derived_products_along(chain: Chain) -> None:
    def chosen() -> list[str]:
        return [one.fqn for one in to_run(needs(chain.platform, chain.platform.in_order))]

    chain.send(1)
    assert chosen() == [chain.clicks], "what follows a source has a run of its own"
    chain.run(chain.clicks)
    assert chosen() == [chain.pages], "an input without a version cannot be read yet"
    chain.run(chain.pages, chain.totals)
    assert chosen() == []
    chain.send(2)
    chain.run(chain.clicks)
    assert chosen() == [chain.pages, chain.totals]
    chain.send(3)
    assert chosen() == [chain.clicks, chain.pages, chain.totals]


def test_without_the_broker_derived_products_are_due_all_the_same(chain: Chain) -> None:
    chain.send(1)
    chain.run()
    away = Platform.open(
        chain.platform.settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1", "timeout_s": 1.0})
    )
    with pytest.raises(BrokerUnreachable):
        due(away, away.in_order)
    chain.send(2)
    chain.run(chain.clicks)
    assert [one.fqn for one in due(away, away.in_order)] == [chain.pages]


def test_a_blocked_product_on_a_busy_stream_is_tried_less_and_less_often(chain: Chain) -> None:
    chain.send(1)
    chain.run()
    chain.send(-1)
    assert isinstance(chain.run(chain.clicks)[0], MeshError)
    chain.send(-2)
    assert chain.due() == [], "other data alone does not bring it back at once"
    assert str(chain.need(chain.clicks).held).startswith("waiting after M103: the next attempt is at ")
    failure = failure_of(chain.platform.settings, chain.clicks)
    assert failure
    assert failure.until
    assert failure.until - failure.first_at == timedelta(seconds=30)
    assert chain.due(failure.until - timedelta(seconds=1)) == []
    assert chain.due(failure.until) == [chain.clicks]
    chain.send(5)
    assert chain.run(chain.clicks) == [None], "a run by hand does not wait"
    assert failure_of(chain.platform.settings, chain.clicks) is None


def test_an_attempt_before_its_time_makes_the_wait_no_longer(chain: Chain) -> None:
    chain.send(-1)
    chain.run(chain.clicks)
    first = failure_of(chain.platform.settings, chain.clicks)
    chain.send(-2)
    chain.run(chain.clicks)
    again = failure_of(chain.platform.settings, chain.clicks)
    assert first
    assert again
    assert (again.count, again.until, again.first_at) == (1, first.until, first.first_at)


def test_another_contract_or_apply_brings_a_failed_product_back_at_once(
    chain: Chain, settings: Settings, contract: Any
) -> None:
    chain.send(-1)
    chain.run(chain.clicks)
    chain.send(-2)
    assert chain.due() == []
    applied(settings)
    assert chain.due() == [chain.clicks], "apply is an operator's command"
    chain.run(chain.clicks)
    chain.send(-3)
    assert chain.due() == []
    contract("clicks", CLICKS.replace("minimum: 0", "minimum: -9"), more=JSON, version="1.1.0")
    assert chain.due() == [], "a file proposes, and changes nothing"
    applied(settings)
    assert chain.due() == [chain.clicks], "in a process that loaded the contract of before, too"


def test_a_derived_product_comes_back_at_once_when_its_input_is_rolled_back(chain: Chain) -> None:
    chain.send(1)
    chain.run()
    chain.send(500)
    chain.run(chain.clicks)
    assert isinstance(chain.run(chain.pages)[0], MeshError)
    chain.send(501)
    chain.run(chain.clicks)
    assert chain.due() == []
    assert chain.due(datetime.now(UTC) + HOUR) == [chain.pages]
    rollback(chain.platform, chain.product(chain.clicks), 1, "wrong")
    assert chain.due() == [chain.pages]


def test_a_poisoned_landing_waits_whatever_comes_behind_the_poison(settings: Settings, contract: Any) -> None:
    name = contract("clicks", CLICKS, more=f"{JSON}\n- {{property: mesh.maxUndecodableShare, value: 0}}")
    platform = applied(settings)
    [product] = platform.in_order
    for _ in range(100):
        send(platform, "poison")
    with pytest.raises(Undecodable):
        land(platform, product)
    send(platform, 1)
    assert due(platform, [product]) == []
    assert due(platform, [product], datetime.now(UTC) + HOUR) == [product]
    changed = contract("clicks", CLICKS, more=f"{JSON}\n- {{property: mesh.maxUndecodableShare, value: 1}}")
    assert changed == name
    mended = applied(settings)
    assert due(mended, mended.in_order) == list(mended.in_order)
    assert [one.error for one in run(mended)] == [None]
    assert failure_of(settings, name) is None


def test_a_lost_memory_means_one_more_attempt(chain: Chain) -> None:
    chain.send(-1)
    chain.run(chain.clicks)
    chain.send(-2)
    assert chain.due() == []
    file = chain.platform.settings.home / "attempts" / f"{chain.clicks}.json"
    file.write_text("{ torn")
    assert chain.due() == [chain.clicks]
    forget(chain.platform.settings, chain.clicks)
    assert chain.due() == [chain.clicks]


def test_a_look_goes_on_until_something_is_due(platform: Platform) -> None:
    asked: list[float] = []

    def products() -> tuple[Any, ...]:
        asked.append(time.monotonic())
        return platform.in_order

    def awaited(patience_s: float) -> list[DataProduct]:
        return to_run(await_due(platform, products, patience_s))

    assert awaited(0.0) == []
    assert len(asked) == 1
    assert awaited(3.0) == []
    assert len(asked) > 2
    later = threading.Timer(0.5, send, (platform, 1))
    later.start()
    assert awaited(60.0) == list(platform.in_order)
    later.join()


def test_what_runs_meanwhile_is_left_out(platform: Platform) -> None:
    send(platform, 1)
    idle = iter([platform.in_order, ()])
    assert await_due(platform, lambda: next(idle), 60.0) == []
