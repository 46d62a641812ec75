"""The form of values: patterns, named formats, and values that have to be among others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mesh_pipelines.contract.metrics import literals, patterns
from mesh_pipelines.contract.metrics.lists import among, faults_in_list, listed
from mesh_pipelines.contract.metrics.metric import (
    Expectation,
    Fields,
    Metric,
    Place,
    Problem,
    not_of_type,
    register,
)
from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.contract.model import Field, FieldType, Kind, Rule
from mesh_pipelines.sql.quote import literal

_MAX_HOSTNAME = 253
# The formats of integers that are not types of their own.
_RANGES = {"i8": (-128, 127), "i16": (-32768, 32767), "u8": (0, 255), "u16": (0, 65535), "u32": (0, 2**32 - 1)}


@register
class InvalidValues(Metric):
    """The standard's ``invalidValues``, and ``enum`` of a property."""

    name = "invalidValues"
    arguments = ("validValues", "pattern")
    needs_argument = True
    types = literals.LISTABLE
    takes: Mapping[Place, str] = {Place.FIELD: "`validValues`: a list, `pattern`: RE2, or both"}
    summary = "rows where it is not listed or does not match; null is not invalid"
    measures = (
        (
            "`invalidValues` with `validValues`",
            "is not null and not among them",
            "all but bytes, lists, maps, objects",
        ),
        ("`invalidValues` with `pattern`", "is not null and does not match", "text, integers (their digits)"),
        ("`invalidValues` with both", "breaks either", "text, integers"),
        ("`enum`", "is not null and not listed (the rule's check is `invalidValues`)", "the field's"),
    )

    def problems(self, rule: Rule, fields: Fields) -> Iterator[Problem]:
        """Values that are not a list, or not of the field's type, and a pattern that is not text."""
        faults = list(faults_in_list(rule.arguments, "validValues"))
        yield from faults
        if not faults and (field := fields.get(rule.fields[0])):
            yield from not_of_type(rule.arguments.get("validValues", []), field, "arguments", "validValues")
        if not isinstance(rule.arguments.get("pattern", ""), str):
            yield Problem("must be text", "quote the pattern", ("arguments", "pattern"))

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """Rows whose value is not listed, or does not match."""
        parts: list[str] = []
        if "validValues" in arguments:
            found = among(column, field_type, listed(arguments, "validValues"))
            if not found:
                raise Uncompilable(
                    "must list at least one valid value", "list the valid values; use nullValues to check for null"
                )
            parts.append(f"NOT {found}")
        if "pattern" in arguments:
            parts.append(_unmatched(column, field_type, arguments["pattern"]))
        if not parts:
            raise Uncompilable("must have validValues or pattern", "add one of them under arguments")
        return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"

    def expectation(self, rule: Rule, fields: Fields) -> Expectation | None:
        """A set of values of types that the library compares as we do."""
        comparable = fields[rule.fields[0]].type.kind in (Kind.STRING, Kind.INT, Kind.LONG)
        if not comparable or "pattern" in rule.arguments:
            return None
        values = [value for value in rule.arguments["validValues"] if value is not None]
        return "expect_column_values_to_be_in_set", {"column": rule.fields[0], "value_set": values}


@register
class Pattern(Metric):
    """``pattern`` of a text."""

    name = "pattern"
    places = (Place.OPTION,)
    types = literals.TEXTS
    measures = (("`pattern`", "does not match", "text"),)

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """Rows whose text does not match."""
        return _unmatched(column, field_type, arguments["pattern"])

    def expectation(self, rule: Rule, fields: Fields) -> Expectation | None:
        """A regular expression over a column of texts."""
        pattern = rule.arguments["pattern"]
        if fields[rule.fields[0]].type.kind is not Kind.STRING or patterns.checked(pattern) != pattern:
            return None
        return "expect_column_values_to_match_regex", {"column": rule.fields[0], "regex": pattern}


@register
class Format(Metric):
    """``format`` of a text by its name; of an integer it is a range, of anything else it chooses the type."""

    name = "format"
    places = (Place.OPTION,)
    types = literals.TEXTS
    measures = (
        ("`format` of a text", "has another form, see [formats](#patterns-and-formats)", "text"),
        ("`format` of an integer", "is out of the format's `range` (`u8`: 0 to 255)", "integers"),
    )

    def option_problems(self, value: Any, field: Field) -> Iterator[Problem]:
        """A format of texts that is not known."""
        if field.type.kind in literals.TEXTS and value not in patterns.FORMATS:
            fix = f"use one of {', '.join(patterns.FORMATS)}, or a pattern"
            yield Problem(
                f"{value!r} is not a format that can be checked", fix, got=str(value), known=tuple(patterns.FORMATS)
            )

    def of_option(self, rule: Rule, value: Any, field: Field) -> Rule | None:
        """The rule about the text, or about the range of the integer."""
        if field.type.kind in literals.TEXTS:
            return replace(rule, arguments={"format": value})
        if value not in _RANGES:
            return None
        low, high = _RANGES[value]
        return replace(rule, check=Range.name, arguments={"minimum": low, "maximum": high})

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """Rows whose text has another form."""
        name = arguments["format"]
        unmatched = f"NOT regexp_matches({column}, {literal(patterns.of_format(name))})"
        return f"({unmatched} OR length({column}) > {_MAX_HOSTNAME})" if name == "hostname" else unmatched


@register
class Range(Metric):
    """The range of an integer's ``format``; no contract says it by this name."""

    name = "range"
    places = ()
    types = literals.INTEGERS

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """Rows whose value is out of the range."""
        low, high = (literals.bound(arguments[name], field_type) for name in ("minimum", "maximum"))
        return f"{column} NOT BETWEEN {low} AND {high}"


def _unmatched(column: str, field_type: FieldType, pattern: Any) -> str:
    if field_type.kind not in literals.TEXTS | literals.INTEGERS:
        raise Uncompilable(f"a {field_type.kind} has no text to match", "state it as a rule of type sql")
    text = column if field_type.kind in literals.TEXTS else f"CAST({column} AS VARCHAR)"
    return f"NOT regexp_matches({text}, {literal(patterns.checked(pattern))})"
