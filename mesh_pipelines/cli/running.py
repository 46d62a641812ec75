"""Verbs that bring events through: from the topics to published versions, step by step or all at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh_pipelines.cli.failing import say_blocked
from mesh_pipelines.cli.output import Format, Output, record
from mesh_pipelines.cli.program import Group, OutputFormat, Products, chosen, platform, verb
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import AuditBlocked

if TYPE_CHECKING:
    from mesh_pipelines.pipeline.land import Landed
    from mesh_pipelines.pipeline.publish import Published
    from mesh_pipelines.pipeline.snapshot import Snapshot

_DID = {"Landed": "landed its events", "Snapshot": "stored the same candidate", "Published": "published its candidate"}


@verb(Group.RUN, example="mesh run operations.flights", fails="a product failed; the others went through")
def run(names: Products = None, output_format: OutputFormat = Format.TABLE) -> None:
    """Land, snapshot and publish all products, or those named."""
    from mesh_pipelines.pipeline.run import run as step

    output, mesh = Output(output_format), platform()
    products = [product.fqn for product in chosen(mesh, names)]
    with output.progress() as bars:
        task = bars.add_task("running", total=None)
        runs = step(mesh, products, on_step=lambda done: bars.update(task, description=f"{done.product}"))
    output.records([_run_record(one) for one in runs])
    _say_by_another(output, [step for one in runs for step in one.steps])
    say_blocked(output, mesh, [one.product for one in runs if isinstance(one.error, AuditBlocked)])
    errors = [one.error for one in runs if one.error]
    for error in errors:
        output.error(error)
    if errors:
        raise typer.Exit(max(error.exit_code for error in errors))
    output.say(f"{sum(bool(one.published and one.published.changed) for one in runs)} new versions; next: mesh status")


def _say_by_another(output: Output, steps: Sequence[Landed | Snapshot | Published]) -> None:
    """Say which steps had nothing left to do because another run was faster."""
    for step in steps:
        if step.by_another:
            output.say(f"{step.product}: another run {_DID[type(step).__name__]} first, so nothing was left to do")


def _run_record(one: Any) -> dict[str, Any]:
    version = one.published.version if one.published else None
    return {
        "product": one.product,
        "landed": one.landed.rows if one.landed else None,
        "quarantined": one.landed.quarantined if one.landed else None,
        "version": version.number if version else None,
        "rows": version.rows if version else None,
        "new": bool(one.published and one.published.changed),
        "error": one.error.code if one.error else None,
    }


@verb(
    Group.RUN,
    example="mesh land operations.flights",
    fails="a stream does not continue where its log ends, or too many of its events cannot be decoded",
)
def land(
    names: Products = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Bring new events from the topics into the logs, exactly once."""
    from mesh_pipelines.pipeline.land import land as step

    output, mesh = Output(output_format), platform()
    streams = [product for product in chosen(mesh, names) if names or product.topic]
    done: list[Landed] = []
    with output.progress() as bars:
        for product in streams:
            task = bars.add_task(f"landing {product.fqn}", total=None)
            landed = step(
                mesh,
                product,
                on_progress=lambda at, total, task=task: bars.update(task, completed=at, total=total),
            )
            bars.remove_task(task)
            done.append(landed)
    records = [{key: value for key, value in record(one).items() if key != "position"} for one in done]
    output.records(records)
    _say_by_another(output, done)
    output.say(f"{counted(sum(one['rows'] for one in records), 'event')} landed; next: mesh snapshot")


@verb(Group.RUN, example="mesh snapshot operations.flights", fails="a candidate breaks a rule that blocks")
def snapshot(names: Products = None, output_format: OutputFormat = Format.TABLE) -> None:
    """Compute and audit the next version of products."""
    from mesh_pipelines.pipeline.snapshot import snapshot as step

    output, mesh = Output(output_format), platform()
    taken = [step(mesh, product) for product in chosen(mesh, names)]
    records: list[dict[str, Any]] = []
    for one in taken:
        verdict = one.candidate.verdict if one.candidate else None
        records.append(
            {
                "product": one.product,
                "version": one.candidate.number if one.candidate else None,
                "rows": one.candidate.rows if one.candidate else None,
                "new": one.changed,
                "rules": verdict.rules if verdict else None,
                "failed": verdict.failed + verdict.errors if verdict else None,
                "warned": verdict.warned if verdict else None,
                "passed": verdict.passed if verdict else None,
                "seconds": one.seconds,
            }
        )
    output.records(records)
    for one in taken:
        for result in one.audit.results if one.audit else ():
            if result.state not in ("pass", "vacuous"):
                output.say(f"{result.state}: {one.product} {result.rule}: {result.measured} {result.threshold}")
    _say_by_another(output, taken)
    blocked = [one["product"] for one in records if one["passed"] is False]
    say_blocked(output, mesh, blocked)
    if all(one["passed"] for one in records):
        output.say("all can be published; next: mesh publish")
    else:
        output.say(f"blocked candidates stay unpublished; next: mesh failing {blocked[0] if blocked else 'PRODUCT'}")
        raise typer.Exit(1)


@verb(Group.RUN, example="mesh publish operations.flights", fails="a candidate has no passing verdict")
def publish(names: Products = None, output_format: OutputFormat = Format.TABLE) -> None:
    """Publish audited candidates; refuse those without a passing verdict."""
    from mesh_pipelines.pipeline.publish import publish as step

    output, mesh = Output(output_format), platform()
    done = [step(mesh, product) for product in chosen(mesh, names)]
    output.records(
        [
            {"product": one.product, "version": one.version.number, "rows": one.version.rows, "new": one.changed}
            for one in done
        ]
    )
    _say_by_another(output, done)
    output.say(
        f"new versions of {sum(one.changed for one in done)} of {counted(len(done), 'product')}; next: mesh query"
    )


@verb(Group.RUN, example="mesh replay --speed 86400 --until 2013-02-01")
def replay(
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds of 2013 per second; default: as fast as possible.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Stop before this day.")] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Produce New York's flights of 2013 to the demo's topics; continue where it was stopped."""
    from mesh_pipelines.demo.replay import replay as run_replay

    output = Output(output_format)
    with output.progress() as bars:
        task = bars.add_task("events produced", total=None)
        done = run_replay(
            platform(),
            speed=speed,
            until=_day(until),
            on_progress=lambda at, total: bars.update(task, completed=at, total=total),
        )
    output.records(
        [{"product": name, "produced": count, "total": done.total[name]} for name, count in done.produced.items()]
    )
    output.say(f"{counted(sum(done.produced.values()), 'event')} in {done.seconds:.1f} s; next: mesh run")


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment else None
