"""OpenLineage events of real runs: sent to a backend over HTTP and to a file, and never in a run's way."""

from __future__ import annotations

import importlib
import json
import logging
import os
import pkgutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attr
import pytest
from confluent_kafka import Producer

from mesh_pipelines.contract.scaffold import scaffold
from mesh_pipelines.errors import MeshError, NothingPublished, TopicMissing, Unaudited
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.report import within_run
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

CLICKS = """
- {name: page, logicalType: string, required: true}
- {name: ms, logicalType: integer, logicalTypeOptions: {minimum: 0}}
"""
DWELL = """
- {name: page, logicalType: string}
- {name: total, logicalType: integer, physicalType: bigint}
"""
JSON = "- {property: mesh.wireFormat, value: json}"
Event = dict[str, Any]


class Backend:
    """A lineage backend on loopback that keeps what it is sent."""

    def __init__(self, status: int = 201) -> None:
        self.events: list[Event] = []
        self.requests: list[tuple[str, str | None]] = []
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                backend.requests.append((self.path, self.headers["Authorization"]))
                backend.events.append(json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


def told(events: list[Event], job: str) -> list[Event]:
    return [event for event in events if event["job"]["name"] == job]


def facet_classes() -> dict[str, type]:
    package = importlib.import_module("openlineage.client.generated")
    modules = [
        importlib.import_module(f"{package.__name__}.{one.name}") for one in pkgutil.iter_modules(package.__path__)
    ]
    return {name: one for module in modules for name, one in vars(module).items() if isinstance(one, type)}


def assert_sound(event: Event) -> None:
    """Whether the library's own model, which is generated from the published schemas, takes the event back."""
    from openlineage.client.event_v2 import Run, RunEvent

    assert event["schemaURL"] == RunEvent._get_schema()
    assert event["producer"].startswith("urn:mesh-pipelines:")
    Run(event["run"]["runId"])
    datasets = [*event["inputs"], *event["outputs"]]
    parts = [event["run"]["facets"], event["job"]["facets"]]
    parts += [one[name] for one in datasets for name in ("facets", "inputFacets", "outputFacets") if name in one]
    classes = facet_classes()
    for name, facet in ((name, facet) for part in parts for name, facet in part.items()):
        kind = classes[facet["_schemaURL"].rsplit("/", 1)[-1]]
        values = {key: value for key, value in facet.items() if not key.startswith("_")}
        assert facet["_schemaURL"] == kind(**values)._schemaURL, name
        assert {one.name for one in attr.fields(kind) if one.default is attr.NOTHING} <= set(facet), name


@pytest.mark.services
def test_a_run_from_topic_to_derived_product(
    settings: Settings, contract: Any, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Backend()
    monkeypatch.setenv("OPENLINEAGE_URL", elsewhere.url)
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "console")
    clicks = contract("clicks", CLICKS, kind="measurement", more=JSON)
    sql = f"SELECT page, CAST(sum(ms) AS BIGINT) AS total FROM {clicks} WHERE ms >= 0 GROUP BY page"
    more = f"- {{property: mesh.inputs, value: [{clicks}]}}"
    dwell = contract("dwell", DWELL, kind="measurement", alignment="consumer-aligned", more=more, transform=sql)
    file = tmp_path / "events" / "lineage.jsonl"
    named = {"openlineage_url": backend.url, "openlineage_api_key": "k3y", "openlineage_file": file}
    settings = settings.model_copy(update={**named, "openlineage_namespace": "shop-mesh"})
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    send(settings, clicks, [{"page": "a", "ms": 3}, {"page": "a", "ms": 4}])
    with within_run("0198c1a2-0000-7000-8000-000000000001", "nightly"):
        assert [one.error for one in run(platform)] == [None, None]
    send(settings, clicks, [{"page": "b", "ms": -1}])
    failed = [one.error for one in run(platform, [clicks])]
    assert failed[0]

    events = backend.events
    assert [json.loads(line) for line in file.read_text().splitlines()] == events
    assert set(backend.requests) == {("/api/v1/lineage", "Bearer k3y")}
    assert elsewhere.events == []
    elsewhere.close()
    for event in events:
        assert_sound(event)
        assert event["job"]["namespace"] == "shop-mesh"

    began, landed = told(events, f"{clicks}.land")[:2]
    assert (began["eventType"], landed["eventType"]) == ("START", "COMPLETE")
    assert began["run"]["runId"] == landed["run"]["runId"]
    assert landed["run"]["facets"]["parent"]["run"]["runId"] == "0198c1a2-0000-7000-8000-000000000001"
    assert landed["run"]["facets"]["parent"]["job"]["name"] == "nightly"
    [topic], [log] = landed["inputs"], landed["outputs"]
    assert (topic["namespace"], topic["name"]) == (f"kafka://{settings.brokers}", clicks)
    assert log["name"] == f"{clicks}.log"
    assert log["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert log["outputFacets"]["outputStatistics"]["size"] > 0
    assert topic["facets"]["version"]["datasetVersion"].endswith("/0:2")
    assert [one["name"] for one in topic["facets"]["schema"]["fields"]] == ["page", "ms"]
    assert topic["facets"]["ownership"]["owners"][0]["name"] == "user:ann@example.com"
    source = log["facets"]["columnLineage"]["fields"]["ms"]["inputFields"][0]
    assert (source["namespace"], source["name"], source["field"]) == (topic["namespace"], clicks, "ms")

    began, audited = told(events, f"{clicks}.audit")[:2]
    taken = told(events, f"{clicks}.snapshot")[1]
    assert audited["run"]["facets"]["parent"]["run"]["runId"] == taken["run"]["runId"]
    assertions = audited["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert {(one["assertion"], one["column"], one["success"]) for one in assertions} == {
        ("required", "page", True),
        ("minimum", "ms", True),
    }
    published = told(events, f"{clicks}.publish")[1]
    assert published["outputs"][0]["name"] == clicks
    assert published["outputs"][0]["facets"]["version"]["datasetVersion"] == "1"

    made = told(events, f"{dwell}.transform")[1]
    assert made["job"]["facets"]["sql"]["query"] == sql
    assert [(one["name"], one["facets"]["version"]["datasetVersion"]) for one in made["inputs"]] == [(clicks, "1")]
    columns = made["outputs"][0]["facets"]["columnLineage"]
    assert [one["field"] for one in columns["fields"]["total"]["inputFields"]] == ["ms"]
    assert {(one["field"], one["transformations"][0]["subtype"]) for one in columns["dataset"]} == {
        ("ms", "FILTER"),
        ("page", "GROUP_BY"),
    }
    assert made["outputs"][0]["outputFacets"]["outputStatistics"]["size"] > 0

    blocked = told(events, f"{clicks}.audit")[-1]
    assert blocked["eventType"] == "FAIL"
    assert "version 2 broke" in blocked["run"]["facets"]["errorMessage"]["message"]
    refused = blocked["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert {one["assertion"] for one in refused if not one["success"]} == {"minimum"}
    assert told(events, f"{clicks}.publish")[-1]["eventType"] == "FAIL"


@pytest.mark.services
def test_a_landing_that_fails_is_told_of(settings: Settings, contract: Any, backend: Backend) -> None:
    clicks = contract("clicks", CLICKS, kind="measurement", more=JSON)
    platform = Platform.open(settings.model_copy(update={"openlineage_url": f"{backend.url}/at/a/path"}))
    platform.tables_of(platform.product(clicks)).create()
    with pytest.raises(TopicMissing):
        land(platform, platform.product(clicks))
    assert [event["eventType"] for event in backend.events] == ["START", "FAIL"]
    assert backend.events[1]["run"]["facets"]["errorMessage"]["message"].startswith("M404 ")
    assert set(backend.requests) == {("/at/a/path", None)}


def send(settings: Settings, topic: str, events: list[dict[str, Any]]) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers})
    for event in events:
        producer.produce(topic, key=None, value=json.dumps(event))
    assert producer.flush(60) == 0


def unserved(local_settings: Settings, **more: Any) -> Platform:
    """A platform with one product whose tables are there and empty: its steps fail, without any service."""
    scaffold(local_settings.assets, "shop/orders")
    platform = Platform.open(local_settings.model_copy(update=more))
    platform.tables_of(platform.product("shop.orders")).create()
    return platform


def steps(platform: Platform) -> list[type[MeshError]]:
    """What a snapshot and a publish of nothing raise."""
    found: list[type[MeshError]] = []
    for step in (snapshot, publish):
        with pytest.raises(MeshError) as raised:
            step(platform, platform.product("shop.orders"))
        found.append(raised.type)
    return found


@pytest.mark.parametrize("fault", ["closed", "silent", "refusing"])
def test_a_backend_that_is_not_well_changes_nothing(
    local_settings: Settings, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        refusing = Backend(503) if fault == "refusing" else None
        if fault == "closed":
            listening.close()
        platform = unserved(local_settings, openlineage_url=refusing.url if refusing else url)
        with caplog.at_level(logging.WARNING):
            # Were every event waited for, the time limit of the test would be felt.
            found = [steps(platform) for _ in range(30)]
    assert found == [[NothingPublished, Unaudited]] * 30
    warned = [record.getMessage() for record in caplog.records if "lineage" in record.name]
    assert len(warned) == 1
    assert "runs go on without it" in warned[0]
    if refusing:
        assert len(refusing.events) == 1
        refusing.close()


def test_a_file_that_cannot_be_written_changes_nothing(
    local_settings: Settings, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    local_settings.home.mkdir(parents=True)
    (local_settings.home / "taken").write_text("")
    file = local_settings.home / "taken" / "lineage.jsonl"
    platform = unserved(local_settings, openlineage_file=file, openlineage_url=backend.url)
    assert steps(platform) == [NothingPublished, Unaudited]
    assert len(backend.events) == 4
    assert sum("lineage.jsonl" in record.getMessage() for record in caplog.records) == 1


def test_what_an_error_quotes_stays_inside_where_fields_are_not_public(local_settings: Settings) -> None:
    from dataclasses import replace

    from mesh_pipelines.errors import Undecodable
    from mesh_pipelines.openlineage.events import Events
    from mesh_pipelines.openlineage.facts import RunOf, StepRun

    product = unserved(local_settings).product("shop.orders")
    hidden = replace(product, fields=tuple(replace(one, classification="restricted") for one in product.fields))
    run_of = RunOf("0198c1a2-0000-7000-8000-000000000001", "shop.orders.land")

    def message(of: Any, error: Exception) -> str:
        event = Events(local_settings, {}).event("FAIL", StepRun("land", of, run_of, None), error=error)
        return json.loads(event)["run"]["facets"]["errorMessage"]["message"]

    assert "4711" in message(product, Undecodable("no number: 4711"))
    assert message(hidden, Undecodable("no number: 4711")) == "M106 Undecodable"
    assert message(hidden, ValueError("4711")) == "ValueError"
    assert "no topic" in message(hidden, TopicMissing("no topic"))


def test_nothing_of_it_is_loaded_where_it_is_off(local_settings: Settings) -> None:
    unserved(local_settings)
    code = """
import sys
from mesh_pipelines.errors import MeshError
from mesh_pipelines.platform import Platform
from mesh_pipelines.pipeline.publish import publish
platform = Platform.open()
try:
    publish(platform, platform.product("shop.orders"))
except MeshError as error:
    print(error.code, *(name for name in sys.modules if name.startswith(("openlineage", "mesh_pipelines.openlineage"))))
"""
    own = {"MESH_HOME": str(local_settings.home), "MESH_ASSETS": str(local_settings.assets)}
    environment = {**os.environ, **own, "OPENLINEAGE_URL": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["M104"], done.stderr
