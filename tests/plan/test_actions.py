"""Each action of a plan says what it does in one line, and the topics' part of a plan finds what is to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from mesh_pipelines.contract.model import DataProduct, TopicSettings
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import ApplyRefused, MeshError, NotAuthorized
from mesh_pipelines.kafka.admin import TopicDescription
from mesh_pipelines.lake.applied import TOPIC
from mesh_pipelines.plan.actions import (
    MEND,
    Action,
    AddPartitions,
    AlterTopic,
    CreateTables,
    CreateTopic,
    EvolveTables,
    Findings,
    RecordContract,
    RegisterSchema,
    SetCompatibility,
    describe,
    unsafe,
)
from mesh_pipelines.plan.topic_plan import plan_topics
from mesh_pipelines.positions import PartitionOffset, Position
from tests.building import contract_text, written

ORDERS = "shop.orders"


@pytest.mark.parametrize(
    ("action", "line"),
    [
        (
            CreateTopic(ORDERS, TopicSettings("t", 3, config={"min.insync.replicas": "2"})),
            "create topic t with 3 partitions (cleanup.policy=delete, retention.ms=-1, min.insync.replicas=2)",
        ),
        (AddPartitions(ORDERS, "t", 2, 4), "add partitions to topic t: 2 -> 4"),
        (
            AlterTopic(ORDERS, "t", {"retention.ms": ("-1", "1000"), "a": ("unset", "b")}),
            "alter topic t: retention.ms -1 -> 1000, a unset -> b",
        ),
        (RegisterSchema(ORDERS, "t-value", "{}", "AVRO"), "register the schema of subject t-value"),
        (
            SetCompatibility(ORDERS, "t-value", None, "FULL"),
            "set compatibility of subject t-value: registry default -> FULL",
        ),
        (SetCompatibility(ORDERS, "t-value", "NONE", "FULL"), "set compatibility of subject t-value: NONE -> FULL"),
        (
            SetCompatibility(ORDERS, "t-value", None, "FULL", is_stated=False, is_left=True),
            "leave compatibility of subject t-value at the registry's default, which is not ours to change",
        ),
        (CreateTables(ORDERS, ("log", "base")), "create tables of shop.orders: log, base"),
        (EvolveTables(ORDERS, ("log: add column a", "base: add column a")), "evolve tables of shop.orders: "),
        (RecordContract(ORDERS, "1.1.0", "1.0.0", "h", {}), "apply contract 1.1.0 of shop.orders, after 1.0.0"),
        (RecordContract(ORDERS, "1.0.0", None, "h", {}), "apply contract 1.0.0 of shop.orders"),
    ],
)
def test_an_action_says_what_it_does(action: Action, line: str) -> None:
    said = describe(action)
    assert said.startswith(line) if isinstance(action, EvolveTables) else said == line
    assert "\n" not in said


def test_only_what_a_contract_states_is_a_setting_of_it() -> None:
    topic = TopicSettings("t", cleanup_policy="compact", retention_ms=5, config={"a": "b"})
    assert topic.stated == {"cleanup.policy": "compact", "retention.ms": "5", "a": "b"}
    silent = TopicSettings("t")
    assert (silent.stated, silent.initial_partitions) == ({}, 1)
    assert silent.initial == {"cleanup.policy": "delete", "retention.ms": "-1"}


def test_a_refusal_says_how_to_mend_it() -> None:
    error = unsafe("it would lose events")
    assert isinstance(error, ApplyRefused)
    assert (error.message, error.next_step) == ("it would lose events", MEND)


@dataclass
class Broker:
    """What a broker answers: topics with partitions and settings, those that are hidden, and where they end."""

    topics: Mapping[str, tuple[int, Mapping[str, str]]] = field(default_factory=dict)
    hidden: Mapping[str, MeshError] = field(default_factory=dict)
    untold: MeshError | None = None
    end: int = 10

    def describe(self, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, MeshError]]:
        found = {
            name: TopicDescription(name, "id", partitions, config, self.untold)
            for name, (partitions, config) in self.topics.items()
            if name in names
        }
        return found, {name: error for name, error in self.hidden.items() if name in names}

    def end_offsets(self, names: Sequence[str]) -> dict[str, Position]:
        return {name: Position("c", name, "id", {0: PartitionOffset(self.end)}) for name in names}

    def start_offsets(self, names: Sequence[str]) -> dict[str, Position]:
        return {name: Position("c", name, "id", {0: PartitionOffset(2)}) for name in names}


@dataclass
class Asked:
    """A platform as the plan of topics asks it: its broker, and a log that has landed up to an offset, or none.

    Its topic is the product's ``own``, or was made by others.
    """

    streams: Broker
    landed: int | None = None
    own: bool = True

    @property
    def tables(self) -> Any:
        properties = {TOPIC: "id" if self.own else "of others"}
        return SimpleNamespace(of=lambda names: dict.fromkeys(names, properties))

    def tables_of(self, product: DataProduct) -> Any:
        position = None if self.landed is None else Position("c", ORDERS, "id", {0: PartitionOffset(self.landed)})
        return SimpleNamespace(exist=lambda: self.landed is not None, log=SimpleNamespace(position=lambda: position))


def planned(asked: Asked, *products: DataProduct) -> tuple[list[Action], list[str]]:
    actions, found = drafted(asked, *products)
    return actions, [error.message for errors in found.refused.values() for error in errors]


def drafted(asked: Asked, *products: DataProduct) -> tuple[list[Action], Findings]:
    found = Findings()
    return plan_topics(asked, products, found), found  # pyright: ignore[reportArgumentType]


def noted(asked: Asked, *products: DataProduct) -> list[str]:
    actions, found = drafted(asked, *products)
    assert (actions, found.refused) == ([], {})
    return [text for texts in found.notes.values() for text in texts]


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> DataProduct:
    settings = "- {property: mesh.partitions, value: 3}"
    return written(tmp_path_factory.mktemp("assets"), contract_text(ORDERS, settings=settings))


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> DataProduct:
    """A product whose contract says nothing of its topic."""
    return written(tmp_path_factory.mktemp("assets"), contract_text(ORDERS))


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> DataProduct:
    settings = "- {property: mesh.partitions, value: 3}"
    return written(tmp_path_factory.mktemp("assets"), contract_text(ORDERS, kind="measurement", settings=settings))


def config_of(product: DataProduct, **changed: str) -> dict[str, str]:
    assert product.topic
    return {**product.topic.initial, **{name.replace("_", "."): value for name, value in changed.items()}}


def test_a_topic_that_is_not_there_is_created(orders: DataProduct) -> None:
    assert planned(Asked(Broker()), orders) == ([CreateTopic(ORDERS, orders.topic)], [])


def test_products_without_a_topic_ask_nothing(orders: DataProduct) -> None:
    assert planned(Asked(Broker()), replace(orders, topic=None)) == ([], [])
    assert planned(Asked(Broker())) == ([], [])


def test_a_topic_as_the_contract_has_it_needs_nothing(orders: DataProduct) -> None:
    more = {**config_of(orders), "segment.bytes": "1073741824"}
    assert planned(Asked(Broker({ORDERS: (3, more)})), orders) == ([], [])


def test_a_topic_that_may_not_be_described_is_refused_and_not_created(orders: DataProduct) -> None:
    hidden = Broker(hidden={ORDERS: NotAuthorized("no right to describe shop.orders")})
    assert planned(Asked(hidden), orders) == ([], ["no right to describe shop.orders"])


def test_more_partitions_are_added_where_events_have_no_key(orders: DataProduct, clicks: DataProduct) -> None:
    broker = Broker({ORDERS: (2, config_of(clicks))})
    assert planned(Asked(broker), clicks) == ([AddPartitions(ORDERS, ORDERS, 2, 3)], [])
    actions, [reason] = planned(Asked(broker), orders)
    assert actions == []
    assert "send known keys to other partitions" in reason


def test_partitions_are_never_dropped(clicks: DataProduct) -> None:
    actions, [reason] = planned(Asked(Broker({ORDERS: (5, config_of(clicks))})), clicks)
    assert actions == []
    assert reason.endswith("Kafka cannot drop any, so set mesh.partitions to 5")


def test_settings_that_differ_are_altered(orders: DataProduct) -> None:
    changed = replace(orders, topic=replace(orders.topic, config={"max.message.bytes": "9"}))
    actions, refused = planned(Asked(Broker({ORDERS: (3, config_of(orders))})), changed)
    assert actions == [AlterTopic(ORDERS, ORDERS, {"max.message.bytes": ("unset", "9")})]
    assert refused == []


def test_a_topic_of_others_is_left_as_it_is(orders: DataProduct) -> None:
    changed = replace(orders, topic=replace(orders.topic, config={"max.message.bytes": "9"}))
    actions, refused = planned(Asked(Broker({ORDERS: (3, config_of(orders))}), own=False), changed)
    assert actions == []
    assert refused == [
        "shop.orders: mesh apply did not create its topic, so it does not alter topic shop.orders: "
        "max.message.bytes unset -> 9"
    ]


DAY = 86_400_000
# What a broker that nobody configured makes of a topic, and what somebody may have made of one.
DEFAULTS = {"cleanup.policy": "delete", "retention.ms": str(7 * DAY), "retention.bytes": "-1"}
AS_IT_IS: dict[str, tuple[dict[str, str], str | None]] = {
    "the broker's defaults": (DEFAULTS, "the broker keeps them for 7d (mesh.retention)"),
    "the broker's time": ({**DEFAULTS, "message.timestamp.type": "LogAppendTime", "retention.ms": "-1"}, None),
    "compacted": ({"cleanup.policy": "compact"}, None),
    "compacted and deleted": ({**DEFAULTS, "cleanup.policy": "delete,compact"}, "keeps them for 7d"),
    "by size": ({**DEFAULTS, "retention.ms": "-1", "retention.bytes": "1048576"}, "keeps 1,048,576 bytes"),
    "odd times": ({"cleanup.policy": "delete", "retention.ms": "90061"}, "for 90061ms"),
    "settings that nobody knows": ({"retention.ms": "-1", "confluent.tier.enable": "true"}, None),
    "nothing told": ({}, None),
}


@pytest.mark.parametrize("case", AS_IT_IS)
@pytest.mark.parametrize("partitions", [1, 12])
@pytest.mark.parametrize("own", [True, False])
def test_what_a_contract_does_not_state_is_left_as_it_is(
    silent: DataProduct, case: str, partitions: int, own: bool
) -> None:
    config, said = AS_IT_IS[case]
    notes = noted(Asked(Broker({ORDERS: (partitions, config)}), own=own), silent)
    assert len(notes) == (said is not None)
    if said:
        assert notes[0].startswith("shop.orders: events of shop.orders go unless they are landed before: ")
        assert said in notes[0]


def test_compaction_is_worth_a_word_where_every_event_is_a_row(clicks: DataProduct) -> None:
    [note] = noted(Asked(Broker({ORDERS: (3, {"cleanup.policy": "compact"})})), clicks)
    assert note.endswith("every event of this product is a row")


def test_settings_that_are_not_told_are_named_and_hold_nothing_up(silent: DataProduct, orders: DataProduct) -> None:
    untold = Broker({ORDERS: (3, {})}, untold=NotAuthorized("no right to the settings"))
    [note] = noted(Asked(untold, own=False), silent)
    assert note == (
        "shop.orders: how long the broker keeps events of shop.orders could not be looked at (no right to the settings)"
    )
    stated = replace(orders, topic=replace(orders.topic, retention_ms=DAY))
    [note] = noted(Asked(untold, own=False), stated)
    assert "so retention.ms of the contract could not be compared with it" in note


@pytest.mark.parametrize("policy", ["compact,delete", "delete,compact", "delete, compact"])
def test_the_order_of_policies_says_nothing(orders: DataProduct, policy: str) -> None:
    assert orders.topic
    stated = replace(orders, topic=replace(orders.topic, cleanup_policy="compact,delete"))
    assert planned(Asked(Broker({ORDERS: (3, {"cleanup.policy": policy, "retention.ms": "-1"})})), stated) == ([], [])


# A setting as the topic has it and as the contract wants it; where events may go, what to write until they are landed.
CHANGES: dict[tuple[str, str, str], str | None] = {
    ("retention.ms", str(7 * DAY), "-1"): None,
    ("retention.ms", str(7 * DAY), str(30 * DAY)): None,
    ("retention.ms", "-1", str(30 * DAY)): "write mesh.retention: forever,",
    ("retention.ms", str(7 * DAY), str(DAY)): "write mesh.retention: 7d,",
    ("cleanup.policy", "compact", "delete"): "write mesh.cleanupPolicy: compact,",
    ("cleanup.policy", "delete", "delete,compact"): "write mesh.cleanupPolicy: delete,",
    ("cleanup.policy", "compact,delete", "delete"): None,
    ("retention.bytes", "-1", "1000"): "write retention.bytes: -1 in mesh.topicConfig,",
    ("retention.bytes", "1000", "2000"): None,
    ("delete.retention.ms", "86400000", "1"): "write delete.retention.ms: 86400000 in mesh.topicConfig,",
    ("max.message.bytes", "1000", "9"): None,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("landed", "behind"), [(None, 8), (2, 8), (9, 1), (10, 0)])
def test_what_may_drop_events_waits_until_they_are_landed(
    orders: DataProduct, change: tuple[str, str, str], landed: int | None, behind: int
) -> None:
    (name, now, wanted), step = change, CHANGES[change]
    stated = replace(orders, topic=replace(orders.topic, config={name: wanted}))
    actions, found = drafted(Asked(Broker({ORDERS: (3, {name: now})}), landed), stated)
    if step and behind:
        assert actions == []
        [error] = found.refused[ORDERS]
        assert f"{name} {now} -> {wanted}" in error.message
        assert f"drop events, and {counted(behind, 'offset is', 'offsets are')} not landed yet" in error.message
        assert str(error.next_step).startswith(step)
        # Landing says to apply first where nothing was applied, so applying must not say to land first.
        assert "mesh land" not in str(error)
    else:
        assert actions == [AlterTopic(ORDERS, ORDERS, {name: (now, wanted)})]


def test_one_refusal_keeps_the_other_change_of_the_topic(orders: DataProduct) -> None:
    changed = replace(orders, topic=replace(orders.topic, config={"max.message.bytes": "9"}))
    actions, refused = planned(Asked(Broker({ORDERS: (5, config_of(orders))})), changed)
    assert [type(one) for one in actions] == [AlterTopic]
    assert len(refused) == 1
