"""One audit: every rule of a contract over one relation, in as few passes as the rules allow.

All row rules are counted by a single scan, each uniqueness rule takes a grouping and each SQL rule its query. Great
Expectations' own engine runs only for rules that are written as expectations: loading it alone costs more than
checking a million rows here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mesh_pipelines.contract.model import DataProduct, OnFailure, Rule, RuleKind, Unit
from mesh_pipelines.contract.sql import quote
from mesh_pipelines.quality.compile import (
    CompiledRule,
    bind,
    compile_product,
    duplicates_query,
    holds,
    threshold_text,
)
from mesh_pipelines.quality.results import Audit, RuleResult, State, verdict

if TYPE_CHECKING:
    import duckdb

_SAMPLES = 5


def audit(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    product: DataProduct,
    *,
    candidate_id: str,
    inputs: Mapping[str, str] | None = None,
) -> Audit:
    """Run the product's rules over a table or view of this connection.

    ``relation`` is its name, ``inputs`` the names of the views of a derived product's inputs by ``domain.name``.

    Raises:
        ContractInvalid: a rule of the contract compiles to nothing.
    """
    rules = compile_product(product)
    rows, row_results = _scan(connection, relation, product, rules.of(RuleKind.ROW))
    by_rule = {result.rule: result for result in row_results}
    for compiled in rules.rules:
        rule = compiled.rule
        match rule.kind:
            case RuleKind.UNIQUE:
                query = duplicates_query(rule.fields, quote(relation))
                by_rule[rule.id] = _measured(rule, rows, lambda query=query: _value(connection, query), counts=True)
            case RuleKind.ROW_COUNT:
                by_rule[rule.id] = _measured(rule, rows, lambda: rows)
            case RuleKind.SQL:
                query = bind(compiled.query, relation, inputs or {})
                by_rule[rule.id] = _measured(rule, rows, lambda query=query: _single(connection, query))
            case _:
                pass
    expectations = rules.of(RuleKind.EXPECTATION)
    if expectations:
        from mesh_pipelines.quality.expectations import run_expectations

        for result in run_expectations(connection, relation, [one.rule for one in expectations], rows):
            by_rule[result.rule] = result
    results = tuple(by_rule[compiled.rule.id] for compiled in rules.rules)
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    return Audit(rows, results, verdict(product, candidate_id, results, at))


def outcome(rule: Rule, kept: bool, *, vacuous: bool) -> State:
    """The state of a rule that could be computed."""
    if vacuous:
        return State.VACUOUS
    if kept:
        return State.PASS
    return State.WARN if rule.on_failure is OnFailure.WARN else State.FAIL


def _scan(
    connection: duckdb.DuckDBPyConnection, relation: str, product: DataProduct, rules: tuple[CompiledRule, ...]
) -> tuple[int, list[RuleResult]]:
    """The number of rows, and the results of all row rules, from one scan."""
    started = time.perf_counter()
    counts = "".join(f", count(*) FILTER (WHERE {compiled.predicate})" for compiled in rules)
    [(rows, *bad)] = connection.execute(f"SELECT count(*){counts} FROM {quote(relation)}").fetchall()
    share = (time.perf_counter() - started) * 1000 / max(1, len(rules))
    results: list[RuleResult] = []
    for compiled, count in zip(rules, bad, strict=True):
        measured = _in_unit(count, rows, compiled.rule.unit)
        kept = holds(measured, compiled.rule.operator, compiled.rule.threshold)
        state = outcome(compiled.rule, kept, vacuous=rows == 0)
        sample = () if state in (State.PASS, State.VACUOUS) else _sample(connection, relation, product, compiled)
        results.append(_result(compiled.rule, state, rows, count, measured, share, sample=sample))
    return rows, results


def _measured(rule: Rule, rows: int, measure: Callable[[], Any], *, counts: bool = False) -> RuleResult:
    """A rule with a measurement of its own; an error of its query is its outcome, not the audit's."""
    import duckdb

    started = time.perf_counter()
    try:
        value = measure()
    except (duckdb.Error, ValueError) as error:
        elapsed = (time.perf_counter() - started) * 1000
        return _result(rule, State.ERROR, rows, None, None, elapsed, message=str(error).strip().splitlines()[0])
    elapsed = (time.perf_counter() - started) * 1000
    measured = _in_unit(value, rows, rule.unit) if not isinstance(value, bool) and counts else value
    kept = holds(measured, rule.operator, rule.threshold)
    state = outcome(rule, kept, vacuous=counts and rows == 0)
    return _result(rule, state, rows, value if counts else None, float(measured), elapsed)


def _in_unit(count: int, rows: int, unit: Unit) -> float:
    if unit is Unit.ROWS:
        return count
    return 100.0 * count / rows if rows else 0.0


def _value(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    [(value,)] = connection.execute(query).fetchall()
    return value


def _single(connection: duckdb.DuckDBPyConnection, query: str) -> bool | float:
    """The one value of a query.

    Raises:
        ValueError: it gives another number of rows or columns, or something that is no number.
    """
    rows = connection.execute(f"SELECT * FROM ({query}) LIMIT 2").fetchall()
    if len(rows) != 1 or len(rows[0]) != 1:
        raise ValueError("the query must give one row of one column")
    value = rows[0][0]
    if isinstance(value, bool):
        return value
    if value is None:
        raise ValueError("the query gave null")
    return float(value)


def _sample(
    connection: duckdb.DuckDBPyConnection, relation: str, product: DataProduct, compiled: CompiledRule
) -> tuple[str, ...]:
    """A few keys (or values) of rows that break a rule; none where one of them is not public."""
    judged = [field for field in product.fields if field.name in compiled.rule.fields]
    shown = [*product.key, *(field for field in judged if field not in product.key)]
    if any(field.classification != "public" for field in shown):
        return ()
    columns = ", ".join(quote(field.name) for field in shown)
    query = f"SELECT {columns} FROM {quote(relation)} WHERE {compiled.predicate} LIMIT {_SAMPLES}"
    names = [field.name for field in shown]
    return tuple(
        ", ".join(f"{name}={value}" for name, value in zip(names, row, strict=True))
        for row in connection.execute(query).fetchall()
    )


def _result(
    rule: Rule,
    state: State,
    rows: int,
    bad: int | None,
    measured: float | None,
    milliseconds: float,
    *,
    message: str = "",
    sample: tuple[str, ...] = (),
) -> RuleResult:
    return RuleResult(
        rule=rule.id,
        check=rule.check,
        dimension=rule.dimension,
        on_failure=str(rule.on_failure),
        state=state,
        rows=rows,
        bad=bad,
        measured=measured,
        threshold=threshold_text(rule),
        milliseconds=milliseconds,
        message=message,
        sample=sample,
    )
