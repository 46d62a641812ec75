"""No route through Dagster publishes what was not audited: each known leak, tried on a live webserver and daemon.

A product has one good version published and a candidate that broke a blocking rule. Whatever is asked for then, the
published version must stay what it is.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from mesh_pipelines.local.supervisor import Supervisor
from mesh_pipelines.orchestration.graphql import load_errors
from mesh_pipelines.orchestration.instance import children
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.sign_in import program_token

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(280)]

PROPERTIES = """
- {name: page, logicalType: string, required: true}
- {name: ms, logicalType: integer, logicalTypeOptions: {minimum: 0}}
"""
DEFINITIONS = """\
import dagster as dg

from mesh_pipelines.orchestration.definitions import of_folder


@dg.sensor(asset_selection=dg.AssetSelection.assets("{domain}/clicks"), default_status=dg.DefaultSensorStatus.STOPPED)
def rogue(context):
    return dg.RunRequest(run_key="rogue", asset_selection=[dg.AssetKey(["{domain}", "clicks"])])


defs = dg.Definitions.merge(of_folder(__file__), dg.Definitions(sensors=[rogue]))
"""
LAUNCH = """
mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } ... on PipelineNotFoundError { message }
  ... on InvalidSubsetError { message } } }
"""
REEXECUTE = """
mutation($params: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
BACKFILL = """
mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""


class Dagster:
    """A live webserver, asked through GraphQL as its UI asks it."""

    def __init__(self, settings: Settings, domain: str) -> None:
        self._url = f"http://127.0.0.1:{settings.dagster_port}/graphql"
        self._domain = domain
        self._settings = settings

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {program_token(self._settings)}"}
        request = urllib.request.Request(self._url, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=90) as answer:
            response = json.load(answer)
        assert "errors" not in response, response["errors"]
        return response["data"]

    def key(self, part: str = "") -> dict[str, list[str]]:
        return {"path": [self._domain, "clicks", *([part] if part else [])]}

    def launch(self, assets: list[dict[str, Any]], checks: list[Any] | None) -> tuple[str, str]:
        """Launch a run of these assets; gives its status and id, or how the launch was refused."""
        selector: dict[str, Any] = {
            "repositoryName": "__repository__",
            "repositoryLocationName": self._domain,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": assets,
        }
        if checks is not None:
            selector["assetCheckSelection"] = checks
        answer = self.ask(LAUNCH, params={"selector": selector, "mode": "default"})["launchPipelineExecution"]
        if answer["__typename"] != "LaunchRunSuccess":
            return answer["__typename"], ""
        return self.wait(answer["run"]["runId"]), answer["run"]["runId"]

    def reexecute(self, run_id: str) -> str:
        params = {"parentRunId": run_id, "strategy": "FROM_FAILURE"}
        answer = self.ask(REEXECUTE, params=params)["launchRunReexecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return self.wait(answer["run"]["runId"])

    def wait(self, run_id: str) -> str:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
            status = self.ask(query, id=run_id)["runOrError"]["status"]
            if status in ("SUCCESS", "FAILURE", "CANCELED"):
                return status
            time.sleep(0.5)
        raise AssertionError(f"run {run_id} did not end")

    def runs(self) -> list[dict[str, Any]]:
        return self.ask("{ runsOrError { ... on Runs { results { runId status tags { key value } } } } }")[
            "runsOrError"
        ]["results"]


@pytest.fixture
def stage(settings: Settings, contract: Any, ports: list[int]) -> Iterator[tuple[Dagster, Platform, str]]:
    settings = settings.model_copy(update={"dagster_port": ports[0]})
    name = contract("clicks", PROPERTIES, kind="measurement", more="- {property: mesh.wireFormat, value: json}")
    domain = name.split(".")[0]
    (settings.assets / domain / "definitions.py").write_text(DEFINITIONS.format(domain=domain))
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    producer = Producer({"bootstrap.servers": settings.brokers})
    producer.produce(name, value=json.dumps({"page": "/", "ms": 1}))
    producer.flush()
    [done] = run(platform)
    assert done.error is None
    producer.produce(name, value=json.dumps({"page": "/bad", "ms": -1}))
    producer.flush()
    product = platform.product(name)
    land(platform, product)
    taken = snapshot(platform, product)
    assert taken.candidate is not None
    assert taken.candidate.verdict is not None
    assert taken.candidate.verdict.blocking == ("ms.minimum",)
    with Supervisor() as supervisor:
        supervisor.start(children(settings))
        assert load_errors(settings) == {}
        yield Dagster(settings, domain), platform, name


def test_no_route_publishes_the_unaudited(stage: tuple[Dagster, Platform, str]) -> None:
    dagster, platform, name = stage
    chain = [dagster.key("log"), dagster.key("snapshot"), dagster.key()]

    def version() -> int:
        published = platform.tables_of(platform.product(name)).versions.published()
        assert published is not None
        return published.number

    status, _ = dagster.launch([dagster.key()], None)
    assert (status, version()) == ("FAILURE", 1), "only the published asset selected"
    status, _ = dagster.launch([dagster.key()], [])
    assert (status, version()) == ("InvalidSubsetError", 1), "the published asset with an empty check list"
    status, failed = dagster.launch(chain, None)
    assert (status, version()) == ("FAILURE", 1), "everything selected, a blocking check fails"
    assert (dagster.reexecute(failed), version()) == ("FAILURE", 1), "re-execution from failure"
    status, _ = dagster.launch(chain, [])
    assert status != "SUCCESS"
    assert version() == 1, "everything selected, checks deselected by an empty list"
    status, _ = dagster.launch([dagster.key("log"), dagster.key()], None)
    assert (status, version()) == ("FAILURE", 1), "the snapshot left out"

    backfill = dagster.ask(BACKFILL, params={"partitionsByAssets": [{"assetKey": dagster.key()}], "tags": []})
    answer = backfill["launchPartitionBackfill"]
    if answer["__typename"] == "LaunchBackfillSuccess":
        assert _tagged_run_ends(dagster, "dagster/backfill", answer["backfillId"]) != "SUCCESS"
    assert version() == 1, "a backfill of the published asset"

    selector = {"repositoryName": "__repository__", "repositoryLocationName": dagster._domain, "sensorName": "rogue"}
    started = dagster.ask(
        "mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }", s=selector
    )
    assert started["startSensor"]["__typename"] == "Sensor"
    assert _tagged_run_ends(dagster, "dagster/sensor_name", "rogue") == "FAILURE"
    assert version() == 1, "a sensor that asks for the published asset alone"


def _tagged_run_ends(dagster: Dagster, tag: str, value: str) -> str:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        for one in dagster.runs():
            if {"key": tag, "value": value} in one["tags"]:
                return dagster.wait(one["runId"])
        time.sleep(0.5)
    raise AssertionError(f"no run with {tag}={value}")
