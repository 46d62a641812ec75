"""Which input fields each field of a product is computed from, read off its SQL: in milliseconds, in a worker.

The SQL's scopes (what every subquery, common table expression and FROM brings into sight) are a graph whose nodes are
columns; a field's lineage is what can be reached from it. sqlglot's own ``lineage`` was ruled out: it walks the query
again for every column, does not say what filters and joins, and takes a column that it cannot place for a constant.
Here what cannot be placed (a pivot, ``COLUMNS(...)``, a whole row, an input whose contract is not there) makes the
fields that need it unknown, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.sql.parse import parse_select
from mesh_pipelines.sql.select import NotReadable
from mesh_pipelines.worker.pool import WorkerLost, guarded

# Seconds of CPU to trace one transform.
_TRACE_S = 3


@dataclass(frozen=True, order=True)
class SourceColumn:
    """A column of an input product: ``operations.flights`` and ``dep_delay``."""

    product: str
    column: str


Sources: TypeAlias = tuple[SourceColumn, ...]


class Influence(StrEnum):
    """How a column that is part of no value still decides what rows there are."""

    FILTER = "filter"
    JOIN = "join"
    GROUP = "group"
    SORT = "sort"


@dataclass(frozen=True)
class Lineage:
    """For each field the input columns in its value (empty: a constant, None: unknown), sorted.

    ``influences`` are the columns that filter, join, group or sort any of the rows on the way; None where they are not
    all known. ``missing`` are the fields that the query certainly does not give.
    """

    fields: Mapping[str, Sources | None]
    influences: Mapping[Influence, Sources] | None = field(default_factory=dict[Influence, Sources])
    missing: tuple[str, ...] = ()


def lineage(product: DataProduct, inputs: Mapping[str, DataProduct]) -> Lineage:
    """A product's lineage: from the inputs' fields, or, for one with a stream, from the fields of its events.

    ``inputs`` are those of its input products whose contracts are sound. Never raises: what cannot be read, or takes
    too long to be traced, is unknown.
    """
    if product.transform is None:
        return Lineage({one.name: (SourceColumn(product.fqn, one.name),) for one in product.fields})
    try:
        return guarded(trace, product, dict(inputs), cpu=_TRACE_S)
    except WorkerLost:
        return _unknown(product)


def trace(product: DataProduct, inputs: Mapping[str, DataProduct]) -> Lineage:
    """The lineage of a product with a transform, found in this process."""
    try:
        query = _Query(_qualified(product, inputs), inputs)
    except (NotReadable, SqlglotError, ValueError, RecursionError):
        return _unknown(product)
    return Lineage(
        {one.name: query.sources_of(one.name) for one in product.fields},
        query.influences(),
        tuple(one.name for one in product.fields if query.lacks(one.name)),
    )


def _unknown(product: DataProduct) -> Lineage:
    return Lineage(dict.fromkeys((one.name for one in product.fields), None), None)


def _qualified(product: DataProduct, inputs: Mapping[str, DataProduct]) -> Scope:
    """The scope of the transform with stars expanded and every column's table written out."""
    assert product.transform is not None, f"{product.fqn}: only a derived product has a query"
    schema: dict[str, Any] = {}
    for source in inputs.values():
        columns = {one.name: duckdb_type(one.type) for one in source.fields}
        schema.setdefault(source.domain, {})[source.name] = columns
    tree = sqlglot.parse_one(parse_select(product.transform.sql).text, dialect="duckdb")
    tree = qualify(tree, dialect="duckdb", schema=schema, validate_qualify_columns=False, identify=False)
    scope = build_scope(tree)
    if scope is None:
        raise ValueError("the query has no scope")
    return scope


class _Unknown(Exception):
    """A column that cannot be placed."""


@dataclass(frozen=True)
class _Node:
    """One column that a scope gives."""

    scope: Scope
    name: str

    @property
    def key(self) -> tuple[int, str]:
        return id(self.scope), self.name


# What a column is computed from: columns of other scopes, and of inputs.
_Edges: TypeAlias = tuple[list[_Node], set[SourceColumn]]
# A row as a value, and columns chosen by a pattern.
_OPAQUE = (exp.TableColumn, exp.Columns)


