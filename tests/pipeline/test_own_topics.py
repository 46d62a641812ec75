"""Topics that others made are read and never changed, unless they are taken over; on a real broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from mesh_pipelines.cli.main import invoke
from mesh_pipelines.errors import ApplyRefused
from mesh_pipelines.lake.applied import FOREIGN, TOPIC
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.plan.draft import draft, plan
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

FIELDS = "- {name: id, logicalType: string, primaryKey: true}"
DAY = 86_400_000


def kept(days: int, partitions: int = 1) -> str:
    return f"- {{property: mesh.retention, value: {days}d}}\n- {{property: mesh.partitions, value: {partitions}}}"


def create(settings: Settings, topic: str, days: int) -> None:
    """Make a topic as somebody else would."""
    client = AdminClient({"bootstrap.servers": settings.brokers})
    config = {"retention.ms": str(days * DAY), "cleanup.policy": "delete"}
    client.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(30)


def delete(settings: Settings, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": settings.brokers})
    client.delete_topics([topic])[topic].result(30)


def retention(platform: Platform, topic: str) -> int:
    """How many days the broker keeps the topic's events."""
    return int(platform.streams.describe([topic])[0][topic].config["retention.ms"]) // DAY


def record(platform: Platform, fqn: str) -> str | None:
    return platform.tables_of(platform.product(fqn)).load("versions").properties.get(TOPIC)


def apply(settings: Settings, *names: str, take_over: bool = False) -> Platform:
    platform = Platform.open(settings)
    assert not platform.broken, [str(one) for one in platform.broken.values()]
    apply_contracts(platform, [platform.proposed[name] for name in names], take_over=take_over)
    return platform


Contract = Callable[..., str]


def test_a_topic_of_others_that_differs_is_refused_and_left_as_it_is(settings: Settings, contract: Contract) -> None:
    name = contract("orders", FIELDS, kind="measurement", more=kept(1, partitions=3))
    other = contract("others", FIELDS, more=kept(1))
    create(settings, name, 7)
    platform = Platform.open(settings)
    drafted = draft(platform, [name, other])
    [error] = drafted.refused[name]
    assert isinstance(error, ApplyRefused)
    assert "mesh apply did not create its topic, so it does not" in error.message
    assert "add partitions" in error.message
    assert f"retention.ms {7 * DAY} -> {DAY}" in error.message
    assert error.next_step
    assert error.next_step.endswith(f"mesh apply {name} --take-over")
    assert {action.product for action in drafted.actions} == {other}
    with pytest.raises(ApplyRefused, match="did not create"):
        apply(settings, name, other)
    assert retention(platform, name) == 7
    assert platform.streams.topic_ids([name])[name][1] == 1


def test_a_topic_of_others_that_agrees_is_read_and_stays_theirs(settings: Settings, contract: Contract) -> None:
    name = contract("orders", FIELDS, more=kept(7))
    create(settings, name, 7)
    platform = apply(settings, name)
    assert record(platform, name) == FOREIGN
    contract("orders", FIELDS, more=kept(1), version="1.1.0")
    for _ in range(2):
        with pytest.raises(ApplyRefused, match="did not create"):
            apply(settings, name)
    assert retention(platform, name) == 7


def test_taking_a_topic_over_changes_it_and_is_remembered(settings: Settings, contract: Contract) -> None:
    name = contract("orders", FIELDS, more=kept(7))
    create(settings, name, 7)
    apply(settings, name)
    contract("orders", FIELDS, more=kept(1), version="1.1.0")
    platform = Platform.open(settings)
    said = [repr(action) for action in draft(platform, [name], take_over=True).actions]
    assert any("takes_over=True" in one for one in said)
    platform = apply(settings, name, take_over=True)
    assert retention(platform, name) == 1
    assert record(platform, name) == platform.streams.identity(name)[1]
    contract("orders", FIELDS, more=kept(2), version="1.2.0")
    assert retention(apply(settings, name), name) == 2


def test_a_new_product_may_take_a_topic_over_at_once(settings: Settings, contract: Contract) -> None:
    name = contract("orders", FIELDS, more=kept(1))
    create(settings, name, 7)
    platform = apply(settings, name, take_over=True)
    assert (retention(platform, name), record(platform, name)) == (1, platform.streams.identity(name)[1])


def test_what_apply_created_is_its_own_until_somebody_else_makes_it_anew(
    settings: Settings, contract: Contract
) -> None:
    name = contract("orders", FIELDS, more=kept(1))
    platform = apply(settings, name)
    assert record(platform, name) == platform.streams.identity(name)[1]
    contract("orders", FIELDS, more=kept(2), version="1.1.0")
    assert retention(apply(settings, name), name) == 2
    assert plan(Platform.open(settings), [platform.proposed[name]]) == ()
    delete(settings, name)
    create(settings, name, 7)
    with pytest.raises(ApplyRefused, match="did not create"):
        apply(settings, name)
    delete(settings, name)
    platform = apply(settings, name)
    assert record(platform, name) == platform.streams.identity(name)[1]


def test_a_product_that_was_applied_before_this_was_recorded_owns_its_topic_and_no_other(
    settings: Settings, contract: Contract
) -> None:
    name = contract("orders", FIELDS, more=kept(1))
    platform = apply(settings, name)
    with platform.tables_of(platform.product(name)).load("versions").transaction() as changing:
        changing.remove_properties(TOPIC)
    contract("orders", FIELDS, more=kept(2), version="1.1.0")
    platform = apply(settings, name)
    assert retention(platform, name) == 2
    assert record(platform, name) == platform.streams.identity(name)[1]
    with platform.tables_of(platform.product(name)).load("versions").transaction() as changing:
        changing.remove_properties(TOPIC)
    create(settings, f"{name}_elsewhere", 7)
    moved = f"{kept(2)}\n- {{property: mesh.topic, value: {name}_elsewhere}}"
    contract("orders", FIELDS, more=moved, version="1.2.0")
    with pytest.raises(ApplyRefused, match="did not create"):
        apply(settings, name)


def test_the_commands_take_a_topic_over_when_told(
    settings: Settings, contract: Contract, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = contract("orders", FIELDS, more=kept(1))
    create(settings, name, 7)
    values: dict[str, Any] = {
        "MESH_HOME": settings.home,
        "MESH_ASSETS": settings.assets,
        "MESH_BOOTSTRAP_SERVERS": settings.brokers,
        "MESH_SCHEMA_REGISTRY_URL": settings.registry_url.reveal(),
    }
    for variable, value in values.items():
        monkeypatch.setenv(variable, str(value))
    platform = Platform.open(settings)
    for command in (["plan", name], ["apply", name]):
        assert invoke(command) == 1
        shown = capsys.readouterr()
        assert "M102" in shown.err
        assert "--take-over" in shown.err
    assert invoke(["plan", name, "--take-over"]) == 0
    assert "it is taken over: mesh apply did not create it" in capsys.readouterr().out
    assert retention(platform, name) == 7
    assert invoke(["apply", name, "--take-over"]) == 0
    assert retention(platform, name) == 1
