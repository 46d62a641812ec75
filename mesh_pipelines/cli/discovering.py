"""Verbs that show what there is: products, versions, rows, audits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mesh_pipelines.cli.failing import Asked, list_failing
from mesh_pipelines.cli.output import Format, Output, record
from mesh_pipelines.cli.program import MOST_ROWS, NUMBER, Group, OneProduct, OutputFormat, fqn, platform, verb
from mesh_pipelines.cli.query_rows import FORMATS, write_rows
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import UsageError

STATUS_COLUMNS = (
    *("product", "health", "version", "rows", "rules_passed", "rules_failed", "rules_warned"),
    "not_checked",
    *("quarantined", "redriven", "lag", "versions_behind", "published_at"),
)


@verb(Group.DISCOVER, example="mesh status --output json", fails="a product is not healthy")
def status(output_format: OutputFormat = Format.TABLE) -> None:
    """Show where every product stands and whether it is healthy: version, rows, rules, quarantine, lag."""
    from mesh_pipelines.observe.status import status as step

    output = Output(output_format)
    found = step(platform())
    output.records([record(one) for one in found], STATUS_COLUMNS)
    for one in found:
        for problem in one.problems:
            output.say(f"{one.product}: {problem}\n  next: {problem.next_step}")
    ill = [one for one in found if not one.is_well]
    output.say(f"{counted(len(found), 'product')}, {len(ill)} not healthy")
    if ill:
        raise typer.Exit(1)


@verb(Group.DISCOVER, example="mesh versions operations.flights")
def versions(name: OneProduct, output_format: OutputFormat = Format.TABLE) -> None:
    """List a product's published versions, newest first."""
    output, mesh = Output(output_format), platform()
    product = mesh.product(fqn(name))
    history = mesh.tables_of(product).versions
    known, tags = history.all(), history.tags()
    output.records(
        [
            {
                **version_record(one),
                "tags": " ".join(sorted(tag for tag, at in tags.items() if at == one.number)) or None,
            }
            for one in reversed(known)
        ]
    )
    output.say(f"{counted(len(known), 'version')} of {product.fqn}; read one with mesh query --version {product.fqn}=N")


def version_record(version: Any) -> dict[str, Any]:
    """A published version as a record for people and programs."""
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


@verb(
    Group.DISCOVER,
    example='mesh query "SELECT carrier, count(*) FROM operations.flights GROUP BY 1"',
)
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT, naming products as domain.product.")],
    output_format: Annotated[str, typer.Option("--output", "-o", help="table, csv, json or arrow.")] = "table",
    version: Annotated[
        list[str] | None, typer.Option("--version", help="Read a product at a version: domain.product=N. Repeatable.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MOST_ROWS, help="Rows shown in a table; the other formats give all.")
    ] = 50,
) -> None:
    """Query published versions with DuckDB's SQL."""
    from mesh_pipelines.platform import Readable
    from mesh_pipelines.serve.query import query as run_query

    if output_format not in FORMATS:
        raise UsageError(
            f"--output must be one of {', '.join(FORMATS)}, got {output_format!r}", next_step="mesh query --help"
        )
    mesh = platform()
    reader = run_query(mesh.settings, Readable(mesh), mesh.catalog, sql, _pins(version))
    write_rows(reader, output_format, limit, Output())


def _pins(given: list[str] | None) -> dict[str, int]:
    pins: dict[str, int] = {}
    for text in given or ():
        name, _, number = text.rpartition("=")
        if not name or not NUMBER.fullmatch(number):
            raise UsageError(f"--version must be domain.product=N, got {text!r}", next_step="mesh query --help")
        pins[fqn(name)] = int(number)
    return pins


@verb(Group.DISCOVER, example="mesh failing operations.flights carrier.required")
def failing(
    name: OneProduct,
    rule: Annotated[str | None, typer.Argument(help="The id of one rule; default: all broken rules.")] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="A version's number; default: the newest candidate.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="At most this many rows, or groups, per rule.")] = 50,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """List the rows that break a product's rules, in its newest candidate or in a version.

    Of a uniqueness rule it lists the groups of rows that share a value, with their events and message keys; of a rule
    about the rows as a whole, the measured value and the promise.
    """
    output, mesh = Output(output_format), platform()
    list_failing(output, mesh, mesh.product(fqn(name)), Asked(version, rule, limit))


@verb(Group.DISCOVER, example="mesh docs operations.flights --out flights-docs")
def docs(
    name: OneProduct,
    version: Annotated[int | None, typer.Option(min=1, help="Only the audits of this version.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder; default: docs/PRODUCT under the home folder.")] = None,
) -> None:
    """Build Great Expectations' Data Docs of a product's audits, readable without a network."""
    from mesh_pipelines.observe.audit_docs import docs as step

    output, mesh = Output(), platform()
    page = step(mesh, mesh.product(fqn(name)), version=version, folder=out)
    output.say(f"wrote {page}; next: open it in a browser")
