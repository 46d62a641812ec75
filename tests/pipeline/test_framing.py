"""Where the id of an event's schema may stand, and what schemas refer to: from a producer's serializer to rows.

The producers are the Kafka client's own serializers. Apicurio's registry is asked where it has what is tested; a
registry that answers as Confluent's does has the rest.
"""

from __future__ import annotations

import io
import json
import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    header_schema_id_serializer,
    record_subject_name_strategy,
    topic_record_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from mesh_pipelines.errors import ApplyRefused, EnvironmentFault
from mesh_pipelines.formats.encode import Encoder
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.plan.draft import plan
from mesh_pipelines.platform import Platform
from mesh_pipelines.repair.quarantine import redrive
from mesh_pipelines.settings import Settings
from tests.kafka.registry_server import RegistryServer, registry_server

pytestmark = pytest.mark.services

MORE = "- {property: mesh.maxUndecodableShare, value: 1}"
ORDERS = """
- {name: id, logicalType: integer, logicalTypeOptions: {format: i64}, primaryKey: true}
- {name: note, logicalType: string}
"""
Headers = list[tuple[str, bytes]]


def record(name: str, *fields: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": one, "type": of} for one, of in fields]}


# An order, and another record that five zero or small fields make look like a number in front of it.
ORDER = record("shop.Order", ("id", "long"), ("note", ["null", "string"]))
ZEROS = record("shop.Zeros", *((f"a{at}", "long") for at in range(5)), ("id", "long"), ("note", ["null", "string"]))


@pytest.fixture
def confluent() -> Iterator[RegistryServer]:
    with registry_server() as server:
        yield server


@pytest.fixture
def applied(settings: Settings, contract: Callable[..., str], native: bool) -> Callable[..., tuple[Platform, str]]:
    """A product that was applied by Apicurio's registry, and is landed by the one of this address."""

    def apply(url: str = "", fields: str = ORDERS, more: str = MORE) -> tuple[Platform, str]:
        name = contract("orders", fields, more=more)
        by = settings.model_copy(update={"native": "on" if native else "off"})
        platform = Platform.open(by)
        apply_contracts(platform, platform.in_order)
        return Platform.open(by.model_copy(update={"schema_registry_url": url}) if url else by), name

    return apply


def send(settings: Settings, topic: str, events: Sequence[tuple[bytes, Headers]]) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers})
    for at, (value, headers) in enumerate(events):
        producer.produce(topic, key=str(at).encode(), value=value, headers=headers or None)
    producer.flush()


def serialized(
    url: str, schema: dict[str, Any], row: dict[str, Any], topic: str, **config: Any
) -> tuple[bytes, Headers]:
    serializer = AvroSerializer(SchemaRegistryClient({"url": url}), json.dumps(schema), conf=config)
    headers: Headers = []
    value = serializer(row, SerializationContext(topic, MessageField.VALUE, headers))
    assert value is not None
    return value, headers


def log_of(platform: Platform, name: str) -> list[dict[str, Any]]:
    table = platform.tables_of(platform.product(name)).load("log")
    return table.scan().to_arrow().sort_by("_offset").to_pylist()


