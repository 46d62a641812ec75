"""Where a value may be told: in words, which are stored, logged, sent and shown to people nobody chose.

Rows leave by one door, which masks them for each reader (``serve/door.py``). Words have no such door: a reason of
quarantine lies in a table, an error in a log, a message at a notification's address. So what is in them is decided
where they are made, here and for everybody: a value is told only where its column, with all that this holds at any
depth, is public. A column is judged as a whole, as the door does: parts of lists, maps and objects are not told apart.

What the contract itself says (a default, a list of valid values, a limit) is as public as the contract. It is left out
of words about data all the same: beside an event that was held back it would say what the event had.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh_pipelines.contract.model import Field

_LONGEST = 60
# DuckDB's errors about a text, found before a row is read: they quote the text. All others may quote rows.
_ABOUT_TEXT = frozenset({"BinderException", "CatalogException", "ParserException", "SyntaxException"})


def may_tell(fields: Iterable[Field]) -> bool:
    """Whether values of all these columns may stand in words."""
    return all(field.is_public for field in fields)


def got(field: Field, value: Any) -> str:
    """What a field had, as the end of a sentence on what it must have; nothing where that may not be told."""
    return f", got {str(value)[:_LONGEST]}" if may_tell([field]) else ""


def words(error: BaseException, fields: Iterable[Field], longest: int = 200) -> str:
    """The first line of an error of a library that had values of these columns, or only what kind of error it is."""
    kind = type(error).__name__
    if kind not in _ABOUT_TEXT and not may_tell(fields):
        return kind
    return next(iter(str(error).strip().splitlines()), "")[:longest] or kind
