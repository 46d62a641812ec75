"""The fault matrix that `mesh selftest` runs, short: every fault holds; and with a guard broken, it says so."""

from __future__ import annotations

import pytest

from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.selftest.run import FAULTS, Fault, run
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]

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
    [outcome] = run(own, [fault.name], rounds=100, seed=SEED)
    assert outcome.passed, outcome
    assert not outcome.skipped, outcome
    assert outcome.progress, outcome
