"""A domain of one's own, from its producers to its published tables, on a real broker and registry.

The producers know nothing of the platform: plain confluent-kafka with its Avro serializer, and JSON.
"""

from __future__ import annotations

import datetime as dt
import json
import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from mesh_pipelines import read
from mesh_pipelines.errors import (
    ApplyRefused,
    AuditBlocked,
    EnvironmentFault,
    NothingPublished,
    OffsetsTrimmed,
    TopicRecreated,
    TransformInvalid,
    Unaudited,
    UnknownVersion,
    UsageError,
)
from mesh_pipelines.observe.status import status
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.plan.actions import describe
from mesh_pipelines.plan.apply import apply_contracts, execute
from mesh_pipelines.plan.draft import plan
from mesh_pipelines.platform import Platform
from mesh_pipelines.repair import upkeep
from mesh_pipelines.repair.quarantine import redrive, show
from mesh_pipelines.repair.resume import resume
from mesh_pipelines.repair.rollback import rollback
from mesh_pipelines.serve import door
from mesh_pipelines.serve.query import query
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

ORDERS = """
- {name: order_id, logicalType: string, primaryKey: true}
- {name: amount, logicalType: number, physicalType: "decimal(10,2)", required: true, logicalTypeOptions: {minimum: 0}}
- {name: placed_at, logicalType: timestamp}
- {name: note, logicalType: string}
"""
CLICKS = """
- {name: page, logicalType: string, required: true}
- {name: at, logicalType: timestamp, required: true}
- name: ms
  logicalType: integer
  quality:
    - {metric: nullValues, mustBe: 0, customProperties: [{property: mesh.onFailure, value: divert}]}
"""
THREE = "- {property: mesh.partitions, value: 3}"
JSON = "- {property: mesh.wireFormat, value: json}"


class Orders:
    """A producer of orders that keeps its own fold of what it sent."""

    def __init__(self, settings: Settings, topic: str, seed: int) -> None:
        registry = SchemaRegistryClient({"url": settings.registry_url.reveal()})
        schema = registry.get_latest_version(f"{topic}-value").schema.schema_str
        config = {"auto.register.schemas": False, "use.latest.version": True}
        self._serialize = AvroSerializer(registry, schema, conf=config)
        self._errors: list[str] = []
        self._producer = Producer(
            {"bootstrap.servers": settings.brokers, "error_cb": lambda error: self._errors.append(str(error))}
        )
        self._random = random.Random(seed)
        self._topic = topic
        self.state: dict[str, dict[str, Any]] = {}

    def send(self, events: int, keys: int = 300) -> None:
        context = SerializationContext(self._topic, MessageField.VALUE)
        for number in range(events):
            key = f"o{self._random.randrange(keys)}"
            if self._random.random() < 0.15:
                self._producer.produce(self._topic, key=key, value=None)
                self.state.pop(key, None)
                continue
            row = {
                "order_id": key,
                "amount": Decimal(self._random.randrange(100_000)) / 100,
                "placed_at": dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=number),
                "note": self._random.choice([None, "", "gift", "ünïcode ✓"]),
            }
            self._producer.produce(self._topic, key=key, value=self._serialize(row, context))
            self.state[key] = row
        self._flush()

    def send_raw(self, key: str | None, value: bytes | None) -> None:
        self._producer.produce(self._topic, key=key, value=value)
        self._flush()

    def _flush(self) -> None:
        assert self._producer.flush(120) == 0, f"not acknowledged: {self._errors}"


def applied(settings: Settings) -> Platform:
    platform = Platform.open(settings)
    assert not platform.broken, platform.broken
    apply_contracts(platform, platform.in_order)
    return platform


def published(settings: Settings, name: str) -> dict[str, dict[str, Any]]:
    return {row["order_id"]: row for row in read(name, settings=settings).arrow().to_pylist()}


