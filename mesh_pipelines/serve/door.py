"""A few rows of a product for people to look at: a sample, and those that break a rule.

Values of fields that are not public are masked here, before anybody can show them, and with them every column that has
such a field inside. Rows of a stream's product come with the coordinates of the event they are from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesh_pipelines.contract.envelope import OFFSET, PARTITION, TIMESTAMP
from mesh_pipelines.contract.model import DataProduct, Field, Rule, RuleKind
from mesh_pipelines.errors import UsageError
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Version
from mesh_pipelines.sql.quote import quote

if TYPE_CHECKING:
    import duckdb

PUBLIC = "public"
_COORDINATES = (PARTITION, OFFSET, TIMESTAMP)
_ROWS = "rows"


class Masked:
    """The value of a field that is not public."""

    def __repr__(self) -> str:
        return "masked"


MASKED = Masked()


@dataclass(frozen=True)
class Rows:
    """Rows under their columns; ``masked`` names the columns whose values were left out, ``more`` says there are more.

    The first of the columns are the coordinates of the rows' events, where they have any.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    masked: frozenset[str]
    more: bool = False


def sample(platform: Platform, product: DataProduct, version: Version, limit: int = 20) -> Rows:
    """The first rows of a version, as they come.

    Raises:
        UnknownVersion: its rows have expired.
    """
    return _select(platform, product, version, "TRUE", limit)


def breaking(platform: Platform, product: DataProduct, version: Version, rule: Rule, limit: int = 50) -> Rows:
    """The rows of a version, or of a candidate, that break a row rule or share what has to be unique.

    Raises:
        UsageError: the rule is about the rows as a whole: there are none that break it.
        UnknownVersion: the version's rows have expired.
    """
    from mesh_pipelines.rules.compile import compile_rule, duplicate_groups

    match rule.kind:
        case RuleKind.ROW:
            condition = compile_rule(rule, product).predicate
        case RuleKind.UNIQUE:
            columns = ", ".join(map(quote, rule.fields))
            groups = duplicate_groups(rule.fields, _ROWS)
            condition = f"({columns}) IN (SELECT ({columns}) FROM ({groups}))"
            if len(rule.fields) == 1:
                condition = f"{columns} IN (SELECT {columns} FROM ({groups}))"
        case _:
            raise UsageError(f"{rule.id} is about the rows as a whole", next_step=f"mesh query over {product.fqn}")
    return _select(platform, product, version, condition, limit)


def has_rows(rule: Rule) -> bool:
    """Whether there are rows that break a rule, rather than a figure that does."""
    return rule.kind in (RuleKind.ROW, RuleKind.UNIQUE)


def hidden(product: DataProduct) -> frozenset[str]:
    """The columns that hold anything that is not public."""
    return frozenset(field.name for field in product.fields if not _is_public(field))


def _is_public(field: Field) -> bool:
    return field.classification == PUBLIC and all(map(_is_public, _inner(field)))


def _inner(field: Field) -> Iterator[Field]:
    kind = field.type
    while kind.items is not None:
        kind = kind.items
    yield from kind.fields


def _select(platform: Platform, product: DataProduct, version: Version, condition: str, limit: int) -> Rows:
    from mesh_pipelines import engine
    from mesh_pipelines.lake.state import state_sql

    envelope = _COORDINATES if product.has_log else ()
    state = state_sql(platform.tables_of(product).pinned(), version, envelope=envelope)
    masked = hidden(product)
    columns = (*envelope, *(field.name for field in product.fields))
    shown = [name for name in columns if name not in masked]
    select = ", ".join(map(quote, shown)) or "NULL"
    query = f"WITH {_ROWS} AS ({state}) SELECT {select} FROM {_ROWS} WHERE {condition} LIMIT {limit + 1}"
    with closing(engine.connect(platform.settings)) as connection, engine.interrupting(connection, _PATIENCE_S):
        found = _fetch(connection, query)
    rows = [_widened(dict(zip(shown, row, strict=False)), columns) for row in found[:limit]]
    return Rows(columns, tuple(rows), masked, len(found) > limit)


# A page waits for it.
_PATIENCE_S = 20.0


def _fetch(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    import duckdb

    try:
        return connection.execute(query).fetchall()
    except duckdb.InterruptException as error:
        raise UsageError("the rows took too long to find", next_step="mesh query with a narrower question") from error


def _widened(row: dict[str, Any], columns: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(name, MASKED) for name in columns)
