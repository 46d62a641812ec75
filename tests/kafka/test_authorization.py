"""A broker with access control: what it refuses is named by operation, topic and principal, and stops one product.

The registry beside it has none of its own, so a proxy in front of it lets each user do what the user may.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from mesh_pipelines.cli.main import invoke
from mesh_pipelines.errors import NotAuthorized
from mesh_pipelines.kafka.client import Reasons
from mesh_pipelines.kafka.continuity import find_cut
from mesh_pipelines.kafka.drain import open_source
from mesh_pipelines.kafka.source import Assigned
from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.observe.status import status
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.actions import describe
from mesh_pipelines.plan.apply import execute
from mesh_pipelines.plan.draft import draft
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import PartitionOffset
from mesh_pipelines.settings import Settings
from tests.kafka import tokens

pytestmark = [pytest.mark.services, pytest.mark.slow]

USER = "User:mesh"
JSON = "- {property: mesh.wireFormat, value: json}"
FIELDS = "- {name: page, logicalType: string}"
PASSWORD = "open sesame"
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Describe": AclOperation.DESCRIBE,
    "Create": AclOperation.CREATE,
    "Alter": AclOperation.ALTER,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "Write": AclOperation.WRITE,
}


def documented(who: str) -> tuple[tuple[AclOperation, ...], frozenset[str]]:
    """The rights of docs/services.md: those on the topic, and those on the subject."""
    text = Path("docs/services.md").read_text()
    [row] = [line for line in text.splitlines() if line.startswith(f"| {who}: ")]
    _, _, topic, subject, _ = row.split("|")
    operations = tuple(_OPERATIONS[name] for name in re.findall(r"`(\w+)`", topic))
    return operations, frozenset(word.strip() for word in subject.split(","))


TO_READ, _ = documented("reader")
TO_OWN, _ = documented("owner")


_LOGIN = "org.apache.kafka.common.security"


class Guarded(Services):
    """A broker that asks for a password and has access control; who comes in by the plain port may do everything."""

    def __init__(self, settings: Settings, port: int) -> None:
        super().__init__(settings, registry=False)
        self.port = port

    def broker_properties(self, data: Path) -> dict[str, str]:
        plain = super().broker_properties(data)
        own = f",SASL_PLAINTEXT://{self.settings.host}:{self.port}"
        return plain | {
            "listeners": plain["listeners"] + own,
            "advertised.listeners": plain["advertised.listeners"] + own,
            "listener.security.protocol.map": plain["listener.security.protocol.map"]
            + ",SASL_PLAINTEXT:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            "listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config": (
                f'{_LOGIN}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
            ),
            "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
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
                        "sasl.mechanisms": "SCRAM-SHA-512",
                        "sasl.username": "mesh",
                        "sasl.password": PASSWORD,
                    }
                ).kafka_config,
            }
        )

    def grant(
        self, name: str, *operations: AclOperation, pattern: ResourcePatternType = ResourcePatternType.LITERAL
    ) -> None:
        rules = [
            AclBinding(ResourceType.TOPIC, name, pattern, USER, "*", one, AclPermissionType.ALLOW) for one in operations
        ]
        for future in self.operator.create_acls(rules).values():
            future.result()

    def revoke(self, name: str, operation: AclOperation) -> None:
        everything = AclBindingFilter(
            ResourceType.TOPIC, name, ResourcePatternType.LITERAL, USER, "*", operation, AclPermissionType.ALLOW
        )
        for future in self.operator.delete_acls([everything]).values():
            assert future.result()

    def send(self, topic: str, value: bytes = b'{"page": "/"}') -> None:
        producer = Producer({"bootstrap.servers": self._address, "log_level": 0})
        producer.produce(topic, value=value)
        assert producer.flush(30) == 0


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, int]]:
    kafka, controller, registry, port = free_ports(4)
    home = tmp_path_factory.mktemp("guarded")
    settings = Settings(home=home, kafka_port=kafka, controller_port=controller, registry_port=registry)
    with Guarded(settings, port):
        operator = AdminClient({"bootstrap.servers": settings.brokers})
        secret = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        user = UserScramCredentialUpsertion("mesh", secret, PASSWORD.encode())
        for future in operator.alter_user_scram_credentials([user]).values():
            future.result(30)
        yield settings, port


@pytest.fixture
def broker(guarded: tuple[Settings, int], tmp_path: Path) -> Broker:
    settings, port = guarded
    own = settings.model_copy(update={"home": tmp_path / "home", "assets": tmp_path / "assets"})
    return Broker(own, port)


class Registry:
    """A real registry behind a proxy that asks who it is, and answers 403 where the user may not do that."""

    def __init__(self, behind: str) -> None:
        self.rights: dict[str, frozenset[str]] = {}
        self.refused: list[str] = []
        registry = self

        class Proxy(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._pass()

            def do_POST(self) -> None:
                self._pass()

            def do_PUT(self) -> None:
                self._pass()

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def _pass(self) -> None:
                given = self.headers.get("Authorization", "").removeprefix("Basic ")
                user = base64.b64decode(given).decode().partition(":")[0]
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
                if _needed(self.command, self.path) not in registry.rights.get(user, ()):
                    registry.refused.append(f"{self.command} {self.path}")
                    self._answer(403, json.dumps({"error_code": 40301, "message": "User is denied operation"}).encode())
                    return
                headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
                asked = urllib.request.Request(behind + self.path, body, headers, method=self.command)
                try:
                    with urllib.request.urlopen(asked, timeout=30) as answer:
                        self._answer(answer.status, answer.read())
                except urllib.error.HTTPError as error:
                    self._answer(error.code, error.read())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.direct = SchemaRegistryClient({"url": behind})

    def register(self, topic: str, schema: str) -> int:
        return self.direct.register_schema(f"{topic}-value", Schema(schema, "AVRO"))


def _needed(command: str, path: str) -> str:
    """The right that a request takes, in the words of docs/services.md."""
    if path.startswith(("/config", "/mode")):
        return "compatibility"
    return "read" if command == "GET" else "write"


@pytest.fixture
def registry(services: Settings) -> Iterator[Registry]:
    made = Registry(services.registry_url.reveal())
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def as_user(settings: Settings, registry: Registry, who: str, **more: Any) -> Settings:
    """The settings with which the mesh asks a registry as somebody with the documented rights."""
    registry.rights[who] = documented(who)[1]
    user = Settings(schema_registry_config={"basic.auth.user.info": f"{who}:x"}).schema_registry_config
    return settings.model_copy(update={"schema_registry_url": registry.url, "schema_registry_config": user, **more})


WIDE = json.dumps(
    {
        "type": "record",
        "name": "PageView",
        "namespace": "com.acme",
        "fields": [{"name": "page", "type": "string"}, {"name": "seconds", "type": "int"}],
    }
)
# A page of one letter, and 3.
VIEW = b"\x02/\x06"


def test_a_readers_rights_bring_others_topic_to_what_is_published(
    broker: Broker, registry: Registry, contract: Any, native: bool
) -> None:
    name = contract("views", FIELDS, kind="measurement", more="- {property: mesh.compatibility, value: FULL}")
    broker.operator.create_topics([NewTopic(name, 2, 1)])[name].result(30)
    number = registry.register(name, WIDE)
    broker.send(name, b"\0" + number.to_bytes(4, "big") + VIEW)
    broker.grant(name, *TO_READ)
    settings = as_user(broker.mesh, registry, "reader", native="on" if native else "off")
    platform = Platform.open(settings)
    drafted = draft(platform, [name])
    assert drafted.refused == {}
    configs, compatibility = drafted.notes
    assert f"{name}: how long the broker keeps events of {name} could not be looked at" in configs
    assert f"does not let {USER} DescribeConfigs the topic {name}" in configs
    assert f"{name}: mesh.compatibility could not be compared with the subject's" in compatibility
    assert execute(platform, drafted.actions) == {}
    assert [one.error for one in run(platform, [name])] == [None]
    [one] = status(platform)
    assert (one.rows, one.problem) == (1, None)
    assert draft(platform, [name]).actions == ()
    assert {one.partition("?")[0] for one in registry.refused} == {f"GET /config/{name}-value"}


def test_an_owners_rights_make_topic_and_subject(broker: Broker, registry: Registry, contract: Any) -> None:
    name = contract("views", FIELDS, kind="measurement")
    # By a prefix, as a platform has them.
    broker.grant(f"{name.partition('.')[0]}.", *TO_OWN, pattern=ResourcePatternType.PREFIXED)
    platform = Platform.open(as_user(broker.mesh, registry, "owner"))
    assert execute(platform, draft(platform, [name]).actions) == {}
    contract("views", FIELDS + "\n- {name: note, logicalType: string}", kind="measurement", version="1.1.0")
    platform = Platform.open(as_user(broker.mesh, registry, "owner"))
    assert execute(platform, draft(platform, [name]).actions) == {}
    assert registry.refused == []
    assert registry.direct.get_versions(f"{name}-value") == [1, 2]
    assert registry.direct.get_compatibility(f"{name}-value") == "BACKWARD"


def test_a_registry_that_lets_nobody_set_modes_keeps_its_own(broker: Broker, registry: Registry, contract: Any) -> None:
    name = contract("views", FIELDS, kind="measurement")
    broker.grant(name, *TO_OWN)
    settings = as_user(broker.mesh, registry, "owner")
    registry.rights["owner"] = frozenset({"read", "write"})
    platform = Platform.open(settings)
    done: list[str] = []
    failed = execute(platform, draft(platform, [name]).actions, lambda one: done.append(describe(one)))
    assert failed == {}
    assert f"leave compatibility of subject {name}-value at the registry's default, which is not ours to change" in done
    assert registry.direct.get_versions(f"{name}-value") == [1]


def test_a_subject_that_may_not_be_read_stops_its_product_and_no_other(
    broker: Broker, registry: Registry, contract: Any
) -> None:
    plain = contract("clicks", FIELDS, kind="measurement", more=JSON)
    hidden = contract("views", FIELDS, kind="measurement")
    for name in (plain, hidden):
        broker.grant(name, *TO_OWN)
    settings = as_user(broker.mesh, registry, "owner")
    registry.rights["owner"] = frozenset()
    platform = Platform.open(settings)
    drafted = draft(platform, [plain, hidden])
    [error] = drafted.refused[hidden]
    assert isinstance(error, NotAuthorized)
    assert {action.product for action in drafted.actions} == {plain}
    assert execute(platform, drafted.actions) == {}


def test_no_right_to_a_group_is_needed_to_find_where_history_was_cut_off(broker: Broker, contract: Any) -> None:
    name = contract("clicks", FIELDS, kind="measurement", more=JSON)
    broker.operator.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    for _ in range(3):
        broker.send(name)
    broker.grant(name, *TO_READ)
    platform = Platform.open(broker.mesh)
    begin, end = platform.streams.start_offsets([name])[name], platform.streams.end_offsets([name])[name]
    # Events up to 9 were landed under epoch 0, which every event there has.
    stored = end.advance({0: PartitionOffset(9, 0)})
    assert find_cut(broker.mesh, stored, begin, end) == {0: 3}


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
    broker.grant(allowed, *TO_OWN)
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
        broker.grant(name, *TO_OWN)
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


def by_token(broker: Broker, function: str, **more: Any) -> Settings:
    """The settings of a mesh that signs in with the tokens of a function."""
    config = {"security.protocol": "SASL_PLAINTEXT", "sasl.oauthbearer.config": "region=here"}
    given = Settings(kafka_config=config).kafka_config
    return broker.mesh.model_copy(
        update={"kafka_config": given, "kafka_oauth": f"tests.kafka.tokens:{function}", **more}
    )


@pytest.mark.parametrize("function", ["good", "short", "extended"])
def test_tokens_of_a_function_bring_a_topic_to_what_is_published(
    broker: Broker, contract: Any, native: bool, function: str
) -> None:
    name = contract("clicks", FIELDS, kind="measurement", more=JSON)
    broker.grant(name, *TO_OWN)
    settings = by_token(broker, function, native="on" if native else "off")
    tokens.calls.clear()
    platform = Platform.open(settings)
    assert execute(platform, draft(platform, [name]).actions) == {}
    for round_ in range(1, 3):
        broker.send(name)
        assert [one.error for one in run(platform, [name])] == [None]
        [one] = status(platform)
        assert (one.rows, one.problem) == (round_, None)
    assert set(tokens.calls) <= {"region=here"}


def test_a_source_goes_on_with_a_new_token_when_one_ends(broker: Broker, contract: Any, native: bool) -> None:
    name = contract("clicks", FIELDS, kind="measurement", more=JSON)
    broker.operator.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    broker.grant(name, *TO_READ)
    settings = by_token(broker, "short", native="on" if native else "off")
    tokens.calls.clear()
    source = open_source(settings, name, Reasons())
    try:
        source.assign([Assigned(0, 0, 1000)])
        deadline = time.monotonic() + 30
        while len(tokens.calls) < 3:
            assert time.monotonic() < deadline
            source.read(10)
        broker.send(name)
        rows = 0
        while not rows:
            assert time.monotonic() < deadline
            rows += source.read(10).rows.num_rows
    finally:
        source.close()


def test_a_token_of_somebody_without_rights_is_refused_by_name(broker: Broker, contract: Any) -> None:
    name = contract("clicks", FIELDS, kind="measurement", more=JSON)
    broker.operator.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    broker.grant(name, *TO_READ)
    platform = Platform.open(by_token(broker, "stranger"))
    [error] = draft(platform, [name]).refused[name]
    assert isinstance(error, NotAuthorized)
    assert "does not let the principal of its token or ticket Describe the topic" in error.message


def _as_json(settings: Settings) -> str:
    return json.dumps({name: value.get_secret_value() for name, value in settings.kafka_config.items()})
