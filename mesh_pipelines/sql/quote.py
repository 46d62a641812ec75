"""SQL text from values: the one place where an identifier or a literal is quoted.

Both functions are injective: different values never give the same text, and no value can end its own quotes. Guessing
that a value is "already quoted" was ruled out, since that guess is itself an injection.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal
from typing import Any

# What no SQL text carries: it would end there, or is no UTF-8 (a surrogate is left of an argument that was none).
UNCARRIED = re.compile("[\0\ud800-\udfff]")


def quote(identifier: str) -> str:
    """The identifier in double quotes, for DuckDB and standard SQL.

    Raises:
        ValueError: it holds a NUL character or half a surrogate pair, which no SQL text can carry.
    """
    if UNCARRIED.search(identifier):
        raise ValueError("an identifier cannot hold a NUL character or half a surrogate pair")
    return '"' + identifier.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """The value as a SQL literal; a list or tuple becomes a DuckDB list.

    A float is written without a type: it is compared as a decimal with decimals and as a double with doubles.

    Raises:
        ValueError: a string holds a NUL character or half a surrogate pair.
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
    if UNCARRIED.search(value):
        raise ValueError("a SQL string cannot hold a NUL character or half a surrogate pair")
    return "'" + value.replace("'", "''") + "'"
