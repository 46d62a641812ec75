"""Dagster's storage with kept connections: the same databases as Dagster's own, in every process of `mesh up`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._check import ParameterCheckError

from mesh_pipelines.orchestration import run_storage as storage

RUNS = 4


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    config = resources.files("mesh_pipelines.orchestration").joinpath("dagster.yaml").read_text(encoding="utf-8")
    (tmp_path / "dagster.yaml").write_text(config, encoding="utf-8")
    return tmp_path


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as made:
        yield made


@dg.asset
def orders() -> int:
    return 1


def runs(instance: dg.DagsterInstance, count: int) -> list[str]:
    return [dg.materialize([orders], instance=instance).run_id for _ in range(count)]


def test_what_it_stores_is_where_dagsters_own_reads_it(home: Path, instance: dg.DagsterInstance) -> None:
    made = runs(instance, RUNS)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    with dg.DagsterInstance.get() as own:
        assert type(own.event_log_storage) is not type(instance.event_log_storage)
        assert {run.run_id for run in own.get_runs() if run.is_success} == set(made)
        for run_id in made:
            events = [record.event_log_entry for record in own.get_records_for_run(run_id).records]
            assert events == [record.event_log_entry for record in instance.get_records_for_run(run_id).records]
            assert events
        assert own.get_latest_materialization_event(orders.key) is not None


def test_more_runs_than_databases_are_kept(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_POOLED_DATABASES", 2)
    made = runs(instance, RUNS)
    for run_id in [*made, *made]:
        assert instance.get_records_for_run(run_id).records


def test_threads_ask_at_once(instance: dg.DagsterInstance) -> None:
    made = runs(instance, RUNS)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: {run.run_id for run in instance.get_runs()}, range(64)))
        events = list(pool.map(lambda at: instance.get_records_for_run(made[at % RUNS]).records, range(64)))
    assert found == [set(made)] * 64
    assert all(events)


def test_a_batch_is_stored_whole_or_not_at_all(instance: dg.DagsterInstance) -> None:
    [made] = runs(instance, 1)
    before = [record.event_log_entry for record in instance.get_records_for_run(made).records]
    no_event: Any = SimpleNamespace(run_id=made)
    with pytest.raises(ParameterCheckError):
        instance.event_log_storage.store_event_batch([*before, no_event])
    assert [record.event_log_entry for record in instance.get_records_for_run(made).records] == before
    instance.event_log_storage.store_event_batch(before)
    assert [record.event_log_entry for record in instance.get_records_for_run(made).records] == before * 2


def test_it_goes_on_after_all_was_wiped(instance: dg.DagsterInstance) -> None:
    runs(instance, 1)
    instance.wipe()
    assert instance.get_runs() == []
    [again] = runs(instance, 1)
    assert instance.get_records_for_run(again).records