def test_published_tables_equal_an_independent_fold(settings: Settings, contract: Any) -> None:
    settings = settings.model_copy(update={"chunk_rows": 700})
    name = contract("orders", ORDERS, more=THREE)
    platform = applied(settings)
    orders = Orders(settings, name, seed=7)
    for events in (2_500, 1, 800):
        orders.send(events)
        [done] = run(platform)
        assert done.error is None
        assert published(settings, name) == orders.state
    assert platform.tables_of(platform.product(name)).log.rows() == 3_301
    assert read(name, settings=settings, version=1).arrow().num_rows > 0
    rebuilt = upkeep.rebuild(platform, platform.product(name))
    assert rebuilt.identical
    upkeep.compact(platform, platform.product(name))
    upkeep.expire(platform, platform.product(name), keep=1)
    assert published(settings, name) == orders.state


def test_every_version_stays_readable_as_it_was(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS, more=THREE)
    platform = applied(settings)
    product = platform.product(name)
    orders = Orders(settings, name, seed=8)
    states: list[dict[str, Any]] = []
    for _ in range(4):
        orders.send(300)
        run(platform)
        states.append(dict(orders.state))
    upkeep.rebuild(platform, product)
    upkeep.compact(platform, product)
    upkeep.expire(platform, product, keep=1)
    for number, state in enumerate(states, start=1):
        rows = read(name, settings=settings, version=number).arrow().to_pylist()
        assert {row["order_id"]: row for row in rows} == state


def test_poison_goes_to_quarantine_and_its_neighbours_go_on(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS)
    platform = applied(settings)
    orders = Orders(settings, name, seed=9)
    orders.send(50)
    orders.send_raw("bad", b"\0\0\0\0\x01 not avro")
    orders.send_raw("none", b"no header")
    orders.send_raw("unknown", b"\0\x7f\xff\xff\xff rest")
    orders.send_raw(None, b"x")
    orders.send(50)
    [done] = run(platform)
    assert done.error is None
    assert done.landed is not None
    assert (done.landed.rows, done.landed.quarantined) == (104, 4)
    assert published(settings, name) == orders.state
    held = door.held(platform, platform.product(name), door.Reader.OWNER).to_pylist()
    assert {row["_raw"] for row in held} == {
        b"\0\0\0\0\x01 not avro",
        b"no header",
        b"\0\x7f\xff\xff\xff rest",
        b"x",
    }
    assert all(row["_reason"] for row in held)


def test_several_writer_schemas_in_one_batch(settings: Settings, contract: Any) -> None:
    properties = (
        ORDERS
        + """
- name: channel
  logicalType: string
  customProperties: [{property: mesh.default, value: web}]
- name: points
  logicalType: integer
  customProperties: [{property: mesh.aliases, value: [score]}]
"""
    )
    name = contract("orders", properties, more="- {property: mesh.compatibility, value: NONE}")
    platform = applied(settings)
    registry = SchemaRegistryClient({"url": settings.registry_url.reveal()})
    amount = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
    old = {
        "type": "record",
        "name": "earlier",
        "fields": [
            {"name": "order_id", "type": "string"},
            {"name": "amount", "type": amount},
            {"name": "score", "type": "int"},
            {"name": "gone", "type": "boolean"},
        ],
    }
    serialize = AvroSerializer(registry, json.dumps(old))
    context = SerializationContext(name, MessageField.VALUE)
    row = {"order_id": "old", "amount": Decimal("1.50"), "score": 7, "gone": True}
    producer = Producer({"bootstrap.servers": settings.brokers})
    producer.produce(name, key="old", value=serialize(row, context))
    registry.register_schema(f"{name}-value", Schema(platform.product(name).value_schema, "AVRO"))
    new = AvroSerializer(registry, platform.product(name).value_schema, conf={"auto.register.schemas": False})
    row = {"order_id": "new", "amount": Decimal("2"), "placed_at": None, "note": None, "channel": "shop", "points": 9}
    producer.produce(name, key="new", value=new(row, context))
    producer.flush()
    [done] = run(platform)
    assert done.error is None
    rows = published(settings, name)
    assert (rows["old"]["points"], rows["old"]["channel"], rows["old"]["amount"]) == (7, "web", Decimal("1.50"))
    assert (rows["new"]["points"], rows["new"]["channel"]) == (9, "shop")


