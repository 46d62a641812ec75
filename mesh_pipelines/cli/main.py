"""The ``mesh`` command: thin verbs over the steps.

Each command imports what it needs when it runs, so that ``mesh --help`` costs a tenth of a second and not four. The
exit code is 0 when all went well, 1 when a promise does not hold, 2 for wrong use, 3 when something outside is not as
needed.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mesh_pipelines.cli.output import Format, Output, plain, record
from mesh_pipelines.collector import collect_rarely
from mesh_pipelines.errors import MeshError, UsageError

app = typer.Typer(
    name="mesh",
    help="An event-driven data mesh: contracts in, audited event streams and tables out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

Products = Annotated[
    list[str] | None, typer.Argument(help="Products as domain.product; all of them when none is named.")
]
OneProduct = Annotated[str, typer.Argument(help="A product as domain.product.")]
OutputFormat = Annotated[Format, typer.Option("--output", "-o", help="table for people, json for programs.")]

_INTERRUPTED = 130
# Rows of a table for people.
_MOST = 1_000_000_000
# Of a version, a partition or an offset: 64 bits at most.
_NUMBER = re.compile(r"[0-9]{1,18}")


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="The new product, as domain/product.")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="An input product; makes it a derived one. Repeatable.")
    ] = None,
    owner: Annotated[str, typer.Option(help="The owner's username or e-mail.")] = "owner@example.com",
) -> None:
    """Make a product's folder: a contract that lints, to begin from.

    Example: mesh init insights/busiest_routes --input operations.flights
    """
    from mesh_pipelines.contract.scaffold import scaffold

    output = Output()
    files = scaffold(_settings().assets, name, inputs=inputs or (), owner=owner)
    for file in files:
        output.say(f"wrote {_relative(file)}")
    output.say(f"next: describe the product there, then: mesh lint {_fqn(name)}")


@app.command()
def lint(
    names: Products = None,
    write: Annotated[
        bool, typer.Option("--write", help="Also write the expectation suites beside the contracts.")
    ] = False,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Check contracts, rules and transforms, offline; names every fault with its file and line."""
    from mesh_pipelines.plan import lint as step

    output, platform = Output(output_format), _platform()
    results = step.lint(platform, map(_fqn, names or ()))
    faults = [replace(fault, file=_relative(fault.file)) for one in results for fault in one.faults]
    if output_format is Format.JSON:
        output.records([{**record(one), "sound": not one.faults} for one in results])
    if faults:
        output.say("\n".join(map(str, faults)))
    if write and not faults:
        for product in step.write_suites(platform):
            output.say(f"wrote the expectations of {product}")
    rules = sum(one.rules for one in results)
    if faults:
        output.say(f"{len(faults)} faults in {sum(bool(one.faults) for one in results)} of {len(results)} contracts")
        raise typer.Exit(1)
    output.say(f"{len(results)} contracts with {rules} rules are sound; next: mesh apply")


