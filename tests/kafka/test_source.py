"""Both sources against a real broker: the same rows, positions and ends, whatever lies on the topic."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import closing

import pyarrow as pa
import pytest
from confluent_kafka.admin import NewTopic

from mesh_pipelines import native as extension
from mesh_pipelines.errors import EnvironmentFault, OffsetsTrimmed, SettingInvalid
from mesh_pipelines.kafka.admin import StreamAdmin
from mesh_pipelines.kafka.client import Reasons, admin, producer
from mesh_pipelines.kafka.drain import drain, open_source
from mesh_pipelines.kafka.source import Assigned
from mesh_pipelines.positions import PartitionOffset, Position
from mesh_pipelines.settings import Settings

SIZES = (0, 1, 2, 5, 100, 5_000, 300_000)
services = pytest.mark.services


@pytest.fixture
def landing(settings: Settings, native: bool) -> Settings:
    return settings.model_copy(update={"native": "on" if native else "off", "chunk_rows": 50_000})


@pytest.fixture
def topic(settings: Settings) -> Iterator[str]:
    name = f"source-{uuid.uuid4().hex[:8]}"
    client = admin(settings, Reasons())
    client.create_topics([NewTopic(name, 3, 1)])[name].result()
    yield name
    client.delete_topics([name])[name].result()


def bounds(settings: Settings, topic: str) -> tuple[Position, Position]:
    streams = StreamAdmin(settings)
    return streams.start_offsets([topic])[topic], streams.end_offsets([topic])[topic]


def drained(settings: Settings, start: Position, end: Position) -> tuple[pa.Table, Position]:
    batches = list(drain(settings, "shop.orders", start, end))
    return pa.concat_tables([batch.table for batch in batches]), batches[-1].position


@services
def test_rows_are_what_was_produced_whatever_their_sizes_headers_and_nulls(landing: Settings, topic: str) -> None:
    rng = random.Random(2013)
    client, sent = producer(landing), list[tuple[int, bytes | None, bytes | None, int]]()
    for number in range(3_000):
        key, value = (
            None if rng.random() < 0.2 else rng.randbytes(rng.choice(SIZES[:5] if number % 50 else SIZES))
            for _ in range(2)
        )
        headers = [(f"h{n}", rng.choice((None, b"", b"x" * 50))) for n in range(rng.randrange(4))]
        partition, stamp = rng.randrange(3), rng.choice((1, 1_700_000_000_000 + number))
        client.produce(topic, value, key, partition, timestamp=stamp, headers=headers)
        sent.append((partition, key, value, stamp))
    assert not client.flush(60)
    start, end = bounds(landing, topic)
    rows, position = drained(landing, start, end)
    assert position.lag_to(end) == 0
    found = rows.sort_by([("partition", "ascending"), ("offset", "ascending")])
    expected = sorted(enumerate(sent), key=lambda one: (one[1][0], one[0]))
    assert found["partition"].to_pylist() == [partition for _, (partition, *_) in expected]
    assert found["key"].to_pylist() == [key for _, (_, key, *_) in expected]
    assert found["value"].to_pylist() == [value for _, (*_, value, _) in expected]
    assert found["timestamp"].cast(pa.int64()).to_pylist() == [stamp * 1000 for _, (*_, stamp) in expected]
    for number in range(3):
        offsets = [
            row["offset"] for row in found.select(["partition", "offset"]).to_pylist() if row["partition"] == number
        ]
        assert offsets == list(range(end.next_offset(number)))


@services
def test_a_read_ends_before_what_came_later_and_goes_on_from_there(landing: Settings, topic: str) -> None:
    client = producer(landing)
    for number in range(100):
        client.produce(topic, b"v%d" % number, b"k", number % 3)
    client.flush(60)
    start, end = bounds(landing, topic)
    for number in range(100, 200):
        client.produce(topic, b"v%d" % number, b"k", number % 3)
    client.flush(60)
    rows, position = drained(landing, start, end)
    assert {int(value[1:]) for value in rows["value"].to_pylist()} == set(range(100))
    assert all(offset.leader_epoch >= 0 for offset in position.partitions.values())
    later, _ = drained(landing, position, bounds(landing, topic)[1])
    assert {int(value[1:]) for value in later["value"].to_pylist()} == set(range(100, 200))


@services
def test_transactions_end_though_no_event_lies_before_their_markers(landing: Settings, topic: str) -> None:
    client = producer(landing, **{"transactional.id": topic})
    client.init_transactions()
    for is_kept in (True, False, False):
        client.begin_transaction()
        for partition in range(3):
            client.produce(topic, b"kept" if is_kept else b"aborted", b"k", partition)
        client.flush(60)
        if is_kept:
            client.commit_transaction()
        else:
            client.abort_transaction()
    deadline = time.monotonic() + 30
    while (end := bounds(landing, topic)[1]).next_offset(0) < 6:
        assert time.monotonic() < deadline
    rows, position = drained(landing, bounds(landing, topic)[0], end)
    assert rows["value"].to_pylist() == [b"kept"] * 3
    assert position.lag_to(end) == 0


@services
def test_offsets_that_are_gone_stop_the_read(landing: Settings, topic: str) -> None:
    client = producer(landing)
    for _ in range(10):
        client.produce(topic, b"v", b"k", 0)
    client.flush(60)
    _, end = bounds(landing, topic)
    behind = end.advance({0: PartitionOffset(10_000, -1)})
    with pytest.raises(OffsetsTrimmed):
        drained(landing, behind, end.advance({0: PartitionOffset(10_010, -1)}))


@services
def test_a_source_says_where_it_stands_and_closes_twice(landing: Settings, topic: str) -> None:
    client = producer(landing)
    client.produce(topic, b"v", b"k", 1)
    client.flush(60)
    with closing(open_source(landing, topic, Reasons())) as source:
        source.assign([Assigned(1, 0, 1)])
        deadline = time.monotonic() + 30
        while not (messages := source.read(10)).rows.num_rows:
            assert time.monotonic() < deadline
        assert messages.done == {1}
        assert source.positions()[1] == 1
    source.close()


def test_properties_that_the_library_refuses_are_the_settings_fault(native: bool) -> None:
    wrong = Settings(native="on" if native else "off", bootstrap_servers="127.0.0.1:1", kafka_config={"no.such": "x"})
    with pytest.raises(SettingInvalid, match=r"no\.such"):
        open_source(wrong, "t", Reasons())


def test_settings_that_insist_on_the_extension_do_not_land_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "_usable", lambda: (False, "not built"))
    with pytest.raises(EnvironmentFault, match="not built"):
        open_source(Settings(native="on", bootstrap_servers="127.0.0.1:1"), "t", Reasons())
