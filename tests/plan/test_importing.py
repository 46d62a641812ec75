"""Contracts of other tools as products: each lints, nothing is lost without a word, and nothing is written over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mesh_pipelines.cli.main import app
from mesh_pipelines.contract.model import DataProduct, Kind
from mesh_pipelines.contract.read.load import load_products
from mesh_pipelines.plan.bind import Binder
from mesh_pipelines.plan.imports.bring import Wanted
from mesh_pipelines.plan.imports.step import Imported, import_files
from mesh_pipelines.plan.lint import faults_of

HEAD = "apiVersion: v3.0.2\nkind: DataContract\nid: x\nversion: 1.10\nstatus: production\n"


def imported(tmp_path: Path, text: str, *, replace: bool = False, **wanted: str) -> list[Imported]:
    file = tmp_path / "given.odcs.yaml"
    file.write_text(text)
    return list(import_files([file], tmp_path / "assets", Wanted(**wanted), replace=replace))


def products(tmp_path: Path) -> dict[str, DataProduct]:
    loaded = load_products(tmp_path / "assets")
    assert loaded.broken == {}
    assert [fault for one in loaded.products.values() for fault in faults_of(Binder(loaded.products), one)] == []
    return dict(loaded.products)


def properties(*entries: dict[str, Any], **more: Any) -> str:
    return HEAD + json.dumps({"schema": [{"name": "Orders", "properties": list(entries), **more}]})[1:-1] + "\n"


def one(tmp_path: Path, text: str, **wanted: str) -> tuple[DataProduct, tuple[str, ...]]:
    [done] = imported(tmp_path, text, **wanted)
    assert done.problems == ()
    return products(tmp_path)[done.product], done.notes


SEVERAL = """\
# what it is about
apiVersion: "3.0.2"
kind: DataContract
id: abc
name: My Web Shop
domain: Online Sales
version: 1.10
status: Current
team:
  - {username: ops@example.org, role: Technical Owner}
schema:
  # every order
  - name: Orders
    physicalType: topic
    physicalName: shop.orders.v1
    properties:
      - name: orderId   # given by the shop
        logicalType: number
        physicalType: numeric
        primaryKey: true
      - {name: shippedAt, physicalType: TIMESTAMP WITH TIME ZONE}
      - {name: Total, logicalType: number, physicalType: "DECIMAL(10,2)"}
      - {name: on, logicalType: boolean}
      - {name: parts, logicalType: array}
      - name: shippingAddress
        logicalType: object
        properties: [{name: zipCode, logicalType: string, logicalTypeOptions: {pattern: "^[0-9]+$"}}]
    quality:
      - {type: sql, query: "SELECT COUNT(*) FROM Orders WHERE total < 0", mustBe: 0}
      - {type: sql, name: odd, query: "SELECT TOP 1 x FROM Orders", mustBe: 0}
      - {type: custom, engine: soda, implementation: "checks:"}
      - {rule: duplicateCount, mustBe: 0, properties: [orderId]}
      - {rule: staleness, mustBe: 0}
  - name: OrderLines
    relationships: [{from: OrderLines.order, to: Orders.orderId}]
    properties:
      - {name: "line no", logicalType: integer}
      - {name: LineNo, logicalType: integer}
      - {name: 注文, logicalType: string, classification: restricted}
slaProperties:
  - {property: retention, value: P1Y, element: Orders.shippedAt}
  - {property: frequency, value: 0 1 * * *, unit: cron}
servers:
  - {server: dev, type: kafka, host: localhost, format: avro}
