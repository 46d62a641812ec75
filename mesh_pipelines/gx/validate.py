"""Great Expectations' verdicts, as our own results: for rules written as expectations, and for whole suites.

It decides only the former; a whole suite is run to see that it and our pass say the same. The library is loaded by the
functions here and by nothing else: that alone takes four CPU seconds and 250 MB.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.contract.model import DataProduct, Rule, RuleKind
from mesh_pipelines.contract.telling import may_tell
from mesh_pipelines.engine import check
from mesh_pipelines.errors import ContractInvalid
from mesh_pipelines.gx.suite import expectation
from mesh_pipelines.rules.compile import CompiledRule, batch_query, compile_product, fault
from mesh_pipelines.rules.results import RuleResult, State, outcome, result
from mesh_pipelines.sql.quote import literal, quote
from mesh_pipelines.sql.select import NotReadable, read_select

if TYPE_CHECKING:
    import duckdb

    from mesh_pipelines.gx.duckdb_engine import Answer

# Stands for the rows in a query while it is looked at.
_BATCH = "batch"
_ON_ROWS = (RuleKind.ROW, RuleKind.UNIQUE)


def validate_with_gx(
    source: duckdb.DuckDBPyConnection | Path,
    product: DataProduct,
    *,
    relation: str = "candidate",
    inputs: Mapping[str, str] | None = None,
) -> tuple[RuleResult, ...]:
    """Run a product's whole suite by Great Expectations, over a relation of a connection or over a parquet file.

    Raises:
        ContractInvalid: a rule of the contract compiles to nothing.
        duckdb.Error: the relation cannot be read.
    """
    import duckdb

    if isinstance(source, Path):
        with duckdb.connect() as connection:
            connection.execute(f"CREATE VIEW {quote(relation)} AS FROM read_parquet({literal(str(source))})")
            return validate_with_gx(connection, product, relation=relation, inputs=inputs)
    [(rows,)] = source.execute(f"SELECT count(*) FROM {quote(relation)}").fetchall()
    return validate_rules(Validated(source, relation, rows), product, compile_product(product).rules, inputs or {})


@dataclass(frozen=True)
class Validated:
    """What is validated: a table or view of a connection by its name, and the number of its rows."""

    connection: duckdb.DuckDBPyConnection
    relation: str
    rows: int


def validate_rules(
    of: Validated, product: DataProduct, rules: Sequence[CompiledRule], inputs: Mapping[str, str]
) -> tuple[RuleResult, ...]:
    """Run some rules of a product by Great Expectations; ``inputs`` has the views of its inputs by ``domain.name``.

    Raises:
        ContractInvalid: a query in them reads what it may not.
    """
    for compiled in rules:
        _check_query(of.connection, compiled.rule, product)
    expectations = [expectation(compiled, product, inputs) for compiled in rules]
    started = time.perf_counter()
    with quiet():
        from mesh_pipelines.gx.duckdb_engine import validate

        answers = validate(of.connection, quote(of.relation), expectations)
    share = (time.perf_counter() - started) * 1000 / max(1, len(rules))
    return tuple(
        _result(compiled.rule, _told(answers[one["id"]], product), of.rows, share)
        for compiled, one in zip(rules, expectations, strict=True)
    )


def _check_query(connection: duckdb.DuckDBPyConnection, rule: Rule, product: DataProduct) -> None:
    """Ask the engine what the query of an expectation reads: the library runs it as text of its own."""
    text = rule.arguments.get("kwargs", {}).get("unexpected_rows_query")
    if text is None:
        return
    try:
        select = read_select(batch_query(str(text), _BATCH))
        check(connection, select.text, {_BATCH, *product.inputs, *select.expressions})
    except (NotReadable, Uncompilable) as error:
        problem = fault(rule, product, f"its query {error}", "read {batch} or a declared input")
        raise ContractInvalid(product.fqn, (problem,)) from error


def load() -> None:
    """Import Great Expectations, which takes seconds of CPU whatever is asked of it then."""
    with quiet():
        import_module("mesh_pipelines.gx.duckdb_engine")


def check_expectation(rule: Rule) -> str:
    """What is wrong with a rule that is written as an expectation; empty where it can be built."""
    with quiet():
        from mesh_pipelines.gx.duckdb_engine import problem

        return problem(rule.check, rule.arguments["kwargs"])


def _told(answer: Answer, product: DataProduct) -> Answer:
    """An answer whose error quotes no value that is not public: the library's words may."""
    if answer.error and not may_tell(product.fields):
        return replace(answer, error="the expectation could not be computed")
    return answer


def _result(rule: Rule, answer: Answer, rows: int, milliseconds: float) -> RuleResult:
    if answer.error:
        return replace(result(rule, State.ERROR, rows), milliseconds=milliseconds, message=answer.error)
    vacuous = rows == 0 and (rule.kind in _ON_ROWS or (answer.success and answer.unexpected is not None))
    return replace(
        result(rule, outcome(rule, answer.success, vacuous=vacuous), rows),
        bad=answer.unexpected,
        measured=answer.observed if answer.unexpected is None else float(answer.unexpected),
        milliseconds=milliseconds,
    )


@contextmanager
def quiet() -> Generator[None]:
    """No analytics, and silence about what the library's own use of its dependencies gives rise to."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"module 'sre_\w+' is deprecated", DeprecationWarning)
        yield