class _Query:
    """The graph of one query's columns; names are in lower case, as DuckDB compares them."""

    def __init__(self, root: Scope, inputs: Mapping[str, DataProduct]) -> None:
        self._root = root
        self._inputs = {
            name.lower(): {one.name.lower(): SourceColumn(name, one.name) for one in product.fields}
            for name, product in inputs.items()
        }
        self._scopes = {id(scope.expression): scope for scope in root.traverse()}
        self._edges: dict[tuple[int, str], _Edges] = {}

    def sources_of(self, name: str) -> Sources | None:
        """The input columns in a column of the result; None where one of them is unknown."""
        try:
            return self._reached([_Node(self._root, name.lower())])
        except _Unknown:
            return None

    def lacks(self, name: str) -> bool:
        """Whether the result certainly has no such column."""
        opaque = any(one.is_star or one.find(exp.Columns) for one in _selects(self._root))
        return not opaque and name.lower() not in _names(self._root)

    def influences(self) -> Mapping[Influence, Sources] | None:
        """The input columns that decide what rows there are, by how they do."""
        found: dict[Influence, list[_Node]] = {kind: [] for kind in Influence}
        leaves: dict[Influence, set[SourceColumn]] = {kind: set() for kind in Influence}
        if self._root.expression.find(exp.Pivot):
            return None
        try:
            for scope in self._scopes.values():
                for kind, expression in _deciding(scope):
                    nodes, sources = self._columns_in(expression, named_by=scope)
                    found[kind] += nodes
                    leaves[kind] |= sources
            return {
                kind: reached
                for kind in Influence
                if (reached := tuple(sorted({*leaves[kind], *self._reached(found[kind])})))
            }
        except _Unknown:
            return None

    def _reached(self, nodes: Iterable[_Node]) -> Sources:
        """The input columns that can be reached; recursive queries go in circles, so it is a search."""
        waiting, seen, reached = list(nodes), set[tuple[int, str]](), set[SourceColumn]()
        while waiting:
            node = waiting.pop()
            if node.key in seen:
                continue
            seen.add(node.key)
            if node.key not in self._edges:
                self._edges[node.key] = self._edges_of(node)
            further, sources = self._edges[node.key]
            waiting += further
            reached |= sources
        return tuple(sorted(reached))

    def _edges_of(self, node: _Node) -> _Edges:
        scope = node.scope
        if scope.pivots:
            raise _Unknown
        if branches := scope.set_operation_scopes:
            # What is only compared with the first side gives no values.
            giving = branches if isinstance(scope.expression, exp.Union) else branches[:1]
            return [_Node(branch, _counterpart(scope, branch, node.name)) for branch in giving], set()
        if not isinstance(scope.expression, exp.Select):
            return self._columns_in(scope.expression)
        chosen = [one for one in scope.expression.selects if one.alias_or_name.lower() == node.name]
        if len(chosen) != 1:
            raise _Unknown
        return self._columns_in(chosen[0])

    def _columns_in(self, expression: exp.Expr, named_by: Scope | None = None) -> _Edges:
        """The columns in an expression; those of a subquery in it are what the subquery gives.

        ``named_by`` is the query by whose names an expression outside its SELECT may call a column.
        """
        nodes: list[_Node] = []
        sources: set[SourceColumn] = set()
        for part in expression.walk(prune=lambda inner: inner is not expression and isinstance(inner, exp.Query)):
            if isinstance(part, _OPAQUE):
                raise _Unknown
            if isinstance(part, exp.Query) and part is not expression:
                inner = self._scopes.get(id(part.unnest()))
                if inner is None:
                    raise _Unknown
                nodes += [_Node(inner, name) for name in _names(inner)]
            elif isinstance(part, exp.Column):
                found = self._place(part, named_by)
                nodes += [found] if isinstance(found, _Node) else []
                sources |= {found} if isinstance(found, SourceColumn) else set()
            elif isinstance(part, exp.Window) and part.args.get("alias"):
                # Named, and defined beside the query's other clauses.
                defining = part.find_ancestor(exp.Select)
                for window in defining.args.get("windows") or () if defining else ():
                    further, others = self._columns_in(window, named_by)
                    nodes += further
                    sources |= others
        return nodes, sources

    def _place(self, column: exp.Column, named_by: Scope | None) -> _Node | SourceColumn:
        """Where a column comes from: another scope, or an input."""
        name, table = column.name.lower(), column.table
        if not table:
            if named_by is not None and name in _names(named_by):
                return _Node(named_by, name)
            raise _Unknown
        source = self._source(column, table)
        if isinstance(source, Scope):
            return _Node(source, name)
        if not isinstance(source, exp.Table) or source.args.get("pivots") or source.alias_column_names:
            raise _Unknown
        known = self._inputs.get(f"{source.db}.{source.name}".lower(), {}).get(name)
        if known is None:
            raise _Unknown
        return known

    def _source(self, column: exp.Column, table: str) -> exp.Expr | Scope | None:
        """What a column's table stands for at its place: in the innermost query around it, or in one around that."""
        around: exp.Expr | None = column.parent
        while around is not None:
            scope = self._scopes.get(id(around))
            if scope is not None and table in scope.sources:
                source = scope.sources[table]
                return self._whole(source) if isinstance(source, Scope) else source
            around = around.parent
        return None

    def _whole(self, source: Scope) -> Scope:
        """A recursive query calls itself by the scope of what it begins with; what it means is all of it."""
        whole = source.expression.parent
        if isinstance(whole, exp.SetOperation) and whole.this is source.expression:
            return self._scopes[id(whole)]
        return source


