"""A value that is not public is planted in every shape a field can have, and looked for behind every door."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import dagster as dg
import duckdb
import pytest
from confluent_kafka import Producer
from dagster_duckdb import DuckDBResource
from starlette.testclient import TestClient

from mesh_pipelines import read
from mesh_pipelines.cli.main import invoke
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.observe.observe import observe
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.orchestration.assets import product_assets
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.portal.app import create_app
from mesh_pipelines.serve import door
from mesh_pipelines.serve.broken_rules import breaking, failing, has_rows
from mesh_pipelines.serve.query import query
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

CANARY = "canary"
WARN = "customProperties: [{property: mesh.onFailure, value: warn}]"
# Every shape that hides a value, most with a rule that the value breaks.
PEOPLE = f"""
- {{name: id, logicalType: string, primaryKey: true, classification: confidential}}
- name: town
  logicalType: string
  quality:
    - id: town-known
      metric: invalidValues
      arguments: {{pattern: "^town"}}
      mustBe: 0
      customProperties: [{{property: mesh.onFailure, value: divert}}]
- name: secret
  logicalType: string
  classification: restricted
  quality:
    - {{id: shared, metric: duplicateValues, mustBe: 0, severity: warning}}
  logicalTypeOptions: {{pattern: "^x"}}
  {WARN}
- name: person
  logicalType: object
  properties:
    - {{name: phone, logicalType: string, classification: confidential}}
- name: tags
  logicalType: array
  items: {{logicalType: string, classification: confidential}}
  logicalTypeOptions: {{minItems: 2}}
  {WARN}
- name: nested
  logicalType: array
  logicalTypeOptions: {{minItems: 2}}
  {WARN}
  items:
    logicalType: object
    properties:
      - name: inner
        logicalType: object
        properties:
          - {{name: pin, logicalType: string, classification: confidential}}
- name: by_value
  logicalType: map
  map: {{key: {{logicalType: string}}, value: {{logicalType: string, classification: confidential}}}}
- name: by_key
  logicalType: map
  map: {{key: {{logicalType: string, classification: confidential}}, value: {{logicalType: string}}}}
"""
HIDDEN = {"id", "secret", "person", "tags", "nested", "by_value", "by_key"}
QUALITY = """
      - {id: number, type: sql, query: "SELECT max(secret)::INTEGER FROM {object}", mustBe: 1, severity: warning}
      - {id: towns, type: sql, query: "SELECT max(length(town)) FROM {object}", mustBeLessThan: 2, severity: warning}
      - id: library
        type: custom
        engine: greatExpectations
        severity: warning
        implementation: {type: expect_column_values_to_be_between, kwargs: {column: secret, min_value: 1}}
