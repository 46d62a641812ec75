from __future__ import annotations

import datetime as dt
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_pipelines.audit import audit as run
from mesh_pipelines.audit.audit import Context, audit
from mesh_pipelines.contract.model import OnFailure
from mesh_pipelines.engine import View
from mesh_pipelines.rules.results import Audit, State
from mesh_pipelines.serve.door import Reader, examples

LETTERS = {
    "properties": [
        {"name": "a", "logicalType": "string"},
        {"name": "b", "logicalType": "integer", "classification": "restricted"},
    ]
}


def audited(connection: duckdb.DuckDBPyConnection, rows: pa.Table, product) -> Audit:
    connection.register("candidate", rows)
    return audit(connection, "candidate", product, candidate_id="c1")


def outcomes(done: Audit) -> dict[str, tuple[Any, ...]]:
    return {one.rule: (one.state, one.rows, one.bad, one.measured, one.threshold, one.sample) for one in done.results}


def with_sql(query: str, **more: Any) -> dict[str, Any]:
    return {**LETTERS, "quality": [{"name": "rule", "type": "sql", "query": query, "mustBe": 0, **more}]}


def test_every_rule_comes_to_its_expected_outcome(case, connection):
    done = audited(connection, case.rows, case.product)
    found = {}
    for one in done.results:
        measured = one.measured if one.bad is None else one.bad
        wanted = case.expected.get(one.rule, ("", None))[1]
        found[one.rule] = (one.state, measured if wanted is not None else None)
    assert found == dict(case.expected)


def test_the_verdict_blocks_on_failures_alone(case, connection):
    done = audited(connection, case.rows, case.product)
    states = [one.state for one in done.results]
    assert done.verdict.blocking == tuple(one.rule for one in done.results if one.state is State.FAIL)
    assert done.verdict.passed is (State.FAIL not in states)
    assert (done.verdict.rules, done.verdict.failed, done.verdict.warned) == (
        len(states),
        states.count(State.FAIL),
        states.count(State.WARN),
    )
    assert done.verdict.candidate_id == "c1"
    assert done.verdict.contract_hash == case.product.contract_hash


def test_rules_about_rows_are_vacuous_on_no_rows(case, connection):
    done = audited(connection, case.rows.slice(0, 0), case.product)
    about_rows = {rule.id for rule in case.product.rules if rule.kind in ("row", "unique")}
    assert {one.rule for one in done.results if one.state is State.VACUOUS} >= about_rows
    assert all(one.bad in (0, None) and one.rows == 0 for one in done.results if one.rule in about_rows)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_outcomes_are_the_same_whatever_the_relation_and_the_session(case, connection, tmp_path, zone):
    in_memory = outcomes(audited(connection, case.rows, case.product))
    pq.write_table(case.rows, tmp_path / "rows.parquet")
    with duckdb.connect() as other:
        other.execute(f"SET TimeZone = '{zone}'")
        other.execute(f"CREATE VIEW \"a view\" AS FROM read_parquet('{tmp_path / 'rows.parquet'}')")
        other.execute('CREATE TABLE tabled AS FROM "a view"')
        for relation in ("a view", "tabled"):
            done = audit(other, relation, case.product, candidate_id="c1")
            plain = {rule: found[:-1] for rule, found in outcomes(done).items()}
            assert plain == {rule: found[:-1] for rule, found in in_memory.items()}


def test_a_rule_that_cannot_be_computed_leaves_the_others_computed(connection, make_product, table):
    product = make_product(
        {
            "properties": [
                {"name": "a", "logicalType": "integer", "required": True},
                {"name": "b", "logicalType": "integer", "required": True, "unique": True},
            ]
        }
    )
    done = audited(connection, table(product, [{"a": 1}, {}]).drop_columns(["b"]), product)
    assert {one.rule: (one.state, one.bad) for one in done.results} == {
        "a.required": (State.FAIL, 1),
        "b.required": (State.ERROR, None),
        "b.unique": (State.ERROR, None),
    }
    assert done.verdict.errors == 2
    assert done.verdict.blocking == ("a.required", "b.required", "b.unique")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT a, b FROM {object}", "the query must give one row of one column"),
        ("SELECT b FROM {object}", "the query must give one row of one column"),
        ("SELECT b FROM {object} WHERE FALSE", "the query must give one row of one column"),
        ("SELECT max(a) FROM {object}", "the query must give a number, got a str"),
        ("SELECT DATE '2013-01-01'", "the query must give a number, got a date"),
        ("SELECT [1]", "the query must give a number, got a list"),
        ("SELECT avg(b) FROM {object} WHERE FALSE", "the query gave null"),
    ],
)
def test_a_query_that_gives_no_number_is_an_error(connection, make_product, table, query, message):
    product = make_product(with_sql(query))
    [found] = audited(connection, table(product, [{"a": "x", "b": 1}, {"a": "y"}]), product).results
    assert (found.state, found.message, found.measured) == (State.ERROR, message, None)