@app.command()
def apply(
    names: Products = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Create what the contracts promise and is missing: topics, schemas, tables; refuse what would lose data."""
    from mesh_pipelines.plan import apply as step

    output, platform = Output(output_format), _platform(strict=True)
    actions = step.plan(platform, _chosen(platform, names))
    if output_format is Format.JSON:
        output.records(
            [
                {"action": type(action).__name__, "does": step.describe(action), "done": not dry_run}
                for action in actions
            ]
        )
    if dry_run:
        for action in actions:
            output.say(f"would {step.describe(action)}")
    else:
        step.execute(platform, actions, on_done=lambda action: output.say(step.describe(action)))
    if not actions:
        output.say("nothing to do: everything is as the contracts say")
    elif dry_run:
        output.say(f"{len(actions)} changes; next: mesh apply")
    else:
        output.say(f"{len(actions)} changes made; next: mesh run")


@app.command()
def replay(
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds of 2013 per second; as fast as it goes when not given.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Stop before this day.")] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Produce New York's flights of 2013 to the demo's topics; goes on where it was stopped.

    Example: mesh replay --speed 86400 --until 2013-02-01
    """
    from mesh_pipelines.demo.replay import replay as run_replay

    output = Output(output_format)
    with output.progress() as bars:
        task = bars.add_task("events produced", total=None)
        done = run_replay(
            _platform(),
            speed=speed,
            until=_day(until),
            on_progress=lambda at, total: bars.update(task, completed=at, total=total),
        )
    output.records(
        [{"product": name, "produced": count, "total": done.total[name]} for name, count in done.produced.items()]
    )
    output.say(f"{sum(done.produced.values()):,} events in {done.seconds:.1f} s; next: mesh run")


@app.command()
def land(
    names: Products = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Bring new events from the topics into the logs, exactly once."""
    from mesh_pipelines.pipeline.land import land as step

    output, platform = Output(output_format), _platform()
    streams = [product for product in _chosen(platform, names) if names or product.topic]
    records: list[dict[str, Any]] = []
    with output.progress() as bars:
        for product in streams:
            task = bars.add_task(f"landing {product.fqn}", total=None)
            landed = step(
                platform,
                product,
                on_progress=lambda at, total, task=task: bars.update(task, completed=at, total=total),
            )
            bars.remove_task(task)
            records.append({k: v for k, v in record(landed).items() if k != "position"})
    output.records(records)
    output.say(f"{sum(one['rows'] for one in records):,} events landed; next: mesh snapshot")


@app.command()
def resume(
    name: OneProduct,
    accept_loss: Annotated[
        str | None, typer.Option(help="What happened and is accepted: recreated, trimmed, moved or truncated.")
    ] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Check that a stream goes on where its log stands; go on past a loss that is accepted, and keep a record of it.

    Example: mesh resume operations.flights --accept-loss trimmed
    """
    from mesh_pipelines.repair.resume import ACCEPTABLE
    from mesh_pipelines.repair.resume import resume as step

    output, platform = Output(output_format), _platform()
    if accept_loss is not None and accept_loss not in ACCEPTABLE:
        raise UsageError(f"--accept-loss takes one of {', '.join(ACCEPTABLE)}", next_step="mesh resume --help")
    product = platform.product(_fqn(name))
    done = step(platform, product, accept_loss)
    losses = [*done.earlier, *([done.accepted] if done.accepted else [])]
    if losses or output_format is Format.JSON:
        output.records([{key: one[key] for key in ("at", "by", "accepted", "lost")} for one in losses])
    if done.accepted:
        output.say(f"{product.fqn} goes on past what was lost; next: mesh run {product.fqn}")
    else:
        output.say(f"{product.fqn}: its stream goes on where its log stands; {len(losses)} losses were accepted before")


@app.command()
def snapshot(names: Products = None, output_format: OutputFormat = Format.TABLE) -> None:
    """Compute and audit the next version of products."""
    from mesh_pipelines.pipeline.snapshot import snapshot as step

    output, platform = Output(output_format), _platform()
    taken = [step(platform, product) for product in _chosen(platform, names)]
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
                shown = f" ({'; '.join(result.sample[:2])})" if result.sample else ""
                output.say(f"{result.state}: {one.product} {result.rule}: {result.measured} {result.threshold}{shown}")
    if all(one["passed"] for one in records):
        output.say("all may be published; next: mesh publish")
    else:
        output.say("blocked candidates stay unpublished; next: mend the data or the contract, then mesh run")
        raise typer.Exit(1)


@app.command()
def publish(names: Products = None, output_format: OutputFormat = Format.TABLE) -> None:
    """Publish audited candidates; refuses whatever has no passing verdict."""
    from mesh_pipelines.pipeline.publish import publish as step

    output, platform = Output(output_format), _platform()
    done = [step(platform, product) for product in _chosen(platform, names)]
    output.records(
        [
            {"product": one.product, "version": one.version.number, "rows": one.version.rows, "new": one.changed}
            for one in done
        ]
    )
    output.say(f"{sum(one.changed for one in done)} of {len(done)} products have a new version; next: mesh query")


@app.command()
def run(names: Products = None, output_format: OutputFormat = Format.TABLE) -> None:
    """Land, snapshot and publish: all steps of all products, or of those named."""
    from mesh_pipelines.pipeline.run import run as step

    output, platform = Output(output_format), _platform()
    chosen = [product.fqn for product in _chosen(platform, names)]
    with output.progress() as bars:
        task = bars.add_task("running", total=None)
        runs = step(platform, chosen, on_step=lambda done: bars.update(task, description=f"{done.product}"))
    output.records([_run_record(one) for one in runs])
    errors = [one.error for one in runs if one.error]
    for error in errors:
        output.error(error)
    if errors:
        raise typer.Exit(max(error.exit_code for error in errors))
    output.say(f"{sum(bool(one.published and one.published.changed) for one in runs)} new versions; next: mesh status")


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


@app.command()
def selftest(
    faults: Annotated[list[str] | None, typer.Argument(help="Faults by name; all of them when none is named.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Kills of the working process; other faults scale with it.")] = 100,
    seed: Annotated[int | None, typer.Option(help="Repeats the chances of an earlier run. Default: a new one.")] = None,
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="Test against this broker, on topics of the test's own.")
    ] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Inject faults and compare what landed and what is published with a ledger of what was produced.

    Without a broker of yours it starts one of its own, in a folder that is removed afterwards, and kills that, too.

    Example: mesh selftest kills zombie --rounds 1000 --seed 7
    """
    from mesh_pipelines.cli.trial import run_selftest

    output = Output(output_format)
    raise typer.Exit(run_selftest(output, faults or (), rounds=rounds, seed=seed, bootstrap_servers=bootstrap_servers))


@app.command()
def observe(
    watch: Annotated[bool, typer.Option("--watch", help="Go on observing until Ctrl-C.")] = False,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Measure every promised service level, note incidents, and tell owners; once, or every MESH_OBSERVE_INTERVAL_S.

    Example: mesh observe --watch
    """
    from mesh_pipelines.cli.observing import run_observe

    raise typer.Exit(run_observe(_settings(), _platform, Output(output_format), watch=watch))


@app.command()
def status(output_format: OutputFormat = Format.TABLE) -> None:
    """Show where every product stands: version, rows, rules, quarantine, lag."""
    from mesh_pipelines.observe.status import status as step

    output = Output(output_format)
    records = [record(one) for one in step(_platform())]
    output.records(records, STATUS_COLUMNS)
    problems = [one for one in records if one["problem"]]
    for one in problems:
        output.say(f"{one['product']}: {one['problem']}")
    output.say(f"{len(records)} products, {len(problems)} with a problem")


@app.command()
def doctor(output_format: OutputFormat = Format.TABLE) -> None:
    """Show what a command would meet: libraries, how landing is done, and what broker, registry and catalog answer."""
    from mesh_pipelines.observe.doctor import doctor as step

    output = Output(output_format)
    findings = [record(one) for one in step(_platform())]
    output.records(findings, ("what", "found", "next_step"))
    wrong = [one["what"] for one in findings if one["next_step"]]
    if wrong:
        output.say(f"not as needed: {', '.join(wrong)}")
        raise typer.Exit(3)
    output.say("all is as needed; next: mesh status")


STATUS_COLUMNS = (
    *("product", "version", "rows", "rules_passed", "rules_failed", "rules_warned"),
    *("quarantined", "redriven", "lag", "published_at"),
)


@app.command()
def versions(name: OneProduct, output_format: OutputFormat = Format.TABLE) -> None:
    """List a product's published versions, newest first."""
    from mesh_pipelines.lake.versions import Versions

    output, platform = Output(output_format), _platform()
    product = platform.product(_fqn(name))
    history = Versions(platform.catalog, product)
    known, tags = history.all(), history.tags()
    output.records(
        [
            {
                **_version_record(one),
                "tags": " ".join(sorted(tag for tag, at in tags.items() if at == one.number)) or None,
            }
            for one in reversed(known)
        ]
    )
    output.say(f"{len(known)} versions of {product.fqn}; read one with mesh query --version {product.fqn}=N")


def _version_record(version: Any) -> dict[str, Any]:
    offsets = version.position.partitions if version.position else {}
    return {
        "version": version.number,
        "published_at": version.published_at,
        "rows": version.rows,
        "quarantined": version.quarantined,
        "contract": version.contract_version,
        "rules": version.verdict.rules if version.verdict else None,
        "warned": version.verdict.warned if version.verdict else None,
        "offsets": " ".join(f"{number}:{offset.next_offset}" for number, offset in sorted(offsets.items())) or None,
        "inputs": " ".join(f"{name}@{number}" for name, number in version.input_versions.items()) or None,
        "withdrawn": version.withdrawn,
    }


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT, naming products as domain.product.")],
    output_format: Annotated[str, typer.Option("--output", "-o", help="table, csv, json or arrow.")] = "table",
    version: Annotated[
        list[str] | None, typer.Option("--version", help="Read a product at a version: domain.product=N. Repeatable.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=_MOST, help="Rows shown in a table; the other formats give all.")
    ] = 50,
) -> None:
    """Query published versions with DuckDB's SQL.

    Example: mesh query "SELECT carrier, count(*) FROM operations.flights GROUP BY 1"
    """
    from mesh_pipelines.cli.query_rows import FORMATS, write_rows
    from mesh_pipelines.serve.query import query as run_query

    if output_format not in FORMATS:
        raise UsageError(f"--output is {output_format!r}; use {', '.join(FORMATS)}", next_step="mesh query --help")
    platform = _platform()
    reader = run_query(platform.settings, platform.products, platform.catalog, sql, _pins(version))
    write_rows(reader, output_format, limit, Output())


quarantine = typer.Typer(
    help="The events a product did not take over: list them, show one, bring back those that pass now.",
    no_args_is_help=True,
)
app.add_typer(quarantine, name="quarantine")


@quarantine.command("list")
def list_quarantined(
    name: OneProduct,
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="At most this many, newest first.")] = 50,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """List the events a product did not take over: where, why, and their bytes."""
    from mesh_pipelines.repair.quarantine import quarantined

    output, platform = Output(output_format), _platform()
    product = platform.product(_fqn(name))
    rows = quarantined(platform, product, limit).to_pylist()
    output.records([{key.removeprefix("_"): value for key, value in row.items()} for row in rows])
    output.say(
        f"{len(rows)} events shown; once what was wrong is mended: mesh quarantine redrive {product.fqn}"
        if rows
        else "nothing is in quarantine"
    )


