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

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from mesh_pipelines.errors import MeshError

_WIDTH_OF_A_FILE = 180
# Columns that are copied into the next command, and so are never broken over lines.
_WHOLE = ("product", "version")
_GAP = "  "


class Format(StrEnum):
    """How records are printed."""

    TABLE = "table"
    JSON = "json"


class Column:
    """A column of a table: its name, its values as text, and how wide it is on a terminal."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = visible(name)
        self.numeric = all(isinstance(value, int | float | None) for value in values)
        self.cells = [cell(value) for value in values]
        self.width = max(map(cell_len, (self.name, *self.cells)))

    def aligned(self) -> Generator[str]:
        """The name, then the values, each filled up to the column's width."""
        for text in (self.name, *self.cells):
            space = " " * (self.width - cell_len(text))
            yield space + text if self.numeric else text + space


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
        shown = [Column(name, [record.get(name) for record in records]) for name in names]
        if sum(column.width for column in shown) + len(_GAP) * (len(names) - 1) <= self.out.width:
            self._print_aligned(shown)
        else:
            self._print_folded(shown)

    def _print_aligned(self, columns: Sequence[Column]) -> None:
        """A table that fits, each row a line: the library that folds cells takes a millisecond for a row."""
        header, *lines = (_GAP.join(cells).rstrip() for cells in zip(*(one.aligned() for one in columns), strict=True))
        self.out.out(header, style="bold", highlight=False)
        self.out.out("\n".join(lines), highlight=False)

    def _print_folded(self, columns: Sequence[Column]) -> None:
        """A table with cells broken over lines, where it is wider than the terminal."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for one in columns:
            justify = "right" if one.numeric else "left"
            table.add_column(escape(one.name), justify=justify, overflow="fold", no_wrap=one.name in _WHOLE)
        for cells in zip(*(one.cells for one in columns), strict=True):
            table.add_row(*map(escape, cells))
        self.out.print(table)

    def say(self, text: str) -> None:
        """A line or more for people; JSON readers do not get them."""
        if self.form is Format.TABLE:
            self.out.out(_lines(text), highlight=False)

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
            return visible(text if len(text) <= 60 else f"{text[:60]}...")
        case _:
            return visible(str(value))


def _lines(text: str) -> str:
    return visible(text, "\n")


def visible(text: str, kept: str = "") -> str:
    """Text with what a terminal would act upon written out, but for the characters that are ``kept``."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in kept else one.encode("unicode_escape").decode() for one in text)