def test_json_measurements_append_and_divert(settings: Settings, contract: Any) -> None:
    name = contract("clicks", CLICKS, kind="measurement", more=JSON)
    platform = applied(settings)
    producer = Producer({"bootstrap.servers": settings.brokers})
    sent = [{"page": f"/{n % 3}", "at": "2024-05-01T00:00:00Z", "ms": n if n % 10 else None} for n in range(500)]
    for event in sent:
        producer.produce(name, value=json.dumps(event))
    producer.produce(name, value=b'{"page": 5}')
    producer.produce(name, value=b'{"page"')
    producer.produce(name, value=None)
    producer.flush()
    [done] = run(platform)
    assert done.error is None
    got = read(name, settings=settings).arrow().to_pylist()
    kept = [event for event in sent if event["ms"] is not None]
    assert sorted((row["page"], row["ms"]) for row in got) == sorted((event["page"], event["ms"]) for event in kept)
    fates = platform.tables_of(platform.product(name)).log.fates()
    assert fates == {"ok": 450, "diverted": 50, "undecodable": 3}


def test_a_blocked_candidate_leaves_the_published_version(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS)
    platform = applied(settings)
    product = platform.product(name)
    orders = Orders(settings, name, seed=10)
    orders.send(100)
    run(platform)
    good = dict(orders.state)
    context = SerializationContext(name, MessageField.VALUE)
    bad = {"order_id": "bad", "amount": Decimal("-1.00"), "placed_at": None, "note": None}
    orders.send_raw("bad", orders._serialize(bad, context))
    land(platform, product)
    with pytest.raises(Unaudited):
        # What has no verdict: the candidate is not the one that is asked for, or the contract is not.
        platform.tables_of(product).versions.publish("another", product.contract_hash, "2026-11-24T12:00:00+00:00")
    taken = snapshot(platform, product)
    assert taken.candidate is not None
    assert taken.candidate.verdict is not None
    assert taken.candidate.verdict.blocking == ("amount.minimum",)
    with pytest.raises(AuditBlocked, match="amount.minimum"):
        publish(platform, product)
    assert published(settings, name) == good
    [one] = status(platform)
    assert one.version == 1
    assert one.problem is not None
    assert "amount.minimum" in one.problem
    orders.send_raw("bad", None)
    [done] = run(platform)
    assert done.error is None
    assert published(settings, name) == good


def test_applies_at_the_same_time_end_well(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS, more=THREE)
    planned = plan(Platform.open(settings), [Platform.open(settings).product(name)])

    def carry_out() -> None:
        execute(Platform.open(settings), planned)

    with ThreadPoolExecutor(3) as pool:
        for one in [pool.submit(carry_out) for _ in range(3)]:
            one.result(60)
    assert plan(Platform.open(settings), [Platform.open(settings).product(name)]) == ()


