"""What a command says: the same records as a table for people or as JSON for programs, and errors apart from both."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from mesh_pipelines.errors import MeshError

_WIDTH_OF_A_FILE = 180
# Columns that are copied into the next command, and so are never broken over lines.
_WHOLE = ("product", "version")


class Format(StrEnum):
    """How records are printed."""

    TABLE = "table"
    JSON = "json"


class Output:
    """Records and verdicts to stdout, progress and errors to stderr."""

    def __init__(self, form: Format = Format.TABLE) -> None:
        self.form = form
        width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
        self.out = Console(soft_wrap=True, highlight=False, width=width)
        self.err = Console(stderr=True, soft_wrap=True, highlight=False)

    def records(self, records: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
        """Print records: as one JSON array, or as a table of ``columns`` (default: all)."""
        if self.form is Format.JSON:
            sys.stdout.write(json.dumps([dict(record) for record in records], default=plain, indent=2) + "\n")
            return
        names = list(columns or (records[0] if records else []))
        if not records or not names:
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in names:
            numeric = all(isinstance(record.get(name), int | float | None) for record in records)
            table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=name in _WHOLE)
        for record in records:
            table.add_row(*(cell(record.get(name)) for name in names))
        self.out.print(table)

    def say(self, text: str) -> None:
        """One line for people; JSON readers do not get it."""
        if self.form is Format.TABLE:
            self.out.print(escape(_lines(text)))

    def error(self, error: MeshError) -> None:
        """An intended error: its code, what is wrong, and what to do next."""
        self.err.print(f"[bold red]{error.code}[/] {escape(_lines(error.message))}")
        if error.next_step:
            self.err.print(f"  next: {escape(_lines(error.next_step))}")

    @contextmanager
    def progress(self) -> Generator[Progress]:
        """Progress bars, on a terminal only."""
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.err,
            disable=not self.err.is_terminal or self.form is Format.JSON,
            transient=True,
        ) as bars:
            yield bars


def record(value: Any) -> dict[str, Any]:
    """A dataclass as a record."""
    return dataclasses.asdict(value)


def plain(value: Any) -> Any:
    """What JSON has no form for, as text."""
    match value:
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case bytes():
            return value.decode("utf-8", errors="backslashreplace")
        case MeshError():
            return {"code": value.code, "message": value.message, "next": value.next_step}
        case Path():
            return str(value)
        case _:
            return str(value)


def cell(value: Any) -> str:
    """A value in a table."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.2f}"
        case bytes():
            text = value.decode("utf-8", errors="backslashreplace")
            return escape(visible(text if len(text) <= 60 else f"{text[:60]}..."))
        case _:
            return escape(visible(str(value)))


def _lines(text: str) -> str:
    return visible(text, "\n")


def visible(text: str, kept: str = "") -> str:
    """Text with what a terminal would act upon written out, but for the characters that are ``kept``."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in kept else one.encode("unicode_escape").decode() for one in text)
