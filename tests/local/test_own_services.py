"""Whoever has a broker and a registry of their own gets none started beside them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

_UP = "from mesh_pipelines.cli.main import main; main()"
_PATIENCE_S = 60


def test_with_a_broker_and_a_registry_of_your_own_nothing_is_started_locally(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "MESH_HOME": str(tmp_path / "home"),
        "MESH_BOOTSTRAP_SERVERS": "broker.example.com:9092",
        "MESH_SCHEMA_REGISTRY_URL": "https://registry.example.com",
    }
    output = tmp_path / "output"
    with output.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", _UP, "up", "--services"],
            cwd=tmp_path,
            env=environment,
            stdout=written,
            stderr=written,
        )
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while "everything runs" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        assert psutil.Process(process.pid).children(recursive=True) == []
        assert "using Kafka at broker.example.com:9092" in output.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(_PATIENCE_S) == 0, output.read_text()
    finally:
        process.kill()
    assert not (tmp_path / "home" / "services").exists()
