"""A contract's rules as a Great Expectations suite, and Great Expectations run on DuckDB.

The suite is the interchange form: reviewable JSON beside the contract, in which no rule is lost. Where a library
expectation means exactly what the rule means it is used; everything else is a query for unexpected rows, which can say
anything. Great Expectations decides only the rules that are written as expectations; for the rest its verdicts are
there to agree with ours. Its pandas engine was ruled out (nine times the CPU).

Great Expectations does not run on DuckDB as it comes: it closes a connection before it fetches from it, and knows no
regular expressions there. ``_engine`` gives it one connection that stays open and the missing metric.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh_pipelines.contract.model import DataProduct, Operator, Rule, RuleKind, Unit
from mesh_pipelines.contract.sql import quote
from mesh_pipelines.quality.compile import CompiledRule, bind, compile_product, condition, duplicates_query
from mesh_pipelines.quality.results import RuleResult, State
from mesh_pipelines.quality.run import outcome, threshold_text

if TYPE_CHECKING:
    from collections.abc import Generator

    import duckdb

SUITE = "expectations.json"
_BATCH = "{batch}"


def suite(product: DataProduct) -> dict[str, Any]:
    """The suite of a product: one expectation per rule, in the contract's order, each naming its rule in ``meta``."""
    return {
        "name": product.fqn,
        "meta": {"contract_version": product.contract_version, "contract_hash": product.contract_hash},
        "expectations": [expectation(compiled) for compiled in compile_product(product).rules],
    }