def test_a_number_beside_a_boolean_threshold_is_an_error(connection, make_product, table):
    product = make_product(with_sql("SELECT count(*) FROM {object}", mustBe=True))
    done = audited(connection, table(product, [{"a": "x"}]), product)
    assert done.results[0].message == "the query must give a boolean, because the threshold is one"
    assert not done.verdict.passed


def test_an_average_of_no_rows_is_vacuous(connection, make_product, table):
    product = make_product(with_sql("SELECT avg(b) FROM {object}"))
    done = audited(connection, table(product, []), product)
    assert [one.state for one in done.results] == [State.VACUOUS]
    assert done.verdict.passed


def test_an_error_of_a_warning_rule_does_not_block(connection, make_product, table):
    product = make_product(with_sql("SELECT nothing FROM {object}", severity="warning"))
    done = audited(connection, table(product, [{}]), product)
    assert (done.results[0].state, done.verdict.errors, done.verdict.passed) == (State.ERROR, 1, True)


def test_the_engine_is_not_quoted_where_a_field_is_not_public(connection, make_product, table):
    query = "SELECT max(a::INTEGER) FROM {object}"
    product = make_product(with_sql(query))
    public = replace(product, fields=tuple(replace(one, classification="public") for one in product.fields))
    rows = table(product, [{"a": "secret"}])
    assert audited(connection, rows, product).results[0].message == "ConversionException"
    assert "secret" in audited(connection, rows, public).results[0].message


