"""Great Expectations' SQL engine on a DuckDB connection that is already open. Importing this loads the library.

As it comes the library does not run on DuckDB: it closes a connection before it fetches from it, and knows no regular
expressions there. The engine below keeps the one connection it is given, so that views, settings and registered
tables are those of the caller, and adds the missing metric. A file context with datasources was ruled out: runs would
share files, and the results are kept in our own history.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from duckdb_sqlalchemy import ConnectionWrapper
from great_expectations.compatibility.pydantic import ValidationError
from great_expectations.core.batch import Batch
from great_expectations.exceptions import GreatExpectationsError
from great_expectations.execution_engine import SqlAlchemyExecutionEngine
from great_expectations.execution_engine.sqlalchemy_batch_data import SqlAlchemyBatchData
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.expectations.metrics.column_map_metrics.column_values_match_regex import ColumnValuesMatchRegex
from great_expectations.expectations.metrics.column_map_metrics.column_values_not_match_regex import (
    ColumnValuesNotMatchRegex,
)
from great_expectations.expectations.metrics.map_metric_provider import column_condition_partial
from great_expectations.validator.validator import Validator
from sqlalchemy.pool import StaticPool

if TYPE_CHECKING:
    import duckdb

_BATCH_VIEW = "mesh_batch"


@dataclass(frozen=True)
class Answer:
    """What the library says of one expectation; ``error`` is why it could not be computed, or empty."""

    success: bool
    error: str
    unexpected: int | None
    observed: float | None


class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):
    """Keeps one connection open, because a DuckDB result dies with its connection."""

    @contextmanager
    def get_connection(self) -> Generator[Any]:
        """The one connection."""
        if self._connection is None:
            self._connection = self.engine.connect()
        yield self._connection


class DuckDBColumnValuesMatchRegex(ColumnValuesMatchRegex):
    """Regular expressions by DuckDB's function for them; defining the class registers it for the engine."""

    @column_condition_partial(engine=DuckDBExecutionEngine)
    def _sqlalchemy(cls, column: Any, regex: str, _dialect: Any, **_: Any) -> Any:  # noqa: N805
        return sa.func.regexp_matches(column, regex)


class DuckDBColumnValuesNotMatchRegex(ColumnValuesNotMatchRegex):
    """The same, negated."""

    @column_condition_partial(engine=DuckDBExecutionEngine)
    def _sqlalchemy(cls, column: Any, regex: str, _dialect: Any, **_: Any) -> Any:  # noqa: N805
        return sa.not_(sa.func.regexp_matches(column, regex))


class _Borrowed(ConnectionWrapper):
    """A connection that belongs to someone else: closing it leaves it open."""

    def close(self) -> None:
        """Nothing."""


def problem(kind: str, kwargs: Mapping[str, Any]) -> str:
    """What keeps an expectation from being built, or an empty text."""
    _let_go_at_exit()
    try:
        ExpectationConfiguration(type=kind, kwargs=dict(kwargs)).to_domain_obj()
    except (GreatExpectationsError, ValidationError, TypeError, ValueError) as error:
        lines = (line.strip() for line in str(error).splitlines())
        return "; ".join(line for line in lines if line)
    return ""


def validate(
    connection: duckdb.DuckDBPyConnection, relation: str, expectations: Sequence[Mapping[str, Any]]
) -> dict[str, Answer]:
    """Run expectations over a relation (SQL, not quoted here) of this connection; an answer by each one's ``id``."""
    _let_go_at_exit()
    # A name of our own: the library writes a batch's name into queries without quotes.
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {_BATCH_VIEW} AS SELECT * FROM {relation}")
    opened = sa.create_engine(
        "duckdb:///:memory:",
        creator=lambda: _Borrowed(connection),
        poolclass=StaticPool,
        # Else one failing statement would leave a transaction in which every later one fails.
        isolation_level="AUTOCOMMIT",
    )
    try:
        engine = DuckDBExecutionEngine(engine=opened)
        data: Any = SqlAlchemyBatchData(execution_engine=engine, table_name=_BATCH_VIEW)
        validator = Validator(execution_engine=engine, batches=[Batch(data=data)])
        validator.metrics_calculator.show_progress_bars = False
        results = validator.graph_validate([_configuration(one) for one in expectations], {"result_format": "BASIC"})
        return {str(one.expectation_config and one.expectation_config.id): _answer(one) for one in results}
    finally:
        opened.dispose()
        connection.execute(f"DROP VIEW IF EXISTS {_BATCH_VIEW}")


def _configuration(expectation: Mapping[str, Any]) -> ExpectationConfiguration:
    return ExpectationConfiguration(
        type=expectation["type"],
        kwargs=dict(expectation["kwargs"]),
        meta=dict(expectation["meta"]),
        id=expectation["id"],
    )


def _answer(found: Any) -> Answer:
    details: Any = found.to_json_dict()
    measured: Mapping[str, Any] = details.get("result") or {}
    observed = measured.get("observed_value")
    return Answer(
        success=bool(details["success"]),
        error=_exception(details.get("exception_info") or {}),
        unexpected=measured.get("unexpected_count"),
        observed=float(observed) if isinstance(observed, int | float) else None,
    )


def _exception(info: Mapping[str, Any]) -> str:
    """The message of an exception report, which is flat or nested per metric; empty where there was none."""
    if info.get("raised_exception"):
        return str(info.get("exception_message")).strip().splitlines()[0]
    nested = (_exception(value) for value in info.values() if isinstance(value, dict))
    return next((message for message in nested if message), "")


@cache
def _let_go_at_exit() -> None:
    """Keep DuckDB's module from outliving the interpreter.

    The library holds on to SQLAlchemy's classes to the very end, and these, through the dialect, to DuckDB: whose
    extension then prints dozens of lines about leaks to standard error, whatever the process was about.
    """
    atexit.register(_let_go)


def _let_go() -> None:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "duckdb_sqlalchemy":
            vars(module).clear()
