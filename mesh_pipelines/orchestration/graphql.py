"""Questions to a running webserver of Dagster, as its own UI asks them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mesh_pipelines.errors import ServiceFailed
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.sign_in import program_token

_ANSWER_S = 90
_LOCATIONS = (
    "{ workspaceOrError { ... on Workspace { locationEntries { name "
    "locationOrLoadError { ... on PythonError { message } } } } } }"
)
_RUNS = "{ runsOrError(limit: 200) { ... on Runs { results { runId status } } } }"
_LAUNCH = """
mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
_RELOAD = """
mutation($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
  __typename ... on PythonError { message } } }
"""
_RELOAD_ALL = "mutation { reloadWorkspace { __typename ... on PythonError { message } } }"
UNDER_WAY = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")


@dataclass(frozen=True)
class Run:
    """A run of Dagster's: its id, and its status in Dagster's words."""

    run_id: str
    status: str

    @property
    def is_under_way(self) -> bool:
        """Whether it has not ended."""
        return self.status in UNDER_WAY


def ask(settings: Settings, query: str, **variables: Any) -> dict[str, Any]:
    """The answer to a GraphQL query.

    Raises:
        ServiceFailed: the webserver does not answer, or refuses the query.
    """
    request = urllib.request.Request(
        f"http://{settings.near_host}:{settings.dagster_port}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {program_token(settings)}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as response:
            answer = json.load(response)
    except (urllib.error.URLError, TimeoutError) as error:
        raise ServiceFailed(f"Dagster's webserver does not answer: {error}") from error
    if "errors" in answer:
        raise ServiceFailed(f"Dagster's webserver refused a query: {answer['errors']}")
    return answer["data"]


def load_errors(settings: Settings) -> dict[str, str]:
    """The code locations that did not load, with the reason of each."""
    entries = ask(settings, _LOCATIONS)["workspaceOrError"]["locationEntries"]
    return {
        entry["name"]: entry["locationOrLoadError"]["message"].strip()
        for entry in entries
        if (entry["locationOrLoadError"] or {}).get("message")
    }


def locations(settings: Settings) -> list[str]:
    """The code locations that the webserver has, by name."""
    return sorted(entry["name"] for entry in ask(settings, _LOCATIONS)["workspaceOrError"]["locationEntries"])


def reload(settings: Settings, names: Iterable[str]) -> None:
    """Have the webserver load these code locations again. One that does not load is not an error (see ``load_errors``).

    Raises:
        ServiceFailed: the webserver does not answer, or refuses.
    """
    for name in names:
        _accepted(ask(settings, _RELOAD, name=name)["reloadRepositoryLocation"])


def reload_all(settings: Settings) -> None:
    """Have the webserver read the workspace file again, and load every location that it names.

    Raises:
        ServiceFailed: the webserver does not answer, or refuses.
    """
    _accepted(ask(settings, _RELOAD_ALL)["reloadWorkspace"])


def _accepted(answer: dict[str, Any]) -> None:
    if answer["__typename"] not in ("WorkspaceLocationEntry", "Workspace"):
        raise ServiceFailed(f"Dagster refused to load code locations: {answer.get('message', answer['__typename'])}")


def runs(settings: Settings) -> list[Run]:
    """The newest runs, newest first."""
    return [Run(one["runId"], one["status"]) for one in ask(settings, _RUNS)["runsOrError"]["results"]]


def launch(settings: Settings, location: str, assets: list[list[str]]) -> str:
    """Ask for a run of these assets; gives its id.

    Raises:
        ServiceFailed: it is refused.
    """
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": location,
        "pipelineName": "__ASSET_JOB",
        "assetSelection": [{"path": path} for path in assets],
    }
    answer = ask(settings, _LAUNCH, params={"selector": selector, "mode": "default"})["launchPipelineExecution"]
    if answer["__typename"] != "LaunchRunSuccess":
        raise ServiceFailed(f"Dagster refused a run: {answer}")
    return answer["run"]["runId"]
