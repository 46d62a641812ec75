"""Limits of numbers, dates and times, and multiples of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh_pipelines.contract.metrics import literals
from mesh_pipelines.contract.metrics.metric import (
    Expectation,
    Fields,
    Metric,
    Place,
    Problem,
    not_of_type,
    register,
)
from mesh_pipelines.contract.model import Field, FieldType, Kind, Rule

_LIMITED = "numbers, dates, times, timestamps"
# Of these types the library compares a limit as we do.
_COMPARABLE = (Kind.INT, Kind.LONG, Kind.DOUBLE)


class _Limit(Metric):
    """A comparison with the option's value; a row breaks it where ``broken`` holds between the two."""

    places = (Place.OPTION,)
    types = literals.NUMBERS | literals.TEMPORALS
    broken: str
    # The library's name for the limit, where it has an expectation with the same meaning.
    limit: str = ""

    def option_problems(self, value: Any, field: Field) -> Iterator[Problem]:
        """A limit that is not a date or time of the field's type."""
        if field.type.kind in literals.TEMPORALS:
            yield from not_of_type([value], field)

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """Rows whose value is beyond the limit."""
        return f"{column} {self.broken} {literals.bound(arguments[self.name], field_type)}"

    def expectation(self, rule: Rule, fields: Fields) -> Expectation | None:
        """A range that is open at one end."""
        if not self.limit or fields[rule.fields[0]].type.kind not in _COMPARABLE:
            return None
        kwargs = {"column": rule.fields[0], self.limit: rule.arguments[self.name]}
        return "expect_column_values_to_be_between", kwargs


@register
class Minimum(_Limit):
    """``minimum``."""

    name, broken, limit = "minimum", "<", "min_value"
    measures = (("`minimum`", "is below the limit", _LIMITED),)


@register
class Maximum(_Limit):
    """``maximum``."""

    name, broken, limit = "maximum", ">", "max_value"
    measures = (("`maximum`", "is above the limit", _LIMITED),)


@register
class ExclusiveMinimum(_Limit):
    """``exclusiveMinimum``."""

    name, broken = "exclusiveMinimum", "<="
    measures = (("`exclusiveMinimum`", "is not above the limit", _LIMITED),)


@register
class ExclusiveMaximum(_Limit):
    """``exclusiveMaximum``."""

    name, broken = "exclusiveMaximum", ">="
    measures = (("`exclusiveMaximum`", "is not below the limit", _LIMITED),)


@register
class MultipleOf(Metric):
    """``multipleOf``."""

    name = "multipleOf"
    places = (Place.OPTION,)
    types = literals.NUMBERS
    measures = (("`multipleOf`", "is not a multiple", "numbers"),)

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """Rows whose value is not a multiple."""
        step = literals.bound(arguments["multipleOf"], field_type)
        if field_type.kind not in literals.BINARY_FRACTIONS:
            return f"{column} % {step} <> 0"
        # A binary fraction is only ever near a multiple. What counts as near grows with the value, as its own precision
        # does: a few units in the last place (1e-15 for 64 bits, 1e-6 for 32), and a billionth of the step.
        precision = "1e-6" if field_type.kind is Kind.FLOAT else "1e-15"
        distance = f"abs({column} - round({column} / {step}) * {step})"
        return f"(NOT isfinite({column}) OR {distance} > {step} * 1e-9 + abs({column}) * {precision})"
