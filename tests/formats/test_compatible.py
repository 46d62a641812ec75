"""Why one Avro schema may not follow another: the reason we give, beside the verdict that a registry gives."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from mesh_pipelines.formats.avro.compatible import incompatibilities
from mesh_pipelines.settings import Settings


def record(*fields: dict[str, Any], name: str = "orders", namespace: str = "shop", **more: Any) -> str:
    key = {"name": "id", "type": "string"}
    return json.dumps({"type": "record", "name": name, "namespace": namespace, "fields": [key, *fields], **more})


def field(of: Any, name: str = "amount", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": of, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "Kind", "symbols": symbols, **more}


def fixed(size: int) -> dict[str, Any]:
    return {"type": "fixed", "name": "Code", "size": size}


def nested(*fields: dict[str, Any], name: str = "Point") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


X = {"name": "x", "type": "int"}
# The registered schema, ours, and why ours cannot read events of the registered one ("" where it can).
CASES: dict[str, tuple[str, str, str]] = {
    "the same": (record(field("long")), record(field("long")), ""),
    "another type": (record(field("long")), record(field("string")), "field amount: was long, is now string"),
    "wider": (record(field("int")), record(field("long")), ""),
    "int to double": (record(field("int")), record(field("double")), ""),
    "narrower": (record(field("long")), record(field("int")), "field amount: was long, is now int"),
    "string to bytes": (record(field("string")), record(field("bytes")), ""),
    "new": (record(), record(field("long")), "field amount: is new and has no default"),
    "new with a default": (record(), record(field("long", default=0)), ""),
    "gone": (record(field("long")), record(), ""),
    "renamed": (record(field("long", name="total")), record(field("long", aliases=["total"])), ""),
    "nullable": (record(field("long")), record(field(["null", "long"])), ""),
    "no longer nullable": (
        record(field(["null", "long"])),
        record(field("long")),
        "field amount: was null or long, is now long",
    ),
    "nullable of another type": (
        record(field(["null", "long"])),
        record(field(["null", "string"])),
        "field amount: was null or long, is now null or string",
    ),
    "nullable and wider": (record(field(["null", "int"])), record(field(["null", "long"])), ""),
    "another record": (
        record(name="Order", namespace="com.acme"),
        record(),
        "the registered record is called com.acme.Order, this one shop.orders: "
        "put the producer's schema beside the contract as schema.avsc",
    ),
    "another namespace": (record(namespace="com.acme"), record(), ""),
    "items": (
        record(field({"type": "array", "items": "long"})),
        record(field({"type": "array", "items": "int"})),
        "field amount[]: was long, is now int",
    ),
    "values of a map": (
        record(field({"type": "map", "values": "long"})),
        record(field({"type": "map", "values": "boolean"})),
        "field amount[]: was long, is now boolean",
    ),
    "inside a record": (
        record(field(["null", nested(X)])),
        record(field(["null", nested({"name": "x", "type": "string"})])),
        "field amount.x: was int, is now string",
    ),
    "a record inside of another name": (
        record(field(nested(X))),
        record(field(nested(X, name="Place"))),
        "field amount: its record was called shop.Point, is now called shop.Place",
    ),
    "a symbol less": (record(field(enum("a", "b"))), record(field(enum("a"))), "field amount: lost the symbols b"),
    "a symbol less with a default": (record(field(enum("a", "b"))), record(field(enum("a", default="a"))), ""),
    "a symbol more": (record(field(enum("a"))), record(field(enum("a", "b"))), ""),
    "another size": (
        record(field(fixed(4))),
        record(field(fixed(8))),
        "field amount: was fixed of 4 bytes, is now fixed of 8 bytes",
    ),
    "a list of what was one": (
        record(field("long")),
        record(field({"type": "array", "items": "long"})),
        "field amount: was long, is now array",
    ),
}
FORWARD = {
    "another type": "field amount: was long, is now string",
    "wider": "field amount: was int, is now long",
    "gone": "field amount: was removed and had no default",
    "nullable": "field amount: was long, is now null or long",
    "a symbol more": "field amount: has new symbols b",
    "narrower": "",
    "new": "",
    "a symbol less": "",
}


@pytest.mark.parametrize("case", CASES)
def test_reasons_against_reading_what_was_written_before(case: str) -> None:
    registered, ours, reason = CASES[case]
    assert incompatibilities(ours, registered, backward=True) == ([reason] if reason else [])


@pytest.mark.parametrize("case", FORWARD)
def test_reasons_against_new_events_for_those_who_read_by_the_old_schema(case: str) -> None:
    registered, ours, _ = CASES[case]
    assert incompatibilities(ours, registered, backward=False) == ([FORWARD[case]] if FORWARD[case] else [])


def test_every_field_that_stands_in_the_way_is_named() -> None:
    registered = record(field("long"), field("int", name="points"))
    ours = record(field("string"), field("boolean", name="points"), field("int", name="extra"))
    assert incompatibilities(ours, registered, backward=True) == [
        "field amount: was long, is now string",
        "field points: was int, is now boolean",
        "field extra: is new and has no default",
    ]


def test_a_schema_that_is_none_is_said_to_be_none() -> None:
    [reason] = incompatibilities(record(), 'syntax = "proto3";', backward=True)
    assert reason == "the registered schema cannot be compared: it is not an Avro schema in JSON"


def test_types_that_double_with_every_level_are_compared_once_each() -> None:
    def doubling(leaf: str) -> str:
        held: Any = nested(field(leaf, name="a"), name="t0")
        for level in range(1, 11):
            held = nested(field(held, name="a"), field(f"t{level - 1}", name="b"), name=f"t{level}")
        return record(field(held))

    [reason] = incompatibilities(doubling("int"), doubling("long"), backward=True)
    assert reason.endswith("a.a.a: was long, is now int")


def test_records_that_may_be_null_in_records_that_may_be_null_take_no_time() -> None:
    def chain(leaf: str) -> str:
        held: Any = leaf
        for level in range(25):
            held = ["null", nested(field(held, name="a"), field("int", name="b"), name=f"t{level}")]
        return record(field(held))

    [reason] = incompatibilities(chain("int"), chain("string"), backward=True)
    assert reason.endswith("a.a.a: was string, is now int")


@pytest.mark.services
def test_the_registry_finds_the_same_pairs_compatible(services: Settings) -> None:
    registry = SchemaRegistryClient({"url": services.registry_url.reveal()})
    found: dict[str, tuple[bool, bool]] = {}
    expected: dict[str, tuple[bool, bool]] = {}
    for case, (registered, ours, _) in CASES.items():
        subject = f"compatible-{uuid.uuid4().hex[:8]}"
        registry.register_schema(subject, Schema(registered, "AVRO"))
        verdicts: list[bool] = []
        for mode in ("BACKWARD", "FORWARD"):
            registry.set_compatibility(subject, mode)
            verdicts.append(registry.test_compatibility_all_versions(subject, Schema(ours, "AVRO")))
        found[case] = (verdicts[0], verdicts[1])
        backward, forward = (not incompatibilities(ours, registered, backward=way) for way in (True, False))
        expected[case] = (backward, forward)
    assert found == expected
