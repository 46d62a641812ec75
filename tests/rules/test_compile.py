from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.model import OnFailure, Operator, RuleKind, Unit
from mesh_pipelines.errors import ContractInvalid
from mesh_pipelines.rules.compile import compile_product, condition, holds

BETWEEN = (Operator.BETWEEN, Operator.NOT_BETWEEN)
DIVERT = {"customProperties": [{"property": "mesh.onFailure", "value": "divert"}]}


def of_property(quality: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    one = {"name": "a", "logicalType": "string", **more}
    return {"properties": [{**one, "quality": [quality]} if quality else one]}


def custom(**kwargs: Any) -> dict[str, Any]:
    kind = kwargs.pop("kind", "expect_column_values_to_be_unique")
    return {"type": "custom", "engine": "greatExpectations", "implementation": {"type": kind, "kwargs": kwargs}}


def sql(query: str, **more: Any) -> dict[str, Any]:
    return {"name": "rule", "type": "sql", "query": query, "mustBe": 0, **more}


REFUSED = {
    "look-ahead": (of_property(logicalTypeOptions={"pattern": "a(?!b)"}), "is not RE2: invalid perl operator: (?!"),
    "back-reference": (
        of_property(logicalTypeOptions={"pattern": r"(a)\1"}),
        r"is not RE2: invalid escape sequence: \1",
    ),
    "unicode escape": (
        of_property({"metric": "invalidValues", "arguments": {"pattern": r"\u00g4"}, "mustBe": 0}),
        r"is not RE2: invalid escape sequence: \u",
    ),
    "pattern of a number with fractions": (
        of_property({"metric": "invalidValues", "arguments": {"pattern": "1"}, "mustBe": 0}, logicalType="number"),
        "a double has no text to match",
    ),
    "missing value of another type": (
        of_property(
            {"metric": "missingValues", "arguments": {"missingValues": ["N/A"]}, "mustBe": 0}, logicalType="integer"
        ),
        "must be of type long, got 'N/A'",
    ),
    "missing values of a list": (
        of_property(
            {"metric": "missingValues", "arguments": {"missingValues": ["x"]}, "mustBe": 0},
            logicalType="array",
            items={"logicalType": "string"},
        ),
        "missingValues cannot check a list",
    ),
    "only null is valid": (
        of_property({"metric": "invalidValues", "arguments": {"validValues": [None]}, "mustBe": 0}),
        "must list at least one valid value",
    ),
    "diverting a rule about several rows": (
        of_property({"metric": "duplicateValues", "mustBe": 0, **DIVERT}),
        "cannot divert single events",
    ),
    "diverting by sql": (
        of_property(sql("SELECT count(*) FROM {object}", **DIVERT)),
        "cannot divert single events",
    ),
    "diverting a share": (
        of_property({"metric": "nullValues", "mustBeLessThan": 5, "unit": "percent", **DIVERT}),
        "judges each event by itself",
    ),
    "diverting from a derived product": (
        {**of_property({"metric": "nullValues", "mustBe": 0, **DIVERT}), "inputs": ["other.thing"]},
        "has no events to divert",
    ),
    "expectation of no property": (of_property(custom(column="b")), "'b' is not a property"),
    "expectation of no properties": (of_property(custom(column_list=["a", "c"])), "'c' is not a property"),
    "expectation that reads another table": (
        of_property(custom(kind="unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM others")),
        "the query reads others",
    ),
    "expectation with a second query": (
        of_property(custom(kind="expect_query_results_to_match_comparison", base_query="SELECT 1")),
        "base_query may read other data, which cannot be checked",
    ),
    "property placeholder without a property": (
        {**of_property(), "quality": [sql("SELECT count(*) FROM {object} WHERE {property} = 1")]},
        "the query uses {property}, but the rule is not under a property",
    ),
}


@pytest.mark.parametrize(("fragment", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_a_rule_that_compiles_to_nothing_is_a_fault_at_its_line(make_product, fragment, problem):
    with pytest.raises(ContractInvalid) as caught:
        compile_product(make_product(fragment))
    [fault] = caught.value.faults
    assert problem in fault.problem
    assert fault.line > 0
    assert fault.fix
    assert fault.field


def test_all_faults_are_reported_at_once(make_product):
    product = make_product(
        {
            "properties": [
                {"name": "a", "logicalType": "string", "logicalTypeOptions": {"pattern": "(?=x)"}},
                {"name": "b", "logicalType": "string", "logicalTypeOptions": {"pattern": r"(x)\1"}},
            ]
        }
    )
    with pytest.raises(ContractInvalid) as caught:
        compile_product(product)
    assert [one.field for one in caught.value.faults] == ["rule a.pattern", "rule b.pattern"]
    assert caught.value.faults[0].line < caught.value.faults[1].line


def test_a_pattern_that_is_refused_prints_nothing(capfd, make_product):
    product = make_product(of_property(logicalTypeOptions={"pattern": "(?<=x)"}))
    with pytest.raises(ContractInvalid):
        compile_product(product)
    assert capfd.readouterr() == ("", "")


def test_rules_are_sorted_by_how_they_are_computed(make_product):
    fragment = of_property({"name": "text", "type": "text", "description": "Read me."})
    fragment["quality"] = [
        {"name": "rows", "metric": "rowCount", "mustBe": 1},
        sql("SELECT count(*) FROM {object}"),
        custom(column="a"),
    ]
    fragment["properties"][0] |= {"unique": True, "required": True, **DIVERT}
    compiled = compile_product(make_product(fragment))
    assert {kind: [one.rule.id for one in compiled.of(kind)] for kind in RuleKind} == {
        RuleKind.ROW: ["a.required"],
        RuleKind.UNIQUE: ["a.unique"],
        RuleKind.ROW_COUNT: ["rows"],
        RuleKind.SQL: ["rule"],
        RuleKind.EXPECTATION: ["expect_column_values_to_be_unique"],
        RuleKind.TEXT: [],
        RuleKind.NOT_CHECKED: [],
    }
    assert compiled.row_rules == compiled.of(RuleKind.ROW)
    assert compiled.expectations == compiled.of(RuleKind.EXPECTATION)


def test_names_and_values_cannot_leave_their_quotes(make_product, connection):
    value, name = "'; DROP TABLE t; --", 'a" IS NULL OR "a'
    rule = {"metric": "invalidValues", "arguments": {"validValues": [value]}, "mustBe": 0}
    product = make_product(of_property(rule))
    [field], [written] = product.fields, product.rules
    product = replace(product, fields=(replace(field, name=name),), rules=(replace(written, fields=(name,)),))
    [compiled] = compile_product(product).rules
    connection.register("t", pa.table({name: [value, "x", None]}))
    assert connection.execute(f"SELECT count(*) FILTER (WHERE {compiled.predicate}) FROM t").fetchall() == [(1,)]


@given(
    measured=st.integers(-3, 3) | st.floats(-3, 3),
    low=st.integers(-3, 3) | st.floats(-3, 3),
    width=st.integers(0, 3),
    operator=st.sampled_from(Operator),
)
def test_a_comparison_is_the_same_in_sql_and_in_python(measured, low, width, operator):
    threshold = (low, low + width) if operator in BETWEEN else low
    with duckdb.connect() as connection:
        [(kept,)] = connection.execute(f"SELECT {condition('?::DOUBLE', operator, threshold)}", [measured]).fetchall()
    assert kept is holds(measured, operator, threshold)


def test_compiling_loads_no_engine():
    code = """
import sys
import mesh_pipelines.rules.compile, mesh_pipelines.gx.suite
import mesh_pipelines.audit.divert, mesh_pipelines.audit.audit, mesh_pipelines.gx.validate
print([name for name in ("duckdb", "great_expectations", "pandas", "sqlalchemy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_severity_and_setting_decide_what_a_broken_rule_does(make_product):
    rules = [{"name": f"r{number}", "metric": "nullValues", "mustBe": 0} for number in range(4)]
    rules[1]["severity"] = "Warning"
    rules[2]["severity"] = "catastrophe"
    rules[3] |= {"severity": "info", **DIVERT}
    product = make_product({"properties": [{"name": "a", "logicalType": "string", "quality": rules}]})
    assert [one.rule.on_failure for one in compile_product(product).rules] == [
        OnFailure.BLOCK,
        OnFailure.WARN,
        OnFailure.BLOCK,
        OnFailure.DIVERT,
    ]
    assert {one.rule.unit for one in compile_product(product).rules} == {Unit.ROWS}