@quarantine.command("show")
def show_quarantined(
    name: OneProduct,
    at: Annotated[str, typer.Argument(help="Where the event lies, as PARTITION:OFFSET.")],
    generation: Annotated[
        int | None, typer.Option(min=0, help="Of a stream that was resumed; default: the present one.")
    ] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Show all of one quarantined event: its bytes, why it is held, and what it decodes to now.

    Example: mesh quarantine show weather.observations 0:1048
    """
    from mesh_pipelines.repair.quarantine import show as step

    output, platform = Output(output_format), _platform()
    partition, _, offset = at.partition(":")
    if not _NUMBER.fullmatch(partition) or not _NUMBER.fullmatch(offset):
        raise UsageError(f"{at} is no place on a stream", next_step="write it as PARTITION:OFFSET, say 0:1048")
    event = step(platform, platform.product(_fqn(name)), int(partition), int(offset), generation)
    raw = event["_raw"]
    facts = {key.removeprefix("_"): value for key, value in event.items() if key not in ("now", "decoded")}
    facts |= {"raw_hex": raw.hex(" ") if raw is not None else None, "now": event["now"]["fate"]}
    facts |= {"now_reason": event["now"]["reason"], "decoded": event["decoded"]}
    if output_format is Format.JSON:
        output.records([facts])
    else:
        output.records([{"what": key, "value": value} for key, value in facts.items()])


@quarantine.command("redrive")
def redrive_quarantined(name: OneProduct, output_format: OutputFormat = Format.TABLE) -> None:
    """Bring back, at their original offsets, the events that decode and pass the rules now; the others stay."""
    from mesh_pipelines.repair.quarantine import redrive as step

    output, platform = Output(output_format), _platform()
    product = platform.product(_fqn(name))
    with output.progress() as bars:
        task = bars.add_task(f"redriving {product.fqn}", total=None)
        done = step(platform, product, lambda at, total: bars.update(task, completed=at, total=total))
    output.records([record(done)])
    output.say(
        f"{done.came_back:,} events came back; next: mesh run {product.fqn}"
        if done.came_back
        else "nothing came back: what is held still fails"
    )


@app.command()
def rollback(
    name: OneProduct,
    to: Annotated[int, typer.Option(min=1, help="The version that readers are to see.")],
    why: Annotated[str, typer.Option(help="Kept with the versions that are withdrawn.")] = "",
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Take readers back to an earlier version; later ones are marked, and the next one goes on from the stream.

    Example: mesh rollback operations.flights --to 12 --why "wrong delays since noon"
    """
    from mesh_pipelines.repair.rollback import rollback as step

    output, platform = Output(output_format), _platform()
    product = platform.product(_fqn(name))
    version = step(platform, product, to, why)
    output.records([_version_record(version)])
    output.say(f"readers of {product.fqn} see version {version.number}; next: mend the fault, then mesh run")


@app.command()
def tag(
    name: OneProduct,
    version: Annotated[int, typer.Argument(min=0, help="A published version; 0 takes the tag away.")],
    label: Annotated[str, typer.Argument(help="The tag: letters, digits, dots, dashes and underscores.")],
) -> None:
    """Keep a version for good under a name, whatever upkeep does; `mesh tag PRODUCT 0 NAME` lets it go again.

    Example: mesh tag insights.punctuality 12 report-2013
    """
    from mesh_pipelines.lake.versions import Versions

    output, platform = Output(), _platform()
    product = platform.product(_fqn(name))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", label):
        raise UsageError(f"{label!r} is no tag", next_step="use up to 64 letters, digits, dots, dashes, underscores")
    versions = Versions(platform.catalog, product)
    if version:
        versions.tag(version, label)
        output.say(f"version {version} of {product.fqn} is kept as {label}")
    else:
        versions.untag(label)
        output.say(f"{product.fqn} has no tag {label} any more")


class Source(StrEnum):
    """What a rebuild reads."""

    LOG = "log"
    TOPIC = "topic"


@app.command()
def rebuild(
    name: OneProduct,
    version: Annotated[
        int | None, typer.Option(min=1, help="The version to rebuild; default: the published one.")
    ] = None,
    source: Annotated[
        Source, typer.Option("--from", help="log: recompute a version. topic: read the log itself anew.")
    ] = Source.LOG,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Recompute a version from the log, or the log from its topic; compare, and publish what is right if they differ.

    From the log (a derived product: from its pinned inputs) every row is compared with what was there. From the topic
    every event is compared with the log's; it is refused where the topic no longer has all of them. What differed
    stays readable by its version's number.

    Example: mesh rebuild operations.flights --from topic
    """
    output, platform = Output(output_format), _platform()
    product = platform.product(_fqn(name))
    if source is Source.TOPIC:
        if version is not None:
            raise UsageError("a log is read anew as a whole: leave out --version", next_step="mesh rebuild --help")
        _rebuild_from_topic(output, platform, product)
    else:
        _rebuild_from_log(output, platform, product, version)


def _rebuild_from_log(output: Output, platform: Any, product: Any, version: int | None) -> None:
    from mesh_pipelines.repair.upkeep import rebuild as step

    done = step(platform, product, number=version)
    output.records([record(done)])
    match done.identical:
        case True:
            output.say(f"version {done.version} is what it should be")
        case None:
            output.say(f"version {done.version} could not be read, and can be again")
        case _ if done.published_as:
            output.say(
                f"version {done.version} lacked {done.missing:,} rows and had {done.surplus:,} wrong ones; readers see "
                f"version {done.published_as}; next: mesh run, for what is derived from it"
            )
        case _:
            output.say(f"version {done.version} differs from what it should be; it was left as it is")
            raise typer.Exit(1)


def _rebuild_from_topic(output: Output, platform: Any, product: Any) -> None:
    from mesh_pipelines.repair.from_topic import reread as step

    with output.progress() as bars:
        task = bars.add_task(f"reading {product.fqn} anew", total=None)
        done = step(platform, product, on_progress=lambda at, total: bars.update(task, completed=at, total=total))
    output.records([record(done)])
    if not (done.lacking or done.changed or done.damaged):
        output.say(f"{done.events:,} events are the same in log and topic; nothing was changed")
        return
    found = f"{done.lacking:,} events lacked, {done.changed:,} differed, {done.damaged} files could not be read"
    seen = f"readers see version {done.published_as}" if done.published_as else "no version was published for it"
    output.say(f"{found}; the log is what its topic says now; {seen}; next: mesh run")


@app.command()
def docs(
    name: OneProduct,
    version: Annotated[int | None, typer.Option(min=1, help="Only the audits of this version.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder; default: docs/PRODUCT under the home folder.")] = None,
) -> None:
    """Build Great Expectations' Data Docs of a product's audits, to be read without a network.

    Example: mesh docs operations.flights --out flights-docs
    """
    from mesh_pipelines.observe.audit_docs import docs as step

    output, platform = Output(), _platform()
    page = step(platform, platform.product(_fqn(name)), version=version, folder=out)
    output.say(f"wrote {page}; next: open it in a browser")


@app.command()
def compact(names: Products = None, output_format: OutputFormat = Format.TABLE) -> None:
    """Merge small files of the logs; what any version reads stays the same."""
    from mesh_pipelines.repair.upkeep import compact as step

    output, platform = Output(output_format), _platform()
    done = [record(step(platform, product)) for product in _chosen(platform, names)]
    output.records(done, ("product", "files_before", "files_after", "seconds"))
    output.say(f"{sum(one['files_before'] - one['files_after'] for one in done)} files fewer; next: mesh expire")


@app.command()
def expire(
    names: Products = None,
    keep: Annotated[int, typer.Option(min=1, help="Versions of derived products whose rows are kept.")] = 20,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Drop table snapshots and files that no kept version needs."""
    from mesh_pipelines.repair.upkeep import expire as step

    output, platform = Output(output_format), _platform()
    done = [record(step(platform, product, keep)) for product in _chosen(platform, names)]
    output.records(done, ("product", "snapshots_expired", "files_removed", "seconds"))
    output.say(f"{sum(one['snapshots_expired'] for one in done)} snapshots dropped")


@app.command()
def up(
    services: Annotated[bool, typer.Option("--services", help="Only Kafka and the schema registry.")] = False,
) -> None:
    """Start Kafka, the schema registry, Dagster and the portal on this machine, until Ctrl-C."""
    from mesh_pipelines.cli.stage import run_up

    raise typer.Exit(run_up(_settings(), Output(), services_only=services))


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Replay January, publish it, print the products, stop.")] = False,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds of 2013 per second; as fast as it goes when not given.")
    ] = None,
) -> None:
    """Run the demo mesh: services, Dagster, the portal, contracts, and New York's flights of 2013."""
    from mesh_pipelines.cli.stage import run_demo

    raise typer.Exit(run_demo(_settings(), Output(), once=once, speed=speed))