def test_apply_does_nothing_the_second_time_and_refuses_loss(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS, more=THREE)
    first = Platform.open(settings)
    actions = plan(first, first.in_order)
    assert {type(action).__name__ for action in actions} == {
        "CreateTopic",
        "RegisterSchema",
        "SetCompatibility",
        "CreateTables",
        "RecordContract",
    }
    assert all(describe(action) for action in actions)
    execute(first, actions)
    assert plan(first, first.in_order) == ()
    contract("orders", ORDERS.replace("- {name: note, logicalType: string}", ""), more=THREE)
    with pytest.raises(ApplyRefused, match="note"):
        second = Platform.open(settings)
        plan(second, second.in_order)
    contract("orders", ORDERS, more="- {property: mesh.partitions, value: 2}")
    with pytest.raises(ApplyRefused, match="partitions"):
        second = Platform.open(settings)
        plan(second, second.in_order)
    contract("orders", ORDERS + "- {name: extra, logicalType: integer}", more=THREE)
    third = Platform.open(settings)
    apply_contracts(third, third.in_order)
    assert plan(third, third.in_order) == ()
    orders = Orders(settings, name, seed=11)
    orders._serialize = AvroSerializer(
        SchemaRegistryClient({"url": settings.registry_url.reveal()}),
        first.product(name).value_schema,
        conf={"auto.register.schemas": False},
    )
    orders.send(20)
    [done] = run(third)
    assert done.error is None
    assert all(row["extra"] is None for row in published(settings, name).values())


def test_a_recreated_or_trimmed_topic_stops_landing_until_it_is_accepted(settings: Settings, contract: Any) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    name = contract("orders", ORDERS)
    platform = applied(settings)
    product = platform.product(name)
    orders = Orders(settings, name, seed=12)
    orders.send(200)
    run(platform)
    orders.send(50)
    client = AdminClient({"bootstrap.servers": settings.brokers})
    for future in client.delete_records([TopicPartition(name, 0, 230)]).values():
        future.result()
    with pytest.raises(OffsetsTrimmed, match="200 to 229"):
        land(platform, product)
    with pytest.raises(UsageError, match="not what happened"):
        resume(platform, product, "recreated")
    assert resume(platform, product, "trimmed").accepted
    assert land(platform, product).rows == 20
    before = published(settings, name)
    for future in client.delete_topics([name]).values():
        future.result()
    assert product.topic is not None
    deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=20)
    while True:
        try:
            apply_contracts(platform, [product])
            break
        except EnvironmentFault:
            # The broker deletes a topic after it has answered that it did.
            assert dt.datetime.now(dt.UTC) < deadline
    orders.send(300)
    with pytest.raises(TopicRecreated):
        land(platform, product)
    assert published(settings, name) == before
    assert resume(platform, product, "recreated").accepted
    assert [one["accepted"] for one in resume(platform, product).earlier] == ["trimmed", "recreated"]
    assert land(platform, product).rows == 300
    [done] = run(platform)
    assert done.error is None


def counted(contract: Any, name: str) -> str:
    """A product derived from another: the number of its rows."""
    return contract(
        "counts",
        "- {name: everything, logicalType: string, primaryKey: true}\n- {name: rows, logicalType: integer}",
        domain="sales",
        alignment="aggregate-aligned",
        more=f"- {{property: mesh.inputs, value: [{name}]}}",
        transform=f"SELECT 'all' AS everything, count(*) AS rows FROM {name}",
    )


def rows_counted(settings: Settings, counts: str) -> int:
    [row] = read(counts, settings=settings).arrow().to_pylist()
    return row["rows"]