def _names(scope: Scope) -> list[str]:
    """The columns that a scope gives, in order."""
    expression = scope.expression
    return [name.lower() for name in expression.named_selects] if isinstance(expression, exp.Query) else []


def _counterpart(union: Scope, branch: Scope, name: str) -> str:
    """The column of one side of a set operation that becomes ``name``: the one at its place, or of its name."""
    if union.expression.args.get("by_name"):
        return name
    names, others = _names(union), _names(branch)
    if name not in names or len(names) != len(others):
        raise _Unknown
    return others[names.index(name)]


def _deciding(scope: Scope) -> Iterator[tuple[Influence, exp.Expr]]:
    """The expressions of one query that decide what rows it gives."""
    query = scope.expression
    if isinstance(query, exp.SetOperation):
        # Whether a row is there twice, or on both sides, is a matter of all its columns.
        if query.args.get("distinct") or not isinstance(query, exp.Union):
            kind = Influence.GROUP if isinstance(query, exp.Union) else Influence.FILTER
            yield from ((kind, one) for side in scope.set_operation_scopes for one in _selects(side))
    elif not isinstance(query, exp.Select):
        yield Influence.JOIN, query
        return
    for clause in ("where", "having", "qualify", "limit", "offset"):
        if found := query.args.get(clause):
            yield Influence.FILTER, found
    for join in query.args.get("joins") or ():
        if join.args.get("using"):
            raise _Unknown
        if isinstance(join.this, exp.Table) and not isinstance(join.this.this, exp.Identifier):
            yield Influence.JOIN, join.this
        yield from ((Influence.JOIN, on) for name in ("on", "match_condition") if (on := join.args.get(name)))
    if group := query.args.get("group"):
        yield Influence.GROUP, group
        if group.args.get("all"):
            yield from ((Influence.GROUP, one) for one in query.selects if not one.find(exp.AggFunc))
    if distinct := query.args.get("distinct"):
        chosen = [distinct.args["on"]] if isinstance(distinct, exp.Distinct) and distinct.args.get("on") else None
        yield from (
            (Influence.GROUP, one) for one in chosen or (query.selects if isinstance(query, exp.Select) else ())
        )
    if order := query.args.get("order"):
        yield Influence.SORT, order


def _selects(scope: Scope) -> list[exp.Expr]:
    expression = scope.expression
    return list(expression.selects) if isinstance(expression, exp.Query) else []
