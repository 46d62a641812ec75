"""Faults of a product's SQL against its inputs' contracts, each with file, line, column and the name that was meant.

DuckDB names the first fault only. Where that is a missing column of a product, it is assumed to be there and the
statement is bound again, so that an author sees all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import sqlglot
from sqlglot import exp

from mesh_pipelines.contract.misspelt import nearest
from mesh_pipelines.contract.model import TRANSFORM, DataProduct, Field, Rule, RuleKind
from mesh_pipelines.contract.read.contract_file import contract_file
from mesh_pipelines.contract.read.scalars import line_and_column, place_in
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import Fault
from mesh_pipelines.plan.bind import Binder, Column, Refused, Unbindable, relation
from mesh_pipelines.rules.compile import CompiledRule, batch_query
from mesh_pipelines.rules.queries import Query, parse_query
from mesh_pipelines.sql.select import Select

# More missing columns than anybody fixes in one go.
_MOST = 20
_UNKNOWN_TYPE = '"NULL"'
_OTHERWISE = "fix the SQL"
# DuckDB's types that a rule's one value can be compared as.
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN", "BIGNUM")


@dataclass(frozen=True)
class _Statement:
    """One SELECT to bind; ``own`` is the product that it belongs to."""

    own: DataProduct
    text: str
    tables: frozenset[str]
    expressions: frozenset[str]


# Makes a fault of a statement: what it is about, the problem, the fix, and where in the statement (-1: unknown).
_Report: TypeAlias = Callable[[str, str, str, int], Fault]


def transform_faults(binder: Binder, product: DataProduct, select: Select) -> list[Fault]:
    """What is wrong with a transform, ``select``, which reads declared inputs with sound contracts only."""
    assert product.transform is not None
    sql, file = product.transform.sql, product.folder / TRANSFORM

    def report(about: str, problem: str, fix: str, offset: int) -> Fault:
        line, column = line_and_column(sql, offset) if offset >= 0 else (0, 0)
        return Fault(file, line, about, problem, fix, column)

    faults, columns = _bound(binder, _Statement(product, select.text, select.names, select.expressions), report)
    return faults or [report("", problem, fix, -1) for problem, fix in _misfits(binder, product, columns)]


def rule_faults(binder: Binder, product: DataProduct, rules: Iterable[CompiledRule]) -> list[Fault]:
    """What is wrong with the queries of a product's rules, but for those that read a product without sound contract."""
    return [
        fault
        for compiled in rules
        if (query := _query(compiled, product)) and query.products <= binder.products.keys()
        for fault in _of_rule(binder, product, compiled.rule, query)
    ]


def _query(compiled: CompiledRule, product: DataProduct) -> Query | None:
    """The query of a rule that has one: of its own, or in an expectation."""
    if compiled.rule.kind is RuleKind.SQL:
        return compiled.query
    text = _in_expectation(compiled.rule)
    return parse_query(batch_query(text, "{object}"), product) if text else None


def _in_expectation(rule: Rule) -> str:
    return str(rule.arguments.get("kwargs", {}).get("unexpected_rows_query", ""))


def _of_rule(binder: Binder, product: DataProduct, rule: Rule, query: Query) -> list[Fault]:
    own, file = relation(product.fqn), contract_file(product.folder)

    def report(about: str, problem: str, fix: str, offset: int) -> Fault:
        line, column = rule.line, 0
        if offset >= 0 and rule.kind is RuleKind.SQL:
            line, column = place_in(file, line, str(rule.arguments["query"]), query.origin(offset, own, {}))
        fix = f"{fix}; if another engine runs it, write mesh.notChecked: true" if fix == _OTHERWISE else fix
        return Fault(file, line, f"rule {rule.id}", f"{about}: {problem}" if about else problem, fix, column)

    statement = _Statement(product, query.bound(own, {}), query.products | {product.fqn}, query.expressions)
    faults, columns = _bound(binder, statement, report)
    if faults or rule.kind is not RuleKind.SQL:
        return faults
    return [report("", problem, fix, -1) for problem, fix in _no_value(rule, columns)]


def _bound(binder: Binder, statement: _Statement, report: _Report) -> tuple[list[Fault], Sequence[Column]]:
    """The faults of a statement, or the columns of its result."""
    faults: list[Fault] = []
    missing: _Missing | None = None
    with binder.assuming() as assume:
        for _ in range(_MOST):
            try:
                columns = binder.bind(statement.text, statement.tables, statement.expressions)
            except Unbindable as error:
                before, missing = missing, _Missing.of(binder, statement, error.refused)
                if missing:
                    faults.append(missing.fault(report))
                elif before is None or before.now:
                    # Behind a column of no known type, it may be there for the lack of one.
                    faults.append(_plain(error.refused, report))
                if missing and assume(missing.product.fqn, missing.column, missing.type):
                    continue
                return faults, []
            return faults, columns
    return faults, []


def _plain(refused: Refused, report: _Report) -> Fault:
    """A fault in DuckDB's words."""
    fix = f"did you mean {', '.join(refused.near[:3])}?" if refused.near else _OTHERWISE
    return report("", refused.problem, fix, refused.start)


