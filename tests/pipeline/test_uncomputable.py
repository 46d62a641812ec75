"""Rules that cannot be computed, and only warn: everything after the audit goes on with what is known, for real."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from mesh_pipelines.audit import history
from mesh_pipelines.cli.main import invoke
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

# To compare the greatest decimal with a half takes a digit more than decimals have.
FIELDS = """
- {name: id, logicalType: string, primaryKey: true}
- {name: text, logicalType: string, logicalTypeOptions: {minLength: 1}}
- name: amount
  logicalType: number
  physicalType: decimal(38, 0)
  logicalTypeOptions: {minimum: 0.5}
  customProperties: [{property: mesh.onFailure, value: warn}]
"""
QUALITY = """
      - {name: numbers, type: sql, query: "SELECT sum(text::INTEGER) FROM {object}", mustBeLessThan: 9, severity: low}
"""


@pytest.fixture
def product(settings: Settings, contract: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A product whose published version has two rules that could not be computed."""
    for name in [name for name in os.environ if name.startswith("MESH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MESH_HOME", str(settings.home))
    monkeypatch.setenv("MESH_ASSETS", str(settings.assets))
    monkeypatch.setenv("MESH_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    monkeypatch.setenv("MESH_SCHEMA_REGISTRY_URL", settings.registry_url.reveal())
    return contract("things", FIELDS, more="- {property: mesh.wireFormat, value: json}", quality=QUALITY)


def landed(settings: Settings, name: str, *rows: dict[str, Any]) -> Platform:
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    producer = Producer({"bootstrap.servers": settings.brokers})
    for row in rows:
        producer.produce(name, key=row["id"], value=json.dumps(row))
    assert producer.flush(60) == 0
    assert [done.error for done in run(platform)] == [None]
    return platform


def states(platform: Platform, name: str) -> dict[str, str]:
    [(_, results), *_] = history.audits(platform.tables_of(platform.product(name)).checks.read())
    return {one.rule: str(one.state) for one in results}


def test_rebuild_and_docs_go_on(
    settings: Settings, product: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform = landed(settings, product, {"id": "1", "text": "2", "amount": "4"})
    assert set(states(platform, product).values()) == {"pass"}
    platform = landed(settings, product, {"id": "2", "text": "x", "amount": "9" * 38})
    uncomputed = {"amount.minimum": "error", "numbers": "error"}
    found = states(platform, product)
    assert {rule: state for rule, state in found.items() if state != "pass"} == uncomputed
    landed(settings, product, {"id": "3", "text": "1", "amount": "1"})
    for version in ("1", "2", "3"):
        assert invoke(["rebuild", product, "--version", version]) == 0, capsys.readouterr()
    published = platform.tables_of(platform.product(product)).versions.published()
    assert published is not None
    assert (published.number, published.verdict and published.verdict.errors) == (3, 2)
    site = tmp_path / "site"
    assert invoke(["docs", product, "--out", str(site)]) == 0, capsys.readouterr()
    assert "M000" not in capsys.readouterr().err
    index = (site / "index.html").read_text()
    assert "2 of 5 rules could not be computed" in index
    [page] = site.rglob(f"{published.candidate_id}.html")
    assert "error: Conversion Error" in page.read_text()
