"""Results that were stored before it was decided what they may tell, or while their fields were public."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import mesh_pipelines
from mesh_pipelines.audit import history as stored
from mesh_pipelines.cli.main import invoke
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.observe.audit_docs import docs
from mesh_pipelines.observe.observe import observe
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.plan.lint import write_suites
from mesh_pipelines.platform import Platform
from mesh_pipelines.portal.app import create_app
from mesh_pipelines.rules.results import Audit, State
from mesh_pipelines.serve.stored_results import audit_of, audits
from mesh_pipelines.settings import Settings
from tests.building import contract_text, land_rows, log_row, write_contract

CANARY = "canary-5a1e"
NUMBER = 918_273_645.0
PROPERTIES = """
- {name: id, logicalType: integer, primaryKey: true}
- {name: pay, logicalType: integer%s}
- {name: mail, logicalType: string%s}
"""
GREATEST = "SELECT max(pay) FROM {object}"
QUALITY = """
- {{name: greatest, type: sql, query: "{greatest}", mustBe: 1, severity: warning}}
- {{name: casts, type: sql, query: "SELECT max(mail)::INTEGER FROM {{object}}", mustBe: 1, severity: warning}}
- {{name: few, type: sql, query: "SELECT count(*) FROM {{object}}", mustBe: 0, severity: warning}}
- name: library
  type: custom
  engine: greatExpectations
  severity: warning
  implementation: {{type: expect_column_max_to_be_between, kwargs: {{column: pay, max_value: 1}}}}
"""
RESTRICTED = ", classification: restricted"
# As they were stored at first: with what was measured, and the words of the engine and the library.
UNTOLD: dict[str, dict[str, Any]] = {
    "greatest": {"state": State.WARN, "measured": NUMBER},
    "casts": {"state": State.ERROR, "message": f"Conversion Error: Could not convert string '{CANARY}' to INT32"},
    "few": {"state": State.WARN, "measured": 2.0},
    "library": {"state": State.ERROR, "message": f"could not convert string to float: '{CANARY}'"},
}


def write(settings: Settings, classified: str, greatest: str = GREATEST) -> Platform:
    text = contract_text("shop.pay", PROPERTIES % (classified, classified), quality=QUALITY.format(greatest=greatest))
    write_contract(settings.assets, text)
    platform = Platform.open(settings)
    assert not platform.broken
    return platform


def audited(platform: Platform, product: DataProduct) -> None:
    """A published version whose results are stored with all that they were made of."""
    tables = platform.tables_of(product)
    tables.create()
    tables.apply(platform.files_of(product), "somebody")
    land_rows(tables, [log_row(number, {"id": number, "pay": int(NUMBER), "mail": CANARY}) for number in range(2)])
    done = snapshot(platform, product)
    assert done.audit
    assert done.candidate
    publish(platform, product)
    results = tuple(replace(one, **UNTOLD[one.rule]) if one.rule in UNTOLD else one for one in done.audit.results)
    untold = Audit(done.audit.rows, results, done.audit.verdict)
    tables.load("checks").delete()
    tables.checks.append(stored.rows(product, done.candidate.number, untold))
    assert CANARY in repr(tables.checks.read().to_pylist())


def told(text: str) -> list[str]:
    forms = (CANARY, "918273645", "918,273,645", "9.18273", "9.18e+08")
    return [form for form in forms if form in text]


@pytest.fixture
def restricted(local_settings: Settings) -> Platform:
    platform = write(local_settings, RESTRICTED)
    audited(platform, platform.product("shop.pay"))
    return platform


def test_no_reader_of_stored_results_tells_what_is_not_public(
    restricted: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    platform, settings, product = restricted, restricted.settings, restricted.product("shop.pay")
    said = {"snapshot": repr(snapshot(platform, product).audit)}
    monkeypatch.setenv("MESH_HOME", str(settings.home))
    monkeypatch.setenv("MESH_ASSETS", str(settings.assets))
    for command in (["failing", "shop.pay"], ["failing", "shop.pay", "--output", "json"], ["status"]):
        invoke(command)
        said[" ".join(command)] = "".join(capsys.readouterr())
    write_suites(platform)
    site = docs(platform, product).parent
    said |= {file.name: file.read_text() for file in site.rglob("*.html")}
    with closing(History.open(settings)) as history:
        app = create_app(settings, history)
        assert observe(platform, history).problems == ()
        app.state.portal.watcher.refresh(anew=True)
        said["history"] = repr([history.rule_states("shop.pay"), history.incidents("shop.pay")])
        client = TestClient(app, base_url=settings.portal_address)
        base = "/products/shop/pay"
        pages = [f"{base}/quality", f"{base}/schema", *(f"{base}/rule?id={name}" for name in UNTOLD)]
        for path in (*pages, f"/api/v1{base}/failing", f"/api/v1{base}", "/incidents", "/metrics"):
            answer = client.get(path)
            assert answer.status_code == 200, path
            said[path] = answer.text
    # The owner's command line shows the rows of row rules, and none of these is one.
    assert {name: found for name, text in said.items() if (found := told(text))} == {}
    measured = {one["rule"]: one["measured"] for one in json.loads(said["/api/v1/products/shop/pay/failing"])}
    assert measured == {"greatest": None, "casts": None, "few": 2.0, "library": None}
    assert "casts" in said["failing shop.pay"]


def test_what_was_public_when_it_was_stored_is_told_no_more_once_it_is_not(local_settings: Settings) -> None:
    platform = write(local_settings, "")
    product = platform.product("shop.pay")
    audited(platform, product)
    assert told(repr(audits(platform, product))) == [CANARY, "918273645"]
    published = platform.tables_of(product).versions.current()
    assert audit_of(platform, product, published)
    assert audit_of(platform, product, replace(published, verdict=None)) is None
    assert audit_of(platform, product, replace(published, candidate_id="another")) is None
    with closing(History.open(local_settings)) as history:
        assert observe(platform, history).problems == ()
        assert told(repr(history.rule_states("shop.pay"))) != []
        now = write(local_settings, RESTRICTED)
        ruling = now.proposal("shop.pay")
        version = now.tables_of(ruling).versions.current()
        assert told(repr([audits(now, ruling), audit_of(now, ruling, version)])) == []
        # What the history copied while it was public is asked for again, too.
        portal = create_app(local_settings, history).state.portal
        assert told(repr(portal.rule_states(ruling))) == []


def test_a_rule_is_judged_as_it_was_when_it_was_audited(restricted: Platform) -> None:
    now = write(restricted.settings, RESTRICTED, greatest="SELECT count(*) FROM {object}")
    ruling = now.proposal("shop.pay")
    # The rule of this name counts rows now; the figure that is stored under it is a value.
    [(_, results)] = audits(now, ruling)
    assert next(one for one in results if one.rule == "greatest").measured is None


def test_nobody_else_reads_the_table() -> None:
    root = Path(mesh_pipelines.__file__).parent
    reading = re.compile(r"\bchecks\.(read|since)\(|history\.audits\(")
    found = {str(file.relative_to(root)) for file in root.rglob("*.py") if reading.search(file.read_text())}
    assert found == {"serve/stored_results.py"}
