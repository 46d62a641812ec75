"""Values that are not public are planted in every place a contract has, and looked for in all that the mesh writes.

Nothing is spared but the data itself: the topic, the tables that hold rows and their metadata, which has bounds of
columns. What a contract says (a default, a list of valid values) is public with it, and is not repeated beside data.
"""

from __future__ import annotations

import json
import logging
import struct
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import duckdb
import pytest
from confluent_kafka import Producer
from dagster_duckdb import DuckDBResource
from starlette.testclient import TestClient

from mesh_pipelines.errors import TransformInvalid, Undecodable
from mesh_pipelines.observe.audit_docs import docs
from mesh_pipelines.observe.observe import observe
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.orchestration.assets import product_assets
from mesh_pipelines.pipeline.attempts import failure_of
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.plan.lint import write_suites
from mesh_pipelines.platform import Platform
from mesh_pipelines.portal.app import create_app
from mesh_pipelines.serve import door
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract

pytestmark = [pytest.mark.services]

TEXT = "canary-7f3a"
NUMBER = 918_273_645_546
AMOUNT = "7171.717171"
# What only the contract says.
SPOKEN = ("spoken-default", "spoken-valid")
WARN = "customProperties: [{property: mesh.onFailure, value: warn}]"
DIVERT = "customProperties: [{property: mesh.onFailure, value: divert}]"
SECRETS = f"""
- {{name: id, logicalType: string, primaryKey: true, classification: restricted}}
- {{name: town, logicalType: string}}
- name: secret
  logicalType: string
  classification: restricted
  logicalTypeOptions: {{pattern: "^x"}}
  {WARN}
- name: level
  logicalType: string
  classification: restricted
  customProperties: [{{property: mesh.default, value: {SPOKEN[0]}}}]
  quality:
    - {{metric: invalidValues, arguments: {{validValues: [{", ".join(SPOKEN)}]}}, mustBe: 0, {DIVERT}}}
- name: number
  logicalType: integer
  classification: restricted
  quality: [{{metric: duplicateValues, mustBe: 0, severity: warning}}]
- {{name: amount, logicalType: number, physicalType: "decimal(6, 2)", classification: restricted}}
- {{name: at, logicalType: timestamp, classification: restricted}}
- name: prices
  logicalType: map
  map:
    key: {{logicalType: string}}
    value:
      logicalType: object
      properties:
        - {{name: price, logicalType: number, physicalType: "decimal(6, 2)", classification: restricted}}
- {{name: tags, logicalType: array, items: {{logicalType: integer, classification: restricted}}}}
- name: by_key
  logicalType: map
  map: {{key: {{logicalType: string, classification: restricted}}, value: {{logicalType: integer}}}}
- name: nested
  logicalType: object
  properties:
    - name: inner
      logicalType: array
      items:
        logicalType: object
        properties: [{{name: day, logicalType: date, classification: restricted}}]
"""
QUALITY = """
- {name: greatest, type: sql, query: "SELECT max(number) FROM {object}", mustBeLessThan: 1, severity: warning}
- {name: kept, type: sql, query: "SELECT max(number) FROM {object}", mustBeGreaterThan: 1}
- {name: casts, type: sql, query: "SELECT max(secret)::INTEGER FROM {object}", mustBe: 1, severity: warning}
- {name: days, type: sql, query: "SELECT count(secret::DATE) FROM {object}", mustBe: 1, severity: warning}
- {name: few, type: sql, query: "SELECT count(*) FROM {object} WHERE number > 1", mustBe: 0, severity: warning}
- name: library
  type: custom
  engine: greatExpectations
  severity: warning
  implementation: {type: expect_column_max_to_be_between, kwargs: {column: number, max_value: 1}}
- name: library-fails
  type: custom
  engine: greatExpectations
  severity: warning
  implementation: {type: expect_column_values_to_be_between, kwargs: {column: secret, min_value: 1}}
"""
JSON = "- {property: mesh.wireFormat, value: json}"
LEVELS = """
slaProperties:
  - {property: freshness, value: 1, unit: h, element: at}
  - {property: errorRate, value: 1, unit: "%"}
"""
READING = """
- {name: beside, type: sql, query: "SELECT max(number) FROM INPUT", mustBe: 1, severity: warning}
- {name: beside-casts, type: sql, query: "SELECT max(secret)::INTEGER FROM INPUT", mustBe: 1, severity: warning}
"""


def secret(number: int) -> dict[str, Any]:
    value = f"{TEXT}-{number}"
    return {
        "id": value,
        "town": f"town{number}",
        "secret": value,
        "level": SPOKEN[1],
        "number": NUMBER,
        "amount": "71.71",
        "at": "2019-05-17T11:13:17Z",
        "prices": {value: {"price": "71.71"}},
        "tags": [NUMBER],
        "by_key": {value: 1},
        "nested": {"inner": [{"day": "2019-05-17"}]},
    }