def test_ids_in_headers_are_read_beside_ids_in_values(
    applied: Callable[..., tuple[Platform, str]], confluent: RegistryServer
) -> None:
    platform, name = applied(confluent.url)
    by_header = {"schema.id.serializer": header_schema_id_serializer}
    row = {"id": 7, "note": "in a header"}
    plain = serialized(confluent.url, ORDER, {"id": 1, "note": "in front"}, name)
    assert (plain[0][:5], confluent.schemas.keys()) == (b"\0\0\0\0\x01", {1})
    # Its datum is 00 00 00 00 01, then an order: the number of a schema that the registry has, and a value of it.
    zeros = {f"a{at}": 0 for at in range(4)} | {"a4": -1, "id": 9, "note": "of zeros"}
    hidden = serialized(confluent.url, ZEROS, zeros, name, **by_header)
    assert hidden[0][:5] == plain[0][:5]
    other: Headers = [("traceparent", b"00-1-1-01"), ("empty", b"")]
    unknown = uuid.uuid4()
    events = [
        plain,
        hidden,
        serialized(confluent.url, ORDER, row, name, **by_header),
        (plain[0], other),
        (plain[0][5:], [*other, ("__value_schema_id", b"\0\0\0\0\x01")]),
        (plain[0][5:], [("apicurio.value.contentId", struct.pack(">q", 1)), ("apicurio.value.encoding", b"BINARY")]),
        (plain[0][5:], [("__value_schema_id", b"\1" + unknown.bytes)]),
        (plain[0][5:], [("apicurio.value.globalId", struct.pack(">q", 1))]),
        (b"\0" + struct.pack(">q", 12) + plain[0][5:], []),
        (b"\3\0" + unknown.bytes + plain[0][5:], []),
        (b"\3\5" + unknown.bytes + plain[0][5:], []),
        (plain[0][5:], []),
    ]
    send(platform.settings, name, events)
    assert land(platform, platform.product(name)).quarantined == 6
    rows = log_of(platform, name)
    front = (1, "in front")
    expected = [front, (9, "of zeros"), (7, "in a header"), front, front, front]
    assert [(one["id"], one["note"]) for one in rows[:6]] == expected
    assert [one["_schema_id"] for one in rows[:6]] == [1, None, None, 1, 1, 1]
    reasons = [one["_reason"] for one in rows[6:]]
    assert reasons[0] == f"the registry does not know schema id {unknown}"
    assert "a number of 8 bytes (1)" in reasons[1]
    assert "apicurio.registry.use-id=contentId" in reasons[2]
    assert all(f"AWS Glue's serializers (schema version {unknown})" in one for one in reasons[3:5])
    assert "no schema id" in reasons[5]
    assert "avro-plain" in reasons[5]


def test_an_event_comes_back_when_the_schema_of_its_header_does(
    applied: Callable[..., tuple[Platform, str]], confluent: RegistryServer
) -> None:
    platform, name = applied(confluent.url)
    by_header = {"schema.id.serializer": header_schema_id_serializer}
    events = [
        serialized(confluent.url, ORDER, {"id": 1, "note": "a"}, name),
        serialized(confluent.url, ZEROS, {f"a{at}": 0 for at in range(5)} | {"id": 2, "note": "b"}, name, **by_header),
    ]
    send(platform.settings, name, events)
    confluent.deleted = {1, 2}
    assert land(platform, platform.product(name)).quarantined == 2
    assert [one["_reason"] for one in log_of(platform, name)] == [
        "the registry does not know schema id 1",
        f"the registry does not know schema id {confluent.guid(2)}",
    ]
    assert redrive(platform, platform.product(name)).came_back == 0
    confluent.deleted.clear()
    fresh = Platform.open(platform.settings)
    assert redrive(fresh, fresh.product(name)).came_back == 2
    assert [(one["id"], one["note"]) for one in log_of(fresh, name)] == [(1, "a"), (2, "b")]


def test_a_schema_of_another_kind_is_named(
    applied: Callable[..., tuple[Platform, str]], confluent: RegistryServer
) -> None:
    platform, name = applied(confluent.url)
    numbers = [
        confluent.add("a", {"schemaType": "JSON", "schema": '{"type": "object"}'}),
        confluent.add("b", {"schemaType": "PROTOBUF", "schema": 'syntax = "proto3"; message M {}'}),
        confluent.add("c", {"schemaType": "THRIFT", "schema": "x"}),
    ]
    send(platform.settings, name, [(b"\0" + struct.pack(">I", number) + b"{}", []) for number in numbers])
    land(platform, platform.product(name))
    assert [one["_reason"] for one in log_of(platform, name)] == [
        f"schema {number} is {kind}; the contract says avro"
        for number, kind in zip(numbers, ("JSON Schema", "Protobuf", "THRIFT"), strict=True)
    ]


