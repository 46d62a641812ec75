"""Reading one SELECT by sqlglot's tree; ``sql/select.py`` says what for, and calls it in a worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from mesh_pipelines.sql.functions import REFUSED, WHY_REFUSED
from mesh_pipelines.sql.quote import UNCARRIED
from mesh_pipelines.sql.select import MAX_CHARACTERS, NotReadable, Place, Select

# What the names of the engine's own views begin with.
_OF_THE_ENGINE = ("duckdb_", "pg_", "pragma_", "sqlite_")
_BEGINS = (TokenType.SELECT, TokenType.WITH, TokenType.FROM, TokenType.L_PAREN)
_STATEMENTS = (exp.DML, exp.DDL, exp.Command, exp.Describe, exp.Summarize, exp.Show)
_FROM_QUERY = (exp.Subquery, exp.Values, exp.Unnest, exp.Select, exp.SetOperation)
_SERIES_NODES = (exp.GenerateSeries, exp.Unnest)


def parse_select(text: str) -> Select:
    """What ``read_select`` gives, parsed in this process."""
    if len(text) > MAX_CHARACTERS:
        raise NotReadable(f"must have at most {MAX_CHARACTERS:,} characters, got {len(text):,}")
    if UNCARRIED.search(text):
        raise NotReadable("contains a NUL character, or bytes that are not UTF-8")
    try:
        text = _one_statement(text)
        tree = sqlglot.parse_one(text, dialect="duckdb")
    except SqlglotError as error:
        raise NotReadable(f"does not parse: {_first_line(error)}") from error
    except RecursionError as error:
        raise NotReadable("nests too deeply") from error
    if not isinstance(tree, exp.Query) or tree.find(*_STATEMENTS):
        raise NotReadable("must be exactly one SELECT")
    tables = tuple(_tables(tree))
    expressions = frozenset(expression.alias.lower() for expression in tree.find_all(exp.CTE))
    for name in sorted(expressions):
        # In a recursive one's first part, the name is still that of the engine's view.
        if name.startswith(_OF_THE_ENGINE):
            raise NotReadable(f"calls a table expression {name}; choose a name that is not the engine's")
    return Select(text, tables, tuple(_qualifiers(tree)), expressions)


def _one_statement(text: str) -> str:
    tokens = sqlglot.tokenize(text, read="duckdb")
    ends = [number for number, token in enumerate(tokens) if token.token_type is TokenType.SEMICOLON]
    after = tokens[ends[0] :] if ends else []
    if any(token.token_type is not TokenType.SEMICOLON for token in after):
        raise NotReadable("must be exactly one SELECT")
    # What a statement begins with decides what it is; the parser would take an unknown one for a command, and log it.
    if not tokens or tokens[0].token_type not in _BEGINS:
        raise NotReadable("must be exactly one SELECT")
    _check_calls(tokens)
    return text[: tokens[ends[0]].start] if ends else text


def _check_calls(tokens: list[Token]) -> None:
    """Refuse functions by name wherever one is called, also as a method and in quotes."""
    for token, following in pairwise(tokens):
        if following.token_type is TokenType.L_PAREN and token.text.lower() in REFUSED:
            raise NotReadable(f"calls {token.text}, which {WHY_REFUSED}")


def _tables(tree: exp.Query) -> Iterator[Place]:
    for source in tree.find_all(exp.From, exp.Join, exp.Lateral):
        _check_source(source.this)
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, _SERIES_NODES):
            continue
        parts = _identifiers(table)
        if len(parts) == 1 and parts[0].lower() in _visible(table):
            continue
        first, last = table.args.get("db") or table.this, table.this
        yield Place(parts, *_extent(first, last), aliased=bool(table.args.get("alias")))


def _check_source(source: exp.Expression) -> None:
    if not isinstance(source, exp.Table | exp.Lateral) and not isinstance(source, _FROM_QUERY):
        raise NotReadable(f"reads {_shown(source)}; only products can be read, as domain.product")


def _identifiers(table: exp.Table) -> tuple[str, ...]:
    """The one or two plain names of a table; one with a dot or a slash in itself would be a file to the engine."""
    names = tuple(part.name for part in table.parts if isinstance(part, exp.Identifier))
    plain = all(name.isidentifier() for name in names)
    if not plain or len(names) != len(table.parts) or len(names) > 2:
        raise NotReadable(f"reads {_shown(table)}; only products can be read, as domain.product")
    return names


def _visible(table: exp.Table) -> set[str]:
    """The names of the common table expressions that stand for a table at this place."""
    names: set[str] = set()
    inner: exp.Expr = table
    while inner.parent is not None:
        outer: exp.Expr = inner.parent
        if isinstance(outer, exp.With):
            before = outer.expressions[: inner.index]
            names |= {one.alias.lower() for one in before}
            if outer.recursive:
                names.add(inner.alias.lower())
        elif (own := outer.args.get("with_")) and own is not inner:
            names |= {one.alias.lower() for one in own.expressions}
        inner = outer
    return names


def _qualifiers(tree: exp.Query) -> Iterator[Place]:
    for column in tree.find_all(exp.Column):
        domain, table = column.args.get("db"), column.args.get("table")
        if table:
            named = [part for part in (domain, table) if part]
            yield Place(tuple(part.name for part in named), *_extent(named[0], table))


def _extent(first: exp.Expression, last: exp.Expression) -> tuple[int, int]:
    return first.meta["start"], last.meta["end"] + 1


def _shown(node: exp.Expression) -> str:
    text = node.sql(dialect="duckdb")
    return text if len(text) <= 80 else f"{text[:80]}..."


def _first_line(error: Exception) -> str:
    # The parser underlines the place by the terminal's escapes.
    return re.sub(r"\x1b\[\d+m", "", str(error).strip().splitlines()[0])
