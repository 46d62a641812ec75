"""What runs are forked with: every module that steps are made of, and nothing of what few of them need."""

from __future__ import annotations

import subprocess
import sys

NEEDED = (
    "pipeline.land",
    "pipeline.snapshot",
    "lake.log",
    "kafka.drain",
    "formats.decode",
    "audit.audit",
    "serve.bi_file",
)
SCRIPT = "import sys, mesh_pipelines.orchestration.preload; print(*sorted(sys.modules), sep=chr(10))"


def test_steps_are_imported_before_a_run_is_forked() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(done.stdout.split())
    assert loaded >= {f"mesh_pipelines.{name}" for name in NEEDED}
    assert loaded >= {"pyiceberg.catalog.sql", "confluent_kafka", "duckdb", "mesh_pipelines.pipeline.attempts"}
    assert "great_expectations" not in loaded
