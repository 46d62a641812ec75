"""Where a value may be told: in words, which are stored, logged, sent and shown to people nobody chose.

Rows leave by one door, which masks them for each reader (``serve/door.py``). Words have no such door: a reason of
quarantine lies in a table, an error in a log, a message at a notification's address. So what is in them is decided
where they are made, here and for everybody: a value is told only where its column, with all that this holds at any
depth, is public. A column is judged as a whole, as the door does: parts of lists, maps and objects are not told apart.

What the contract itself says (a default, a list of valid values, a limit) is as public as the contract. It is left out
of words about data all the same: beside an event that was held back it would say what the event had.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from mesh_pipelines.contract.model import Field
from mesh_pipelines.errors import MeshError

_LONGEST = 60
# DuckDB's errors that are not about rows: about a text, found before a row is read, and about files and limits.
_NOT_OF_ROWS = frozenset(
    {
        *("BinderException", "CatalogException", "ParserException", "SyntaxException"),
        *("InterruptException", "IOException", "OutOfMemoryException", "PermissionException"),
    }
)
# Words that quote no value, whatever of: an error's kind, ours, and an engine's about a text, files or limits.
_QUOTES_NONE = re.compile(
    r"\w*(Error|Exception)|(Binder|Catalog|Parser|Syntax|INTERRUPT|IO|Out of Memory|Permission) Error: .*|"
    r"the (query|SQL) .*|[\w.]+ is not installed|the expectation could not be computed|",
    re.DOTALL,
)
# Ours, and clients of services: confluent_kafka calls its module "cimpl".
_WITHOUT_ROWS = frozenset({"mesh_pipelines", "cimpl", "confluent_kafka", "httpx", "httpcore", "requests", "urllib3"})
# What the system and the interpreter raise; what else Python raises (ValueError, KeyError) may quote what it was given.
_OF_PROGRAMS = (OSError, MemoryError, ImportError, NameError, AttributeError, TypeError, AssertionError)


def may_tell(fields: Iterable[Field]) -> bool:
    """Whether values of all these columns may stand in words."""
    return all(field.is_public for field in fields)


def got(field: Field, value: Any) -> str:
    """What a field had, as the end of a sentence on what it must have; nothing where that may not be told."""
    return f", got {str(value)[:_LONGEST]}" if may_tell([field]) else ""


def words(error: BaseException, fields: Iterable[Field], longest: int = 200) -> str:
    """The first line of an error of a library that had values of these columns, or only what kind of error it is."""
    kind = type(error).__name__
    if not _is_plain(error) and not may_tell(fields):
        return kind
    return next(iter(str(error).strip().splitlines()), "")[:longest] or kind


def repeated(said: str, fields: Iterable[Field]) -> str:
    """Words that were stored, as far as they may be told now: when they were made, fields may have been public."""
    if may_tell(fields) or _QUOTES_NONE.fullmatch(said):
        return said
    return "its words may quote values that are not public"


def unquoted(error: Exception, fields: Iterable[Field]) -> Exception:
    """An error on its way to where it is stored, without what a library said in it of values of these columns.

    It is the same error, changed; or another one, where its words cannot be taken from it.
    """
    if may_tell(fields):
        return error
    if isinstance(error, MeshError):
        for cause in _chain(error.__cause__):
            if not _is_plain(cause):
                _leave_out(error, str(cause).strip(), type(cause).__name__)
        return _alone(error)
    if _is_plain(error):
        return _alone(error)
    kind = type(error).__name__
    error.args = ("its words may quote values that are not public",)
    if str(error).strip("'\"") == error.args[0]:
        return _alone(error)
    return _alone(RuntimeError(f"{kind}: its words may quote values that are not public"))


def _is_plain(error: BaseException) -> bool:
    """Whether an error's words are not about rows."""
    if type(error).__module__.partition(".")[0] in _WITHOUT_ROWS:
        return True
    if isinstance(error, OSError) and error.errno is None:
        # Arrow hands on an engine's failure as one of these.
        return False
    return isinstance(error, _OF_PROGRAMS) or type(error).__name__ in _NOT_OF_ROWS


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _leave_out(error: MeshError, said: str, instead: str) -> None:
    """Put another text where an error repeats what its cause said, all of it or the first line."""
    for text in (said, next(iter(said.splitlines()), "")):
        if text:
            error.message = error.message.replace(text, instead)
    error.args = (error.message,)


def _alone(error: Exception) -> Exception:
    """The error without those that it came from: they would be printed with it."""
    error.__cause__, error.__context__, error.__suppress_context__ = None, None, True
    return error
