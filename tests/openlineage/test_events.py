"""What an event says of a step, facet by facet: names and counts only, and nothing that is not known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesh_pipelines.contract.model import DataProduct, OnFailure, Rule, RuleKind
from mesh_pipelines.errors import NothingPublished, TransformInvalid, Undecodable
from mesh_pipelines.openlineage.events import Events
from mesh_pipelines.openlineage.facts import Done, Outcome, RunOf, Step, StepRun
from mesh_pipelines.positions import PartitionOffset, Position
from mesh_pipelines.rules.results import Audit, State, result, verdict
from mesh_pipelines.settings import Settings
from tests.building import contract_text, written

PROPERTIES = """
- {name: id, logicalType: string, primaryKey: true, description: The order.}
- {name: amount, logicalType: integer}
- name: lines
  logicalType: array
  items: {logicalType: object, properties: [{name: sku, logicalType: string}]}
"""
RUN = RunOf("0198c1a2-0000-7000-8000-000000000001", "shop.orders.land")
POSITION = Position("cluster", "shop.orders", "topic-1", {1: PartitionOffset(4), 0: PartitionOffset(7)})


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataProduct]:
    assets: Path = tmp_path_factory.mktemp("assets")
    orders = written(assets, contract_text("shop.orders", PROPERTIES))
    text = contract_text(
        "shop.totals",
        "- {name: id, logicalType: string, primaryKey: true}\n- {name: total, logicalType: integer}",
        alignment="aggregate-aligned",
        settings="- {property: mesh.inputs, value: [shop.orders]}",
    )
    sql = "SELECT id, sum(amount) AS total FROM shop.orders WHERE amount > 0 GROUP BY id"
    return {"shop.orders": orders, "shop.totals": written(assets, text, sql)}


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, assets=tmp_path, bootstrap_servers="one:9092, two:9092", openlineage_namespace="ours"
    )


class Told:
    """Events of steps of the products, as whoever receives them reads them."""

    def __init__(self, settings: Settings, products: Mapping[str, DataProduct]) -> None:
        self.products = products
        self._events = Events(settings, products)

    def of(
        self,
        step: Step,
        name: str = "shop.orders",
        outcome: Outcome = "COMPLETE",
        parent: RunOf | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        return json.loads(self._events.event(outcome, StepRun(step, self.products[name], RUN, parent), **more))


@pytest.fixture
def told(own: Settings, products: dict[str, DataProduct]) -> Told:
    return Told(own, products)


def names(datasets: list[dict[str, Any]]) -> list[str]:
    return [f"{one['namespace']} {one['name']}" for one in datasets]


@pytest.mark.parametrize(
    ("step", "name", "read", "made"),
    [
        ("land", "shop.orders", ["kafka://one:9092 shop.orders"], ["ours shop.orders.log"]),
        ("snapshot", "shop.orders", ["ours shop.orders.log"], ["ours shop.orders.candidate"]),
        ("transform", "shop.totals", ["ours shop.orders"], ["ours shop.totals.candidate"]),
        ("audit", "shop.orders", ["ours shop.orders.candidate"], []),
        ("publish", "shop.orders", ["ours shop.orders.candidate"], ["ours shop.orders"]),
    ],
)
def test_each_step_reads_one_thing_and_makes_the_next(
    told: Told, step: Step, name: str, read: list[str], made: list[str]
) -> None:
    event = told.of(step, name)
    assert (names(event["inputs"]), names(event["outputs"])) == (read, made)
    assert event["job"] == {"namespace": "ours", "name": RUN.job, "facets": event["job"]["facets"]}
    assert event["job"]["facets"]["jobType"]["jobType"] == step.upper()
    assert event["run"]["runId"] == RUN.run_id


@pytest.mark.parametrize("outcome", ["START", "COMPLETE", "FAIL", "ABORT"])
def test_an_event_says_what_became_of_the_step(told: Told, outcome: Outcome) -> None:
    event = told.of("land", outcome=outcome)
    assert event["eventType"] == outcome
    assert event["producer"].startswith("urn:mesh-pipelines:")
    assert "parent" not in event["run"]["facets"]
    assert "errorMessage" not in event["run"]["facets"]


def test_a_run_within_another_names_it(told: Told) -> None:
    parent = RunOf("0198c1a2-0000-7000-8000-000000000002", "nightly")
    facet = told.of("land", parent=parent)["run"]["facets"]["parent"]
    assert (facet["run"]["runId"], facet["job"]["name"], facet["job"]["namespace"]) == (
        parent.run_id,
        "nightly",
        "ours",
    )


def test_what_is_not_known_is_not_told(told: Told) -> None:
    event = told.of("land", outcome="START")
    assert "version" not in event["inputs"][0]["facets"]
    assert event["outputs"][0]["outputFacets"] == {}


def test_rows_and_versions_are_told_where_they_are_known(told: Told) -> None:
    landed = told.of("land", done=Done(rows=0, size=12, position=POSITION))
    # Of no rows, too.
    statistics = landed["outputs"][0]["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (0, 12)
    assert landed["inputs"][0]["facets"]["version"]["datasetVersion"] == "topic-1/0:7,1:4"
    assert landed["outputs"][0]["facets"]["version"]["datasetVersion"] == "topic-1/0:7,1:4"
    published = told.of("publish", done=Done(version=3))
    assert published["outputs"][0]["facets"]["version"]["datasetVersion"] == "3"
    made = told.of("transform", "shop.totals", done=Done(version=2, read={"shop.orders": 9}))
    assert made["inputs"][0]["facets"]["version"]["datasetVersion"] == "9"


def test_the_contract_is_told_with_nested_fields_and_owners(told: Told) -> None:
    facets = told.of("publish")["outputs"][0]["facets"]
    fields = facets["schema"]["fields"]
    assert [one["name"] for one in fields] == ["id", "amount", "lines"]
    assert fields[0]["description"] == "The order."
    assert [one["name"] for one in fields[2]["fields"]] == ["sku"]
    assert [(one["name"], one["type"]) for one in facets["ownership"]["owners"]] == [("user:ann@example.com", "OWNER")]
    assert facets["documentation"]["description"] == "A product of a test."
    assert facets["dataSource"]["name"] == "iceberg"


def test_a_team_is_told_once_each(own: Settings, products: dict[str, DataProduct]) -> None:
    orders = replace(products["shop.orders"], owner="ann", team=("ann", "bob"))
    facets = Told(own, {"shop.orders": orders}).of("publish")["outputs"][0]["facets"]
    assert [one["name"] for one in facets["ownership"]["owners"]] == ["user:ann", "user:bob"]


def test_columns_of_a_stream_are_those_that_were_read(told: Told) -> None:
    for step, before in (
        ("land", "shop.orders"),
        ("snapshot", "shop.orders.log"),
        ("publish", "shop.orders.candidate"),
    ):
        fields = told.of(step)["outputs"][0]["facets"]["columnLineage"]["fields"]
        [source] = fields["amount"]["inputFields"]
        assert (source["name"], source["field"]) == (before, "amount")
        assert source["transformations"][0]["subtype"] == "IDENTITY"


def test_columns_of_a_transform_are_traced_with_what_decides_over_rows(told: Told) -> None:
    lineage = told.of("transform", "shop.totals")["outputs"][0]["facets"]["columnLineage"]
    [source] = lineage["fields"]["total"]["inputFields"]
    assert (source["namespace"], source["name"], source["field"]) == ("ours", "shop.orders", "amount")
    deciding = {(one["field"], one["transformations"][0]["subtype"]) for one in lineage["dataset"]}
    assert deciding == {("amount", "FILTER"), ("id", "GROUP_BY")}
    assert told.of("transform", "shop.totals")["job"]["facets"]["sql"]["query"].startswith("SELECT id, sum(amount)")


def test_an_input_without_a_contract_is_left_out(own: Settings, products: dict[str, DataProduct]) -> None:
    event = Told(own, {"shop.totals": products["shop.totals"]}).of("transform", "shop.totals")
    assert event["inputs"] == []
    assert event["outputs"][0]["facets"]["columnLineage"]["dataset"] == []


def audited(product: DataProduct, **states: State) -> tuple[DataProduct, Audit]:
    rules = tuple(
        Rule(
            *(name, RuleKind.ROW, "minimum", ("amount",)),
            on_failure=OnFailure.WARN if state is State.WARN else OnFailure.BLOCK,
        )
        for name, state in states.items()
    )
    results = [replace(result(rule, states[rule.id], 7), measured=2.0) for rule in rules]
    return replace(product, rules=rules), Audit(7, tuple(results), verdict(product, "c1", results, "now"))


def test_an_audit_is_told_rule_by_rule(own: Settings, products: dict[str, DataProduct]) -> None:
    orders, audit = audited(
        products["shop.orders"],
        held=State.PASS,
        empty=State.VACUOUS,
        warns=State.WARN,
        failed=State.FAIL,
        odd=State.ERROR,
    )
    event = Told(own, {"shop.orders": orders}).of("audit", done=Done(audit=audit, version=3))
    facet = event["inputs"][0]["inputFacets"]["dataQualityAssertions"]
    assert {one["name"]: (one["success"], one["severity"]) for one in facet["assertions"]} == {
        "held": (True, "error"),
        "empty": (True, "error"),
        "warns": (False, "warn"),
        "failed": (False, "error"),
        "odd": (False, "error"),
    }
    assert {one["column"] for one in facet["assertions"]} == {"amount"}
    assert {one["actual"] for one in facet["assertions"]} == {"2.0"}


def message(told: Told, error: BaseException, name: str = "shop.orders") -> str:
    return told.of("land", name, outcome="FAIL", error=error)["run"]["facets"]["errorMessage"]["message"]


def test_an_error_is_told_with_its_code(told: Told) -> None:
    assert message(told, NothingPublished("shop.orders: nothing is published yet")).startswith(
        "M203 shop.orders: nothing"
    )
    assert message(told, ZeroDivisionError("division by zero")) == "division by zero"


@pytest.mark.parametrize(
    "error", [TransformInvalid("value 'ann'"), Undecodable("value 'ann'"), ValueError("value 'ann'")]
)
def test_what_may_quote_the_data_is_told_by_its_kind_where_a_field_is_not_public(
    own: Settings, products: dict[str, DataProduct], error: Exception
) -> None:
    orders = products["shop.orders"]
    hidden = replace(orders, fields=(replace(orders.fields[0], classification="confidential"), *orders.fields[1:]))
    assert "ann" in message(Told(own, products), error)
    told = message(Told(own, {**products, "shop.orders": hidden}), error)
    assert "ann" not in told
    assert type(error).__name__ in told


def test_an_error_of_a_product_made_of_what_is_not_public_is_as_careful(
    own: Settings, products: dict[str, DataProduct]
) -> None:
    orders = products["shop.orders"]
    hidden = replace(orders, fields=(replace(orders.fields[0], classification="restricted"),))
    told = Told(own, {**products, "shop.orders": hidden})
    event = told.of("transform", "shop.totals", outcome="FAIL", error=ValueError("value 'ann'"))
    assert event["run"]["facets"]["errorMessage"]["message"] == "ValueError"
