"""What happens to a topic under a product, on a real broker: partitions added to it, and another topic in its place."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from confluent_kafka import Producer

from mesh_pipelines import read
from mesh_pipelines.errors import ApplyRefused, PartitionsAdded, TopicRenamed, UsageError
from mesh_pipelines.observe.status import status
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts, stopped
from mesh_pipelines.plan.draft import plan
from mesh_pipelines.platform import Platform
from mesh_pipelines.repair import upkeep
from mesh_pipelines.repair.from_topic import reread
from mesh_pipelines.repair.resume import resume
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

PRICES = """
- {name: id, logicalType: string, primaryKey: true}
- {name: price, logicalType: number, physicalType: "decimal(10,2)"}
"""
JSON = "- {property: mesh.wireFormat, value: json}"
ALL = "- {property: mesh.maxUndecodableShare, value: 1}"
TWO = JSON + "\n- {property: mesh.partitions, value: 2}"
# The client's default partitioner takes the CRC-32 of the key: of two partitions the second, of three the first.
KEY = next(key for key in (f"k{number}" for number in range(99)) if zlib.crc32(key.encode()) % 6 == 3)


def applied(settings: Settings) -> Platform:
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    return platform


def send(settings: Settings, topic: str, *prices: float | None, key: str = KEY) -> int:
    """Send prices of a key, by a client that knows of all partitions; gives the partition that they went to."""
    producer = Producer({"bootstrap.servers": settings.brokers})
    partitions: set[int] = set()
    for price in prices:
        value = None if price is None else json.dumps({"id": key, "price": price})
        producer.produce(topic, key=key, value=value, on_delivery=lambda _, sent: partitions.add(sent.partition()))
    assert producer.flush(30) == 0
    [partition] = partitions
    return partition


def prices(settings: Settings, name: str, version: int | None = None) -> dict[str, float]:
    rows = read(name, settings=settings, version=version).arrow().to_pylist()
    return {row["id"]: float(row["price"]) for row in rows}


def problem(platform: Platform, name: str) -> str | None:
    [found] = [one.problem for one in status(platform) if one.product == name]
    return found


def test_a_key_that_moved_to_a_lower_partition_has_its_newest_price(settings: Settings, contract: Any) -> None:
    name = contract("prices", PRICES, more=TWO)
    platform = applied(settings)
    product = platform.product(name)
    assert send(settings, name, 61.0, 58.0) == 1
    assert run(platform)[0].error is None
    platform.streams.add_partitions(name, 3)
    assert send(settings, name, 900.0) == 0
    with pytest.raises(PartitionsAdded, match="now has 3 partitions, but the log was read from 2"):
        land(platform, product)
    assert "M305" in str(problem(platform, name))
    assert any("M305" in text for text in stopped(platform, [product]))
    with pytest.raises(ApplyRefused, match="set mesh.partitions to 3"):
        plan(platform, [product])
    with pytest.raises(PartitionsAdded):
        resume(platform, product)
    assert prices(settings, name) == {KEY: 58.0}
    assert resume(platform, product, "repartitioned").accepted
    assert problem(platform, name) is None
    assert stopped(platform, [product]) == []
    assert run(platform)[0].error is None
    assert prices(settings, name) == {KEY: 900.0}
    assert prices(settings, name, version=1) == {KEY: 58.0}
    send(settings, name, 901.0)
    assert run(platform)[0].error is None
    assert prices(settings, name) == {KEY: 901.0}
    log = platform.tables_of(product).log
    assert [one["accepted"] for one in log.losses()] == ["repartitioned"] * 2
    assert reread(platform, product).events == log.rows() == 4
    assert upkeep.rebuild(platform, product).identical
    assert resume(platform, product).accepted is None


def test_waiting_events_that_cannot_be_told_apart_are_put_right_by_the_next(settings: Settings, contract: Any) -> None:
    name = contract("prices", PRICES, more=TWO)
    platform = applied(settings)
    product = platform.product(name)
    send(settings, name, 1.0)
    land(platform, product)
    assert send(settings, name, 58.0) == 1
    platform.streams.add_partitions(name, 3)
    assert send(settings, name, 900.0) == 0
    resume(platform, product, "repartitioned")
    run(platform)
    assert prices(settings, name) == {KEY: 58.0}
    send(settings, name, 901.0)
    run(platform)
    assert prices(settings, name) == {KEY: 901.0}


def test_a_resume_that_could_not_land_what_waited_is_finished_by_the_next(settings: Settings, contract: Any) -> None:
    from mesh_pipelines.errors import Undecodable

    name = contract("prices", PRICES, more=TWO)
    platform = applied(settings)
    product = platform.product(name)
    send(settings, name, 1.0)
    land(platform, product)
    platform.streams.add_partitions(name, 3)
    producer = Producer({"bootstrap.servers": settings.brokers})
    for _ in range(200):
        producer.produce(name, key=KEY, value="no JSON")
    assert producer.flush(30) == 0
    with pytest.raises(Undecodable):
        resume(platform, product, "repartitioned")
    contract("prices", PRICES, more=f"{JSON}\n- {{property: mesh.partitions, value: 3}}\n{ALL}")
    platform = applied(settings)
    assert resume(platform, platform.product(name)).accepted
    position = platform.tables_of(product).log.position()
    assert position
    assert position.generation == 2


def test_partitions_of_a_measurement_may_be_added_freely(settings: Settings, contract: Any) -> None:
    name = contract("prices", PRICES, more=TWO, kind="measurement")
    platform = applied(settings)
    send(settings, name, 1.0)
    land(platform, platform.product(name))
    contract("prices", PRICES, more=TWO.replace("2", "3"), kind="measurement")
    platform = applied(settings)
    send(settings, name, 2.0)
    assert land(platform, platform.product(name)).rows == 1


def test_another_topic_name_is_told_from_a_topic_made_again(settings: Settings, contract: Any) -> None:
    name = contract("prices", PRICES, more=JSON)
    platform = applied(settings)
    send(settings, name, 1.0)
    assert run(platform)[0].error is None
    send(settings, name, 2.0)
    other = f"{name}.v2"
    contract("prices", PRICES, more=f"{JSON}\n- {{property: mesh.topic, value: {other}}}")
    moved = Platform.open(settings)
    with pytest.raises(ApplyRefused, match=f"mesh.topic changes from {name} to {other}, but 1 offsets of {name}"):
        plan(moved, moved.in_order)
    land(platform, platform.product(name))
    moved = applied(settings)
    product = moved.product(name)
    send(settings, other, 3.0)
    with pytest.raises(
        TopicRenamed, match=f"the contract now names the topic {other}, but the log was read from {name}"
    ):
        land(moved, product)
    assert "M306" in str(problem(moved, name))
    with pytest.raises(UsageError, match="not what happened"):
        resume(moved, product, "recreated")
    assert resume(moved, product, "renamed").accepted
    assert run(moved)[0].error is None
    assert prices(settings, name) == {KEY: 3.0}
    assert moved.tables_of(product).log.rows() == 3
