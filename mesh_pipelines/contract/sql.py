"""SQL text from values: the one place where an identifier or a literal is quoted.

Both functions are injective: different values never give the same text, and no value can end its own quotes. Guessing
that a value is "already quoted" was ruled out, since that guess is itself an injection.
"""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any


def quote(identifier: str) -> str:
    """The identifier in double quotes, for DuckDB and standard SQL.

    Raises:
        ValueError: it holds a NUL character, which no SQL text can carry.
    """
    if "\0" in identifier:
        raise ValueError("an identifier cannot hold a NUL character")
    return '"' + identifier.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """The value as a SQL literal; a list or tuple becomes a DuckDB list.

    A float is written without a type: it is compared as a decimal with decimals and as a double with doubles.

    Raises:
        ValueError: a string holds a NUL character.
        TypeError: the type has no literal.
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int() | Decimal():
            return str(value)
        case float():
            return repr(value) if math.isfinite(value) else f"'{value}'::DOUBLE"
        case str():
            return _text(value)
        case dt.datetime():
            kind = "TIMESTAMPTZ" if value.tzinfo else "TIMESTAMP"
            return f"{kind} '{value.isoformat(sep=' ')}'"
        case dt.date():
            return f"DATE '{value.isoformat()}'"
        case dt.time():
            return f"TIME '{value.isoformat()}'"
        case list() | tuple():
            return "[" + ", ".join(literal(item) for item in value) + "]"
        case _:
            raise TypeError(f"no SQL literal for {type(value).__name__}")


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("a SQL string cannot hold a NUL character")
    return "'" + value.replace("'", "''") + "'"
