"""Great Expectations must come to the same outcome as our own pass, rule by rule."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from mesh_pipelines.audit.audit import audit
from mesh_pipelines.contract.model import Rule, RuleKind
from mesh_pipelines.gx.validate import check_expectation, validate_with_gx
from mesh_pipelines.rules.results import RuleResult, State


def plainly(found: RuleResult) -> tuple[str, State, str]:
    """A result without the one thing that Great Expectations cannot tell: that it passed for want of rows."""
    return found.rule, State.PASS if found.state is State.VACUOUS else found.state, found.message


@pytest.mark.parametrize("rows", ["all rows", "no rows"])
def test_great_expectations_agrees_with_the_audit(case, connection, rows):
    connection.register("candidate", case.rows if rows == "all rows" else case.rows.slice(0, 0))
    ours = audit(connection, "candidate", case.product, candidate_id="c1").results
    theirs = validate_with_gx(connection, case.product)
    assert [plainly(one) for one in theirs] == [plainly(one) for one in ours]


def test_a_parquet_file_gives_the_same(case, connection, tmp_path):
    connection.register("candidate", case.rows)
    pq.write_table(case.rows, tmp_path / "it's.parquet")
    of_file = validate_with_gx(tmp_path / "it's.parquet", case.product)
    of_relation = validate_with_gx(connection, case.product)
    assert [(one.rule, one.state, one.bad) for one in of_file] == [
        (one.rule, one.state, one.bad) for one in of_relation
    ]


def expectation(kind: str, **kwargs) -> dict:
    implementation = {"type": kind, "kwargs": kwargs}
    return {"name": kind, "type": "custom", "engine": "greatExpectations", "implementation": implementation}


@pytest.fixture
def product(make_product):
    return make_product(
        {
            "properties": [{"name": "a", "logicalType": "integer"}],
            "quality": [
                expectation("expect_column_values_to_match_regex", column="a", regex="x"),
                expectation("expect_column_max_to_be_between", column="a", max_value=3),
            ],
        }
    )


def test_an_expectation_that_fails_to_run_is_an_error_and_spoils_nothing(product, connection, table):
    connection.register("candidate", table(product, [{"a": 1}]))
    done = audit(connection, "candidate", product, candidate_id="c1")
    assert [one.state for one in done.results] == [State.ERROR, State.PASS]
    assert "regexp_matches" in done.results[0].message
    assert not done.verdict.passed
    # The connection is as it was: open, in no transaction, without our view.
    connection.begin()
    connection.rollback()
    with pytest.raises(duckdb.CatalogException):
        connection.execute("FROM mesh_batch")
    assert connection.execute("FROM candidate").fetchall() == [(1,)]


def test_the_relation_may_have_any_name(product, connection, table):
    connection.register("rows", table(product, [{"a": 5}]))
    connection.execute('CREATE VIEW "in ""put" AS FROM rows')
    found = validate_with_gx(connection, product, relation='in "put')
    assert [one.state for one in found] == [State.ERROR, State.FAIL]


def rule(kind: str, **kwargs) -> Rule:
    return Rule("r", RuleKind.EXPECTATION, kind, (), {"type": kind, "kwargs": kwargs})


def test_an_expectation_is_checked_by_building_it():
    good = rule("expect_column_max_to_be_between", column="a", max_value=3)
    assert check_expectation(good) == ""
    unknown = check_expectation(replace(good, check="expect_column_to_shine"))
    assert "expect_column_to_shine" in unknown
    assert "maxValue" in check_expectation(rule("expect_column_max_to_be_between", column="a", maxValue=3))
    assert "column" in check_expectation(rule("expect_column_max_to_be_between", max_value=3))


def test_nothing_is_printed_and_nobody_is_told():
    code = """
import duckdb, os, sys
from pathlib import Path
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.gx.validate import validate_with_gx
product = load_product(Path("assets/weather/observations").absolute())
columns = ", ".join(f"NULL AS {field.name}" for field in product.fields)
connection = duckdb.connect()
connection.execute(f"CREATE VIEW candidate AS SELECT {columns}")
assert validate_with_gx(connection, product)
assert os.environ["GX_ANALYTICS_ENABLED"] == "False"
"""
    root = Path(__file__).parents[2]
    plain = {name: value for name, value in os.environ.items() if name != "GX_ANALYTICS_ENABLED"}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=plain, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
