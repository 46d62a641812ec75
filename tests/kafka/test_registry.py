"""The registry's answers: what is registered under a subject, and why it would not take a schema next."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from mesh_pipelines.errors import ApplyRefused
from mesh_pipelines.formats.avro.format import AvroSchemas
from mesh_pipelines.kafka.registry import Registry
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.plan.draft import plan
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

pytestmark = pytest.mark.services
AVRO = AvroSchemas()
ORDERS = """
- {name: order_id, logicalType: string, primaryKey: true}
- {name: amount, logicalType: integer, logicalTypeOptions: {format: i64}, required: true}
"""


def schema(*amount: Any, name: str = "orders") -> str:
    fields = [{"name": "id", "type": "string"}, *({"name": "amount", "type": of} for of in amount)]
    return json.dumps({"type": "record", "name": name, "namespace": "shop", "fields": fields})


@pytest.fixture
def subject() -> str:
    return f"registry-{uuid.uuid4().hex[:8]}-value"


@pytest.fixture
def registry(services: Settings) -> Registry:
    return Registry(services)


def applied(settings: Settings) -> Platform:
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    return platform


def test_a_schema_is_found_as_whichever_version_it_is(registry: Registry, subject: str) -> None:
    assert registry.registered_id(subject, schema("long"), AVRO.type) is None
    first, second = (registry.register(subject, schema(of), AVRO.type) for of in ("long", "string"))
    spaced = json.dumps(json.loads(schema("long")), indent=2)
    assert registry.registered_id(subject, schema("long"), AVRO.type) == first
    assert registry.registered_id(subject, spaced, AVRO.type) == first
    assert registry.registered_id(subject, schema("string"), AVRO.type) == second
    assert registry.registered_id(subject, schema("boolean"), AVRO.type) is None


def test_a_refusal_names_the_field_and_the_cause(registry: Registry, subject: str) -> None:
    registry.register(subject, schema("long"), AVRO.type)
    registry.set_compatibility(subject, "BACKWARD")
    assert registry.objections(subject, schema("double"), AVRO) == []
    assert registry.objections(subject, schema("string"), AVRO) == ["version 1: field amount: was long, is now string"]
    [reason] = registry.objections(subject, schema("long", name="Order"), AVRO)
    assert "the registered record is called shop.orders, this one shop.Order" in reason
    assert "schema.avsc" in reason


def test_reasons_are_those_of_the_subject_s_mode(registry: Registry, subject: str) -> None:
    registry.register(subject, schema("int"), AVRO.type)
    registry.set_compatibility(subject, "FORWARD")
    assert registry.objections(subject, schema("long"), AVRO) == ["version 1: field amount: was int, is now long"]
    registry.set_compatibility(subject, "FULL")
    assert registry.objections(subject, schema("boolean"), AVRO) == ["version 1: field amount: was int, is now boolean"]


def test_a_transitive_mode_asks_all_versions(registry: Registry, subject: str) -> None:
    registry.set_compatibility(subject, "NONE")
    registry.register(subject, schema("string"), AVRO.type)
    registry.register(subject, schema("int"), AVRO.type)
    registry.set_compatibility(subject, "BACKWARD")
    assert registry.objections(subject, schema("long"), AVRO) == []
    registry.set_compatibility(subject, "BACKWARD_TRANSITIVE")
    assert registry.objections(subject, schema("long"), AVRO) == ["version 1: field amount: was string, is now long"]


def test_apply_settles_when_a_producer_registers_an_older_schema_after_it(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS, more="- {property: mesh.compatibility, value: NONE}")
    platform = applied(settings)
    older = json.loads(platform.product(name).value_schema)
    older["fields"] = older["fields"][:1]
    producer = SchemaRegistryClient({"url": settings.registry_url.reveal()})
    producer.register_schema(f"{name}-value", Schema(json.dumps(older), "AVRO"))
    latest = producer.get_latest_version(f"{name}-value").schema.schema_str
    assert len(json.loads(latest)["fields"]) == 1
    fresh = Platform.open(settings)
    assert plan(fresh, fresh.in_order) == ()


def test_apply_says_which_field_of_a_producer_s_schema_stands_in_the_way(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS)
    theirs = json.loads(Platform.open(settings).product(name).value_schema)
    theirs["fields"][1]["type"] = "string"
    producer = SchemaRegistryClient({"url": settings.registry_url.reveal()})
    producer.register_schema(f"{name}-value", Schema(json.dumps(theirs), "AVRO"))
    producer.set_compatibility(f"{name}-value", "BACKWARD")
    platform = Platform.open(settings)
    with pytest.raises(ApplyRefused, match=r"field amount must be long as in the contract, got string"):
        plan(platform, platform.in_order)


def test_apply_registers_nothing_where_a_producer_s_record_has_another_name(settings: Settings, contract: Any) -> None:
    name = contract("orders", ORDERS)
    theirs = json.loads(Platform.open(settings).product(name).value_schema)
    theirs |= {"name": "Order", "namespace": "com.acme"}
    producer = SchemaRegistryClient({"url": settings.registry_url.reveal()})
    producer.register_schema(f"{name}-value", Schema(json.dumps(theirs), "AVRO"))
    producer.set_compatibility(f"{name}-value", "BACKWARD")
    applied(settings)
    assert producer.get_versions(f"{name}-value") == [1]
    (settings.assets / name.replace(".", "/") / "schema.avsc").write_text(json.dumps(theirs))
    assert applied(settings).product(name).value_schema == json.dumps(theirs)
    assert producer.get_versions(f"{name}-value") == [1]
    fresh = Platform.open(settings)
    assert plan(fresh, fresh.in_order) == ()
