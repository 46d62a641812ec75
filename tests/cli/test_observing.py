"""``mesh observe`` as a user meets it, without a broker: what is not known is said to be so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mesh_pipelines.observe.store.history import FILE, History

MESH = [sys.executable, "-c", "from mesh_pipelines.cli.main import main; main()", "observe"]
WAIT_S = 90


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    settings = {"MESH_HOME": str(tmp_path), "MESH_TIMEOUT_S": "1", "MESH_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    return {**os.environ, "NO_COLOR": "1", "MESH_OBSERVE_INTERVAL_S": "1", **settings}


def test_one_round_shows_every_objective(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*MESH, "-o", "json"], env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = {one["product"]: one for one in json.loads(done.stdout)}
    assert found["operations.flights"]["promise"] == "no older than 15 minutes"
    assert found["operations.flights"]["met"] is None


def test_watching_goes_on_until_it_is_told_to_stop(environment: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen([*MESH, "--watch"], env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + WAIT_S
    rounds: set[object] = set()
    while len(rounds) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
        if (tmp_path / FILE).exists():
            history = History(tmp_path / FILE)
            rounds |= {history.observed_at()} - {None}
            history.close()
    other = subprocess.run(MESH, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert "another process observes" in other.stdout
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
