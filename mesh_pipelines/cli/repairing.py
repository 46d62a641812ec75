"""Verbs that repair: quarantined events, interrupted streams, wrong versions, damaged logs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from mesh_pipelines.cli.discovering import version_record
from mesh_pipelines.cli.output import Format, Output, record
from mesh_pipelines.cli.program import (
    MOST_ROWS,
    NUMBER,
    Group,
    GroupedHelp,
    OneProduct,
    OutputFormat,
    Products,
    app,
    fqn,
    platform,
    settings,
    verb,
)
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import TablesLost, UsageError

if TYPE_CHECKING:
    from mesh_pipelines.contract.model import DataProduct
    from mesh_pipelines.platform import Platform

quarantine = typer.Typer(
    help="The events that a product holds back: list them, show one, bring back those that pass now.",
    no_args_is_help=True,
    cls=GroupedHelp,
)
app.add_typer(quarantine, name="quarantine", rich_help_panel=Group.REPAIR)


@verb(Group.REPAIR, on=quarantine, name="list", example="mesh quarantine list weather.observations")
def list_quarantined(
    name: OneProduct,
    limit: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="At most this many, newest first.")] = 50,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """List the events that a product holds back: where, why, and their bytes."""
    from mesh_pipelines.serve.door import Reader, held

    output, mesh = Output(output_format), platform()
    product = mesh.product(fqn(name))
    rows = held(mesh, product, Reader.OWNER, limit).to_pylist()
    output.records([{key.removeprefix("_"): value for key, value in row.items()} for row in rows])
    output.say(
        f"{counted(len(rows), 'event')} shown; once the cause is fixed: mesh quarantine redrive {product.fqn}"
        if rows
        else "nothing is in quarantine"
    )


@verb(Group.REPAIR, on=quarantine, name="show", example="mesh quarantine show weather.observations 0:1048")
def show_quarantined(
    name: OneProduct,
    at: Annotated[str, typer.Argument(help="The event's place, as PARTITION:OFFSET.")],
    generation: Annotated[
        int | None, typer.Option(min=0, help="For a resumed stream, its generation; default: the current one.")
    ] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Show all of one quarantined event: its bytes, why it is held, and what it decodes to now."""
    from mesh_pipelines.repair.quarantine import show as step

    output, mesh = Output(output_format), platform()
    partition, _, offset = at.partition(":")
    if not NUMBER.fullmatch(partition) or not NUMBER.fullmatch(offset):
        raise UsageError(f"an event's place must be PARTITION:OFFSET, got {at}", next_step="write it like 0:1048")
    event = step(mesh, mesh.product(fqn(name)), int(partition), int(offset), generation)
    raw = event["_raw"]
    facts = {key.removeprefix("_"): value for key, value in event.items() if key not in ("now", "decoded")}
    facts |= {"raw_hex": raw.hex(" ") if raw is not None else None, "now": event["now"]["fate"]}
    facts |= {"now_reason": event["now"]["reason"], "decoded": event["decoded"]}
    if output_format is Format.JSON:
        output.records([facts])
    else:
        output.records([{"what": key, "value": value} for key, value in facts.items()])


@verb(Group.REPAIR, on=quarantine, name="redrive", example="mesh quarantine redrive weather.observations")
def redrive_quarantined(name: OneProduct, output_format: OutputFormat = Format.TABLE) -> None:
    """Bring back, at their original offsets, the events that decode and pass the rules now; the others stay."""
    from mesh_pipelines.repair.quarantine import redrive as step

    output, mesh = Output(output_format), platform()
    product = mesh.product(fqn(name))
    with output.progress() as bars:
        task = bars.add_task(f"redriving {product.fqn}", total=None)
        done = step(mesh, product, lambda at, total: bars.update(task, completed=at, total=total))
    output.records([record(done)])
    output.say(
        f"{counted(done.came_back, 'event')} came back; next: mesh run {product.fqn}"
        if done.came_back
        else "nothing came back: all held events still fail"
    )