"""
SETTINGS = """
- {property: mesh.wireFormat, value: json}
- {property: mesh.maxUndecodableShare, value: 1}
"""


def person(number: int) -> dict[str, Any]:
    value = f"{CANARY}{number}"
    return {
        "id": f"{value}-id",
        "town": f"town{number}",
        "secret": f"{CANARY}-shared",
        "person": {"phone": value},
        "tags": [value],
        "nested": [{"inner": {"pin": value}}],
        "by_value": {"a": value},
        "by_key": {value: "a"},
    }


def produce(settings: Settings, topic: str, events: Sequence[tuple[str, str]]) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers})
    for key, value in events:
        producer.produce(topic, value.encode(), key=key.encode())
    assert producer.flush(30) == 0


@dataclass
class People:
    """A product on real services whose every rule is broken by values that are not public, observed and in a portal."""

    settings: Settings
    platform: Platform
    product: DataProduct
    client: TestClient

    @property
    def shelf(self) -> door.Shelf:
        version = self.platform.tables_of(self.product).versions.current()
        return door.Shelf(self.platform, self.product, version, door.Reader.VISITOR)


@pytest.fixture
def people(settings: Settings, contract: Callable[..., str]) -> Iterator[People]:
    name = contract("people", PEOPLE, more=SETTINGS, quality=QUALITY)
    file = settings.assets.joinpath(*name.split("."), "contract.yaml")
    file.write_text(file.read_text().replace("v3.1.0", "v3.2.0"))
    platform = Platform.open(settings)
    assert not platform.broken, platform.broken
    product = platform.product(name)
    apply_contracts(platform, [product])
    rows = [person(0), person(1), {**person(2), "town": CANARY}]
    values = [(row["id"], json.dumps(row)) for row in rows] + [(CANARY, f"{CANARY}, and no JSON")]
    produce(settings, name, values)
    [done] = run(platform, [name])
    assert done.error is None
    assert done.snapshot
    assert done.snapshot.audit
    assert {one.state for one in done.snapshot.audit.results} >= {"warn", "error"}
    history = History.open(settings)
    app = create_app(settings, history)
    assert observe(platform, history).problems == ()
    app.state.portal.watcher.refresh(anew=True)
    yield People(settings, platform, product, TestClient(app, base_url=settings.portal_address))
    history.close()


def test_visitors_see_no_value_that_is_not_public(people: People) -> None:
    shelf, product = people.shelf, people.product
    assert door.hidden(product, door.Reader.VISITOR) == HIDDEN
    seen = [
        door.sample(people.platform, product, shelf.version, door.Reader.VISITOR),
        door.held(people.platform, product, door.Reader.VISITOR).to_pylist(),
        failing(shelf),
        *(breaking(shelf, rule) for rule in product.rules if has_rows(rule)),
        people.platform.tables_of(product).checks.read().to_pylist(),
    ]
    with closing(duckdb.connect()) as connection:
        view = door.rows_view(people.platform.tables_of(product), shelf.version, door.Reader.VISITOR)
        seen.append(connection.sql(view.sql).fetchall())
    assert all("town0" in repr(one) for one in (seen[0], seen[2], seen[-1]))
    assert len(seen[1]) == 2
    assert CANARY not in repr(seen)


def test_no_page_and_no_answer_of_the_portal_shows_a_value_that_is_not_public(people: People) -> None:
    domain, name = people.product.fqn.split(".")
    base = f"/products/{domain}/{name}"
    paths = [f"{base}/{part}" for part in ("data", "quarantine", "quality", "versions", "schema", "lineage", "use")]
    paths += [f"{base}/rule?id={rule.id}" for rule in people.product.rules]
    paths += ["/", "/quality", "/incidents?state=all", base, f"/?q={name}", "/metrics"]
    document = people.client.get("/api/openapi.json").json()
    paths += [path.format(domain=domain, name=name, measure="lag", number=1) for path in document["paths"]]
    shown = ""
    for path in paths:
        answer = people.client.get(path)
        assert answer.status_code == 200 or "incidents/1" in path, path
        assert CANARY not in answer.text, path
        shown += answer.text
    assert "town0" in shown
    assert "masked" in shown


def test_no_check_of_dagsters_shows_a_value_that_is_not_public(people: People) -> None:
    # A new candidate is audited anew: examples of rows are not stored.
    produce(people.settings, people.product.fqn, [(CANARY, json.dumps({**person(3), "id": CANARY}))])
    with dg.instance_for_test() as instance:
        platform = Platform.open(people.settings)
        done = dg.materialize(
            product_assets(platform, people.product),
            resources={"duckdb": DuckDBResource(database=":memory:")},
            instance=instance,
            raise_on_error=False,
        )
        evaluations = done.get_asset_check_evaluations()
        log = [str(event) for event in done.all_events]
    assert "masked" in repr(evaluations)
    assert {one.check_name for one in evaluations} >= {"secret__pattern", "tags__minItems", "sql"}
    assert CANARY not in repr(evaluations)
    assert CANARY not in repr(log)


def test_who_has_the_files_sees_everything(
    people: People, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, settings = people.product.fqn, people.settings
    rows = read(name, settings=settings).arrow().to_pylist(maps_as_pydicts="strict")
    assert rows == [person(0), person(1)]
    reader = query(settings, people.platform.products, people.platform.catalog, f"SELECT secret FROM {name}")
    assert reader.read_all().to_pylist() == [{"secret": f"{CANARY}-shared"}] * 2
    with closing(duckdb.connect(str(settings.serving_file), read_only=True)) as connection:
        assert (
            len(connection.sql(f"SELECT person.phone FROM {name} WHERE person.phone LIKE '{CANARY}%'").fetchall()) == 2
        )
    held = door.held(people.platform, people.product, door.Reader.OWNER).to_pylist()
    assert all(CANARY.encode() in one["_raw"] for one in held)
    monkeypatch.setenv("MESH_HOME", str(settings.home))
    monkeypatch.setenv("MESH_ASSETS", str(settings.assets))
    assert invoke(["failing", name, "secret.duplicateValues"]) == 0
    assert f"{CANARY}-shared" in capsys.readouterr().out


def test_a_field_that_is_classified_later_is_hidden_in_earlier_versions(people: People) -> None:
    file = people.product.folder / "contract.yaml"
    file.write_text(
        file.read_text()
        .replace("- name: town\n", "- name: town\n        classification: confidential\n", 1)
        .replace('version: "1.0.0"', 'version: "1.1.0"')
    )
    platform = Platform.open(people.settings)
    apply_contracts(platform, [platform.proposed[people.product.fqn]])
    product = Platform.open(people.settings).product(people.product.fqn)
    assert product.contract_version == "1.1.0"
    before = platform.tables_of(product).versions.current()
    assert before.contract_hash != product.contract_hash
    rows = door.sample(platform, product, before, door.Reader.VISITOR)
    assert rows.masked == {*HIDDEN, "town"}
    assert "town0" not in repr(rows)
