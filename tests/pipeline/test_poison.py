"""Poison on a real topic: good events land, bad ones are quarantined, and what is mostly bad is not landed at all."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from mesh_pipelines.errors import Undecodable
from mesh_pipelines.formats.avro.reader import WriterSchema
from mesh_pipelines.formats.decoded import Decoded, Reader
from mesh_pipelines.formats.guarded import LARGE_BYTES, Guarded
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.serve import door
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

PROTOBUF = 'syntax = "proto3"; message Reading { string sensor = 1; }'
READINGS = """
- {name: sensor, logicalType: string, required: true}
- {name: value, logicalType: integer, physicalType: long}
"""


def share(most: float) -> str:
    return f"- {{property: mesh.maxUndecodableShare, value: {most}}}"


def send(settings: Settings, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers, "message.max.bytes": 8 << 20})
    for number, value in enumerate(values):
        producer.produce(topic, value, key=str(number).encode())
        producer.poll(0)
    assert producer.flush(30) == 0


class Readings:
    """Events of an applied product, and what can be wrong with one."""

    def __init__(self, settings: Settings, name: str) -> None:
        registry = SchemaRegistryClient({"url": settings.registry_url.reveal()})
        latest = registry.get_latest_version(f"{name}-value")
        self._schema = fastavro.parse_schema(json.loads(latest.schema.schema_str or ""))
        self._header = b"\0" + (latest.schema_id or 0).to_bytes(4, "big")
        # A schema of another format, as a registry has them beside Avro's.
        other = registry.register_schema(f"{name}-other", Schema(PROTOBUF, "PROTOBUF"))
        good = self.event("a", 1)
        self.poison = [
            b"",
            b"plain text",
            good[:-1],
            good + b"\0",
            good.replace(b"\x02a", b"\x02\xff"),
            b"\0" + other.to_bytes(4, "big") + b"{}",
            b"\0\x7f\xff\xff\xff" + good[5:],
        ]

    def event(self, sensor: str, value: int) -> bytes:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, self._schema, {"sensor": sensor, "value": value})
        return self._header + buffer.getvalue()


def applied(settings: Settings, name: str) -> tuple[Platform, Any]:
    platform = Platform.open(settings)
    product = platform.product(name)
    apply_contracts(platform, [product])
    return platform, product


def test_every_poisonous_event_is_quarantined_with_its_reason_and_every_good_one_lands(
    settings: Settings, contract: Callable[..., str]
) -> None:
    name = contract("readings", READINGS, kind="measurement")
    platform, product = applied(settings, name)
    readings = Readings(settings, name)
    rng = random.Random(7)
    good = [readings.event(f"s{number}", number) for number in range(700)]
    values = [*good, *(readings.poison * 3)]
    rng.shuffle(values)
    send(settings, name, values)
    landed = land(platform, product)
    assert (landed.rows, landed.quarantined, landed.lag) == (721, 21, 0)
    held = door.held(platform, product, door.Reader.OWNER).to_pylist()
    assert sorted(row["_raw"] for row in held) == sorted(readings.poison * 3)
    assert all(row["_reason"] for row in held)
    assert all(values[row["_offset"]] == row["_raw"] for row in held)
    taken = platform.tables_of(product).load("log").scan(row_filter="_fate = 'ok'").to_arrow()
    assert sorted(taken["value"].to_pylist()) == list(range(700))


def test_a_timestamp_that_is_no_instant_holds_nothing_up(settings: Settings, contract: Callable[..., str]) -> None:
    setting = "{property: mesh.topicConfig, value: {message.timestamp.after.max.ms: 9223372036854775807}}"
    name = contract("readings", READINGS, kind="measurement", more=f"- {setting}")
    platform, product = applied(settings, name)
    readings = Readings(settings, name)
    producer = Producer({"bootstrap.servers": settings.brokers})
    for at, instant in enumerate([1_000, 253_402_300_800_000, 2**62, 2**63 - 1]):
        producer.produce(name, readings.event("a", at), timestamp=instant)
    assert producer.flush(30) == 0
    assert land(platform, product).rows == 4
    rows = platform.tables_of(product).load("log").scan().to_arrow().sort_by("_offset")
    assert rows["value"].to_pylist() == [0, 1, 2, 3]
    assert rows["_timestamp"].to_pylist() == [datetime.fromtimestamp(1, UTC), None, None, None]


def test_a_topic_of_poison_stops_at_the_share_and_goes_on_where_the_contract_lets_it(
    settings: Settings, contract: Callable[..., str]
) -> None:
    name = contract("readings", READINGS, kind="measurement", more=share(0.1))
    platform, product = applied(settings, name)
    readings = Readings(settings, name)
    send(settings, name, [readings.event("good", number) for number in range(100)])
    before = land(platform, product).position
    send(settings, name, [b"poison"] * 12 + [readings.event("good", number) for number in range(100)])
    with pytest.raises(Undecodable, match=r"12 of 112 events.*\(0\.1\).*0:100 no schema id") as stopped:
        land(platform, product)
    assert "maxUndecodableShare" in (stopped.value.next_step or "")
    assert platform.tables_of(product).log.position() == before
    contract("readings", READINGS, kind="measurement", more=share(0.2))
    patient, _ = applied(settings, name)
    landed = land(patient, patient.product(name))
    assert (landed.rows, landed.quarantined, landed.lag) == (112, 12, 0)


def test_a_hundred_percent_stop_by_default_and_a_few_never(settings: Settings, contract: Callable[..., str]) -> None:
    name = contract("readings", READINGS, kind="measurement")
    platform, product = applied(settings, name)
    send(settings, name, [b"poison"] * 99)
    assert land(platform, product).quarantined == 99
    send(settings, name, [b"poison"] * 100)
    with pytest.raises(Undecodable):
        land(platform, product)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the values that are decoded in a process of their own, from now on."""
    sizes: list[int] = []
    decode = Guarded.decode

    def spy(self: Guarded, reader: Reader, values: pa.LargeBinaryArray) -> Decoded:
        sizes.extend(map(len, values.to_pylist()))
        return decode(self, reader, values)

    monkeypatch.setattr(Guarded, "decode", spy)
    return sizes


