"""Whether a product is well, as Dagster shows it: a check on its published asset, which says what ``mesh status`` says.

A run reports it with what it publishes. What stops a product stops its runs, too, so the domain's sensor compares the
check with the product's state at every tick, and reports it again if they differ.
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from mesh_pipelines.contract import names
from mesh_pipelines.observe.status import ProductStatus
from mesh_pipelines.observe.store.records import Health

HEALTH = "mesh_health"
_STATE = "state"


def health_spec(key: dg.AssetKey) -> dg.AssetCheckSpec:
    """The check of a product's published asset."""
    return dg.AssetCheckSpec(
        name=HEALTH, asset=key, description="Whether the product is healthy, by the same rules as mesh status."
    )


def health_result(key: dg.AssetKey, status: ProductStatus) -> dg.AssetCheckResult:
    """A product's state as the result of its check: red fails, yellow fails with a warning."""
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=HEALTH,
        passed=status.is_well and status.health is not Health.WARNING,
        severity=dg.AssetCheckSeverity.ERROR if status.health is Health.BAD else dg.AssetCheckSeverity.WARN,
        description=_told(status),
        metadata={_STATE: _state(status), "next": status.next_step or "-"},
    )


def report_health(instance: dg.DagsterInstance, statuses: Iterable[ProductStatus]) -> None:
    """Report the checks of these products where Dagster has another result, or none; no run of theirs is under way."""
    found = {dg.AssetCheckKey(dg.AssetKey(names.asset_path(one.product)), HEALTH): one for one in statuses}
    known = instance.event_log_storage.get_latest_asset_check_execution_by_key([*found])
    for key, status in found.items():
        record = known.get(key)
        event = record.event.dagster_event if record and record.event else None
        if event and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            state = event.asset_check_evaluation_data.metadata.get(_STATE)
            if state and state.value == _state(status):
                continue
        result = health_result(key.asset_key, status)
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=HEALTH,
                passed=result.passed,
                severity=result.severity,
                description=result.description,
                metadata=result.metadata,
            )
        )


def _state(status: ProductStatus) -> str:
    """What a state is told apart by: not by its words, in which times and counts move all the time."""
    return ", ".join([status.health, *(f"{one.kind} {one.code}".strip() for one in status.problems)])


def _told(status: ProductStatus) -> str:
    return "; ".join(str(one) for one in status.problems) or str(status.health)
