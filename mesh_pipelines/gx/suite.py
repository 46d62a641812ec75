"""A contract's rules as a Great Expectations suite: reviewable JSON beside the contract, in which no rule is lost.

Where a library expectation means exactly what the rule means it is used; everything else is a query for unexpected
rows, which can say anything. "Exactly" leaves out all shares (``mostly`` divides by the rows without null, the standard
by all) and all comparisons but "none". The text is stable: it changes when, and only when, what is promised changes.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from mesh_pipelines.contract.model import DataProduct, Field, Kind, OnFailure, Operator, Rule, RuleKind, Unit
from mesh_pipelines.rules.compile import CompiledRule, compile_product, condition, duplicates_query
from mesh_pipelines.sql.quote import quote

SUITE = "expectations.json"
BATCH = "{batch}"
_UNEXPECTED_ROWS = "unexpected_rows_expectation"
# Stands for the batch until the braces of the query are escaped; no SQL text can hold it.
_MARK = "\0"
_Expectation: TypeAlias = tuple[str, dict[str, Any]]


def suite(product: DataProduct, inputs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The suite of a product: one expectation per rule, in the contract's order, each naming its rule in ``meta``.

    ``inputs`` names the views of a derived product's inputs where they are not called ``domain.name``.

    Raises:
        ContractInvalid: a rule compiles to nothing.
    """
    return {
        "name": product.fqn,
        "id": _id(product.fqn),
        "meta": {"contract_version": product.contract_version},
        "expectations": [expectation(compiled, product, inputs) for compiled in compile_product(product).rules],
    }


