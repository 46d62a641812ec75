"""The fault matrix that `mesh selftest` runs, short: every fault holds; and with a guard broken, it says so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.selftest.matrix import FAULTS, Fault, Trial, run
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

SEED = 20131


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("selftest")
    kafka, controller, registry, dagster = free_ports(4)
    return Settings(
        home=home,
        assets=home / "assets",
        kafka_port=kafka,
        controller_port=controller,
        registry_port=registry,
        dagster_port=dagster,
    )


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost_doubled_or_unaudited(own: Settings, fault: Fault) -> None:
    [outcome] = run(own, [fault.name], Trial(rounds=100, seed=SEED))
    assert outcome.passed, outcome
    assert not outcome.skipped, outcome
    assert outcome.progress, outcome


@pytest.mark.parametrize(
    ("guard", "fault", "rounds"),
    [
        ("retries", "four-writers", 100),
        ("topic_id", "recreated", 50),
        ("verdict", "reader", 20),
        ("position", "steps", 1),
    ],
)
def test_the_matrix_notices_a_broken_guard(guard: str, fault: str, rounds: int) -> None:
    script = Path(__file__).with_name("broken_guard.py")
    said: list[str] = []
    # A worker may also fall over what a broken guard lets through, which notices it but counts nothing.
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, str(script), guard, fault, str(rounds)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        said.append(done.stdout)
        if re.search(r"(lost|doubled|unaudited)=[1-9]", done.stdout):
            return
    pytest.fail("\n".join(said))