@app.command()
def portal(
    observe: Annotated[
        bool, typer.Option("--observe/--no-observe", help="Also observe the mesh; no other process has to then.")
    ] = True,
    link: Annotated[
        bool, typer.Option("--link", help="Only print a link that signs you in, good for an hour.")
    ] = False,
) -> None:
    """Serve the web portal: catalog, quality dashboard, service levels, JSON API, until Ctrl-C."""
    from mesh_pipelines.cli.stage import run_portal

    raise typer.Exit(run_portal(_settings(), Output(), observe=observe, link_only=link))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("mesh-pipelines"))
        raise typer.Exit


def _settings() -> Any:
    from mesh_pipelines.settings import Settings

    return Settings.load()


def _platform(*, strict: bool = False) -> Any:
    """The platform; strict refuses to go on past a broken contract."""
    from mesh_pipelines.platform import Platform

    platform = Platform.open(_settings())
    if not platform.products and not platform.broken:
        raise UsageError(
            f"there is no contract under {platform.settings.assets}",
            next_step="mesh init DOMAIN/PRODUCT, or set MESH_ASSETS",
        )
    if strict:
        for error in platform.broken.values():
            raise error
    return platform


def _chosen(platform: Any, names: list[str] | None) -> list[Any]:
    """The products named, or all, each after its inputs."""
    wanted = {platform.product(_fqn(name)).fqn for name in names or ()}
    return [product for product in platform.in_order if not wanted or product.fqn in wanted]


