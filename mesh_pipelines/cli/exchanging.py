"""Verbs that bring contracts in from other tools, and give them out to them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesh_pipelines.cli.output import Format, Output, record
from mesh_pipelines.cli.program import Group, OneProduct, OutputFormat, fqn, platform, relative, settings, verb
from mesh_pipelines.contract.model import EventType
from mesh_pipelines.errors import UsageError

if TYPE_CHECKING:
    from mesh_pipelines.plan.imports.step import Imported


class Wire(StrEnum):
    """The formats of events that an import may be told."""

    AVRO = "avro"
    JSON = "json"


@verb(
    Group.CREATE,
    name="import",
    example="mesh import orders.odcs.yaml --domain shop --owner shop@example.com",
    fails="a schema object became no product",
)
def import_(
    files: Annotated[list[Path], typer.Argument(help="ODCS documents of 3.0 to 3.2.", exists=True, dir_okay=False)],
    domain: Annotated[str, typer.Option(help="The products' domain; default: the document's.")] = "",
    owner: Annotated[str, typer.Option(help="The owner's username or e-mail; default: the document's.")] = "",
    event_type: Annotated[
        EventType | None, typer.Option(help="What events say; default: state where there is a key, else measurement.")
    ] = None,
    wire_format: Annotated[
        Wire | None, typer.Option(help="The events' format; default: that of the document's server, else avro.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over contracts that are there.")] = False,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Make products of contracts that were written for other tools, one of each schema object.

    It lists what was changed, kept aside or left out, and why. Each contract that it writes lints.
    """
    from mesh_pipelines.local.private import for_others
    from mesh_pipelines.plan.imports.bring import Wanted
    from mesh_pipelines.plan.imports.step import import_files

    output, assets = Output(output_format), settings().assets
    wanted = Wanted(domain, owner, event_type or "", wire_format or "")
    found: list[Imported] = []
    with output.progress() as bars, for_others():
        task = bars.add_task("importing", total=len(files))
        for one in import_files(files, assets, wanted, replace=replace):
            found.append(one)
            bars.update(task, completed=files.index(one.source), description=one.source.name)
    if output_format is Format.JSON:
        output.records([record(one) for one in found])
    for one in found:
        called = f"{one.object} of {one.source.name}" if one.object else one.source.name
        output.say(f"wrote {relative(one.written)}: {called}" if one.written else f"no product: {called}")
        for line in (*one.problems, *one.notes):
            output.say(f"  {line}")
    written = sum(one.written is not None for one in found)
    output.say(f"{written} of {len(found)} are products now; next: mesh lint, then mesh plan")
    if written < len(found):
        raise typer.Exit(1)


@verb(Group.DISCOVER, example="mesh export operations.flights --out flights.odcs.yaml")
def export(
    name: OneProduct,
    out: Annotated[Path | None, typer.Option(help="The file; default: print it.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over the file if it is there.")] = False,
) -> None:
    """Give a product's contract as a plain ODCS document, with the schema and the servers that other tools ask for."""
    from mesh_pipelines.plan.exports import exported

    output, mesh = Output(), platform()
    text = exported(mesh.settings, mesh.product(fqn(name)))
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists() and not replace:
        raise UsageError(f"{out} exists", next_step="name another file, or --replace it")
    out.write_text(text, encoding="utf-8")
    output.say(f"wrote {out}; next: datacontract lint {out}")
