"""Values that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh_pipelines.contract.metrics import literals
from mesh_pipelines.contract.metrics.lists import among, faults_in_list, listed
from mesh_pipelines.contract.metrics.metric import Expectation, Fields, Metric, Place, Problem, register
from mesh_pipelines.contract.model import FieldType, Rule


@register
class Required(Metric):
    """``required: true`` of a property."""

    name = "required"
    places = (Place.MARK,)
    measures = (("`required`", "is null", "all"),)

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """Rows whose value is null."""
        return f"{column} IS NULL"

    def expectation(self, rule: Rule, fields: Fields) -> Expectation | None:
        """The library's own."""
        return "expect_column_values_to_not_be_null", {"column": rule.fields[0]}


@register
class NullValues(Required):
    """The standard's ``nullValues``."""

    name = "nullValues"
    places = (Place.FIELD,)
    takes: Mapping[Place, str] = {Place.FIELD: "none"}
    summary = "rows where the field is null"
    measures = (("`nullValues`", "is null", "all"),)


@register
class MissingValues(Metric):
    """The standard's ``missingValues``: null, or among values that stand for it."""

    name = "missingValues"
    arguments = ("missingValues",)
    needs_argument = True
    types = literals.LISTABLE
    takes: Mapping[Place, str] = {Place.FIELD: "`missingValues`: a list, may hold `null`"}
    summary = "rows where it is null or one of the values"
    measures = (("`missingValues`", "is null or among the listed values", "all but bytes, lists, maps, objects"),)

    def problems(self, rule: Rule, fields: Fields) -> Iterator[Problem]:
        """Values that are not a list."""
        yield from faults_in_list(rule.arguments, "missingValues")

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """Rows whose value is null or listed."""
        found = among(column, field_type, listed(arguments, "missingValues"))
        return f"({column} IS NULL OR {found})" if found else f"{column} IS NULL"