# Of each shape one value that does not fit, so that the event is held back with a reason.
WRONG: tuple[dict[str, Any], ...] = (
    {"amount": AMOUNT},
    {"amount": TEXT},
    {"number": TEXT},
    {"at": TEXT},
    {"prices": {TEXT: {"price": AMOUNT}}},
    {"prices": {TEXT: {"price": TEXT}}},
    {"prices": {TEXT: TEXT}},
    {"tags": [TEXT]},
    {"by_key": {TEXT: TEXT}},
    {"nested": {"inner": [{"day": TEXT}]}},
    {"level": TEXT},
)


@dataclass
class Planted:
    """A mesh of products full of such values, after everything was done with it; ``texts`` is what was said."""

    settings: Settings
    names: dict[str, str]
    client: TestClient
    texts: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def fqn(self) -> str:
        return self.names["secrets"]


@pytest.fixture(scope="module")
def planted(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    folder = tmp_path_factory.mktemp("canary")
    home = folder / "home"
    settings = services.model_copy(
        update={"home": home, "assets": folder / "assets", "openlineage_file": home / "lineage.json"}
    )
    home.mkdir()
    log = logging.FileHandler(home / "everything.log")
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(log)
    root.setLevel(logging.DEBUG)
    history = History.open(settings)
    try:
        found = _write(settings, uuid4().hex[:8])
        app = create_app(settings, history)
        planted = Planted(settings, found, TestClient(app, base_url=settings.portal_address))
        _do_everything(planted, history, app)
        yield planted
    finally:
        history.close()
        root.removeHandler(log)
        root.setLevel(level)
        log.close()


def _write(settings: Settings, mark: str) -> dict[str, str]:
    names = {name: f"canary_{mark}.{name}" for name in ("secrets", "poison", "casting", "reading")}
    for name in ("secrets", "poison"):
        share = "\n- {property: mesh.maxUndecodableShare, value: 1}" if name == "secrets" else ""
        text = contract_text(names[name], SECRETS, quality=QUALITY, settings=JSON + share, more=LEVELS)
        write_contract(settings.assets, text.replace("v3.1.0", "v3.2.0"))
    inputs = f"- {{property: mesh.inputs, value: [{names['secrets']}]}}"
    derived = """
- {name: town, logicalType: string}
- name: size
  logicalType: integer
  customProperties: [{property: mesh.declassified, value: a figure of all of a town}]
"""
    for name, quality, size in (
        ("casting", "", "max(secret::INTEGER)"),
        ("reading", READING.replace("INPUT", names["secrets"]), "count(*)"),
    ):
        text = contract_text(
            names[name], derived, kind="measurement", alignment="aggregate-aligned", settings=inputs, quality=quality
        )
        write_contract(settings.assets, text, f"SELECT town, {size} AS size FROM {names['secrets']} GROUP BY town")
    return names


def _produce(settings: Settings, topic: str, rows: list[dict[str, Any]]) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers})
    for row in rows:
        producer.produce(topic, json.dumps(row).encode(), key=str(row["id"]).encode())
    assert producer.flush(30) == 0


def _do_everything(planted: Planted, history: History, app: Any) -> None:
    """Land, snapshot, publish, fail in every way, observe, tell, and write docs and suites."""
    settings, names, texts = planted.settings, planted.names, planted.texts
    platform = Platform.open(settings)
    assert not platform.broken, [str(one) for one in platform.broken.values()]
    apply_contracts(platform, platform.in_order)
    wrong = [{**secret(number), **change} for number, change in enumerate(WRONG, 100)]
    _produce(settings, names["secrets"], [secret(1), secret(2), *wrong])
    _produce(settings, names["poison"], [{**secret(number), "amount": AMOUNT} for number in range(120)])
    platform = Platform.open(settings)
    done = {one.product: one for one in run(platform)}
    assert isinstance(done[names["poison"]].error, Undecodable)
    assert isinstance(done[names["casting"]].error, TransformInvalid)
    for name in ("secrets", "reading"):
        assert done[names[name]].error is None, done[names[name]].error
    texts["outcomes"] = repr([(one.error, str(one.error), one.snapshot) for one in done.values()])
    results = {one.rule: one for one in done[names["secrets"]].snapshot.audit.results}  # type: ignore[union-attr]
    assert {one.state for one in results.values()} >= {"pass", "warn", "error"}
    # Dagster, with its storage under the home folder.
    _produce(settings, names["secrets"], [secret(3)])
    (settings.home / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(settings.home / "dagster")) as instance:
        for name in names.values():
            platform = Platform.open(settings)
            found = dg.materialize(
                product_assets(platform, platform.product(name)),
                resources={"duckdb": DuckDBResource(database=":memory:")},
                instance=instance,
                raise_on_error=False,
            )
            texts[f"Dagster {name}"] = repr([*map(str, found.all_events), found.get_asset_check_evaluations()])
    for _ in range(2):
        assert observe(Platform.open(settings), history).problems == ()
    incidents = [one for name in names.values() for one in history.incidents(name, open_only=False, limit=100)]
    assert {one.product for one in incidents} >= {names["poison"], names["casting"]}
    texts["incidents"] = repr(incidents)
    app.state.portal.watcher.refresh(anew=True)
    docs(platform, platform.product(names["secrets"]))
    write_suites(platform)