def suite_text(product: DataProduct) -> str:
    """The suite as the text of its file."""
    return json.dumps(suite(product), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def suite_file(product: DataProduct) -> Path:
    """Where the suite is kept: beside the contract."""
    return product.folder / SUITE


def write_suite(product: DataProduct) -> Path | None:
    """Bring the product's suite file up to date; gives the file, or None where it was."""
    text, file = suite_text(product), suite_file(product)
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return None
    file.write_text(text, encoding="utf-8")
    return file


def expectation(
    compiled: CompiledRule, product: DataProduct, inputs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One rule as an expectation: type, kwargs, severity, and the rule in ``meta``."""
    rule = compiled.rule
    kind, kwargs = _exact(rule, product) or (
        _UNEXPECTED_ROWS,
        {"unexpected_rows_query": _unexpected(compiled, inputs or {})},
    )
    meta = {"rule": rule.id, "check": rule.check, "dimension": rule.dimension, "on_failure": str(rule.on_failure)}
    return {
        "id": _id(f"{product.fqn}/{rule.id}"),
        "type": kind,
        "kwargs": kwargs,
        "meta": meta,
        "severity": "warning" if rule.on_failure is OnFailure.WARN else "critical",
        **({"description": rule.description} if rule.description else {}),
    }


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"mesh:{name}"))


def _exact(rule: Rule, product: DataProduct) -> _Expectation | None:
    """The library expectation that means the same as the rule, if there is one."""
    match rule.kind:
        case RuleKind.EXPECTATION:
            return str(rule.arguments["type"]), dict(rule.arguments["kwargs"])
        case RuleKind.ROW_COUNT:
            return _row_count(rule)
        case RuleKind.UNIQUE if _means_none(rule):
            return _unique(rule)
        case RuleKind.ROW if _means_none(rule):
            field = next(field for field in product.fields if field.name == rule.fields[0])
            return _of_column(rule, field)
        case _:
            return None


def _means_none(rule: Rule) -> bool:
    """Whether the rule allows no bad row at all, which is the same in every unit."""
    return rule.operator in (Operator.MUST_BE, Operator.LESS_OR_EQUAL) and rule.threshold == 0


def _row_count(rule: Rule) -> _Expectation | None:
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


def _unique(rule: Rule) -> _Expectation:
    if len(rule.fields) == 1:
        return "expect_column_values_to_be_unique", {"column": rule.fields[0]}
    return "expect_compound_columns_to_be_unique", {
        "column_list": list(rule.fields),
        "ignore_row_if": "any_value_is_missing",
    }


def _of_column(rule: Rule, field: Field) -> _Expectation | None:
    """The column's expectation; None for types whose values the library would pass or measure in another way."""
    column, kind, arguments = {"column": field.name}, field.type.kind, rule.arguments
    match rule.check:
        case "required" | "nullValues":
            return "expect_column_values_to_not_be_null", column
        case "pattern" if kind is Kind.STRING:
            return "expect_column_values_to_match_regex", {**column, "regex": arguments["pattern"]}
        case "minLength" | "maxLength" if kind is Kind.STRING:
            limit = "min_value" if rule.check == "minLength" else "max_value"
            return "expect_column_value_lengths_to_be_between", {**column, limit: arguments[rule.check]}
        case "minimum" | "maximum" if kind in (Kind.INT, Kind.LONG, Kind.DOUBLE):
            limit = "min_value" if rule.check == "minimum" else "max_value"
            return "expect_column_values_to_be_between", {**column, limit: arguments[rule.check]}
        case "invalidValues" if kind in (Kind.STRING, Kind.INT, Kind.LONG) and "pattern" not in arguments:
            values = [value for value in arguments["validValues"] if value is not None]
            return "expect_column_values_to_be_in_set", {**column, "value_set": values}
        case _:
            return None


def _unexpected(compiled: CompiledRule, inputs: Mapping[str, str]) -> str:
    """A query that gives a row if, and only if, the rule is broken."""
    rule = compiled.rule
    match rule.kind:
        case RuleKind.ROW if _means_none(rule):
            return _escaped(f"SELECT * FROM {_MARK} WHERE {compiled.predicate}")
        case RuleKind.ROW:
            counted = f"SELECT count(*) FILTER (WHERE {compiled.predicate}) AS bad, count(*) AS total FROM {_MARK}"
        case RuleKind.UNIQUE:
            duplicates = duplicates_query(rule.fields, _MARK)
            counted = f"SELECT ({duplicates}) AS bad, (SELECT count(*) FROM {_MARK}) AS total"
        case RuleKind.ROW_COUNT:
            counted = f"SELECT count(*) AS bad, 1 AS total FROM {_MARK}"
        case _:
            return _escaped(_unexpected_value(compiled, inputs))
    value = "coalesce(100.0 * bad / nullif(total, 0), 0)" if rule.unit is Unit.PERCENT else "bad"
    kept = condition(value, rule.operator, rule.threshold)
    return _escaped(f"SELECT bad, total FROM ({counted}) AS counted WHERE NOT ({kept})")


def _unexpected_value(compiled: CompiledRule, inputs: Mapping[str, str]) -> str:
    """A rule's own query compared: null keeps no promise, but breaks none of no rows."""
    rule = compiled.rule
    query = compiled.query.bound(_MARK, {name: quote(view) for name, view in inputs.items()})
    value = "measured" if isinstance(rule.threshold, bool) else "CAST(measured AS DOUBLE)"
    kept = condition(value, rule.operator, rule.threshold)
    nothing = f"measured IS NULL AND NOT EXISTS (SELECT 1 FROM {_MARK})"
    return f"SELECT measured FROM (\n{query}\n) AS measurement(measured) WHERE ({kept}) IS NOT TRUE AND NOT ({nothing})"


def _escaped(query: str) -> str:
    """The query as the library wants it: it formats the text (braces) and then looks for parameters (colons)."""
    formatted = query.replace("{", "{{").replace("}", "}}")
    # SQLAlchemy takes ":name" for a parameter, and "\:" for a colon that is none.
    colons = re.sub(r"(?<![:\w\\]):(?=\w+(?![:\w]))|(?<=\\):", r"\\:", formatted)
    return colons.replace(_MARK, BATCH)
