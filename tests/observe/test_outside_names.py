"""Whatever lints goes by its names everywhere: as a topic, a table, a metric, a dataset and an asset."""

from __future__ import annotations

import json
import uuid
from contextlib import closing

import pytest
from confluent_kafka import Producer
from dagster import Definitions
from prometheus_client.parser import text_string_to_metric_families

from mesh_pipelines.observe.observe import observe
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.prometheus import metrics_text
from mesh_pipelines.orchestration.definitions import domain_definitions
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.plan.draft import plan
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract

# The shortest and the longest names, words of SQL, names that differ in underscores, devices of Windows, paths of REST;
# and with each what a contract may say beside them.
NAMES = {
    ("a", "b"): "@platform",
    ("d" * 63, "p" * 63): "jürgen@example.com",
    ("select", "order"): 'a "quoted" word',
    ("null", "table"): "back\\slash",
    ("a_", "b__c"): "a{b}=c,d",
    ("con", "nul"): "%s {{x}} $1",
    ("v1", "namespaces"): "名前|äöü",
    ("mesh", "health"): "x" * 200,
}


def contract(fqn: str, text: str) -> str:
    said = json.dumps(text, ensure_ascii=False)
    return contract_text(
        fqn,
        "- {name: id, logicalType: string, primaryKey: true}\n"
        f"- {{name: {'f' * 63}, physicalName: 'Größe $1', logicalType: string, classification: {said}}}",
        settings="- {property: mesh.wireFormat, value: json}",
        quality=f"- {{metric: rowCount, mustBeGreaterThan: 0, name: {said}}}",
        owner=said,
        more=f"tags: [{said}]",
    )


@pytest.mark.services
def test_any_names_go_from_a_topic_to_every_system_around(settings: Settings) -> None:
    mark = uuid.uuid4().hex[:6]
    names = {f"{domain[:57]}{mark}.{name}": text for (domain, name), text in NAMES.items()}
    for fqn, text in names.items():
        write_contract(settings.assets, contract(fqn, text))
    told = settings.home / "lineage.jsonl"
    platform = Platform.open(settings.model_copy(update={"openlineage_file": told}))
    assert not platform.broken, platform.broken
    apply_contracts(platform, platform.in_order)
    assert plan(platform, platform.in_order) == ()
    producer = Producer({"bootstrap.servers": settings.brokers})
    for fqn in names:
        producer.produce(fqn, json.dumps({"id": "1", "Größe $1": "x"}).encode(), b"1")
    assert producer.flush(30) == 0
    assert {one.product for one in run(platform) if one.published} == names.keys()
    with closing(History.open(settings)) as history:
        observe(platform, history)
        families = list(text_string_to_metric_families(metrics_text(history).decode()))
    [health] = [one for one in families if one.name == "mesh_health"]
    assert {f"{one.labels['domain']}.{one.labels['product']}" for one in health.samples} == names.keys()
    events = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    written = " ".join(one["name"] for event in events for one in event["outputs"])
    assert [fqn for fqn in names if fqn not in written] == []
    for fqn in names:
        Definitions.validate_loadable(domain_definitions(fqn.partition(".")[0], settings))
