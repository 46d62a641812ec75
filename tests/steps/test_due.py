"""What is due is seen in every state of a product, and waited for."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from confluent_kafka import Producer

from mesh_pipelines.lake.catalog import table_name
from mesh_pipelines.pipeline.due import await_due, due
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.plan import apply
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("services")]

CLICKS = """
- {name: page, logicalType: string, primaryKey: true}
- {name: ms, logicalType: integer, logicalTypeOptions: {minimum: 0}}
"""
JSON = "- {property: mesh.wireFormat, value: json}"


@pytest.fixture
def platform(settings: Settings, contract: Any) -> Platform:
    """One product, applied."""
    contract("clicks", CLICKS, more=JSON)
    platform = Platform.open(settings)
    apply.execute(platform, apply.plan(platform, platform.in_order))
    return platform


def send(platform: Platform, ms: int) -> None:
    producer = Producer({"bootstrap.servers": platform.settings.brokers})
    producer.produce(platform.in_order[0].fqn, key=b"a", value=f'{{"page": "a", "ms": {ms}}}'.encode())
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
    apply.execute(changed, apply.plan(changed, changed.in_order))
    assert due(changed, changed.in_order) == list(changed.in_order)
    platform.catalog.drop_table(table_name(product, "checks"))
    assert due(changed, changed.in_order) == [], "a product that is not applied is not due"


def test_a_look_goes_on_until_something_is_due(platform: Platform) -> None:
    asked: list[float] = []

    def products() -> tuple[Any, ...]:
        asked.append(time.monotonic())
        return platform.in_order

    assert await_due(platform, products, 0.0) == []
    assert len(asked) == 1
    assert await_due(platform, products, 3.0) == []
    assert len(asked) > 2
    later = threading.Timer(0.5, send, (platform, 1))
    later.start()
    assert await_due(platform, products, 60.0) == list(platform.in_order)
    later.join()


def test_what_runs_meanwhile_is_left_out(platform: Platform) -> None:
    send(platform, 1)
    idle = iter([platform.in_order, ()])
    assert await_due(platform, lambda: next(idle), 60.0) == []