def test_schemas_are_read_with_those_that_they_refer_to(applied: Callable[..., tuple[Platform, str]]) -> None:
    fields = f"{ORDERS}- {{name: address, logicalType: object, properties: [{{name: street, logicalType: string}}]}}\n"
    platform, name = applied(fields=fields)
    mark = name.partition(".")[0]
    client = SchemaRegistryClient({"url": platform.settings.registry_url.reveal()})

    def register(subject: str, schema: dict[str, Any], *references: SchemaReference) -> Schema:
        made = Schema(json.dumps(schema), "AVRO", list(references))
        client.register_schema(subject, made)
        return made

    # An address names a country of its own namespace, an order of another one names both.
    country = {"type": "enum", "name": f"Country{mark}", "namespace": "common", "symbols": ["NO", "SE"]}
    of_countries = {"type": "array", "items": country["name"]}
    address = record(f"common.Address{mark}", ("street", "string"), ("country", of_countries))
    order = record(
        "shop.Order", ("id", "long"), ("address", ["null", address["name"]]), ("country", f"common.{country['name']}")
    )
    to_country = SchemaReference(f"common.{country['name']}", f"{mark}.country", 1)
    to_address = SchemaReference(address["name"], f"{mark}.address", 1)
    register(f"{mark}.country", country)
    register(f"{mark}.address", address, to_country)
    client.set_compatibility(f"{name}-value", "NONE")
    schema = register(f"{name}-value", order, to_address, to_country)
    config = {"auto.register.schemas": False, "use.latest.version": True}
    serializer = AvroSerializer(client, schema, conf=config)
    rows = [
        {"id": 1, "address": {"street": "Karl Johans gate", "country": ["NO", "SE"]}, "country": "NO"},
        {"id": 2, "address": None, "country": "SE"},
    ]
    values = [serializer(row, SerializationContext(name, MessageField.VALUE)) or b"" for row in rows]
    send(platform.settings, name, [(value, []) for value in values])
    assert land(platform, platform.product(name)).quarantined == 0
    found = [(one["id"], one["address"]) for one in log_of(platform, name)]
    assert found == [(1, {"street": "Karl Johans gate"}), (2, None)]
    fresh = Platform.open(platform.settings)
    assert plan(fresh, fresh.in_order) == (), "a subject that can be read as the contract is left alone"


def test_a_subject_that_cannot_be_read_is_not_planned_over(
    applied: Callable[..., tuple[Platform, str]], confluent: RegistryServer
) -> None:
    platform, name = applied(confluent.url)
    kinds = {"JSON": "it is JSON Schema, and the contract says avro", "AVRO": "subject gone, version 1, which the reg"}
    for kind, said in kinds.items():
        gone = [{"name": "x", "subject": "gone", "version": 1}] if kind == "AVRO" else []
        confluent.subjects.clear()
        confluent.add(f"{name}-value", {"schemaType": kind, "schema": json.dumps(ORDER), "references": gone})
        fresh = Platform.open(platform.settings)
        with pytest.raises(ApplyRefused, match=f"cannot be read as the contract: .*{said}"):
            plan(fresh, fresh.in_order)


def test_apply_needs_no_change_of_a_registry_that_takes_none(
    applied: Callable[..., tuple[Platform, str]], confluent: RegistryServer
) -> None:
    platform, name = applied(confluent.url)
    confluent.read_only = True
    with pytest.raises(EnvironmentFault, match="takes no changes"):
        apply_contracts(platform, platform.in_order)
    confluent.add(f"{name}-value", {"schema": json.dumps(ORDER)})
    confluent.asked.clear()
    fresh = Platform.open(platform.settings)
    assert apply_contracts(fresh, fresh.in_order) == ()
    assert not any(one.startswith("PUT") or one.endswith("/versions") for one in confluent.asked)


def test_bare_avro_is_read_by_the_schema_beside_the_contract(
    settings: Settings, contract: Callable[..., str], native: bool
) -> None:
    settings = settings.model_copy(update={"native": "on" if native else "off"})
    name = contract("orders", ORDERS, more=f"{MORE}\n- {{property: mesh.wireFormat, value: avro-plain}}")
    [fault] = Platform.open(settings).broken[name].faults
    assert str(fault).endswith(
        "schema.avsc: is missing (put the producer's schema there: events of avro-plain do not say theirs)"
    )
    schema = record(
        "com.acme.Order", ("id", "long"), ("note", ["null", "string"]), ("unwanted", {"type": "map", "values": "int"})
    )
    (settings.assets / name.replace(".", "/") / "schema.avsc").write_text(json.dumps(schema))
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    assert platform.registry.latest(f"{name}-value") is None
    parsed, buffer = fastavro.parse_schema(schema), io.BytesIO()
    # Its first byte is a zero, as that of a framing would be, and its header is none that concerns it.
    fastavro.schemaless_writer(buffer, parsed, {"id": 0, "note": None, "unwanted": {"a": 1, "b": 2}})
    headers: Headers = [("__value_schema_id", b"\0\0\0\0\1")]
    send(settings, name, [(buffer.getvalue(), []), (buffer.getvalue(), headers), (buffer.getvalue()[:-1], [])])
    assert land(platform, platform.product(name)).quarantined == 1
    rows = log_of(platform, name)
    assert [(one["id"], one["note"], one["_reason"], one["_schema_id"]) for one in rows] == [
        (0, None, None, None),
        (0, None, None, None),
        (None, None, "the bytes do not fit the writer's schema", None),
    ]
    assert (
        Encoder(platform.product(name), platform.registry).value({"id": 0, "note": None, "unwanted": {}}) == b"\0\0\0"
    )


