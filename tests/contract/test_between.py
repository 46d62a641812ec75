"""What is wrong between contracts that are each sound: inputs that nobody declares, circles, shared topics."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.between import faults_between
from tests.building import contract_text, written


def source(assets: Path, name: str, settings: str = "") -> DataProduct:
    return written(assets, contract_text(f"shop.{name}", settings=settings))


def derived(assets: Path, name: str, *inputs: str) -> DataProduct:
    names = ", ".join(f"shop.{one}" for one in inputs)
    text = contract_text(
        f"shop.{name}", alignment="aggregate-aligned", settings=f"- {{property: mesh.inputs, value: [{names}]}}"
    )
    return written(assets, text, "SELECT 1 AS id")


def found(*products: DataProduct, broken: frozenset[str] = frozenset()) -> list[tuple[str, str, str]]:
    faults = faults_between({one.fqn: one for one in products}, broken)
    return [(name, fault.problem, fault.fix) for name, fault in faults]


def test_sound_contracts_have_no_faults_between_them(tmp_path: Path) -> None:
    orders = source(tmp_path, "orders")
    assert found(orders, derived(tmp_path, "totals", "orders"), derived(tmp_path, "best", "orders", "totals")) == []
    assert found() == []


def test_an_input_that_nobody_declares_is_named_with_the_nearest_that_is(tmp_path: Path) -> None:
    assert found(source(tmp_path, "orders"), derived(tmp_path, "totals", "ordres")) == [
        ("shop.totals", "no contract declares its input shop.ordres", "did you mean shop.orders?")
    ]
    assert found(derived(tmp_path, "best", "weather")) == [
        (
            "shop.best",
            "no contract declares its input shop.weather",
            "correct the name, or add that product's contract",
        )
    ]


def test_an_input_whose_contract_is_broken_is_no_fault_of_who_reads_it(tmp_path: Path) -> None:
    totals = derived(tmp_path, "totals", "orders")
    assert found(totals, broken=frozenset({"shop.orders"})) == []


def test_a_fault_stands_in_the_contract_of_the_product_it_is_of(tmp_path: Path) -> None:
    totals = derived(tmp_path, "totals", "nothing")
    [(_, fault)] = faults_between({totals.fqn: totals}, frozenset())
    assert fault.file == tmp_path / "shop" / "totals" / "contract.yaml"


def test_a_circle_is_a_fault_of_each_product_in_it_and_of_no_other(tmp_path: Path) -> None:
    products = [
        derived(tmp_path, "one", "two"),
        derived(tmp_path, "two", "three"),
        derived(tmp_path, "three", "one"),
        derived(tmp_path, "after", "one"),
    ]
    assert [(name, problem) for name, problem, _ in found(*products)] == [
        ("shop.one", "it depends on itself: shop.one -> shop.two -> shop.three -> shop.one"),
        ("shop.two", "it depends on itself: shop.two -> shop.three -> shop.one -> shop.two"),
        ("shop.three", "it depends on itself: shop.three -> shop.one -> shop.two -> shop.three"),
    ]


def test_a_product_that_reads_itself_is_the_smallest_circle(tmp_path: Path) -> None:
    [(_, problem, fix)] = found(derived(tmp_path, "own", "own"))
    assert (problem, fix) == ("it depends on itself: shop.own -> shop.own", "break the cycle")


def test_the_shortest_circle_is_told(tmp_path: Path) -> None:
    products = [
        derived(tmp_path, "one", "long", "short"),
        derived(tmp_path, "long", "longer"),
        derived(tmp_path, "longer", "one"),
        derived(tmp_path, "short", "one"),
    ]
    assert ("shop.one", "it depends on itself: shop.one -> shop.short -> shop.one") in [
        (name, problem) for name, problem, _ in found(*products)
    ]


def test_products_that_share_a_topic_each_name_the_others(tmp_path: Path) -> None:
    shared = "- {property: mesh.topic, value: shop.orders}"
    products = [source(tmp_path, "orders"), source(tmp_path, "returns", shared), source(tmp_path, "lines", shared)]
    assert [(name, problem) for name, problem, _ in found(*products)] == [
        ("shop.orders", "its topic shop.orders is also the topic of shop.returns, shop.lines"),
        ("shop.returns", "its topic shop.orders is also the topic of shop.orders, shop.lines"),
        ("shop.lines", "its topic shop.orders is also the topic of shop.orders, shop.returns"),
    ]


NAMES = "abcde"


@settings(max_examples=25)
@given(edges=st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES), min_size=1), min_size=1))
def test_a_product_is_in_a_circle_exactly_if_it_can_be_reached_from_itself(
    edges: dict[str, set[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assets = tmp_path_factory.mktemp("assets")
    products = [
        derived(assets, name, *sorted(edges[name])) if name in edges else source(assets, name) for name in NAMES
    ]

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            new = edges.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        return seen

    in_circle = {name.removeprefix("shop.") for name, problem, _ in found(*products) if "depends on itself" in problem}
    assert in_circle == {name for name in NAMES if name in reached(name)}


def test_topics_that_kafka_takes_for_one_are_a_fault_of_both(tmp_path: Path) -> None:
    dotted = written(tmp_path, contract_text("shop.all_orders"))
    other = written(tmp_path, contract_text("shop_all.orders"))
    how = "to Kafka, which takes dots and underscores for the same, also the topic of"
    assert [(name, problem) for name, problem, _ in found(dotted, other)] == [
        ("shop.all_orders", f"its topic shop.all_orders is {how} shop_all.orders"),
        ("shop_all.orders", f"its topic shop_all.orders is {how} shop.all_orders"),
    ]


INTERNAL = (
    *(
        "__consumer_offsets",
        "__transaction_state",
        "__share_group_state",
        "__cluster_metadata",
        "__remote_log_metadata",
    ),
    *("_schemas", "_SCHEMAS", "_confluent-metrics", "_confluent-ksql-default__command_topic", "_connect_offsets", "_"),
    *("connect-configs", "connect-offsets", "connect-status", "connect_statuses", "kafka-connect-offsets"),
    *("docker.connect.cluster-1.config", "mm2-offset-syncs.west.internal", "west.checkpoints.internal"),
    *("kafkasql-journal", "strimzi.cruisecontrol.metrics"),
)


@pytest.mark.parametrize("topic", INTERNAL)
def test_a_topic_of_the_platform_s_own_is_a_fault(tmp_path: Path, topic: str) -> None:
    # Alone the contract is read, as one is that was applied before this was asked.
    product = source(tmp_path, "orders", f"- {{property: mesh.topic, value: {topic}}}")
    [(name, problem, fix)] = found(product)
    assert (name, problem) == ("shop.orders", f"mesh.topic must not be a topic of the platform's own, got {topic!r}")
    assert fix.startswith("set mesh.topic to a topic of events")


@pytest.mark.parametrize("topic", ["connections", "connect-events", "orders_offsets", "internal", "orders-changelog"])
def test_other_topics_are_not(tmp_path: Path, topic: str) -> None:
    assert found(source(tmp_path, "orders", f"- {{property: mesh.topic, value: {topic}}}")) == []


def test_a_product_may_be_called_as_it_likes(tmp_path: Path) -> None:
    assert found(source(tmp_path, "internal"), source(tmp_path, "connect_status")) == []
