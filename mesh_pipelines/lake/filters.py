"""Row filters of scans. pyiceberg's own take positional arguments that their pydantic signatures do not show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression


def equal(column: str, value: object) -> BooleanExpression:
    """Rows whose value is this one."""
    return _made("EqualTo", column, value)


def at_least(column: str, value: object) -> BooleanExpression:
    """Rows whose value is not less than this one."""
    return _made("GreaterThanOrEqual", column, value)


def one_of(column: str, values: Iterable[object]) -> BooleanExpression:
    """Rows whose value is one of these."""
    return _made("In", column, list(values))


def none_of(column: str, values: Iterable[object]) -> BooleanExpression:
    """Rows whose value is not one of these."""
    return _made("NotIn", column, list(values))


def all_of(*filters: BooleanExpression) -> BooleanExpression:
    """Rows that pass each of these; at least two."""
    return _made("And", *filters)


def _made(kind: str, *arguments: Any) -> BooleanExpression:
    from pyiceberg import expressions

    return getattr(expressions, kind)(*arguments)