@dataclass(frozen=True)
class _Missing:
    """A column that a product in sight does not have; ``now`` is the field it was renamed to, or the nearest one."""

    product: DataProduct
    column: str
    start: int
    now: Field | None
    renamed: bool
    others: tuple[str, ...]

    @classmethod
    def of(cls, binder: Binder, statement: _Statement, refused: Refused) -> _Missing | None:
        """The missing column; None for another fault, and where the column could be one of a subquery."""
        if not refused.column:
            return None
        start, found = _place_of(statement, refused)
        products = [binder.products[name] for name in found]
        if not products:
            return None
        for product in products:
            for field in product.fields:
                if refused.column.lower() in (alias.lower() for alias in field.aliases):
                    return cls(product, refused.column, start, field, True, ())
        names = {field.name: (product, field) for product in reversed(products) for field in product.fields}
        near = nearest(refused.column, names)
        product, field = names[near] if near else (products[0], None)
        others = tuple(one.fqn for one in products) if near is None and len(products) > 1 else ()
        return cls(product, refused.column, start, field, False, others)

    @property
    def type(self) -> str:
        """The type that the column would have, as SQL."""
        return duckdb_type(self.now.type) if self.now else _UNKNOWN_TYPE

    def fault(self, report: _Report) -> Fault:
        """The fault that says so."""
        about, name = f"column {self.column}", self.product.fqn
        if self.renamed and self.now:
            problem = f"{name} renamed it, version {self.product.contract_version} names it {self.now.name}"
            return report(about, problem, f"write {self.now.name}", self.start)
        problem = (
            f"none of {', '.join(self.others)} has this column" if self.others else f"{name} does not have this column"
        )
        return report(about, problem, f"did you mean {self.now.name}?" if self.now else _OTHERWISE, self.start)


def _place_of(statement: _Statement, refused: Refused) -> tuple[int, list[str]]:
    """Where the missing column is named, and the products in whose rows it was looked for (none: of no product)."""
    tree = sqlglot.parse_one(statement.text, dialect="duckdb")
    named = [
        one
        for one in tree.find_all(exp.Identifier)
        if one.name.lower() == refused.column.lower() and "start" in one.meta
    ]
    inside = [one for one in named if refused.start <= one.meta["start"] < refused.start + max(refused.length, 1)]
    node = next(iter(inside if refused.start >= 0 else named), None)
    if node is None:
        return refused.start, []
    return node.meta["start"], _looked_for_in(node, statement)


def _looked_for_in(node: exp.Expr, statement: _Statement) -> list[str]:
    """The products among the sources of a column: those of its qualifier, else of all queries around it."""
    column = node.parent
    qualifier = column.table.lower() if isinstance(column, exp.Column) else ""
    sources = [(name, product) for name, product in _sources(node, statement) if qualifier in ("", name)]
    # A column without a table could be one of a subquery, whose columns nobody promises.
    return [] if any(product is None for _, product in sources) else [str(product) for _, product in sources]


def _sources(node: exp.Expr, statement: _Statement) -> Iterator[tuple[str, str | None]]:
    """The sources in sight of a node, by the names they go by: a product, or None for anything else."""
    around = node.find_ancestor(exp.Select)
    while around is not None:
        joins = [join.this for join in around.args.get("joins") or ()]
        start = around.args.get("from_")
        for source in [*([start.this] if start else []), *joins]:
            name = ".".join(part.name for part in source.parts) if isinstance(source, exp.Table) else ""
            product = next((one for one in statement.tables if one.lower() == name.lower()), None)
            yield source.alias_or_name.lower(), product
        # A query in FROM or WITH does not see what is beside it.
        outer = around.find_ancestor(exp.Select, exp.From, exp.Join, exp.CTE)
        around = outer if isinstance(outer, exp.Select) else None


def _misfits(binder: Binder, product: DataProduct, columns: Sequence[Column]) -> Iterator[tuple[str, str]]:
    """How a transform's result differs from the contract's columns: problem and fix."""
    found: Mapping[str, Column] = {column.name: column for column in columns}
    declared = {field.name: duckdb_type(field.type) for field in product.fields}
    if lacking := [name for name in declared if name not in found]:
        yield f"its result lacks {', '.join(lacking)}", "select it, or remove it from the contract"
    if extra := [name for name in found if name not in declared]:
        yield f"its result has {', '.join(extra)}, which the contract does not", "declare it, or do not select it"
    for name in declared.keys() & found.keys():
        if found[name].type != declared[name] and (problem := binder.cast_problem(found[name], declared[name])):
            yield f"column {name} of its result: {problem}", f"give a {declared[name]}, as the contract says"


def _no_value(rule: Rule, columns: Sequence[Column]) -> Iterator[tuple[str, str]]:
    """Why the result of a rule's query cannot be compared with its threshold: problem and fix."""
    if len(columns) != 1:
        yield f"the query must give one value, got {counted(len(columns), 'column')}", "select one number or boolean"
        return
    kind = columns[0].type
    if isinstance(rule.threshold, bool) and kind != "BOOLEAN":
        yield (
            f"the query must give a boolean like the threshold, got a {kind}",
            "select a boolean, or compare with a number",
        )
    elif kind.removeprefix("U").partition("(")[0] not in _NUMBERS and kind != _UNKNOWN_TYPE:
        yield f"the query must give a number, got a {kind}", "select one number or boolean"
