"""One audit: every rule of a contract over one relation, in as few passes as the rules allow.

All row rules are counted by a single scan, each uniqueness rule takes a grouping and each SQL rule its query; rows that
broke a rule are looked up by one more scan, and only where some did. Great Expectations' own engine runs only for rules
that are written as expectations: loading it alone costs more than checking a million rows here.

A rule that cannot be computed is that rule's outcome and not the end of the audit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mesh_pipelines.contract.metrics.together import duplicate_groups, duplicates_query
from mesh_pipelines.contract.model import DataProduct, Field, Rule, RuleKind, Unit
from mesh_pipelines.contract.telling import words
from mesh_pipelines.engine import View
from mesh_pipelines.rules.compile import (
    CompiledRule,
    compile_product,
    holds,
)
from mesh_pipelines.rules.mask import Known
from mesh_pipelines.rules.results import Audit, RuleResult, State, outcome, result, told, verdict
from mesh_pipelines.sandbox.author import Allowance, Author
from mesh_pipelines.sql.quote import literal, quote

if TYPE_CHECKING:
    import duckdb

_SAMPLES = 5
_LIBRARY = "great_expectations"


@dataclass(frozen=True)
class Context:
    """What an audit has besides the rows.

    Rules that are an author's own SQL, and expectations, run in a worker: ``view`` gives the rows there (None: they are
    copied), ``inputs`` are those of a derived product, by ``domain.name``. Each rule may take the ``allowance``, the
    expectations together. What is ``known`` is not computed again. ``fields`` are those of all that the rules can read,
    which decides what results may tell; the product's where none are given.
    """

    view: Callable[[], View] | None = None
    inputs: Mapping[str, View] = field(default_factory=dict[str, View])
    allowance: Allowance = field(default_factory=Allowance)
    known: Known | None = None
    fields: Sequence[Field] = ()


def audit(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    product: DataProduct,
    *,
    candidate_id: str,
    context: Context | None = None,
) -> Audit:
    """Run the product's rules over the table or view ``relation`` of this connection.

    Raises:
        ContractInvalid: a rule of the contract compiles to nothing.
        duckdb.Error: the relation cannot be read at all.
    """
    rules = compile_product(product)
    given = context or Context()
    with Author(given.allowance, {}, ValueError) as author:
        run = _Run(connection, relation, product, given, author)
        row_results = dict(zip((one.rule.id for one in rules.row_rules), run.scan(rules.row_rules), strict=True))
        expected = {result.rule: result for result in run.expectations(rules.expectations)}
        known = {**expected, **row_results}
        found = [known.get(one.rule.id) or run.measure_one(one) for one in rules.rules]
        telling = [told(each, one.rule, run.fields) for one, each in zip(rules.rules, found, strict=True)]
        results = run.with_samples(rules.rules, telling)
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    return Audit(run.rows, results, verdict(product, candidate_id, results, at))


class _NothingMeasured(Exception):
    """A query gave no value, as an average of no rows does."""


@dataclass
class _Run:
    """The audit of one relation; ``rows`` is known after ``scan``."""

    connection: duckdb.DuckDBPyConnection
    relation: str
    product: DataProduct
    given: Context
    author: Author
    rows: int = 0

    @property
    def fields(self) -> Sequence[Field]:
        """The fields of all that the rules can read."""
        return self.given.fields or self.product.fields

    @property
    def known(self) -> Known | None:
        """What is known of the relation without looking."""
        return self.given.known

    def scan(self, rules: Sequence[CompiledRule]) -> list[RuleResult]:
        """Count the rows, and for each rule those that break it, in one scan."""
        import duckdb

        started = time.perf_counter()
        if self.known and all(compiled.rule.id in self.known.bad for compiled in rules):
            self.rows = self.known.rows
            return [self._counted(compiled.rule, self.known.bad[compiled.rule.id], 0.0) for compiled in rules]
        try:
            self.rows, *bad = self._counts(rules)
        except duckdb.Error:
            # One predicate that cannot be computed spoils the scan for all: find out which, one by one.
            [self.rows] = self._counts([])
            return [self._counted_alone(compiled) for compiled in rules]
        share = _since(started) / max(1, len(rules))
        return [self._counted(compiled.rule, count, share) for compiled, count in zip(rules, bad, strict=True)]

    def measure_one(self, compiled: CompiledRule) -> RuleResult:
        """The result of a rule that is neither a row rule nor an expectation."""
        rule = compiled.rule
        match rule.kind:
            case RuleKind.UNIQUE if self.known and rule.id in self.known.bad:
                return self._counted(rule, self.known.bad[rule.id], 0.0)
            case RuleKind.UNIQUE:
                return self._unique(rule)
            case RuleKind.ROW_COUNT:
                kept = holds(self.rows, rule.operator, rule.threshold)
                return replace(result(rule, outcome(rule, kept, vacuous=False), self.rows), measured=float(self.rows))
            case _:
                return self._sql(compiled)

    def expectations(self, rules: Sequence[CompiledRule]) -> list[RuleResult]:
        """The results of the rules that are written as expectations."""
        if not rules:
            return []
        if find_spec(_LIBRARY) is None:
            message = f"{_LIBRARY} is not installed"
            return [replace(result(one.rule, State.NOT_EXECUTED, self.rows), message=message) for one in rules]
        started = time.perf_counter()
        try:
            return list(self._authors.expectations((self.relation, self.rows), self.product, rules))
        except ValueError as error:
            return [self._error(one.rule, error, started) for one in rules]

    def with_samples(self, rules: Sequence[CompiledRule], results: Sequence[RuleResult]) -> tuple[RuleResult, ...]:
        """The results, with a few of the rows that broke each broken rule: the smallest, so that they are stable."""
        wanted = {
            compiled.rule.id: self._sample_query(compiled)
            for compiled, found in zip(rules, results, strict=True)
            if found.state in (State.FAIL, State.WARN)
        }
        queries = {rule: query for rule, query in wanted.items() if query}
        samples = self._samples(queries) if queries else {}
        return tuple(replace(found, sample=samples.get(found.rule, ())) for found in results)

    def _counts(self, rules: Sequence[CompiledRule]) -> tuple[int, ...]:
        counts = "".join(f", count(*) FILTER (WHERE {compiled.predicate})" for compiled in rules)
        [row] = self.connection.execute(f"SELECT count(*){counts} FROM {quote(self.relation)}").fetchall()
        return row

    def _counted(self, rule: Rule, bad: int, milliseconds: float) -> RuleResult:
        measured = _in_unit(bad, self.rows, rule.unit)
        state = outcome(rule, holds(measured, rule.operator, rule.threshold), vacuous=self.rows == 0)
        return replace(result(rule, state, self.rows), bad=bad, measured=measured, milliseconds=milliseconds)

    def _counted_alone(self, compiled: CompiledRule) -> RuleResult:
        import duckdb

        started = time.perf_counter()
        try:
            _, bad = self._counts([compiled])
        except duckdb.Error as error:
            return self._error(compiled.rule, error, started)
        return self._counted(compiled.rule, bad, _since(started))

    def _unique(self, rule: Rule) -> RuleResult:
        import duckdb

        started = time.perf_counter()
        try:
            [(bad,)] = self.connection.execute(duplicates_query(rule.fields, quote(self.relation))).fetchall()
        except duckdb.Error as error:
            return self._error(rule, error, started)
        return self._counted(rule, bad, _since(started))

    def _sql(self, compiled: CompiledRule) -> RuleResult:
        import duckdb

        rule = compiled.rule
        started = time.perf_counter()
        try:
            value = self._value(compiled)
            kept = holds(_comparable(value, rule.threshold), rule.operator, rule.threshold)
        except _NothingMeasured as error:
            if self.rows == 0:
                return replace(result(rule, State.VACUOUS, self.rows), milliseconds=_since(started))
            return self._error(rule, error, started)
        except (duckdb.Error, ValueError) as error:
            return self._error(rule, error, started)
        state = outcome(rule, kept, vacuous=False)
        return replace(result(rule, state, self.rows), measured=float(value), milliseconds=_since(started))

    def _value(self, compiled: CompiledRule) -> Any:
        """The one value of a rule's query.

        Raises:
            ValueError: it gives another number of rows or columns, or reads what it may not.
        """
        query = compiled.query.bound(quote(self.relation), {})
        rows = self._authors.values(query, {self.relation, *self.given.inputs, *compiled.query.expressions})
        if len(rows) != 1 or len(rows[0]) != 1:
            raise ValueError("the query must give one row of one column")
        return rows[0][0]

    @cached_property
    def _authors(self) -> Author:
        """Who runs the authors' SQL, with the rows and the inputs."""
        inputs = {tuple(name.split(".")): view for name, view in self.given.inputs.items()}
        self.author.views = {(self.relation,): self.given.view() if self.given.view else self._copied(), **inputs}
        return self.author

    def _copied(self) -> View:
        """The relation as a file, for one that is of this connection alone."""
        file = literal(str(self.author.folder / "rows.parquet"))
        self.connection.execute(f"COPY (FROM {quote(self.relation)}) TO {file}")
        return View(f"FROM read_parquet({file})", frozenset({str(self.author.folder / "rows.parquet")}))

    def _error(self, rule: Rule, error: Exception, started: float) -> RuleResult:
        """An error as the rule's outcome; the engine's words may quote values, so they are kept only where all may."""
        import duckdb

        engines = error if isinstance(error, duckdb.Error) else error.__cause__
        is_engines = isinstance(engines, duckdb.Error)
        message = words(engines, self.fields) if is_engines else str(error).strip().splitlines()[0]
        return replace(result(rule, State.ERROR, self.rows), milliseconds=_since(started), message=message)

    def _sample_query(self, compiled: CompiledRule) -> str:
        """A query for the smallest rows that break a rule, as one list of structs; "" for rules without such rows."""
        rule = compiled.rule
        if rule.kind is RuleKind.ROW:
            key = [field.name for field in self.product.key]
            shown = _struct([*key, *(name for name in rule.fields if name not in key)])
            return f"min({shown}, {_SAMPLES}) FILTER (WHERE {compiled.predicate})"
        if rule.kind is RuleKind.UNIQUE:
            groups = duplicate_groups(rule.fields, quote(self.relation))
            return f"(SELECT min({_struct(rule.fields)}, {_SAMPLES}) FROM ({groups}) AS duplicates)"
        return ""

    def _samples(self, queries: Mapping[str, str]) -> dict[str, tuple[Mapping[str, Any], ...]]:
        """A few rows per rule. They only illustrate a result, so failing to find them does not change it."""
        import duckdb

        with suppress(duckdb.Error):
            select = ", ".join(queries.values())
            searched = self.known.suspects() if self.known else self.relation
            # The count makes it one row, even where every sample is a query of its own.
            [(_, *samples)] = self.connection.execute(f"SELECT count(*), {select} FROM {quote(searched)}").fetchall()
            return {rule: tuple(found or ()) for rule, found in zip(queries, samples, strict=True)}
        return {}


def _in_unit(count: int, rows: int, unit: Unit) -> float:
    if unit is Unit.ROWS:
        return float(count)
    return 100.0 * count / rows if rows else 0.0


def _comparable(value: Any, threshold: Any) -> float | bool:
    """A query's value as what its threshold is compared with; true counts 1 beside a number.

    Raises:
        ValueError: it is not a number, or a number while the threshold is a boolean.
    """
    if value is None:
        raise _NothingMeasured("the query gave null")
    if isinstance(threshold, bool) and not isinstance(value, bool):
        raise ValueError("the query must give a boolean, because the threshold is one")
    if isinstance(value, str | bytes | list | dict | tuple):
        raise ValueError(f"the query must give a number, got a {type(value).__name__}")
    try:
        return value if isinstance(threshold, bool) else float(value)
    except TypeError as error:
        raise ValueError(f"the query must give a number, got a {type(value).__name__}") from error


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _struct(names: Sequence[str]) -> str:
    return "{" + ", ".join(f"{literal(name)}: {quote(name)}" for name in names) + "}"
