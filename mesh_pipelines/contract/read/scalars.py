"""Where a piece of a text in a YAML file stands in that file: its line and column.

A contract's queries are checked as text, long after the file was parsed, and only a faulty one has to be found again.
So the file is read once more then, and no document carries the place of each of its characters.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.events import ScalarEvent

from mesh_pipelines.contract.read.document import FaultyDocument, read_text

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORD = re.compile(r"\w+|\S")


def place_in(file: Path, line: int, text: str, offset: int) -> tuple[int, int]:
    """The line and column, from 1, of an offset into a scalar with this text, at or after a line of the file.

    YAML folds lines, strips indents and unescapes, so the word at the offset is looked for in the scalar as it is
    written: it is the one that comes after as many of its like. The column is 0 where no such word is found.
    """
    try:
        written = read_text(file)
        scalar = next(
            event
            for event in yaml.parse(written, Loader=_LOADER)
            if isinstance(event, ScalarEvent) and event.value == text and event.end_mark.line + 1 >= line
        )
    except (FaultyDocument, yaml.YAMLError, StopIteration):
        return line, 0
    return _place(written, scalar, offset) or (scalar.start_mark.line + 1, 0)


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """The line and column, from 1, of a character of a text."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _place(written: str, scalar: ScalarEvent, offset: int) -> tuple[int, int] | None:
    word = _WORD.search(scalar.value, offset)
    if word is None:
        return None
    pattern = re.compile(re.escape(word[0]))
    before = sum(1 for found in pattern.finditer(scalar.value) if found.start() < word.start())
    start, end = (_index(written, mark.line, mark.column) for mark in (scalar.start_mark, scalar.end_mark))
    found = [match.start() for match in pattern.finditer(written, start, end)]
    return line_and_column(written, found[before]) if before < len(found) else None


def _index(text: str, line: int, column: int) -> int:
    lines = text.splitlines(keepends=True)
    return sum(map(len, lines[:line])) + column