def _fqn(name: str) -> str:
    return name.strip("/").replace("/", ".")


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


def _pins(given: list[str] | None) -> dict[str, int]:
    pins: dict[str, int] = {}
    for text in given or ():
        name, _, number = text.rpartition("=")
        if not name or not _NUMBER.fullmatch(number):
            raise UsageError(f"--version {text!r} is not domain.product=N", next_step="mesh query --help")
        pins[_fqn(name)] = int(number)
    return pins


def _relative(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def invoke(arguments: list[str] | None = None) -> int:
    """Run the command; every intended error becomes a line on stderr and an exit code."""
    try:
        app(args=arguments)
    except MeshError as error:
        Output().error(error)
        return error.exit_code
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        Output().err.print("interrupted: what was committed stays, and the same command goes on from there")
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("MESH_DEBUG"):
            raise
        from mesh_pipelines.lake.storage import fault_of

        if fault := fault_of(error):
            Output().error(fault)
            return fault.exit_code
        Output().err.print(
            f"M000 unexpected: {type(error).__name__}: {plain(error)}\n  next: MESH_DEBUG=1 shows where", markup=False
        )
        return 1
    return 0


def main() -> None:
    """The console script."""
    collect_rarely()
    code = invoke()
    sys.stdout.flush()
    sys.stderr.flush()
    # Leave without tearing the interpreter down: DuckDB's bindings report what other libraries still hold at that point
    # as leaks, dozens of lines that mean nothing to the user.
    os._exit(code)
