"""A topic and a subject that others made years ago are landed and published without a change to either of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from mesh_pipelines import read
from mesh_pipelines.cli.main import invoke
from mesh_pipelines.errors import ApplyRefused
from mesh_pipelines.observe.doctor import doctor
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.actions import RegisterSchema, SetCompatibility
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.plan.draft import Plan, draft
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

FIELDS = """
- {name: id, logicalType: string, primaryKey: true}
- {name: amount, logicalType: integer}
"""
NOTE = "- {name: note, logicalType: string}\n"
# Wider than any contract here, of another name, and with a type that none of them has.
WIDE = {
    "type": "record",
    "name": "OrderPlaced",
    "namespace": "com.acme.orders",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "amount", "type": ["null", "int"], "default": None},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["WEB", "SHOP"]}},
        {"name": "lines", "type": {"type": "array", "items": "string"}},
    ],
}
ORDER = {"id": "o1", "amount": 7, "kind": "WEB", "lines": ["a", "b"]}
Contract = Callable[..., str]


class Others:
    """Those whose topic and subject it is."""

    def __init__(self, settings: Settings) -> None:
        self._admin = AdminClient({"bootstrap.servers": settings.brokers})
        self._producer = Producer({"bootstrap.servers": settings.brokers})
        self.registry = SchemaRegistryClient({"url": settings.registry_url.reveal()})

    def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> None:
        self._admin.create_topics([NewTopic(topic, partitions, 1, config=dict(config))])[topic].result(30)

    def register(self, topic: str, schema: Mapping[str, Any]) -> int:
        return self.registry.register_schema(f"{topic}-value", Schema(json.dumps(schema), "AVRO"))

    def send(self, topic: str, number: int, schema: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        value = io.BytesIO()
        fastavro.schemaless_writer(value, fastavro.parse_schema(json.loads(json.dumps(schema))), dict(row))
        self._producer.produce(topic, key=str(row["id"]), value=b"\0" + number.to_bytes(4, "big") + value.getvalue())
        assert self._producer.flush(30) == 0

    def seen(self, topic: str) -> tuple[Any, ...]:
        """All that the broker and the registry tell of a topic and its subject."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        config = self._admin.describe_configs([resource])[resource].result(30)
        partitions = len(self._admin.list_topics(topic, 30).topics[topic].partitions)
        subject, registry = f"{topic}-value", self.registry
        registry.clear_caches()
        versions = [registry.get_version(subject, number) for number in registry.get_versions(subject)]
        schemas = [(one.version, one.schema_id, one.schema.schema_str) for one in versions]
        return {name: one.value for name, one in config.items()}, partitions, schemas, self._mode(subject)

    def _mode(self, subject: str) -> str | None:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return self.registry.get_compatibility(subject)
        except SchemaRegistryError:
            return None


@pytest.fixture
def others(settings: Settings) -> Others:
    return Others(settings)


def drafted(settings: Settings, name: str) -> Plan:
    return draft(Platform.open(settings), [name])


def applied(settings: Settings, name: str) -> Platform:
    platform = Platform.open(settings)
    apply_contracts(platform, [platform.proposed[name]])
    return platform


def rows(settings: Settings, name: str) -> list[dict[str, Any]]:
    return read(name, settings=settings).arrow().to_pylist()


