"""Dagster's own processes for one home folder: where it keeps its state, which locations it loads, how it is started.

Webserver and daemon are started directly, each with a main of ours. ``dagster dev`` is not used: it was seen to ignore
a request to end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from pydantic import SecretStr

from mesh_pipelines.confidential import Address
from mesh_pipelines.local.supervisor import Child, answers
from mesh_pipelines.orchestration.locations import Locations
from mesh_pipelines.orchestration.roles import check_reach
from mesh_pipelines.settings import Settings, revealed

_CONFIG = "dagster.yaml"


def prepare(settings: Settings) -> Path:
    """Write the instance's configuration and workspace under the home folder; gives Dagster's home."""
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    config = resources.files("mesh_pipelines.orchestration").joinpath(_CONFIG).read_text(encoding="utf-8")
    (home / _CONFIG).write_text(config, encoding="utf-8")
    locations = Locations(settings)
    locations.write(locations.now())
    return home


def children(settings: Settings) -> list[Child]:
    """The webserver and the daemon, to be run by a supervisor.

    Raises:
        SettingInvalid: others could reach Dagster's pages, and nobody has to sign in.
    """
    check_reach(settings)
    _create_storage(prepare(settings))
    environment = environment_of(settings)
    host, port = settings.host, settings.dagster_port
    logs = settings.home / "logs"
    return [
        Child(
            name="Dagster's webserver",
            argv=[sys.executable, "-m", "mesh_pipelines.orchestration.webserver"],
            log=logs / "webserver.log",
            env=environment,
            ready=lambda: answers(host, port),
            ports={"MESH_DAGSTER_PORT": (host, port)},
            ready_s=180.0,
        ),
        Child(
            name="Dagster's daemon",
            argv=[sys.executable, "-m", "mesh_pipelines.orchestration.daemon"],
            log=logs / "daemon.log",
            env=environment,
            ready=lambda: True,
        ),
    ]


def _create_storage(home: Path) -> None:
    """Create Dagster's databases before any of its processes runs: several that do it at once spoil them."""
    from mesh_pipelines.orchestration.run_storage import PooledSqliteStorage

    PooledSqliteStorage.from_local(str(home)).dispose()


def environment_of(settings: Settings) -> dict[str, str]:
    """These settings as variables, for processes that read them from their environment; secrets are real there."""
    return {
        "DAGSTER_HOME": str(settings.home / "dagster"),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        # What a run is going to do is stored at once (orchestration/run_storage.py).
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        "GX_ANALYTICS_ENABLED": "False",
        "PYTHONWARNINGS": "ignore",
        **{f"MESH_{name.upper()}": _variable(value) for name, value in settings},
        # They are all there: no file adds to them.
        "MESH_CONFIG": os.devnull,
    }


def _variable(value: object) -> str:
    match value:
        case None:
            return ""
        case Address():
            return value.given()
        case SecretStr():
            return value.get_secret_value()
        case Mapping():
            return json.dumps(revealed(value))
        case tuple():
            return ",".join(value)
        case _:
            return str(value)