def test_where_a_reader_fails_its_events_are_decoded_in_a_process_of_their_own(
    settings: Settings, contract: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = contract("readings", READINGS, kind="measurement")
    platform, product = applied(settings, name)
    readings = Readings(settings, name)
    send(settings, name, [readings.event("a", number) for number in range(10)])
    elsewhere = spied(monkeypatch)

    def broken(self: WriterSchema, values: pa.LargeBinaryArray) -> Decoded:
        raise RuntimeError("the native reader failed")

    monkeypatch.setattr(WriterSchema, "decode", broken)
    landed = land(platform, product)
    assert (landed.rows, landed.quarantined) == (10, 0)
    assert len(elsewhere) == 10
    taken = platform.tables_of(product).load("log").scan(row_filter="_fate = 'ok'").to_arrow()
    assert taken["value"].to_pylist() == list(range(10))


def test_large_events_land_and_those_over_the_limit_are_quarantined_unread(
    settings: Settings, contract: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = spied(monkeypatch)
    more = "- {property: mesh.topicConfig, value: {max.message.bytes: 8388608}}"
    name = contract("readings", READINGS, kind="measurement", more=more)
    settings = settings.model_copy(update={"max_event_bytes": 3 * LARGE_BYTES})
    platform, product = applied(settings, name)
    readings = Readings(settings, name)
    sizes = [1, 2 * LARGE_BYTES, 2, 4 * LARGE_BYTES, 3]
    send(settings, name, [readings.event("x" * size, size) for size in sizes])
    landed = land(platform, product)
    assert (landed.rows, landed.quarantined) == (5, 1)
    [held] = door.held(platform, product, door.Reader.OWNER).to_pylist()
    assert held["_offset"] == 3
    assert "MESH_MAX_EVENT_BYTES" in held["_reason"]
    assert [size // LARGE_BYTES for size in elsewhere] == [2]
    taken = platform.tables_of(product).load("log").scan(row_filter="_fate = 'ok'").to_arrow()
    assert [len(sensor) for sensor in taken["sensor"].to_pylist()] == [1, 2 * LARGE_BYTES, 2, 3]
