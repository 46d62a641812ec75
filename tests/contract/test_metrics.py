"""A metric is one class: what is registered in one place is read, compiled, audited, in the suite and in the docs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pytest

from mesh_pipelines.audit.audit import audit
from mesh_pipelines.contract.metrics.literals import TEXTS
from mesh_pipelines.contract.metrics.metric import Fields, Metric, Place, Problem, register, registered
from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.contract.metrics.tables import replaced, tables
from mesh_pipelines.contract.model import FieldType, Rule, RuleKind
from mesh_pipelines.errors import ContractInvalid
from mesh_pipelines.gx.suite import suite
from mesh_pipelines.gx.validate import validate_with_gx
from mesh_pipelines.rules.compile import compile_product
from mesh_pipelines.rules.mask import mask_of
from mesh_pipelines.sql.quote import literal, quote


class EndsWith(Metric):
    """A metric of rows that the standard does not have."""

    name = "endsWith"
    arguments = ("suffix",)
    needs_argument = True
    types = TEXTS
    takes: Mapping[Place, str] = {Place.FIELD: "`suffix`: text"}
    summary = "rows where it ends otherwise"
    measures = (("`endsWith`", "does not end with the suffix", "text"),)

    def problems(self, rule: Rule, fields: Fields) -> Iterator[Problem]:
        if not isinstance(rule.arguments["suffix"], str):
            yield Problem("must be text", "quote it", ("arguments", "suffix"))

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        if not arguments["suffix"]:
            raise Uncompilable("every text ends with nothing", "give a suffix")
        return f"NOT ends_with({column}, {literal(arguments['suffix'])})"


class DistinctValues(Metric):
    """A metric that is a query."""

    name = "distinctValues"
    kind = RuleKind.SQL
    in_percent = False
    summary = "the different values"
    measures = (("`distinctValues`", "the different values of the field", ""),)

    def query(self, rule: Rule) -> str:
        return f"SELECT count(DISTINCT {quote(rule.fields[0])}) FROM {{object}}"


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    known: Any = registered()
    for toy in (EndsWith, DistinctValues):
        register(toy)
    yield
    for toy in (EndsWith, DistinctValues):
        del known[toy.name]


def own(**implementation: Any) -> dict[str, Any]:
    return {"type": "custom", "engine": "mesh", "implementation": implementation}


def of_text(*quality: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"properties": [{"name": "a", "logicalType": "string", **more, "quality": list(quality)}]}


TWO = (
    own(metric="endsWith", arguments={"suffix": "x"}, mustBeLessThan=50, unit="percent"),
    own(metric="distinctValues", mustBeGreaterThan=2),
)


@pytest.fixture
def table(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    connection.execute("CREATE TABLE candidate AS SELECT unnest(['ax', 'bx', 'b', NULL, 'b']) AS a")
    return connection


def test_it_is_read_compiled_and_audited(make_product, table):
    product = make_product(of_text(*TWO))
    assert [(one.rule.id, one.rule.kind) for one in compile_product(product).rules] == [
        ("a.endsWith", RuleKind.ROW),
        ("a.distinctValues", RuleKind.SQL),
    ]
    assert mask_of(product).rules == ("a.endsWith",)
    found = audit(table, "candidate", product, candidate_id="1").results
    assert [(one.rule, one.state, one.bad, one.measured) for one in found] == [
        ("a.endsWith", "pass", 2, 40.0),
        ("a.distinctValues", "pass", None, 3.0),
    ]
    table.execute("INSERT INTO candidate VALUES ('c'), ('c'); DELETE FROM candidate WHERE a = 'ax'")
    found = audit(table, "candidate", product, candidate_id="2").results
    assert [(one.state, one.measured) for one in found] == [("fail", pytest.approx(400 / 6)), ("pass", 3.0)]


def test_it_is_in_the_suite_which_comes_to_the_same(make_product, table):
    product = make_product(of_text(*TWO))
    assert [one["meta"]["check"] for one in suite(product)["expectations"]] == ["endsWith", "distinctValues"]
    assert [one.state for one in validate_with_gx(table, product)] == ["pass", "pass"]
    table.execute("DELETE FROM candidate WHERE a <> 'b'")
    assert [one.state for one in validate_with_gx(table, product)] == ["fail", "fail"]


def test_it_is_in_the_documentation():
    assert "| `endsWith` | does not end with the suffix | text |\n" in tables()["row metrics"]
    assert "| `distinctValues` | the different values of the field |\n" in tables()["metrics of rows together"]
    assert "| `endsWith` | field | `suffix`: text | rows where it ends otherwise |\n" in tables()["library metrics"]
    page = "before\n<!-- row metrics -->\nold\n<!-- end of row metrics -->\nafter\n"
    assert replaced(page) == page.replace("old\n", tables()["row metrics"])


FAULTY = {
    "argument of another kind": (of_text(own(metric="endsWith", arguments={"suffix": 1}, mustBe=0)), "must be text"),
    "argument that is missing": (of_text(own(metric="endsWith", mustBe=0)), "must have suffix"),
    "argument that is misspelt": (
        of_text(own(metric="endsWith", arguments={"sufix": "x"}, mustBe=0)),
        "sufix is not an argument of endsWith",
    ),
    "metric that is misspelt": (of_text(own(metric="endWith", mustBe=0)), "'endWith' is not a metric"),
    "place that it is not for": (
        {**of_text(), "quality": [own(metric="distinctValues", mustBe=0)]},
        "distinctValues is for a property, not for the object",
    ),
    "no operator": (of_text(own(metric="distinctValues")), "must have exactly one operator, got 0"),
    "two operators": (
        of_text(own(metric="distinctValues", mustBe=1, mustNotBe=2)),
        "must have exactly one operator, got 2",
    ),
    "key that is misspelt": (of_text(own(metric="distinctValues", mustBe=1, unti="rows")), "unti is not a key"),
    "a share of nothing": (
        of_text(own(metric="distinctValues", mustBe=1, unit="percent")),
        "distinctValues cannot be a percentage",
    ),
    "no metric": (of_text(own(mustBe=1)), "must be a mapping with a metric"),
    "type it says nothing about": (
        of_text(own(metric="endsWith", arguments={"suffix": "1"}, mustBe=0), logicalType="integer"),
        "endsWith cannot check a long",
    ),
    "arguments that mean nothing": (
        of_text(own(metric="endsWith", arguments={"suffix": ""}, mustBe=0)),
        "every text ends with nothing",
    ),
}


@pytest.mark.parametrize(("fragment", "problem"), FAULTY.values(), ids=FAULTY.keys())
def test_a_faulty_use_is_a_fault_at_its_line(make_product, fragment, problem):
    with pytest.raises(ContractInvalid) as caught:
        compile_product(make_product(fragment))
    [fault] = caught.value.faults
    assert problem in fault.problem
    assert fault.line > 0
    assert fault.fix


def test_a_metric_of_the_standard_may_be_written_as_ones_own(make_product):
    [rule] = make_product(of_text({**own(metric="nullValues", mustBe=1, unit="%"), "severity": "low"})).rules
    [same] = make_product(of_text({"metric": "nullValues", "mustBe": 1, "unit": "%", "severity": "low"})).rules
    assert (rule.id, rule.check, rule.threshold, rule.unit, rule.on_failure) == (
        *("a.nullValues", "nullValues", 1, same.unit),
        same.on_failure,
    )


def test_two_of_one_name_are_refused():
    with pytest.raises(ValueError, match="the metric endsWith is registered twice"):
        register(EndsWith)


def test_a_file_in_the_folder_is_all_that_it_takes(tmp_path):
    """Every metric of the tree is there although nothing names its module."""
    code = """
from mesh_pipelines.contract.metrics.registry import metrics
print(*sorted({type(metric).__module__.rpartition(".")[2] for metric in metrics().values()}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["limits", "nulls", "sizes", "texts", "together"]