def test_samples_are_the_smallest_keys_and_values(connection, make_product, table):
    fragment = {
        "eventType": "state",
        "properties": [
            {"name": "id", "logicalType": "integer", "primaryKey": True},
            {"name": "size", "logicalType": "integer", "logicalTypeOptions": {"maximum": 0}, "unique": True},
            {"name": "fine", "logicalType": "integer", "required": True},
        ],
    }
    product = make_product(fragment)
    rows = table(product, [{"id": number, "size": 9 - number // 2, "fine": 1} for number in reversed(range(10))])
    done = audited(connection, rows, product)
    samples = {one.rule: examples(product, one.sample, Reader.VISITOR) for one in done.results}
    assert samples == {
        "id.required": (),
        "size.maximum": tuple(f"id={number}, size={9 - number // 2}" for number in range(5)),
        "size.unique": tuple(f"size={number}" for number in range(5, 10)),
        "fine.required": (),
        "key.unique": (),
    }


@pytest.mark.parametrize("hidden", ["id", "size"])
def test_no_sample_shows_a_field_that_is_not_public(connection, make_product, table, hidden):
    properties: list[dict[str, Any]] = [
        {"name": "id", "logicalType": "integer", "primaryKey": True},
        {"name": "size", "logicalType": "integer", "logicalTypeOptions": {"maximum": 0}},
    ]
    for one in properties:
        one["classification"] = "confidential" if one["name"] == hidden else "public"
    product = make_product({"eventType": "state", "properties": properties})
    done = audited(connection, table(product, [{"id": 1, "size": 1}]), product)
    [broken] = [one for one in done.results if one.rule == "size.maximum"]
    shown = {"id": "id=masked, size=1", "size": "id=1, size=masked"}
    assert (broken.state, examples(product, broken.sample, Reader.VISITOR)) == (State.FAIL, (shown[hidden],))
    assert examples(product, broken.sample, Reader.OWNER) == ("id=1, size=1",)
    assert "sample" not in repr(broken)


def test_rows_that_a_diverting_rule_should_have_held_back_block(connection, make_product, table):
    fragment = {
        "properties": [
            {
                "name": "a",
                "logicalType": "integer",
                "logicalTypeOptions": {"minimum": 0},
                "customProperties": [{"property": "mesh.onFailure", "value": "divert"}],
            }
        ]
    }
    product = make_product(fragment)
    assert product.rules[0].on_failure is OnFailure.DIVERT
    done = audited(connection, table(product, [{"a": -1}]), product)
    assert (done.results[0].state, done.verdict.passed) == (State.FAIL, False)


def test_inputs_are_read_through_the_views_given_for_them(connection, make_product, table):
    fragment = {
        "inputs": ["other.letters"],
        **with_sql("SELECT (SELECT count(*) FROM other.letters) - count(*) FROM {object}"),
    }
    product = make_product(fragment)
    connection.register("candidate", table(product, [{"a": "x"}]))
    inputs = {"other.letters": View("SELECT 1 UNION ALL SELECT 2", frozenset())}
    done = audit(connection, "candidate", product, candidate_id="c1", context=Context(inputs=inputs))
    assert [(one.state, one.measured) for one in done.results] == [(State.FAIL, 1.0)]


def test_an_expectation_without_its_library_is_not_executed_and_blocks(connection, make_product, table, monkeypatch):
    implementation = {"type": "expect_column_max_to_be_between", "kwargs": {"column": "b", "max_value": 3}}
    rule = {"name": "max", "type": "custom", "engine": "greatExpectations", "implementation": implementation}
    product = make_product({**LETTERS, "quality": [rule]})
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    done = audited(connection, table(product, [{"b": 1}]), product)
    assert [one.state for one in done.results] == [State.NOT_EXECUTED]
    assert (done.verdict.errors, done.verdict.blocking) == (1, ("max",))


def test_the_library_is_loaded_for_expectations_only():
    code = """
import sys, duckdb
from pathlib import Path
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.audit.audit import audit
product = load_product(Path("assets/operations/planes").absolute())
columns = ", ".join(f"NULL AS {field.name}" for field in product.fields)
connection = duckdb.connect()
connection.execute(f"CREATE VIEW candidate AS SELECT {columns}")
assert audit(connection, "candidate", product, candidate_id="c").rows == 1
assert "great_expectations" not in sys.modules
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


MEASURED = {
    "properties": [
        {
            "name": "number",
            "logicalType": "integer",
            "unique": True,
            "logicalTypeOptions": {"minimum": -3, "exclusiveMaximum": 4, "multipleOf": 2},
            "quality": [
                {"name": "missing", "metric": "missingValues", "arguments": {"missingValues": [None, 0]}, "mustBe": 0},
                {"name": "listed", "metric": "invalidValues", "arguments": {"validValues": [1, 2]}, "mustBe": 0},
            ],
        },
        {
            "name": "real",
            "logicalType": "number",
            "logicalTypeOptions": {"minimum": 0.1, "maximum": 1.5, "exclusiveMinimum": -1, "exclusiveMaximum": 2},
        },
        {
            "name": "text",
            "logicalType": "string",
            "logicalTypeOptions": {"minLength": 1, "maxLength": 3, "pattern": "^[a-c]"},
            "quality": [
                {"name": "missing", "metric": "missingValues", "arguments": {"missingValues": ["", "a"]}, "mustBe": 0},
                {"metric": "nullValues", "mustBe": 0},
            ],
        },
        {"name": "day", "logicalType": "date", "logicalTypeOptions": {"minimum": "2013-01-02"}},
        {
            "name": "tags",
            "logicalType": "array",
            "items": {"logicalType": "string"},
            "logicalTypeOptions": {"minItems": 1, "maxItems": 2, "uniqueItems": True},
        },
    ]
}


def count(rows: list[dict[str, Any]], name: str, broken: Any) -> int:
    return sum(1 for row in rows if row[name] is not None and broken(row[name]))


def naive(rows: list[dict[str, Any]]) -> dict[str, int]:
    """The same rules in plain Python. NaN is above every number, as in the engine."""

    def above(value: float, limit: float) -> bool:
        return math.isnan(value) or value > limit

    numbers = [row["number"] for row in rows if row["number"] is not None]
    return {
        "number.unique": len(numbers) - len(set(numbers)),
        "number.minimum": count(rows, "number", lambda value: value < -3),
        "number.exclusiveMaximum": count(rows, "number", lambda value: value >= 4),
        "number.multipleOf": count(rows, "number", lambda value: value % 2 != 0),
        "number.missing": sum(row["number"] in (None, 0) for row in rows),
        "number.listed": count(rows, "number", lambda value: value not in (1, 2)),
        "real.minimum": count(rows, "real", lambda value: value < 0.1),
        "real.maximum": count(rows, "real", lambda value: above(value, 1.5)),
        "real.exclusiveMinimum": count(rows, "real", lambda value: value <= -1),
        "real.exclusiveMaximum": count(rows, "real", lambda value: math.isnan(value) or value >= 2),
        "text.minLength": count(rows, "text", lambda value: len(value) < 1),
        "text.maxLength": count(rows, "text", lambda value: len(value) > 3),
        "text.pattern": count(rows, "text", lambda value: value[:1] not in ("a", "b", "c")),
        "text.missing": sum(row["text"] in (None, "", "a") for row in rows),
        "text.nullValues": sum(row["text"] is None for row in rows),
        "day.minimum": count(rows, "day", lambda value: value < dt.date(2013, 1, 2)),
        "tags.minItems": count(rows, "tags", lambda value: len(value) < 1),
        "tags.maxItems": count(rows, "tags", lambda value: len(value) > 2),
        "tags.uniqueItems": count(rows, "tags", repeats),
    }


def repeats(items: list[str | None]) -> bool:
    known = [item for item in items if item is not None]
    return len(known) != len(set(known))


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.none() | st.integers(-5, 5),
            "real": st.none() | st.floats(width=64) | st.sampled_from([0.1, 1.5, -1.0, 2.0]),
            "text": st.none() | st.text("abcdeé\n🛩", max_size=5),
            "day": st.none() | st.dates(dt.date(2013, 1, 1), dt.date(2013, 1, 3)),
            "tags": st.none() | st.lists(st.none() | st.sampled_from("ab"), max_size=4),
        }
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def measured_product(make_product):
    return make_product(MEASURED)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_counts_equal_a_plain_evaluation(measured_product, table, rows):
    with duckdb.connect() as connection:
        done = audited(connection, table(measured_product, rows), measured_product)
    assert {one.rule: one.bad for one in done.results} == naive(rows)