"""


def test_each_schema_object_becomes_a_product_with_the_columns_names_and_the_events(tmp_path: Path) -> None:
    assert [done.product for done in imported(tmp_path, SEVERAL)] == ["online_sales.orders", "online_sales.order_lines"]
    orders, lines = products(tmp_path)["online_sales.orders"], products(tmp_path)["online_sales.order_lines"]
    assert [(field.name, field.event_name) for field in orders.fields] == [
        ("order_id", "orderId"),
        ("shipped_at", "shippedAt"),
        ("total", "Total"),
        ("on", "on"),
        ("shipping_address", "shippingAddress"),
    ]
    assert orders.fields[4].type.fields[0].event_name == "zipCode"
    assert [field.type.kind for field in orders.fields[:3]] == [Kind.LONG, Kind.TIMESTAMP, Kind.DECIMAL]
    assert [field.event_name for field in lines.fields] == ["line no", "LineNo", "注文"]
    assert [field.name for field in lines.fields][:2] == ["line_no", "line_no_2"]
    assert (orders.owner, orders.status, orders.contract_version) == ("ops@example.org", "active", "1.10")
    assert orders.topic
    assert (orders.topic.name, orders.topic.wire_format) == ("shop.orders.v1", "avro")
    assert lines.topic
    assert lines.topic.wire_format == "json"
    assert {rule.id for rule in orders.rules if rule.check in ("sql", "duplicateValues")} >= {"sql", "duplicateValues"}


def test_what_is_not_checked_is_marked_and_what_changed_is_said(tmp_path: Path) -> None:
    notes = {done.product: "\n".join(done.notes) for done in imported(tmp_path, SEVERAL)}
    unchecked = {name: [str(one) for one in product.not_checked] for name, product in products(tmp_path).items()}
    assert set(unchecked["online_sales.orders"]) >= {"odd", "custom", "shipping_address.zip_code.pattern"}
    assert "frequency 0 1 * * * cron" in unchecked["online_sales.orders"]
    assert "relationships" in unchecked["online_sales.order_lines"]
    for said in (
        "orderId is the column order_id",
        "parts is left out: it does not say what the array contains",
        "status is active instead of Current",
        "a number without digits cannot be a key",
        "got 'soda'",
        "rule odd",
    ):
        assert said in notes["online_sales.orders"], said


def test_comments_and_order_are_kept_and_so_is_what_was_written(tmp_path: Path) -> None:
    imported(tmp_path, SEVERAL)
    text = (tmp_path / "assets/online_sales/orders/contract.yaml").read_text()
    assert text.index("# what it is about") < text.index("# every order") < text.index("# given by the shop")
    written = yaml.safe_load(text)
    assert {"property": "name", "value": "My Web Shop"} in written["customProperties"]
    assert {"property": "domain", "value": "Online Sales"} in written["customProperties"]
    assert list(written)[:3] == ["apiVersion", "kind", "id"]


def test_nothing_is_written_over_without_being_told(tmp_path: Path) -> None:
    assert all(done.written for done in imported(tmp_path, SEVERAL))
    file = tmp_path / "assets/online_sales/orders/contract.yaml"
    file.write_text(own := file.read_text() + "# mine\n")
    again = imported(tmp_path, SEVERAL)
    assert [done.written for done in again] == [None, None]
    assert "exists; --replace writes over it" in again[0].problems[0]
    assert file.read_text() == own
    assert all(done.written for done in imported(tmp_path, SEVERAL, replace=True))
    assert "# mine" not in file.read_text()


def test_what_is_asked_for_goes_before_what_the_document_says(tmp_path: Path) -> None:
    wanted = {"domain": "shop", "owner": "ann@example.org", "event_type": "measurement", "wire_format": "json"}
    product, _ = one(tmp_path, properties({"name": "id", "logicalType": "string", "primaryKey": True}), **wanted)
    assert (product.domain, product.owner, str(product.event_type)) == ("shop", "ann@example.org", "measurement")
    assert product.topic
    assert product.topic.wire_format == "json"


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"name": "a", "physicalType": "VARCHAR(20)"}, Kind.STRING),
        ({"name": "a", "physicalType": "bigint"}, Kind.LONG),
        ({"name": "a", "logicalType": "text"}, Kind.STRING),
        ({"name": "a", "logicalType": "DateTime"}, Kind.TIMESTAMP),
        ({"name": "a", "logicalType": "decimal", "physicalType": "decimal(9,2)"}, Kind.DECIMAL),
        ({"name": "a", "logicalType": "number", "physicalType": "numeric"}, Kind.DOUBLE),
        ({"name": "a", "logicalType": "number", "physicalType": "INTEGER", "primaryKey": True}, Kind.INT),
        ({"name": "a", "logicalType": "number", "primaryKey": True}, Kind.LONG),
        ({"name": "a", "logicalType": "number", "physicalType": "double", "primaryKey": True}, Kind.DOUBLE),
        ({"name": "a", "logicalType": "string", "physicalType": "int"}, Kind.STRING),
        ({"name": "a", "logicalType": "integer", "physicalType": "NUMBER(38,0)"}, Kind.LONG),
        ({"name": "a", "logicalType": "string", "physicalType": None}, Kind.STRING),
        ({"name": "a"}, Kind.STRING),
        ({"name": "a", "logicalType": "array", "items": {"physicalType": "int"}}, Kind.LIST),
        ({"name": "a", "physicalName": "first name", "logicalType": "string"}, Kind.STRING),
    ],
)
def test_types_are_read_as_other_tools_write_them(tmp_path: Path, entry: dict[str, Any], kind: Kind) -> None:
    product, _ = one(tmp_path, properties(entry))
    assert product.fields[0].type.kind == kind


@pytest.mark.parametrize(
    "more",
    [
        {"name": "b", "logicalType": "string", "unheard": {"of": 1}, "businessName": 5, "description": None},
        {"name": "b", "logicalType": "string", "logicalTypeOptions": {"format": "date-time", "minLength": "x"}},
        {"name": "b", "logicalType": "string", "logicalTypeOptions": {"pattern": "^(?=x)"}},
        {"name": "b", "logicalType": "string", "tags": "one", "classification": 4, "customProperties": {"pii": True}},
        {"name": "b", "logicalType": "string", "quality": [{"metric": "nullValues"}, {"type": "sql"}, {}, {"rule": 5}]},
        {"name": "b", "logicalType": "string", "quality": [{"type": "custom", "engine": "x"}], "required": "yes"},
        {"name": "b", "logicalType": "date", "logicalTypeOptions": {"format": "dd.MM.yyyy"}},
        {"name": "b", "logicalType": "integer", "primaryKeyPosition": 4, "logicalTypeOptions": {"format": "u64"}},
        {"name": "b", "logicalType": "object", "properties": {"c": {"logicalType": "string"}}},
        {"name": "b", "physicalName": 'a"b', "logicalType": "string", "authoritativeDefinitions": [{"url": "x"}]},
    ],
    ids=lambda more: "-".join(more),
)
def test_what_is_wrong_is_kept_aside_or_left_out_with_a_reason(tmp_path: Path, more: dict[str, Any]) -> None:
    product, notes = one(tmp_path, properties({"name": "id", "logicalType": "string", "primaryKey": True}, more))
    assert [field.name for field in product.fields] == ["id", "b"]
    assert any(word in " ".join(notes) for word in ("kept in customProperties", "marked", "left out", "column")) or (
        "properties" in more
    )


@pytest.mark.parametrize(("version", "form"), [("v3.0.2", list), ("v3.1.0", dict)])
def test_a_team_that_is_put_in_has_the_form_of_the_documents_version(tmp_path: Path, version: str, form: type) -> None:
    text = properties({"name": "id", "logicalType": "string"}).replace("v3.0.2", version)
    product, _ = one(tmp_path, text)
    written = yaml.safe_load((product.folder / "contract.yaml").read_text())
    assert isinstance(written["team"], form)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dataContractSpecification: 0.9.3\nid: x\n", "it is written by the Data Contract Specification"),
        ("apiVersion: v2.2.2\nkind: DataContract\n", "it is of version v2.2.2"),
        (HEAD, "it has no schema object"),
        (properties({"name": "a", "logicalType": "array"}), "it has no property that can be a column"),
        ("- a\n", "it is no mapping"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_what_cannot_become_a_product_says_why(tmp_path: Path, text: str, problem: str) -> None:
    [done] = imported(tmp_path, text)
    assert done.written is None
    assert problem in done.problems[0]
    assert not (tmp_path / "assets").exists()


def test_anchors_and_ambiguous_text_are_written_out(tmp_path: Path) -> None:
    text = (
        HEAD + "schema:\n  - name: t\n    properties:\n      - &id {name: id, logicalType: string, description: 'no'}\n"
    )
    text += "      - {<<: *id, name: other, tags: ['0123', '1_000', yes]}\n"
    product, _ = one(tmp_path, text)
    assert [(field.name, field.description) for field in product.fields] == [("id", "no"), ("other", "no")]
    assert product.fields[1].tags == ("0123", "1_000", "yes")


def test_the_command_lists_what_it_did_and_fails_where_something_is_no_product(tmp_path: Path) -> None:
    file = tmp_path / "given.odcs.yaml"
    file.write_text(SEVERAL)
    env = {"MESH_ASSETS": str(tmp_path / "assets"), "MESH_HOME": str(tmp_path / "home")}
    run = CliRunner()
    done = run.invoke(app, ["import", str(file), "--domain", "shop"], env=env)
    assert done.exit_code == 0, done.output
    assert "2 of 2 are products now; next: mesh lint" in done.output
    assert "orderId is the column order_id" in done.output
    assert "shop/orders/contract.yaml: Orders of given.odcs.yaml" in done.output
    again = run.invoke(app, ["import", str(file), "--domain", "shop", "--output", "json"], env=env)
    assert again.exit_code == 1
    assert [record["written"] for record in json.loads(again.stdout)] == [None, None]
