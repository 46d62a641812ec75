"""What makes a domain run by itself: one sensor over its products, and the jobs and schedules of its upkeep.

The sensor compares levels, not edges: what the products were made from with what is there now (``pipeline/due.py``).
Whatever is behind is due, so nothing is stranded by a failed run or a lost tick, and no run key is needed. Starting a
run costs seconds whatever it does then, so one run covers all sources that are due, and another one all derived
products: these must not wait until sources are done that never are. Declarative automation was ruled out: it misses a
version that an input publishes while a run is in flight, and waits while an input's run is.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mesh_pipelines.confidential import hiding
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import BrokerUnreachable, MeshError, NothingPublished
from mesh_pipelines.observe.status import statuses
from mesh_pipelines.orchestration.assets import part_key, published_key
from mesh_pipelines.orchestration.health_check import report_health
from mesh_pipelines.pipeline.due import Need, await_due, to_run
from mesh_pipelines.pipeline.level import Level, levels
from mesh_pipelines.pipeline.report import within_run
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.platform import Platform, discreet
from mesh_pipelines.repair.upkeep import compact, expire, reconcile

_IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
# Dagster's daemon looks after its sensors every five seconds, whatever interval they ask for: a tick that finds nothing
# to do goes on looking for most of that time, so that events wait for the end of a pause and not for the next tick.
_PATIENCE_S = 4.0
_PRODUCT_TAG = "mesh/products"


def domain_sensor(platform: Platform, domain: str, products: Sequence[DataProduct]) -> dg.SensorDefinition:
    """The domain's sensor: asks for runs of the products (each after its inputs) that are due."""
    keys = [key for product in products for key in _chain(product)]

    @dg.sensor(
        name=f"{domain}_due",
        # As a target it would get a job of its own: all assets of the domain a second time.
        asset_selection=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts runs of the products of {domain} that are behind their inputs.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        def idle() -> list[DataProduct]:
            busy = _in_flight(context.instance)
            return [product for product in products if product.fqn not in busy]

        try:
            with hiding():
                needs = _look(platform, context.instance, idle)
        except MeshError as error:
            # A tick that could not look has failed, and Dagster shows it so.
            raise dg.Failure(description=f"{error.code} {error.message}") from None
        chosen = to_run(needs)
        if not chosen:
            return dg.SkipReason(_nothing_due(needs, _in_flight(context.instance)))
        sources = [product for product in chosen if product.topic]
        derived = [product for product in chosen if product.transform]
        return dg.SensorResult(run_requests=[_request(some) for some in (derived, sources) if some])

    return sensor


def _look(platform: Platform, instance: dg.DagsterInstance, idle: Callable[[], Sequence[DataProduct]]) -> list[Need]:
    """What the products that nothing runs need; their health is reported, where Dagster has another."""
    try:
        needs = await_due(platform, idle, _PATIENCE_S)
    except BrokerUnreachable:
        _report(platform, instance, levels(platform, idle()).values())
        raise
    _report(platform, instance, [one.level for one in needs])
    return needs


def _report(platform: Platform, instance: dg.DagsterInstance, found: Iterable[Level]) -> None:
    report_health(instance, statuses(platform, found, datetime.now(UTC)))


def _request(products: Sequence[DataProduct]) -> dg.RunRequest:
    return dg.RunRequest(
        asset_selection=[key for product in products for key in _chain(product)],
        tags={_PRODUCT_TAG: ",".join(product.fqn for product in products)},
    )


def _nothing_due(needs: Sequence[Need], busy: Collection[str]) -> str:
    held = [f"{one.product.fqn} is held back: {one.held}" for one in needs if one.what and one.held]
    running = [f"running: {', '.join(sorted(busy))}"] if busy else []
    return "; ".join([*held, *running]) or "every product is up to date"


def upkeep(platform: Platform, domain: str, products: Sequence[DataProduct]) -> tuple[list[Any], list[Any]]:
    """The domain's upkeep jobs, and schedules: compaction and expiry hourly, a rebuild of what is published weekly."""
    works: dict[str, tuple[str, Callable[[DataProduct], Any]]] = {
        "compact": ("Merge small log and base files.", lambda product: compact(platform, product)),
        "snapshot": ("Compute and audit next versions.", lambda product: snapshot(platform, product)),
        "expire": (
            "Drop old table snapshots and orphaned files.",
            lambda product: expire(platform, product),
        ),
        "rebuild": (
            "Recompute published versions and compare.",
            lambda product: reconcile(platform, product),
        ),
    }

    def discreetly(work: Callable[[DataProduct], Any]) -> Callable[[DataProduct], Any]:
        def done(product: DataProduct) -> Any:
            with discreet(platform, product):
                return work(product)

        return done

    jobs = {name: _job(f"{domain}_{name}", about, products, discreetly(work)) for name, (about, work) in works.items()}
    schedules = [
        dg.ScheduleDefinition(
            name=f"{domain}_compact_hourly",
            job=jobs["compact"],
            cron_schedule="17 * * * *",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        ),
        dg.ScheduleDefinition(
            name=f"{domain}_expire_hourly",
            job=jobs["expire"],
            cron_schedule="47 * * * *",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        ),
        # What publishing adds up is compared with the whole: a difference is a failed run, and is repaired.
        dg.ScheduleDefinition(
            name=f"{domain}_rebuild_weekly",
            job=jobs["rebuild"],
            cron_schedule="11 4 * * 0",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        ),
        dg.ScheduleDefinition(name=f"{domain}_snapshot_hourly", job=jobs["snapshot"], cron_schedule="7 * * * *"),
    ]
    return list(jobs.values()), schedules


def _job(
    name: str, about: str, products: Sequence[DataProduct], work: Callable[[DataProduct], Any]
) -> dg.JobDefinition:
    @dg.op(name=f"{name}_products", description=about)
    def upkeep_op(context: dg.OpExecutionContext) -> None:
        failed: list[str] = []
        for product in products:
            try:
                with hiding(), within_run(context.run.run_id, context.run.job_name):
                    context.log.info(f"{product.fqn}: {work(product)}")
            except NothingPublished as error:
                context.log.info(error.message)
            except MeshError as error:
                context.log.error(f"{product.fqn}: {error.code} {error}")
                failed.append(product.fqn)
        if failed:
            raise dg.Failure(description=f"failed for {', '.join(failed)}; the log says why")

    @dg.job(name=name, description=about, executor_def=dg.in_process_executor)
    def upkeep_job() -> None:
        upkeep_op()

    return upkeep_job


def _chain(product: DataProduct) -> list[dg.AssetKey]:
    landed = [part_key(product, "log")] if product.topic else []
    return [*landed, part_key(product, "snapshot"), published_key(product.fqn)]


def _in_flight(instance: dg.DagsterInstance) -> set[str]:
    """The products that a run which has not ended yet is about."""
    busy: set[str] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=_IN_FLIGHT)):
        busy.update(name for name in run.tags.get(_PRODUCT_TAG, "").split(",") if name)
        busy.update(".".join(key.path[:2]) for key in run.asset_selection or ())
    return busy
