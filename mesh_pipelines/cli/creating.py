"""Verbs that make and change data products: a folder, a check, a plan, and what the plan does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesh_pipelines.cli.output import Format, Output, record
from mesh_pipelines.cli.program import (
    Group,
    OutputFormat,
    Products,
    fqn,
    no_contract,
    platform,
    proposals,
    relative,
    settings,
    verb,
)
from mesh_pipelines.contract.read.contract_file import misplaced
from mesh_pipelines.counted import counted

if TYPE_CHECKING:
    from mesh_pipelines.plan.actions import Action
    from mesh_pipelines.plan.draft import Plan
    from mesh_pipelines.platform import Platform

_SETTINGS_FILE = """\
# Settings of this mesh: every MESH_ variable in lower case and without MESH_; the environment wins.
# Relative paths are relative to this file.
assets = "assets"
home = ".mesh"

# Without these, mesh up starts Kafka and a schema registry on this machine.
# bootstrap_servers = "broker.example.com:9092"
# schema_registry_url = "https://registry.example.com"
"""
_NO_CHANGES = "nothing to do: everything is as the contracts say"


@verb(Group.CREATE, example="mesh init insights/busiest_routes --input operations.flights")
def init(
    name: Annotated[str, typer.Argument(help="The new product, as domain/product.")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="An input; the product is then derived. Repeatable.")
    ] = None,
    owner: Annotated[str, typer.Option(help="The owner's username or e-mail.")] = "owner@example.com",
) -> None:
    """Make a product's folder with a first contract that lints.

    In a folder without contracts it also writes mesh.toml, so that commands work from every folder below.
    """
    from mesh_pipelines.contract.scaffold import scaffold
    from mesh_pipelines.local.private import for_others

    output, known = Output(), settings()
    begins = known.config is None and not known.assets.exists() and known.assets == Path.cwd() / "assets"
    with for_others():
        files = scaffold(known.assets, name, inputs=inputs or (), owner=owner)
        if begins:
            files = [*files, _write_settings_file(Path.cwd())]
    for file in files:
        output.say(f"wrote {relative(file)}")
    output.say(f"next: describe the product there, then: mesh lint {fqn(name)}")


def _write_settings_file(folder: Path) -> Path:
    file = folder / "mesh.toml"
    file.write_text(_SETTINGS_FILE, encoding="utf-8")
    return file


@verb(Group.CREATE, example="mesh lint operations.flights", fails="a contract, a rule or a transform has faults")
def lint(
    names: Products = None,
    write: Annotated[
        bool, typer.Option("--write", help="Also write the expectation suites beside the contracts.")
    ] = False,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Check contracts, rules and transforms offline, and name every fault with its file and line."""
    from mesh_pipelines.local.private import for_others
    from mesh_pipelines.plan import lint as step
    from mesh_pipelines.platform import Platform

    output, mesh = Output(output_format), Platform.open(settings())
    assets = mesh.settings.assets
    if not mesh.proposed and not mesh.broken:
        output.error(no_contract(assets))
        raise typer.Exit(1)
    results = step.lint(mesh, map(fqn, names or ()), strays=() if names else misplaced(assets, 1, 2))
    faults = [replace(fault, file=relative(fault.file)) for one in results for fault in one.faults]
    if output_format is Format.JSON:
        output.records([{**record(one), "sound": not one.faults} for one in results])
    if faults:
        output.say("\n".join(map(str, faults)))
    for one in results:
        if one.unbound:
            inputs = ", ".join(one.unbound)
            output.say(f"{one.product}: its SQL was not checked, because the contract of {inputs} has faults")
        if one.not_checked:
            output.say(f"{one.product}: not checked here: {', '.join(one.not_checked)}")
    if write and not faults:
        with for_others():
            written = step.write_suites(mesh)
        for product in written:
            output.say(f"wrote the expectations of {product}")
    rules = sum(one.rules for one in results)
    if faults:
        faulty = sum(bool(one.faults) for one in results)
        output.say(f"{counted(len(faults), 'fault')} in {faulty} of {counted(len(results), 'contract')}")
        raise typer.Exit(1)
    unchecked = sum(len(one.not_checked) for one in results)
    beside = f", {counted(unchecked, 'promise is', 'promises are')} not checked here" if unchecked else ""
    of_rules = f"with {counted(rules, 'rule')}"
    sound = counted(len(results), f"contract {of_rules} is", f"contracts {of_rules} are")
    output.say(f"{sound} sound{beside}; next: mesh apply")


TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Change topics that mesh apply did not create, too, and make them its own.")
]


@verb(Group.CREATE, example="mesh plan operations.flights", fails="a change is refused, or a contract has faults")
def plan(names: Products = None, take_over: TakeOver = False, output_format: OutputFormat = Format.TABLE) -> None:
    """Print what `mesh apply` would create and change, and do nothing."""
    _plan(names, Output(output_format), take_over=take_over)


@verb(Group.CREATE, example="mesh apply operations.flights", fails="a change is refused, or a contract has faults")
def apply(
    names: Products = None,
    take_over: TakeOver = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as mesh plan.")] = False,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Create the topics, schemas and tables that the contracts need; refuse changes that would lose data."""
    from mesh_pipelines.plan.actions import describe
    from mesh_pipelines.plan.apply import execute
    from mesh_pipelines.plan.draft import draft

    output = Output(output_format)
    if dry_run:
        _plan(names, output, take_over=take_over)
        return
    mesh = platform()
    drafted = draft(mesh, proposals(mesh, names), take_over=take_over)
    done: list[Action] = []

    def tell(action: Action) -> None:
        done.append(action)
        output.say(describe(action))

    failed = execute(mesh, drafted.actions, on_done=tell)
    _print_actions(done, output, done=True)
    _say_notes(drafted, output)
    _say_stopped(mesh, output)
    if done:
        output.say(f"{len(done)} changes made; next: mesh run")
    for error in failed.values():
        output.error(error)
    _end(drafted, output)
    if failed:
        raise typer.Exit(max(error.exit_code for error in failed.values()))


def _plan(names: list[str] | None, output: Output, *, take_over: bool) -> None:
    from mesh_pipelines.plan.actions import describe
    from mesh_pipelines.plan.draft import draft

    mesh = platform()
    drafted = draft(mesh, proposals(mesh, names), take_over=take_over)
    _print_actions(drafted.actions, output, done=False)
    for action in drafted.actions:
        output.say(f"would {describe(action)}")
    _say_notes(drafted, output)
    _say_stopped(mesh, output)
    if drafted.actions:
        output.say(f"{len(drafted.actions)} changes; next: mesh apply")
    _end(drafted, output)


def _end(drafted: Plan, output: Output) -> None:
    """Say what is refused, and exit with 1 where anything is; the other products are not held up by it."""
    for error in (error for errors in drafted.refused.values() for error in errors):
        output.error(error)
    if drafted.refused:
        output.say(f"nothing was changed for {', '.join(sorted(drafted.refused))}")
        raise typer.Exit(1)
    if not drafted.actions:
        output.say(_NO_CHANGES)


def _say_notes(drafted: Plan, output: Output) -> None:
    """Say what owners should know, and what could not be looked at."""
    for note in drafted.notes:
        output.say(f"note: {note}")


def _say_stopped(mesh: Platform, output: Output) -> None:
    """Say whose landing is stopped, which no contract changes."""
    from mesh_pipelines.plan.apply import stopped

    for reason in stopped(mesh, mesh.in_order):
        output.say(f"landing is stopped: {reason}")


def _print_actions(actions: Sequence[Action], output: Output, *, done: bool) -> None:
    """The actions as records, for programs; people get a sentence each."""
    from mesh_pipelines.plan.actions import describe

    if output.form is Format.JSON:
        output.records(
            [{"action": type(action).__name__, "does": describe(action), "done": done} for action in actions]
        )
