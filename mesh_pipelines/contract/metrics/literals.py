"""A contract's values as SQL in the type of the column they are compared with.

A value that the column's type cannot hold (``N/A`` among the integers) would never be met: the rule would look like a
promise and promise nothing, so it is a fault. Instants are written with their zone, which keeps a rule's meaning
independent of the session that runs it.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.contract.model import FieldType, Kind
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.contract.values import parse
from mesh_pipelines.sql.quote import literal

INTEGERS = frozenset({Kind.INT, Kind.LONG})
BINARY_FRACTIONS = frozenset({Kind.FLOAT, Kind.DOUBLE})
NUMBERS = INTEGERS | BINARY_FRACTIONS | {Kind.DECIMAL}
TEMPORALS = frozenset({Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LOCAL})
TEXTS = frozenset({Kind.STRING, Kind.UUID})
LISTABLE = NUMBERS | TEMPORALS | TEXTS | {Kind.BOOLEAN}


def member(value: Any, field_type: FieldType) -> str:
    """A value that the column may hold.

    Raises:
        Uncompilable: the column cannot hold it.
    """
    try:
        text = literal(parse(value, field_type))
    except ValueError as error:
        raise Uncompilable(f"must be of type {field_type.kind}, got {value!r}", f"write {error}") from error
    return _cast(text, field_type) if field_type.kind in BINARY_FRACTIONS else text


def bound(value: Any, field_type: FieldType) -> str:
    """A limit of the column, which need not be a value it can hold: 0.5 is a limit of integers.

    Raises:
        Uncompilable: it cannot be compared with the column.
    """
    if field_type.kind in TEMPORALS:
        return member(value, field_type)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Uncompilable(f"must be a number, got {value!r}", "write a finite number")
    if field_type.kind in BINARY_FRACTIONS:
        return _cast(literal(value), field_type)
    # In full, since an exponent would make it a binary fraction.
    return format(Decimal(str(value)), "f")


def _cast(text: str, field_type: FieldType) -> str:
    """A number as the column's binary fraction, so that 0.1 equals the column's 0.1."""
    return f"CAST({text} AS {duckdb_type(field_type)})"