def test_json_with_a_schema_is_registered_and_read(
    settings: Settings, contract: Callable[..., str], native: bool
) -> None:
    settings = settings.model_copy(update={"native": "on" if native else "off"})
    fields = f"{ORDERS}- {{name: total, logicalType: number, physicalType: 'decimal(9,2)', physicalName: orderTotal}}\n"
    by_record = "- {property: mesh.subjectNameStrategy, value: record}"
    name = contract("orders", fields, more=f"{MORE}\n- {{property: mesh.wireFormat, value: json-schema}}\n{by_record}")
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    assert plan(platform, platform.in_order) == ()
    client = SchemaRegistryClient({"url": settings.registry_url.reveal()})
    registered = client.get_latest_version(name)
    assert registered.schema.schema_type == "JSON"
    theirs = json.loads(registered.schema.schema_str or "")
    assert (theirs["title"], theirs["required"]) == (name, ["id"])
    assert theirs["properties"]["orderTotal"] == {"type": ["number", "string", "null"]}
    config = {
        "auto.register.schemas": False,
        "use.latest.version": True,
        "subject.name.strategy": record_subject_name_strategy,
    }
    serializer = JSONSerializer(registered.schema.schema_str, client, conf=config)
    rows = [{"id": 1, "note": "a", "orderTotal": 1.5}, {"id": 2, "note": None, "orderTotal": "2.25"}]
    values = [serializer(row, SerializationContext(name, MessageField.VALUE)) or b"" for row in rows]
    assert values[0][0] == 0
    own = Encoder(platform.product(name), platform.registry).value({"id": 3, "note": "c", "total": Decimal("3.00")})
    assert own[:5] == values[0][:5]
    bare = b'{"id": 4}'
    framed = [bare, b"\0" + struct.pack(">q", 7) + bare, b"\3\0" + bytes(16) + bare]
    send(settings, name, [(value, []) for value in [*values, own, *framed]])
    assert land(platform, platform.product(name)).quarantined == 0
    assert [(one["id"], one["total"]) for one in log_of(platform, name)] == [
        (1, Decimal("1.50")),
        (2, Decimal("2.25")),
        (3, Decimal("3.00")),
        *[(4, None)] * 3,
    ]


def test_subjects_are_named_after_the_topic_the_record_or_both(
    settings: Settings, contract: Callable[..., str]
) -> None:
    # Settings of the contract, the name of a producer's record, the subject, and the strategy of a serializer.
    mark = uuid.uuid4().hex[:6]
    cases = [
        ("", "", "{topic}-value", None),
        ("- {property: mesh.subjectNameStrategy, value: topic}", "", "{topic}-value", None),
        ("- {property: mesh.subjectNameStrategy, value: record}", "", "{topic}", record_subject_name_strategy),
        (
            "- {property: mesh.subjectNameStrategy, value: record}",
            f"com.acme.Order{mark}",
            f"com.acme.Order{mark}",
            record_subject_name_strategy,
        ),
        (
            "- {property: mesh.subjectNameStrategy, value: topic-record}",
            f"com.acme.Order{mark}",
            f"{{topic}}-com.acme.Order{mark}",
            topic_record_subject_name_strategy,
        ),
        (f"- {{property: mesh.subject, value: 'orders of {mark}'}}", "", f"orders of {mark}", None),
    ]
    url = settings.registry_url.reveal()
    for at, (more, producers, subject, strategy) in enumerate(cases):
        name = contract(f"orders{at}", ORDERS, more=more)
        schema = record(producers, ("id", "long"), ("note", ["null", "string"]))
        if producers:
            (settings.assets / name.replace(".", "/") / "schema.avsc").write_text(json.dumps(schema))
        platform = Platform.open(settings)
        apply_contracts(platform, [platform.proposed[name]])
        product = platform.product(name)
        subject = subject.format(topic=name)
        latest = platform.registry.latest(subject)
        assert latest, subject
        if strategy:
            config = {"auto.register.schemas": False, "subject.name.strategy": strategy}
            value, _ = serialized(url, json.loads(product.value_schema), {"id": 1, "note": "x"}, name, **config)
            assert value[:5] == b"\0" + struct.pack(">I", latest[0])
        assert Encoder(product, platform.registry).value({"id": 1, "note": "x"})[1:5] == struct.pack(">I", latest[0])
