"""A broker with access control: what it refuses is named by operation, topic and principal, and stops one product."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from mesh_pipelines.cli.main import invoke
from mesh_pipelines.errors import NotAuthorized
from mesh_pipelines.kafka.client import GROUP
from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.observe.status import status
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import execute
from mesh_pipelines.plan.draft import draft
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.xdist_group("guarded")]

USER = "User:mesh"
JSON = "- {property: mesh.wireFormat, value: json}"
FIELDS = "- {name: page, logicalType: string}"
# The rights of docs/services.md, "Rights on a broker".
TO_READ = (AclOperation.DESCRIBE, AclOperation.READ)
TO_APPLY = (AclOperation.CREATE, AclOperation.ALTER, AclOperation.ALTER_CONFIGS, AclOperation.DESCRIBE_CONFIGS)


class Guarded(Services):
    """A broker that asks for a password and has access control; who comes in by the plain port may do everything."""

    def __init__(self, settings: Settings, port: int) -> None:
        super().__init__(settings, registry=False)
        self.port = port

    def broker_properties(self, data: Path) -> dict[str, str]:
        plain = super().broker_properties(data)
        own = f",SASL_PLAINTEXT://{self.settings.host}:{self.port}"
        login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_mesh="open sesame";'
        return plain | {
            "listeners": plain["listeners"] + own,
            "advertised.listeners": plain["advertised.listeners"] + own,
            "listener.security.protocol.map": plain["listener.security.protocol.map"]
            + ",SASL_PLAINTEXT:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": login,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }


class Broker:
    """The guarded broker, as its operator (who grants) and as the mesh (which is granted)."""

    def __init__(self, settings: Settings, port: int) -> None:
        self._address = settings.brokers
        self.operator = AdminClient({"bootstrap.servers": self._address})
        self.mesh = settings.model_copy(
            update={
                "bootstrap_servers": f"{settings.host}:{port}",
                "kafka_config": Settings(
                    kafka_config={
                        "security.protocol": "SASL_PLAINTEXT",
                        "sasl.mechanisms": "PLAIN",
                        "sasl.username": "mesh",
                        "sasl.password": "open sesame",
                    }
                ).kafka_config,
            }
        )

    def grant(self, name: str, *operations: AclOperation, kind: ResourceType = ResourceType.TOPIC) -> None:
        rules = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, USER, "*", one, AclPermissionType.ALLOW)
            for one in operations
        ]
        for future in self.operator.create_acls(rules).values():
            future.result()

    def revoke(self, name: str, operation: AclOperation, kind: ResourceType = ResourceType.TOPIC) -> None:
        everything = AclBindingFilter(
            kind, name, ResourcePatternType.LITERAL, USER, "*", operation, AclPermissionType.ALLOW
        )
        for future in self.operator.delete_acls([everything]).values():
            assert future.result()

    def send(self, topic: str) -> None:
        producer = Producer({"bootstrap.servers": self._address, "log_level": 0})
        producer.produce(topic, value='{"page": "/"}')
        assert producer.flush(30) == 0


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, int]]:
    kafka, controller, registry, port = free_ports(4)
    home = tmp_path_factory.mktemp("guarded")
    settings = Settings(home=home, kafka_port=kafka, controller_port=controller, registry_port=registry)
    with Guarded(settings, port):
        yield settings, port


@pytest.fixture
def broker(guarded: tuple[Settings, int], tmp_path: Path) -> Broker:
    settings, port = guarded
    own = settings.model_copy(update={"home": tmp_path / "home", "assets": tmp_path / "assets"})
    made = Broker(own, port)
    made.grant(GROUP, AclOperation.READ, kind=ResourceType.GROUP)
    return made


def test_the_documented_rights_are_enough(broker: Broker, contract: Any) -> None:
    name = contract("clicks", FIELDS, kind="measurement", more=JSON)
    broker.grant(name, *TO_READ, *TO_APPLY)
    platform = Platform.open(broker.mesh)
    assert execute(platform, draft(platform, [name]).actions) == {}
    broker.send(name)
    assert [one.error for one in run(platform, [name])] == [None]
    [one] = status(platform)
    assert (one.rows, one.problem) == (1, None)
    text = Path("docs/services.md").read_text()
    for operation in ("Describe", "Read", "Create", "Alter", "AlterConfigs", "DescribeConfigs"):
        assert f"`{operation}`" in text


def test_the_consumers_group_is_named(broker: Broker, contract: Any) -> None:
    name = contract("clicks", FIELDS, kind="measurement", more=JSON)
    broker.grant(name, *TO_READ, *TO_APPLY)
    platform = Platform.open(broker.mesh)
    assert execute(platform, draft(platform, [name]).actions) == {}
    broker.send(name)
    broker.revoke(GROUP, AclOperation.READ, ResourceType.GROUP)
    with pytest.raises(NotAuthorized, match=f"does not let {USER} Read the group {GROUP}") as caught:
        land(platform, platform.product(name))
    assert f"--operation Read --group {GROUP}" in str(caught.value.next_step)


def test_a_refused_change_stops_its_product_and_no_other(
    broker: Broker, contract: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    allowed = contract("clicks", FIELDS, kind="measurement", more=JSON)
    hidden = contract("views", FIELDS, kind="measurement", more=JSON)
    seen = contract("searches", FIELDS, kind="measurement", more=JSON)
    derived = contract(
        *("pages", "- {name: page, logicalType: string, primaryKey: true}"),
        alignment="aggregate-aligned",
        more=f"- {{property: mesh.inputs, value: [{seen}]}}",
        transform=f"SELECT DISTINCT page FROM {seen}",
    )
    broker.grant(allowed, *TO_READ, *TO_APPLY)
    broker.grant(seen, AclOperation.DESCRIBE)
    platform = Platform.open(broker.mesh)
    drafted = draft(platform, platform.proposed)
    [error] = drafted.refused[hidden]
    assert isinstance(error, NotAuthorized)
    assert f"does not let {USER} Describe the topic {hidden}" in error.message
    failed = execute(platform, drafted.actions)
    assert list(failed) == [seen]
    assert f"does not let {USER} Create the topic {seen}" in failed[seen].message
    assert str(failed[seen].next_step).startswith("grant it: kafka-acls --add --allow-principal User:mesh")
    assert platform.applied_hashes([allowed, seen, derived]) == {
        allowed: platform.proposed[allowed].contract_hash
    } | dict.fromkeys(platform.applied_hashes([seen, derived]))

    for name in ("home", "assets", "bootstrap_servers"):
        monkeypatch.setenv(f"MESH_{name.upper()}", str(getattr(broker.mesh, name)))
    monkeypatch.setenv("MESH_KAFKA_CONFIG", _as_json(broker.mesh))
    assert invoke(["apply"]) == 1
    told = capsys.readouterr()
    assert f"Create the topic {seen}" in told.err + told.out
    assert f"Describe the topic {hidden}" in told.err + told.out
    assert "M413" in told.err + told.out


def test_a_topic_that_may_not_be_read_is_red_and_others_go_on(broker: Broker, contract: Any) -> None:
    names = [contract(name, FIELDS, kind="measurement", more=JSON) for name in ("clicks", "views")]
    for name in names:
        broker.grant(name, *TO_READ, *TO_APPLY)
    platform = Platform.open(broker.mesh)
    assert execute(platform, draft(platform, names).actions) == {}
    for name in names:
        broker.send(name)
    clicks, views = names
    broker.revoke(views, AclOperation.READ)
    with pytest.raises(NotAuthorized, match=f"does not let {USER} Read the topic {views}"):
        land(platform, platform.product(views))
    # Describe goes with Read where nothing else grants it.
    broker.revoke(views, AclOperation.DESCRIBE)
    for right in (AclOperation.ALTER, AclOperation.ALTER_CONFIGS, AclOperation.DESCRIBE_CONFIGS, AclOperation.CREATE):
        broker.revoke(views, right)
    done = {one.product: one.error for one in run(platform, names)}
    assert done[clicks] is None
    assert isinstance(done[views], NotAuthorized)
    found = {one.product: one for one in status(platform)}
    assert found[clicks].problem is None
    assert f"does not let {USER} Describe the topic {views}" in str(found[views].problem)
    assert not found[views].is_well


def _as_json(settings: Settings) -> str:
    import json

    return json.dumps({name: value.get_secret_value() for name, value in settings.kafka_config.items()})