def suite_text(product: DataProduct) -> str:
    """The suite as the text of its file."""
    return json.dumps(suite(product), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def suite_file(product: DataProduct) -> Path:
    """Where the suite is kept: beside the contract."""
    return product.folder / SUITE


def expectation(compiled: CompiledRule) -> dict[str, Any]:
    """One rule as an expectation: type, kwargs, and the rule in ``meta``."""
    rule = compiled.rule
    kind, kwargs = _exact(rule) or ("unexpected_rows_expectation", {"unexpected_rows_query": _unexpected(compiled)})
    meta = {"rule": rule.id, "check": rule.check, "dimension": rule.dimension, "on_failure": str(rule.on_failure)}
    return {"type": kind, "kwargs": kwargs, "meta": meta}


def _exact(rule: Rule) -> tuple[str, dict[str, Any]] | None:
    """The library expectation that means the same as the rule, if there is one."""
    if rule.kind is RuleKind.EXPECTATION:
        return str(rule.arguments["type"]), dict(rule.arguments["kwargs"])
    if rule.kind is RuleKind.ROW_COUNT:
        return _row_count(rule)
    if (rule.operator, rule.threshold, rule.unit) != (Operator.MUST_BE, 0, Unit.ROWS):
        return None
    column = rule.fields[0] if rule.fields else ""
    match rule.check:
        case "required" | "nullValues":
            return "expect_column_values_to_not_be_null", {"column": column}
        case "unique" | "primaryKey" | "duplicateValues" if len(rule.fields) == 1:
            return "expect_column_values_to_be_unique", {"column": column}
        case "minLength":
            return "expect_column_value_lengths_to_be_between", {
                "column": column,
                "min_value": rule.arguments["minLength"],
            }
        case "maxLength":
            return "expect_column_value_lengths_to_be_between", {
                "column": column,
                "max_value": rule.arguments["maxLength"],
            }
        case "pattern":
            return "expect_column_values_to_match_regex", {"column": column, "regex": rule.arguments["pattern"]}
        case _:
            return None


def _row_count(rule: Rule) -> tuple[str, dict[str, Any]] | None:
    between = "expect_table_row_count_to_be_between"
    match rule.operator, rule.threshold:
        case Operator.MUST_BE, int(count) if not isinstance(count, bool):
            return "expect_table_row_count_to_equal", {"value": count}
        case Operator.GREATER_OR_EQUAL, int(count):
            return between, {"min_value": count}
        case Operator.LESS_OR_EQUAL, int(count):
            return between, {"max_value": count}
        case Operator.BETWEEN, (int(low), int(high)):
            return between, {"min_value": low, "max_value": high}
        case _:
            return None


def _unexpected(compiled: CompiledRule) -> str:
    """A query that gives rows exactly where the rule is broken."""
    rule = compiled.rule
    match rule.kind:
        case RuleKind.ROW:
            measured = f"SELECT count(*) FILTER (WHERE {compiled.predicate}) AS bad, count(*) AS total FROM {_BATCH}"
        case RuleKind.UNIQUE:
            measured = (
                f"SELECT ({duplicates_query(rule.fields, _BATCH)}) AS bad, (SELECT count(*) FROM {_BATCH}) AS total"
            )
        case RuleKind.ROW_COUNT:
            measured = f"SELECT count(*) AS bad, 1 AS total FROM {_BATCH}"
        case _:
            query = bind(compiled.query, "__batch__", {}).replace('"__batch__"', _BATCH)
            return f"SELECT measured FROM ({query}) AS rule(measured) WHERE NOT ({_kept('measured', rule)})"
    value = "100.0 * bad / nullif(total, 0)" if rule.unit is Unit.PERCENT else "bad"
    return f"SELECT bad, total FROM ({measured}) AS counted WHERE NOT ({_kept(f'coalesce({value}, 0)', rule)})"


def _kept(measured: str, rule: Rule) -> str:
    return condition(measured, rule.operator, rule.threshold)


def run_expectations(
    connection: duckdb.DuckDBPyConnection, relation: str, rules: Sequence[Rule], rows: int
) -> list[RuleResult]:
    """Run rules that are written as expectations, by Great Expectations' own engine, over a relation."""
    items = [expectation(CompiledRule(rule)) for rule in rules]
    answers = validate(connection, relation, items)
    return [_as_result(rule, rows, answers[rule.id]) for rule in rules]


def validate_suite(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    product: DataProduct,
    inputs: Mapping[str, str] | None = None,
) -> dict[str, bool | str]:
    """Run a product's whole suite by Great Expectations: success by rule, or the error that kept it from running."""
    items = json.loads(_bound(json.dumps(suite(product)["expectations"]), inputs or {}))
    answers = validate(connection, relation, items)
    return {rule: answer.get("error") or bool(answer["success"]) for rule, answer in answers.items()}


def check_expectation(rule: Rule) -> str | None:
    """What is wrong with a rule that is written as an expectation; None where it can be built."""
    with _quiet():
        from great_expectations.compatibility.pydantic import ValidationError
        from great_expectations.exceptions import GreatExpectationsError
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

        try:
            ExpectationConfiguration(type=rule.check, kwargs=dict(rule.arguments["kwargs"])).to_domain_obj()
        except (GreatExpectationsError, ValidationError, TypeError, ValueError) as error:
            return "; ".join(str(error).strip().splitlines()[:3])
    return None


def validate(
    connection: duckdb.DuckDBPyConnection, relation: str, items: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Run expectations over a relation of this connection; the raw answer of each by the rule in its ``meta``."""
    with _quiet():
        from great_expectations.core.batch import Batch
        from great_expectations.execution_engine.sqlalchemy_batch_data import SqlAlchemyBatchData
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
        from great_expectations.validator.validator import Validator

        opened = _sql_engine(connection)
        engine = _engine_class()(engine=opened)
        batch = Batch(data=SqlAlchemyBatchData(execution_engine=engine, table_name=relation))
        validator = Validator(execution_engine=engine, batches=[batch])
        validator.metrics_calculator.show_progress_bars = False
        outcomes = validator.graph_validate(
            [
                ExpectationConfiguration(type=item["type"], kwargs=dict(item["kwargs"]), meta=dict(item["meta"]))
                for item in items
            ]
        )
        engine.close()
        opened.dispose()
    answers: dict[str, dict[str, Any]] = {}
    for one in outcomes:
        details: Any = one.to_json_dict()
        error = _exception(details.get("exception_info") or {})
        answers[details["expectation_config"]["meta"]["rule"]] = {
            "success": bool(details["success"]),
            "result": details.get("result") or {},
            **({"error": error} if error else {}),
        }
    return answers


def _as_result(rule: Rule, rows: int, answer: Mapping[str, Any]) -> RuleResult:
    error = answer.get("error")
    bad = answer["result"].get("unexpected_count")
    observed = answer["result"].get("observed_value")
    state = State.ERROR if error else outcome(rule, bool(answer["success"]), vacuous=False)
    return RuleResult(
        rule=rule.id,
        check=rule.check,
        dimension=rule.dimension,
        on_failure=str(rule.on_failure),
        state=state,
        rows=rows,
        bad=bad,
        measured=float(observed) if isinstance(observed, int | float) else bad,
        threshold=threshold_text(rule) if rule.operator is not Operator.MUST_BE else "holds",
        milliseconds=0.0,
        message=str(error or ""),
    )


def _exception(info: Mapping[str, Any]) -> str | None:
    """The message of an exception report, which is flat or nested per metric."""
    if info.get("raised_exception"):
        return str(info.get("exception_message"))
    nested = [value for value in info.values() if isinstance(value, dict)]
    return next((message for value in nested if (message := _exception(value))), None)


def _bound(text: str, inputs: Mapping[str, str]) -> str:
    for name, view in inputs.items():
        text = text.replace(name, json.dumps(quote(view))[1:-1])
    return text


@contextmanager
def _quiet() -> Generator[None]:
    """No analytics, and none of the library's warnings about its own dependencies."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _engine_class() -> Any:
    """GX's SQL engine, made to work on DuckDB."""
    import sqlalchemy as sa
    from great_expectations.execution_engine import SqlAlchemyExecutionEngine
    from great_expectations.expectations.metrics.column_map_metrics.column_values_match_regex import (
        ColumnValuesMatchRegex,
    )
    from great_expectations.expectations.metrics.map_metric_provider import column_condition_partial

    class DuckDBEngine(SqlAlchemyExecutionEngine):
        """Keeps one connection open, because a DuckDB result dies with its connection."""

        @contextmanager
        def get_connection(self) -> Generator[Any]:
            if self._connection is None:
                self._connection = self.engine.connect()
            yield self._connection

    class DuckDBMatchRegex(ColumnValuesMatchRegex):  # pyright: ignore[reportUnusedClass]
        """Regular expressions by DuckDB's function for them; defining it is what registers it."""

        @column_condition_partial(engine=DuckDBEngine)
        def _sqlalchemy(cls, column: Any, regex: str, _dialect: Any, **_: Any) -> Any:  # noqa: N805
            return sa.func.regexp_matches(column, regex)

    return DuckDBEngine


def _sql_engine(connection: duckdb.DuckDBPyConnection) -> Any:
    """SQLAlchemy over a cursor of this connection; a failed statement does not spoil the next (autocommit)."""
    import sqlalchemy as sa
    from duckdb_sqlalchemy import ConnectionWrapper
    from sqlalchemy.pool import StaticPool

    return sa.create_engine(
        "duckdb:///:memory:",
        creator=lambda: ConnectionWrapper(connection.cursor()),
        poolclass=StaticPool,
        isolation_level="AUTOCOMMIT",
    )