def test_a_redrive_brings_events_back_where_they_lay(settings: Settings, contract: Any) -> None:
    properties = """
    - {name: id, logicalType: string, primaryKey: true}
    - {name: size, logicalType: number, physicalType: "decimal(%s,1)"}
    """
    name = contract("things", properties % 3, more=JSON)
    counts = counted(contract, name)
    platform = applied(settings)
    producer = Producer({"bootstrap.servers": settings.brokers})
    sent = [("a", '{"id": "a", "size": 1}'), ("b", '{"id": "b", "size": 1000.5}'), ("c", '{"id": "c", "size": 2000}')]
    for key, value in [*sent, ("c", '{"id": "c", "size": 4}'), ("d", "no JSON at all")]:
        producer.produce(name, key=key, value=value)
    assert producer.flush(60) == 0
    assert [done.error for done in run(platform)] == [None, None]
    assert {row["id"]: row["size"] for row in read(name, settings=settings).arrow().to_pylist()} == {"a": 1, "c": 4}
    assert rows_counted(settings, counts) == 2
    product = platform.product(name)
    event = show(platform, product, 0, 1)
    assert event["_raw"] == b'{"id": "b", "size": 1000.5}'
    assert event["decoded"] is None
    nothing = redrive(platform, product)
    assert (nothing.came_back, nothing.undecodable) == (0, 3)

    contract("things", properties % 9, more=JSON, version="1.1.0")
    mended = Platform.open(settings)
    apply_contracts(mended, mended.in_order)
    product = mended.product(name)
    assert show(mended, product, 0, 1)["decoded"] == {"id": "b", "size": Decimal("1000.5")}
    done = redrive(mended, product)
    assert (done.came_back, done.undecodable) == (2, 1)
    assert redrive(mended, product).came_back == 0
    assert [(one.quarantined, one.redriven) for one in status(mended)] == [(0, 0), (1, 2)]
    assert [done.error for done in run(mended)] == [None, None]
    # The mended event of c lies before the good one, so it changes nothing; b is there now.
    now = {row["id"]: row["size"] for row in read(name, settings=settings).arrow().to_pylist()}
    assert now == {"a": 1, "b": Decimal("1000.5"), "c": 4}
    before = {row["id"]: row["size"] for row in read(name, settings=settings, version=1).arrow().to_pylist()}
    assert before == {"a": 1, "c": 4}
    assert rows_counted(settings, counts) == 3
    with pytest.raises(UsageError, match="0:1"):
        show(mended, product, 0, 1)
    assert mended.tables_of(product).log.redriven() == 2
    upkeep.rebuild(mended, product)
    upkeep.compact(mended, product)
    assert {row["id"] for row in read(name, settings=settings).arrow().to_pylist()} == {"a", "b", "c"}


def test_a_rollback_takes_readers_back_and_the_stream_goes_on(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS)
    counts = counted(contract, name)
    platform = applied(settings)
    product = platform.product(name)
    orders = Orders(settings, name, seed=14)
    states: list[dict[str, Any]] = []
    for _ in range(3):
        orders.send(40)
        assert [done.error for done in run(platform)] == [None, None]
        states.append(dict(orders.state))
    before = dt.datetime.now(dt.UTC)
    rollback(platform, product, 1, "wrong amounts")
    assert published(settings, name) == states[0]
    assert [done.error for done in run(platform)] == [None, None]
    assert published(settings, name) == states[0]
    assert rows_counted(settings, counts) == len(states[0])
    known = platform.tables_of(product).versions.all()
    assert [one.number for one in known] == [1, 2, 3]
    assert [one.withdrawn is not None and "wrong amounts" in one.withdrawn for one in known] == [False, True, True]
    assert {row["order_id"]: row for row in read(name, settings=settings, version=3).arrow().to_pylist()} == states[2]
    assert read(name, settings=settings, as_of=before).version.number == 3
    assert read(name, settings=settings, as_of=dt.datetime.now(dt.UTC)).version.number == 1
    with pytest.raises(UnknownVersion):
        rollback(platform, product, 9)
    # A corrective event, and the stream goes on under a number never used.
    orders.send(1)
    assert [done.error for done in run(platform)] == [None, None]
    assert published(settings, name) == orders.state
    assert read(name, settings=settings).version.number == 4
    assert rows_counted(settings, counts) == len(orders.state)


