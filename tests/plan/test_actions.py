"""Each action of a plan says what it does in one line, and the topics' part of a plan finds what is to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from mesh_pipelines.contract.model import DataProduct, TopicSettings
from mesh_pipelines.errors import ApplyRefused, MeshError, NotAuthorized
from mesh_pipelines.lake.applied import TOPIC
from mesh_pipelines.plan.actions import (
    MEND,
    Action,
    AddPartitions,
    AlterTopic,
    CreateTables,
    CreateTopic,
    EvolveTables,
    RecordContract,
    RegisterSchema,
    SetCompatibility,
    describe,
    topic_config,
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


def test_a_topics_own_settings_win_over_those_of_the_contract() -> None:
    topic = TopicSettings("t", cleanup_policy="compact", retention_ms=5, config={"retention.ms": "7", "a": "b"})
    assert topic_config(topic) == {"cleanup.policy": "compact", "retention.ms": "7", "a": "b"}


def test_a_refusal_says_how_to_mend_it() -> None:
    error = unsafe("it would lose events")
    assert isinstance(error, ApplyRefused)
    assert (error.message, error.next_step) == ("it would lose events", MEND)


@dataclass
class Broker:
    """What a broker answers: topics with partitions and settings, those that are hidden, and where they end."""

    topics: Mapping[str, tuple[int, Mapping[str, str]]] = field(default_factory=dict)
    hidden: Mapping[str, MeshError] = field(default_factory=dict)
    end: int = 10

    def describe(self, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, MeshError]]:
        found = {
            name: SimpleNamespace(partitions=partitions, config=config, topic_id="id")
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
    refused: list[str] = []
    actions = plan_topics(asked, products, lambda name, error: refused.append(error.message))  # pyright: ignore[reportArgumentType]
    return actions, refused


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> DataProduct:
    settings = "- {property: mesh.partitions, value: 3}"
    return written(tmp_path_factory.mktemp("assets"), contract_text(ORDERS, settings=settings))


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> DataProduct:
    settings = "- {property: mesh.partitions, value: 3}"
    return written(tmp_path_factory.mktemp("assets"), contract_text(ORDERS, kind="measurement", settings=settings))


def config_of(product: DataProduct, **changed: str) -> dict[str, str]:
    assert product.topic
    return {**topic_config(product.topic), **{name.replace("_", "."): value for name, value in changed.items()}}


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


@pytest.mark.parametrize(("landed", "behind"), [(None, 8), (2, 8), (9, 1), (10, 0)])
def test_events_that_may_be_dropped_have_to_be_landed_first(
    orders: DataProduct, landed: int | None, behind: int
) -> None:
    broker = Broker({ORDERS: (3, config_of(orders, cleanup_policy="compact"))})
    actions, refused = planned(Asked(broker, landed), orders)
    if behind:
        assert actions == []
        assert f"may make the broker drop events, but {behind} offsets are not landed yet" in refused[0]
    else:
        assert actions == [AlterTopic(ORDERS, ORDERS, {"cleanup.policy": ("compact", "delete")})]


def test_one_refusal_keeps_the_other_change_of_the_topic(orders: DataProduct) -> None:
    changed = replace(orders, topic=replace(orders.topic, config={"max.message.bytes": "9"}))
    actions, refused = planned(Asked(Broker({ORDERS: (5, config_of(orders))})), changed)
    assert [type(one) for one in actions] == [AlterTopic]
    assert len(refused) == 1