def test_others_topic_and_subject_are_landed_and_published_unchanged(
    settings: Settings,
    contract: Contract,
    others: Others,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = contract("orders", FIELDS)
    # Retention is not set, so it is the broker's own: seven days.
    others.create(name, 12, {"cleanup.policy": "delete,compact", "message.timestamp.type": "LogAppendTime"})
    number = others.register(name, WIDE)
    others.send(name, number, WIDE, ORDER)
    before = others.seen(name)
    assert before[0]["retention.ms"] == str(7 * 86_400_000)
    for variable, value in {
        "MESH_HOME": settings.home,
        "MESH_ASSETS": settings.assets,
        "MESH_BOOTSTRAP_SERVERS": settings.brokers,
        "MESH_SCHEMA_REGISTRY_URL": settings.registry_url.reveal(),
    }.items():
        monkeypatch.setenv(variable, str(value))
    for command in ("plan", "apply"):
        assert invoke([command, name]) == 0
        shown = capsys.readouterr()
        told = shown.out + shown.err
        assert told.count("the broker keeps them for 7d") == 1
        assert not any(word in told for word in ("mesh land", "register", "alter", "compatibility"))
    assert [one.error for one in run(Platform.open(settings), [name])] == [None]
    assert rows(settings, name) == [{"id": "o1", "amount": 7}]
    assert others.seen(name) == before
    assert drafted(settings, name).actions == ()
    [said] = [one.found for one in doctor(Platform.open(settings)) if one.what == "topics"]
    assert said.count(f"events of {name} go unless they are landed before: the broker keeps them for 7d") == 1


def test_a_contract_that_changes_leaves_others_subject_alone(
    settings: Settings, contract: Contract, others: Others
) -> None:
    name = contract("orders", FIELDS)
    others.create(name, 1, {})
    number = others.register(name, WIDE)
    before = others.seen(name)
    applied(settings, name)
    contract("orders", FIELDS + NOTE, version="1.1.0")
    applied(settings, name)
    others.send(name, number, WIDE, ORDER)
    assert [one.error for one in run(Platform.open(settings), [name])] == [None]
    assert rows(settings, name) == [{"id": "o1", "amount": 7, "note": None}]
    assert others.seen(name) == before


def test_a_schema_file_is_not_registered_over_others_schema(
    settings: Settings, contract: Contract, others: Others
) -> None:
    name = contract("orders", FIELDS)
    others.create(name, 1, {})
    narrow = {**WIDE, "fields": WIDE["fields"][:2]}
    file = settings.assets / name.replace(".", "/") / "schema.avsc"
    others.register(name, WIDE)
    before = others.seen(name)
    file.write_text(json.dumps(narrow))
    applied(settings, name)
    assert others.seen(name) == before
    # Nor where the file is what the subject has, and changes then.
    others.registry.set_compatibility(f"{name}-value", "NONE")
    others.register(name, narrow)
    before = others.seen(name)
    applied(settings, name)
    file.write_text(json.dumps({**narrow, "doc": "Ours now."}))
    applied(settings, name)
    assert others.seen(name) == before


def test_what_apply_registered_follows_the_contract_until_a_producer_registers_its_own(
    settings: Settings, contract: Contract, others: Others
) -> None:
    name = contract("orders", FIELDS)
    first = drafted(settings, name).actions
    assert [one for one in first if isinstance(one, SetCompatibility)] == [
        SetCompatibility(name, f"{name}-value", None, "BACKWARD", is_stated=False)
    ]
    applied(settings, name)
    contract("orders", FIELDS + NOTE, version="1.1.0")
    assert any(isinstance(one, RegisterSchema) for one in drafted(settings, name).actions)
    applied(settings, name)
    assert others.registry.get_versions(f"{name}-value") == [1, 2]
    others.registry.set_compatibility(f"{name}-value", "NONE")
    others.register(name, WIDE)
    more = FIELDS + NOTE + "- {name: more, logicalType: string}\n"
    contract("orders", more, version="1.2.0")
    applied(settings, name)
    assert others.registry.get_versions(f"{name}-value") == [1, 2, 3]
    assert others.registry.get_compatibility(f"{name}-value") == "NONE"
    contract("orders", more, more="- {property: mesh.compatibility, value: FULL}", version="1.3.0")
    assert SetCompatibility(name, f"{name}-value", "NONE", "FULL") in drafted(settings, name).actions


def test_a_subject_whose_events_cannot_be_read_as_the_contract_is_refused(
    settings: Settings, contract: Contract, others: Others
) -> None:
    name = contract("orders", FIELDS + "- {name: shipped, logicalType: boolean, required: true}\n")
    others.create(name, 1, {})
    others.register(name, WIDE)
    before = others.seen(name)
    with pytest.raises(ApplyRefused, match="has no field shipped, which is required"):
        applied(settings, name)
    assert others.seen(name) == before