@verb(
    Group.REPAIR,
    example="mesh resume operations.flights --accept-loss trimmed",
    fails="the stream does not continue where the log ends, and the loss is not accepted",
)
def resume(
    name: OneProduct,
    accept_loss: Annotated[
        str | None,
        typer.Option(
            help="What happened, to accept it: recreated, trimmed, moved, truncated, repartitioned or renamed."
        ),
    ] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Check that a stream continues where its log ends; go on past a loss that you accept, and record it."""
    from mesh_pipelines.repair.resume import ACCEPTABLE
    from mesh_pipelines.repair.resume import resume as step

    output, mesh = Output(output_format), platform()
    if accept_loss is not None and accept_loss not in ACCEPTABLE:
        raise UsageError(
            f"--accept-loss must be one of {', '.join(ACCEPTABLE)}, got {accept_loss!r}", next_step="mesh resume --help"
        )
    product = mesh.product(fqn(name))
    done = step(mesh, product, accept_loss)
    losses = [*done.earlier, *([done.accepted] if done.accepted else [])]
    if losses or output_format is Format.JSON:
        output.records([{key: one[key] for key in ("at", "by", "accepted", "lost")} for one in losses])
    if done.accepted:
        output.say(f"{product.fqn} continues from here; next: mesh run {product.fqn}")
    else:
        output.say(f"{product.fqn}: its stream continues where its log ends; {len(losses)} losses were accepted before")


@verb(Group.REPAIR, example='mesh rollback operations.flights --to 12 --why "wrong delays since noon"')
def rollback(
    name: OneProduct,
    to: Annotated[int, typer.Option(min=1, help="The version that readers will see.")],
    why: Annotated[str, typer.Option(help="The reason, kept with the withdrawn versions.")] = "",
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Take readers back to an earlier version; later ones are withdrawn, the next one continues from the stream."""
    from mesh_pipelines.repair.rollback import rollback as step

    output, mesh = Output(output_format), platform()
    product = mesh.product(fqn(name))
    version = step(mesh, product, to, why)
    output.records([version_record(version)])
    output.say(f"readers of {product.fqn} see version {version.number}; next: fix the cause, then mesh run")


@verb(Group.REPAIR, example="mesh recover --dry-run", fails="a table cannot be brought back; the message says why")
def recover(
    names: Products = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be brought back.")] = False,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Bring back tables that the warehouse has and the catalog does not know, from their newest metadata.

    A catalog that was lost is made anew from the files of the warehouse. All versions then read as before, and landing
    goes on where it was. Nothing in the warehouse is changed.
    """
    from mesh_pipelines.platform import Platform
    from mesh_pipelines.repair.recover import recover as step
    from mesh_pipelines.repair.recover import recoverable

    output, mesh = Output(output_format), Platform.open(settings())
    found = recoverable(mesh, [fqn(name) for name in names or ()])
    output.records([record(one) for one in found], ("product", "kind", "written_at", "metadata"))
    if dry_run or not found:
        output.say(
            f"{counted(len(found), 'table')} can be brought back; next: {'mesh recover' if found else 'mesh status'}"
        )
        return
    failed = 0
    for one in found:
        try:
            step(mesh, one)
        except TablesLost as error:
            output.error(error)
            failed += 1
    output.say(f"{len(found) - failed} of {counted(len(found), 'table')} are back; next: mesh status")
    if failed:
        raise typer.Exit(1)


class Source(StrEnum):
    """What a rebuild reads."""

    LOG = "log"
    TOPIC = "topic"


@verb(
    Group.REPAIR,
    example="mesh rebuild operations.flights --from topic",
    fails="stored rows are wrong, or a rebuild is refused",
)
def rebuild(
    name: OneProduct,
    version: Annotated[
        int | None, typer.Option(min=1, help="The version to rebuild; default: the published one.")
    ] = None,
    source: Annotated[
        Source, typer.Option("--from", help="log: recompute a version. topic: rebuild the log itself from the topic.")
    ] = Source.LOG,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Recompute a version from the log, or the log from its topic; compare, and publish what is right if they differ.

    From the log (for a derived product: from its pinned inputs) it compares every row with what is stored. From the
    topic it compares every event with the log, and refuses if the topic no longer has all of them. A version that
    differed stays readable by its number.
    """
    output, mesh = Output(output_format), platform()
    product = mesh.product(fqn(name))
    if source is Source.TOPIC:
        if version is not None:
            raise UsageError(
                "--from topic rebuilds the whole log, so it takes no --version", next_step="mesh rebuild --help"
            )
        _rebuild_from_topic(output, mesh, product)
    else:
        _rebuild_from_log(output, mesh, product, version)


def _rebuild_from_log(output: Output, mesh: Platform, product: DataProduct, version: int | None) -> None:
    from mesh_pipelines.repair.upkeep import rebuild as step

    done = step(mesh, product, number=version)
    output.records([record(done)])
    match done.identical:
        case True:
            output.say(f"version {done.version} is right")
        case None:
            output.say(f"version {done.version} could not be read, and now it can")
        case _ if done.published_as:
            output.say(
                f"version {done.version} lacked {counted(done.missing or 0, 'row')} and had {done.surplus:,} wrong "
                f"ones; readers now see version {done.published_as}; next: mesh run, for the products derived from it"
            )
        case _:
            output.say(f"version {done.version} is not right; it was left as it is")
            raise typer.Exit(1)


def _rebuild_from_topic(output: Output, mesh: Platform, product: DataProduct) -> None:
    from mesh_pipelines.repair.from_topic import reread as step

    with output.progress() as bars:
        task = bars.add_task(f"rebuilding {product.fqn}", total=None)
        done = step(mesh, product, on_progress=lambda at, total: bars.update(task, completed=at, total=total))
    output.records([record(done)])
    if not (done.lacking or done.changed or done.damaged):
        output.say(f"{counted(done.events, 'event is', 'events are')} the same in log and topic; nothing was changed")
        return
    lacking, damaged = counted(done.lacking, "event was", "events were"), counted(done.damaged, "file")
    found = f"{lacking} missing, {done.changed:,} differed, {damaged} could not be read"
    seen = f"readers now see version {done.published_as}" if done.published_as else "no version was published for it"
    output.say(f"{found}; the log now has what its topic has; {seen}; next: mesh run")
