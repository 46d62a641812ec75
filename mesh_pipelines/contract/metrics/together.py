"""Rows together: those that share values, and their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from mesh_pipelines.contract.metrics.metric import Expectation, Fields, Metric, Place, Problem, register
from mesh_pipelines.contract.model import Operator, Rule, RuleKind
from mesh_pipelines.sql.quote import quote

_REPEATED = "the rows beyond the first of each group of rows that share the values of the rule's fields"


def duplicates_query(fields: tuple[str, ...], relation: str) -> str:
    """The number of rows beyond the first of each group that shares values; rows with a null there do not count.

    ``relation`` is SQL and not quoted here.
    """
    groups = duplicate_groups(fields, relation)
    return f"SELECT coalesce(sum(copies - 1), 0)::BIGINT FROM ({groups}) AS duplicates"


def duplicate_groups(fields: tuple[str, ...], relation: str) -> str:
    """The values that several rows share, and the number of their ``copies``."""
    columns = ", ".join(map(quote, fields))
    complete = " AND ".join(f"{quote(name)} IS NOT NULL" for name in fields)
    return (
        f"SELECT {columns}, count(*) AS copies FROM {relation} WHERE {complete} GROUP BY {columns} HAVING count(*) > 1"
    )


@register
class Unique(Metric):
    """``unique: true`` of a property."""

    name = "unique"
    kind = RuleKind.UNIQUE
    places = (Place.MARK,)
    measures = (("`unique`", _REPEATED, ""),)

    def expectation(self, rule: Rule, fields: Fields) -> Expectation | None:
        """Uniqueness of one column or of several together."""
        if len(rule.fields) == 1:
            return "expect_column_values_to_be_unique", {"column": rule.fields[0]}
        kwargs = {"column_list": list(rule.fields), "ignore_row_if": "any_value_is_missing"}
        return "expect_compound_columns_to_be_unique", kwargs


@register
class PrimaryKey(Unique):
    """The primary key, of one property or of several."""

    name = "primaryKey"
    measures = (("`primaryKey`", _REPEATED, ""),)


@register
class DuplicateValues(Unique):
    """The standard's ``duplicateValues``."""

    name = "duplicateValues"
    places = (Place.FIELD, Place.OBJECT)
    arguments = ("properties",)
    takes: Mapping[Place, str] = {Place.FIELD: "none", Place.OBJECT: "`properties`: list of fields"}
    summary = "rows beyond the first of each group with the same values; null is not a duplicate"
    measures = (("`duplicateValues`", f"{_REPEATED}. Three equal rows are two duplicates", ""),)

    def problems(self, rule: Rule, fields: Fields) -> Iterator[Problem]:
        """Properties that are not a list, that the contract does not have, or that lack the rule's own."""
        at, names = ("arguments", "properties"), rule.arguments.get("properties", list(rule.fields))
        if not isinstance(names, list) or not names:
            yield Problem("must list at least one property", "list property names under arguments.properties", at)
            return
        for name in names:
            if name not in fields:
                fix = "list properties of the schema object"
                yield Problem(
                    f"{name!r} is not a property of the schema object", fix, at, got=str(name), known=tuple(fields)
                )
        if rule.fields and rule.fields[0] not in names:
            fix = "write the rule under the quality of the schema object"
            yield Problem(f"must contain {rule.fields[0]}, the property that the rule is under", fix, at)

    def completed(self, rule: Rule) -> Rule:
        """The rule over the properties that it lists."""
        return replace(rule, fields=tuple(map(str, rule.arguments.get("properties", rule.fields))))


@register
class RowCount(Metric):
    """The standard's ``rowCount``."""

    name = "rowCount"
    kind = RuleKind.ROW_COUNT
    places = (Place.OBJECT,)
    in_percent = False
    takes: Mapping[Place, str] = {Place.OBJECT: "none"}
    summary = "rows. Never in percent"
    measures = (("`rowCount`", "the rows", ""),)

    def expectation(self, rule: Rule, fields: Fields) -> Expectation | None:
        """The number of rows, or a range of it; the library has no "other than"."""
        between = "expect_table_row_count_to_be_between"
        match rule.operator, rule.threshold:
            case Operator.MUST_BE, int(count):
                return "expect_table_row_count_to_equal", {"value": count}
            case Operator.GREATER, int(count):
                return between, {"min_value": count + 1}
            case Operator.GREATER_OR_EQUAL, int(count):
                return between, {"min_value": count}
            case Operator.LESS, int(count):
                return between, {"max_value": count - 1}
            case Operator.LESS_OR_EQUAL, int(count):
                return between, {"max_value": count}
            case Operator.BETWEEN, (int(low), int(high)):
                return between, {"min_value": low, "max_value": high}
            case _:
                return None
