"""The program ``mesh``: its help, how verbs join it, and what several verbs share.

A verb joins by the decorator ``verb``, which asks for all that its help must say: its group, an example, and what exit
code 1 means. Typer groups commands only where rich prints the help, and rich takes as long to load as all the rest of
``mesh --help``; ``GroupedHelp`` prints the same groups as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from mesh_pipelines.cli.output import Format
from mesh_pipelines.contract.read.contract_file import LOOKED_FOR, misplaced
from mesh_pipelines.errors import UsageError

if TYPE_CHECKING:
    from mesh_pipelines.contract.model import DataProduct
    from mesh_pipelines.platform import Platform
    from mesh_pipelines.settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])

Products = Annotated[list[str] | None, typer.Argument(help="Products as domain.product; default: all of them.")]
OneProduct = Annotated[str, typer.Argument(help="A product as domain.product.")]
OutputFormat = Annotated[Format, typer.Option("--output", "-o", help="table for people, json for programs.")]

# The most rows that --limit takes.
MOST_ROWS = 1_000_000_000
# A version, a partition or an offset: 64 bits at most.
NUMBER = re.compile(r"[0-9]{1,18}")

# Letters of a command's first sentence that help shows; it folds what is wider than the terminal.
_WHOLE_SENTENCE = 200

# What every command may end with; a verb says what 1 means for it.
_EXIT_CODES = {
    0: "all went well",
    1: "a promise does not hold, or something unexpected happened",
    2: "wrong use: an argument, a setting or a name",
    3: "something outside does not work: broker, registry, catalog, disk",
    130: "interrupted; run the same command to go on from what was committed",
}


class Group(StrEnum):
    """What a verb is for; ``mesh --help`` lists the groups in this order."""

    DISCOVER = "Discover what there is"
    CREATE = "Create data products"
    RUN = "Run products by hand"
    REPAIR = "Repair data"
    OPERATE = "Operate the mesh"


class GroupedHelp(TyperGroup):
    """A group of commands whose help lists them by what they are for."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one list of commands per ``Group``."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        widest = max(len(name) for name, _ in commands)
        for group in Group:
            rows = [
                (name.ljust(widest), command.get_short_help_str(_WHOLE_SENTENCE))
                for name, command in commands
                if command and getattr(command, "rich_help_panel", None) == group
            ]
            if rows:
                with formatter.section(group):
                    formatter.write_dl(rows)


app = typer.Typer(
    name="mesh",
    cls=GroupedHelp,
    help="An event-driven data mesh: contracts in, audited event streams and tables out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    rich_markup_mode=None,
)


def verb(
    group: Group, *, example: str, fails: str | None = None, name: str | None = None, on: typer.Typer = app
) -> Callable[[Function], Function]:
    """Make a function a command of ``on``, with an example and its exit codes in its help.

    ``fails`` is what exit code 1 means for this command, where it means something of its own.
    """
    codes = {**_EXIT_CODES, **({1: fails} if fails else {})}
    lines = "\n".join(f"  {code:<4} {text}" for code, text in codes.items())
    # \b keeps the lines of a paragraph as they are.
    return on.command(name, epilog=f"\b\nExample:\n  {example}\n\n\b\nExit codes:\n{lines}", rich_help_panel=group)


def settings() -> Settings:
    """The settings of this process, which from now on creates files for their owner, or the group that they name."""
    from mesh_pipelines.local.private import keep_private
    from mesh_pipelines.settings import Settings

    found = Settings.load()
    if said := keep_private(found):
        typer.echo(said, err=True)
    return found


def platform() -> Platform:
    """The platform.

    Raises:
        UsageError: no contract was found.
    """
    from mesh_pipelines.platform import Platform

    opened = Platform.open(settings())
    if not opened.proposed and not opened.broken and not opened.fileless:
        raise no_contract(opened.settings.assets)
    return opened


def no_contract(assets: Path) -> UsageError:
    """That there is no contract in any product's folder: what was looked at, and where one lies instead."""
    looked = f"no contract was found under {assets}" + ("" if assets.is_dir() else ", which is not a folder")
    looked += f"; looked for DOMAIN/PRODUCT/ with {LOOKED_FOR}"
    elsewhere = next(misplaced(assets, 1, 2, 4), None)
    if elsewhere is None:
        return UsageError(looked, next_step="mesh init DOMAIN/PRODUCT, or set MESH_ASSETS")
    depth = len(elsewhere.relative_to(assets).parts)
    # A product's contract is three levels below: the folder that would make it so, where there is one.
    suggested = {2: assets.parent, 4: elsewhere.parents[2]}.get(depth)
    move = f"put {elsewhere} in a folder DOMAIN/PRODUCT"
    return UsageError(
        f"{looked}; {elsewhere} is in no such folder",
        next_step=f"set MESH_ASSETS={suggested}, or {move}" if suggested else move,
    )


def chosen(opened: Platform, names: list[str] | None) -> list[DataProduct]:
    """The products named, or all that have a file, each after its inputs."""
    from mesh_pipelines.platform import ordered

    if not names:
        return list(opened.in_order)
    return list(ordered({product.fqn: product for name in names for product in [opened.product(fqn(name))]}))


def proposals(opened: Platform, names: list[str] | None) -> list[str]:
    """The names of the contracts to look at: those named, or all that have a file, sound or not.

    Raises:
        UnknownProduct: a product that was named has no file.
    """
    for name in names or ():
        opened.proposal(fqn(name))
    return [fqn(name) for name in names] if names else [*opened.proposed, *opened.broken]


def fqn(name: str) -> str:
    """A product's full name, however it was typed: ``domain/product`` (a folder) or ``domain.product``."""
    return name.strip("/").replace("/", ".")


def relative(file: Path) -> Path:
    """A file as seen from the current folder, where it lies under it."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