def forms() -> list[bytes]:
    """The planted values as texts and numbers are written."""
    texts = [
        TEXT,
        AMOUNT,
        "7171.71",
        str(NUMBER),
        f"{NUMBER:,}",
        f"{NUMBER:g}",
        f"{NUMBER:.6g}",
        "9.18273",
        "2019-05-17",
    ]
    numbers = [struct.pack(form, NUMBER) for form in ("<q", ">q", "<d", ">d")]
    return [*(text.encode() for text in texts), *numbers, NUMBER.to_bytes(6, "big")]


def told(content: bytes, *, spoken: bool = False) -> list[bytes]:
    """Which of the planted values are in a text or a file; ``spoken``: those of the contract are looked for as well."""
    looked_for = [*forms(), *(one.encode() for one in SPOKEN if spoken)]
    return [one for one in looked_for if one in content]


def test_no_word_has_a_value_that_is_not_public(planted: Planted) -> None:
    assert len(planted.texts) == 6
    found = {name: told(text.encode(), spoken=True) for name, text in planted.texts.items()}
    assert {name: values for name, values in found.items() if values} == {}


def test_no_reason_of_quarantine_has_a_value_that_is_not_public(planted: Planted) -> None:
    platform = Platform.open(planted.settings)
    held = door.held(platform, platform.product(planted.fqn), door.Reader.OWNER).to_pylist()
    assert len(held) == len(WRONG)
    reasons = [one["_reason"] for one in held]
    assert told(repr(reasons).encode(), spoken=True) == []
    for name in {name for change in WRONG for name in change}:
        assert any(name in reason for reason in reasons), name


def test_no_stored_result_has_a_value_that_is_not_public(planted: Planted) -> None:
    platform = Platform.open(planted.settings)
    stored = [
        row
        for name in planted.names.values()
        for row in platform.tables_of(platform.product(name)).checks.read().to_pylist()
    ]
    assert told(repr(stored).encode(), spoken=True) == []
    newest = {row["rule"]: row for row in sorted(stored, key=lambda row: row["at"]) if row["product"] == planted.fqn}
    assert newest["few"]["measured"] == 3
    assert newest["greatest"]["measured"] is None
    assert newest["greatest"]["state"] == "warn"
    assert newest["casts"]["message"] == "ConversionException"


def test_no_page_and_no_answer_has_a_value_that_is_not_public(planted: Planted) -> None:
    document = planted.client.get("/api/openapi.json").json()
    for fqn in planted.names.values():
        domain, name = fqn.split(".")
        base = f"/products/{domain}/{name}"
        parts = ("", "/data", "/quarantine", "/quality", "/versions", "/schema", "/lineage", "/use")
        paths = [f"{base}{part}" for part in parts]
        paths += [f"{base}/rule?id={rule.id}" for rule in Platform.open(planted.settings).product(fqn).rules]
        paths += ["/", "/quality", "/incidents?state=all", "/metrics"]
        paths += [path.format(domain=domain, name=name, measure="lag", number=1) for path in document["paths"]]
        for path in paths:
            answer = planted.client.get(path)
            assert answer.status_code < 500, path
            assert told(answer.content) == [], path


def test_no_file_of_the_home_folder_has_a_value_that_is_not_public(planted: Planted) -> None:
    home = planted.settings.home
    files = [path for path in home.rglob("*") if path.is_file() and not _is_data(path.relative_to(home))]
    names = {path.relative_to(home).parts[0] for path in files}
    assert names >= {"attempts", "dagster", "docs", "everything.log", "lineage.json", "warehouse"}, names
    found = {str(path): told(path.read_bytes()) for path in files}
    assert {path: values for path, values in found.items() if values} == {}
    assert failure_of(planted.settings, planted.names["casting"])


def _is_data(path: Path) -> bool:
    """Whether a file is of a table that holds rows."""
    return path.parts[0] == "warehouse" and any(part in ("log", "base", "changes", "result") for part in path.parts)


def test_the_age_of_a_field_that_is_not_public_is_not_measured(planted: Planted) -> None:
    history = History.open(planted.settings)
    states = history.objectives(planted.fqn)
    history.close()
    assert [one.property for one in states] == ["errorRate"]


def test_a_page_that_fails_says_nothing_of_the_rows_it_read(planted: Planted) -> None:
    platform = Platform.open(planted.settings)
    product = platform.product(planted.fqn)
    version = platform.tables_of(product).versions.current()
    shelf = door.Shelf(platform, product, version, door.Reader.VISITOR)
    with pytest.raises(duckdb.ConversionException) as raised:
        shelf.fetch(f"SELECT max(secret)::INTEGER FROM ({shelf.state()})")
    assert told("".join(traceback.format_exception(raised.value)).encode()) == []
