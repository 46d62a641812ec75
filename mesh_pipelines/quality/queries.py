"""Rules written as SQL: one SELECT over the product and its inputs, and nothing else.

The query is parsed to know what it reads, but run as its author wrote it: only the names of its tables are replaced, at
their places in the text. Generating SQL anew from the syntax tree was ruled out, since a generator rewrites functions
into its idea of the dialect and so can change what a rule counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import traverse_scope
from sqlglot.tokens import TokenType

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.sql import quote
from mesh_pipelines.quality.faults import Uncompilable

_OBJECT = "__object__"
_OBJECT_PLACEHOLDER = re.compile(r"\$?\{(?:object|table)\}")
_PROPERTY_PLACEHOLDER = re.compile(r"\$?\{(?:property|column)\}")
# A name that only a common table expression can have: with any other, it could be a file that the engine would read.
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TABLE_FUNCTIONS = (exp.GenerateSeries,)


@dataclass(frozen=True)
class Reference:
    """A place in a query that names a product: "" for the rule's own. ``alias`` is how the rest of the query calls it.

    ``alias`` is "" where the author gave one.
    """

    product: str
    alias: str


Part: TypeAlias = str | Reference


@dataclass(frozen=True)
class Query:
    """A SELECT in pieces: its author's text, and between it the places that name a product."""

    parts: tuple[Part, ...] = ()

    def bound(self, own: str, inputs: Mapping[str, str]) -> str:
        """The text over these relations, which are SQL and not quoted here; an input without one keeps its name."""
        return "".join(part if isinstance(part, str) else _named(part, own, inputs) for part in self.parts)


def parse_query(text: str, product: DataProduct, field: str | None = None) -> Query:
    """A rule's query; ``{object}`` stands for the product, ``{property}`` for ``field``.

    Raises:
        Uncompilable: it is not one SELECT, or reads anything but the product and its declared inputs.
    """
    if _PROPERTY_PLACEHOLDER.search(text) and field is None:
        raise Uncompilable("the query speaks of {property}, of which there is none", "put the rule under a property")
    text = _OBJECT_PLACEHOLDER.sub(_OBJECT, text)
    if field is not None:
        text = _PROPERTY_PLACEHOLDER.sub(lambda _: quote(field), text)
    text = _one_statement(text)
    tree = _parse(text)
    places = sorted([*_tables(tree, product), *_qualified_columns(tree, product)], key=lambda place: place[0])
    return Query(tuple(_split(text, places)))


def _one_statement(text: str) -> str:
    try:
        tokens = sqlglot.tokenize(text, read="duckdb")
    except SqlglotError as error:
        raise _unparsed(error) from error
    ends = [number for number, token in enumerate(tokens) if token.token_type is TokenType.SEMICOLON]
    if not tokens or (ends and any(token.token_type is not TokenType.SEMICOLON for token in tokens[ends[0] :])):
        raise Uncompilable("the query is not exactly one SELECT", "write one SELECT that gives one value")
    return text[: tokens[ends[0]].start] if ends else text


def _parse(text: str) -> exp.Query:
    try:
        tree = sqlglot.parse_one(text, dialect="duckdb")
    except SqlglotError as error:
        raise _unparsed(error) from error
    if not isinstance(tree, exp.Query) or tree.find(exp.DML, exp.DDL, exp.Command) is not None:
        raise Uncompilable("the query is not exactly one SELECT", "write one SELECT that gives one value")
    return tree


def _unparsed(error: SqlglotError) -> Uncompilable:
    detail = re.sub(r"\x1b\[\d+m", "", str(error).splitlines()[0])
    return Uncompilable(f"the query does not parse: {detail}", "mend the SQL")


_Place: TypeAlias = tuple[int, int, Part]


def _tables(tree: exp.Query, product: DataProduct) -> Iterator[_Place]:
    """Where the query names a table, which must be a product it may read."""
    read = {
        id(source)
        for scope in traverse_scope(tree)
        for source in scope.sources.values()
        if isinstance(source, exp.Table)
    }
    expressions = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, _TABLE_FUNCTIONS):
            continue
        name = _name(table)
        if id(table) not in read and name in expressions and _PLAIN_NAME.fullmatch(name):
            continue
        start, end = _extent(table.args.get("db") or table.this, table.this)
        alias = product.name if name == _OBJECT else table.name
        yield start, end, Reference(_readable(name, product), "" if table.args.get("alias") else alias)


def _name(table: exp.Table) -> str:
    """How the query names a table: ``name`` or ``domain.name``; a name with a dot in itself is none of ours."""
    parts = [part.name for part in table.parts if isinstance(part, exp.Identifier)]
    if len(parts) != len(table.parts) or len(parts) > 2 or any("." in part for part in parts):
        raise Uncompilable(f"the query reads {table.sql(dialect='duckdb')}", "read {object} or a declared input")
    return ".".join(parts)


def _readable(name: str, product: DataProduct) -> str:
    if name in (_OBJECT, product.name, product.fqn):
        return ""
    if name not in product.inputs:
        raise Uncompilable(f"the query reads {name}", "read {object}, or declare the product among mesh.inputs")
    return name


def _qualified_columns(tree: exp.Query, product: DataProduct) -> Iterator[_Place]:
    """Where a column is written ``domain.product.column``, or with a placeholder: the table is known by its alias."""
    for column in tree.find_all(exp.Column):
        domain, table = column.args.get("db"), column.args.get("table")
        if domain and table and f"{domain.name}.{table.name}" in (product.fqn, *product.inputs):
            yield *_extent(domain, table), quote(table.name)
        elif table and not domain and table.name == _OBJECT:
            yield *_extent(table, table), quote(product.name)


def _extent(first: exp.Expression, last: exp.Expression) -> tuple[int, int]:
    """The half-open range of text from one identifier to another."""
    return first.meta["start"], last.meta["end"] + 1


def _split(text: str, places: list[_Place]) -> Iterator[Part]:
    at = 0
    for start, end, part in places:
        yield text[at:start]
        yield part
        at = end
    yield text[at:]


def _named(reference: Reference, own: str, inputs: Mapping[str, str]) -> str:
    default = ".".join(quote(part) for part in reference.product.split("."))
    relation = inputs.get(reference.product, default) if reference.product else own
    return f"{relation} AS {quote(reference.alias)}" if reference.alias else relation
