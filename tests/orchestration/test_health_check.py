"""Dagster shows whether a product is well: what a run reports, and what the sensor reports when runs have stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from confluent_kafka.admin import AdminClient

from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.observe.status import status
from mesh_pipelines.orchestration.assets import published_key
from mesh_pipelines.orchestration.definitions import domain_definitions
from mesh_pipelines.orchestration.health_check import HEALTH
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings
from tests.pipeline.test_due import CLICKS, JSON, applied, send

pytestmark = [pytest.mark.services]


class Dagster:
    """The location of one domain with a product that has events, and an instance in which nothing ran yet."""

    def __init__(self, settings: Settings, name: str, instance: dg.DagsterInstance) -> None:
        self.settings, self.name, self.instance = settings, name, instance
        self._key = dg.AssetCheckKey(published_key(name), HEALTH)

    def tick(self, settings: Settings | None = None) -> None:
        """One tick of the domain's sensor, the runs that it asks for left out."""
        domain = self.name.split(".")[0]
        definitions = domain_definitions(domain, settings or self.settings)
        sensor = definitions.get_repository_def().get_sensor_def(f"{domain}_due")
        with dg.build_sensor_context(
            instance=self.instance, repository_def=definitions.get_repository_def()
        ) as context:
            sensor.evaluate_tick(context)

    def run(self) -> bool:
        job = domain_definitions(self.name.split(".")[0], self.settings).resolve_implicit_global_asset_job_def()
        return job.execute_in_process(instance=self.instance, raise_on_error=False).success

    def shown(self) -> tuple[int, bool, dg.AssetCheckSeverity, str]:
        """The newest result of the check: its number, whether it passed, how bad it is, and what it says."""
        record = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([self._key])[self._key]
        assert record.event
        assert record.event.dagster_event
        found = record.event.dagster_event.asset_check_evaluation_data
        return record.id, found.passed, found.severity, found.description or ""


@pytest.fixture
def dagster(settings: Settings, contract: Any) -> Iterator[Dagster]:
    name = contract("clicks", CLICKS, more=JSON)
    send(applied(settings), 1)
    with dg.instance_for_test() as instance:
        yield Dagster(settings, name, instance)


def test_a_stopped_product_is_red_in_dagster_until_it_is_well(dagster: Dagster) -> None:
    assert dagster.run()
    first, passed, _, told = dagster.shown()
    assert (passed, told) == (True, "good")
    dagster.tick()
    assert dagster.shown()[0] == first, "nothing changed, so nothing is reported"

    admin = AdminClient({"bootstrap.servers": dagster.settings.brokers})
    for future in admin.delete_topics([dagster.name]).values():
        future.result()
    dagster.tick()
    red, passed, severity, told = dagster.shown()
    assert (passed, severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "M404" in told
    assert dagster.name in told
    dagster.tick()
    assert dagster.shown()[0] == red, "it is reported once"

    [one] = status(Platform.open(dagster.settings))
    assert told == "; ".join(str(problem) for problem in one.problems), "it says what mesh status says"


def test_a_failed_run_leaves_the_state_of_the_product(dagster: Dagster) -> None:
    assert dagster.run()
    send(Platform.open(dagster.settings), "no JSON")
    send(Platform.open(dagster.settings), -1)
    assert not dagster.run(), "a rule blocks the version"
    dagster.tick()
    _, passed, severity, told = dagster.shown()
    assert (passed, severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "version 2 blocked" in told


def test_a_broker_that_is_away_fails_the_tick_and_the_check(dagster: Dagster) -> None:
    assert dagster.run()
    away = dagster.settings.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_ports(1)[0]}", "timeout_s": 2})
    with pytest.raises(dg.Failure, match="M401"):
        dagster.tick(away)
    _, passed, _, told = dagster.shown()
    assert not passed
    assert "M401" in told