def test_derived_products_follow_their_inputs_at_pinned_versions(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS)
    total = """
    - {name: prefix, logicalType: string, primaryKey: true}
    - {name: total, logicalType: number, physicalType: "decimal(38,2)"}
    - {name: orders, logicalType: integer}
    """
    sql = f"SELECT left(order_id, 2) AS prefix, sum(amount) AS total, count(*) AS orders FROM {name} GROUP BY ALL"
    derived = contract(
        "totals",
        total,
        domain="sales",
        alignment="aggregate-aligned",
        more=f"- {{property: mesh.inputs, value: [{name}]}}",
        quality=(
            f'[{{type: sql, name: complete, mustBe: 0, query: "SELECT (SELECT count(*) FROM {name}) - sum(orders) '
            'FROM {object}"}]'
        ),
        transform=sql,
    )
    platform = applied(settings)
    with pytest.raises(NothingPublished):
        snapshot(platform, platform.product(derived))
    orders = Orders(settings, name, seed=13)
    orders.send(400)
    runs = run(platform)
    assert [done.error for done in runs] == [None, None]
    rows = list(orders.state.values())
    expected: dict[str, tuple[Decimal, int]] = {}
    for row in rows:
        held = expected.get(row["order_id"][:2], (Decimal(0), 0))
        expected[row["order_id"][:2]] = (held[0] + row["amount"], held[1] + 1)
    got = {row["prefix"]: (row["total"], row["orders"]) for row in read(derived, settings=settings).arrow().to_pylist()}
    assert got == expected
    assert read(derived, settings=settings).version.input_versions == {name: 1}
    orders.send(100)
    run(platform)
    assert read(derived, settings=settings).version.input_versions == {name: 2}
    assert upkeep.rebuild(platform, platform.product(derived), number=1).identical
    answer = query(settings, platform.products, platform.catalog, f"SELECT sum(orders) AS n FROM {derived}").read_all()
    assert answer.to_pylist() == [{"n": len(orders.state)}]
    with duckdb.connect(str(settings.serving_file), read_only=True) as serving:
        assert serving.sql(f"SELECT sum(orders) FROM {derived}").fetchall() == [(len(orders.state),)]
    folder = settings.assets / derived.replace(".", "/")
    (folder / "transform.sql").write_text(sql.replace(name, "other.product"))
    with pytest.raises(TransformInvalid, match="other.product"):
        broken = Platform.open(settings)
        plan(broken, [broken.product(derived)])
    [_, done] = run(Platform.open(settings))
    assert done.error is None, "what was applied goes on as it was"


def test_a_silent_registry_is_waited_out_and_never_quarantines(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS)
    platform = applied(settings)
    orders = Orders(settings, name, seed=14)
    orders.send(30)
    root = settings.registry_url.reveal().partition("/apis/")[0]
    # Nobody, a server that has no such page, one whose pages are none of a registry's, and one that is no server.
    for wrong in ("http://127.0.0.1:9", root, f"{root}/apis/registry/v3/system/info?", f"http://{settings.brokers}"):
        silent = settings.model_copy(update={"schema_registry_url": wrong, "timeout_s": 2.0})
        with pytest.raises(EnvironmentFault):
            land(Platform.open(silent), platform.product(name))
    assert platform.tables_of(platform.product(name)).log.rows() == 0
    assert land(platform, platform.product(name)).quarantined == 0


def test_aborted_and_open_transactions_are_not_read(settings: Settings, contract: Any) -> None:
    name = contract("clicks", CLICKS, kind="measurement", more=JSON)
    platform = applied(settings)
    product = platform.product(name)
    event = json.dumps({"page": "/", "at": "2024-05-01T00:00:00Z", "ms": 1})

    def transaction(end: str) -> Producer:
        producer = Producer({"bootstrap.servers": settings.brokers, "transactional.id": f"{name}-{end}"})
        producer.init_transactions(20)
        producer.begin_transaction()
        for _ in range(5):
            producer.produce(name, value=event)
        producer.flush()
        return producer

    transaction("commit").commit_transaction()
    transaction("abort").abort_transaction()
    reckless = {"isolation.level": "read_uncommitted", "auto.offset.reset": "latest", "enable.partition.eof": "false"}
    first = land(Platform.open(settings.model_copy(update={"kafka_config": reckless})), product)
    assert (first.rows, first.lag) == (5, 0)
    still_open = transaction("open")
    assert land(platform, product).rows == 0
    still_open.commit_transaction()
    assert land(platform, product).rows == 5
