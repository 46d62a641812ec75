"""The one door through which rows of a product leave: who reads a version decides which columns are given.

Everything that shows values of a product asks here first: reading from Python, SQL, the serving file, samples, rows
that break rules, quarantined events. ``hidden`` is the only place that decides. A column is hidden as a whole, also
where only a part of it is not public: parts are not cut out of lists, maps and objects. To mask in each of these places
was ruled out: the one that forgets is the leak.

Messages are not rows. Where an engine's words may quote a value, they are kept only for products whose fields are all
public (``contract/telling.py``), since messages are stored and told to everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mesh_pipelines import engine
from mesh_pipelines.contract.envelope import KEY, OFFSET, PARTITION, RAW, REASON, TIMESTAMP
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.engine import View
from mesh_pipelines.errors import UsageError
from mesh_pipelines.platform import Platform, discreet
from mesh_pipelines.positions import Version
from mesh_pipelines.sql.quote import quote

if TYPE_CHECKING:
    from mesh_pipelines.lake.log import Log
    from mesh_pipelines.lake.product_tables import ProductTables

# Where the event that a row is from lies on the stream.
COORDINATES = (PARTITION, OFFSET, TIMESTAMP)
# What of a quarantined event may hold values of its fields.
_TELLING = (KEY, RAW, REASON)


class Reader(StrEnum):
    """Who rows are given to.

    OWNER: who works at the command line of a machine that has the tables' files. PROGRAM: a program on such a machine,
    by the Python API or the serving file. VISITOR: anybody who reaches the portal or Dagster's pages.
    """

    OWNER = "owner"
    PROGRAM = "program"
    VISITOR = "visitor"


class Masked:
    """The value of a field that its reader may not see."""

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


def hidden(product: DataProduct, reader: Reader) -> frozenset[str]:
    """The columns that a reader may not see: to visitors, those that hold anything that is not public.

    Who has the tables' files has all their values, whatever is said here.
    """
    if reader is not Reader.VISITOR:
        return frozenset()
    return frozenset(field.name for field in product.fields if not field.is_public)


def hidden_in(ruling: DataProduct, own: DataProduct, reader: Reader) -> frozenset[str]:
    """The columns of a version that a reader may not see, by the contract that rules now or by the version's own.

    Neither makes public what the other hides: who classifies a field hides it in every version, under former names too.
    """
    former = {
        alias for field in ruling.fields if field.name in hidden(ruling, reader) for alias in field.former_columns
    }
    found = hidden(own, reader) | hidden(ruling, reader) | former
    return found & {field.name for field in own.fields}


def rows_view(tables: ProductTables, version: Version, reader: Reader) -> View:
    """The SELECT over data files that gives a version's rows to a reader, contract columns in order.

    A hidden column is there, and null.

    Raises:
        UnknownVersion: its rows have expired.
        TableMissing, TableOutdated: the product waits for ``mesh apply``.
    """
    product = tables.under(version.contract_hash)
    masked, state = hidden_in(tables.product, product, reader), tables.state.view(version)
    if not masked:
        return state
    columns = ", ".join(
        f"NULL::{duckdb_type(field.type)} AS {quote(field.name)}" if field.name in masked else quote(field.name)
        for field in product.fields
    )
    return View(f"SELECT {columns} FROM ({state.sql})", state.files)


def sample(platform: Platform, product: DataProduct, version: Version, reader: Reader, limit: int = 20) -> Rows:
    """The first rows of a version, as they come.

    Raises:
        UnknownVersion: its rows have expired.
    """
    return select(Shelf(platform, product, version, reader), "TRUE", limit)


def held(platform: Platform, product: DataProduct, reader: Reader, limit: int | None = 100) -> pa.Table:
    """The newest quarantined events: coordinates, key, fate, rule, reason and raw bytes.

    Key, reason and bytes may hold any field's value: they are null where the reader may not see every field.

    Raises:
        UsageError: the product has no events of its own.
        TableMissing: it was not applied.
    """
    events = log_of(platform, product).quarantine(limit)
    return _without(events, _TELLING) if hidden(product, reader) else events


def held_at(platform: Platform, product: DataProduct, at: tuple[int, int, int]) -> pa.Table:
    """The quarantined event at (generation, partition, offset), in the log's columns: a table of one row or none.

    It is for the owner alone: its bytes hold everything.
    """
    return log_of(platform, product).quarantined_at(*at)


def log_of(platform: Platform, product: DataProduct) -> Log:
    """The product's log.

    Raises:
        UsageError: the product is derived, and has none.
    """
    if not product.has_log:
        raise UsageError(
            f"{product.fqn} is derived: it has no events", next_step=f"mesh quarantine list {product.inputs[0]}"
        )
    return platform.tables_of(product).log


def examples(product: DataProduct, found: Sequence[Mapping[str, Any]], reader: Reader) -> tuple[str, ...]:
    """Rows that an audit found, as text for a reader."""
    masked = hidden(product, reader)
    return tuple(
        ", ".join(f"{name}={MASKED if name in masked else value}" for name, value in row.items()) for row in found
    )


@dataclass(frozen=True)
class Shelf:
    """A version of a product, for a reader to look into; ``ruling`` is the product under the contract that rules."""

    platform: Platform
    ruling: DataProduct
    version: Version
    reader: Reader

    @cached_property
    def product(self) -> DataProduct:
        """The product under the contract that the version was audited under."""
        return self.platform.tables_of(self.ruling).under(self.version.contract_hash)

    @cached_property
    def masked(self) -> frozenset[str]:
        """The columns that the reader may not see."""
        return hidden_in(self.ruling, self.product, self.reader)

    def state(self, envelope: Sequence[str] = ()) -> str:
        """The version's rows with nothing hidden, for conditions over them; not to be given to anybody."""
        return self.platform.tables_of(self.ruling).pinned().state.sql(self.version, envelope=envelope)

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        """What a query of ours gives.

        Raises:
            UsageError: it takes longer than anybody waits.
        """
        import duckdb

        try:
            with (
                # A page that fails is logged with what went wrong.
                discreet(self.platform, self.ruling),
                discreet(self.platform, self.product),
                closing(engine.connect(self.platform.settings)) as connection,
                engine.interrupting(connection, _PATIENCE_S),
            ):
                return connection.execute(query).fetchall()
        except duckdb.InterruptException as error:
            raise UsageError(
                "the rows took too long to find", next_step="mesh query with a narrower question"
            ) from error


# A page waits for it.
_PATIENCE_S = 20.0
ROWS = "rows"


def select(shelf: Shelf, condition: str, limit: int, order: Sequence[str] = ()) -> Rows:
    """The rows of a version for which a condition holds, with the coordinates of their events, for its reader."""
    product, masked = shelf.product, shelf.masked
    envelope = COORDINATES if product.has_log else ()
    columns = (*envelope, *(field.name for field in product.fields))
    shown = [name for name in columns if name not in masked]
    names = ", ".join(map(quote, shown)) or "NULL"
    ordered = f" ORDER BY {', '.join(map(quote, order))}" if order else ""
    query = f"WITH {ROWS} AS ({shelf.state(envelope)}) SELECT {names} FROM {ROWS} WHERE {condition}{ordered}"
    found = shelf.fetch(f"{query} LIMIT {limit + 1}")
    rows = [_widened(dict(zip(shown, row, strict=False)), columns) for row in found[:limit]]
    return Rows(columns, tuple(rows), masked, len(found) > limit)


def _widened(row: dict[str, Any], columns: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(name, MASKED) for name in columns)


def _without(table: pa.Table, names: Sequence[str]) -> pa.Table:
    for name in names:
        number = table.schema.get_field_index(name)
        field = table.schema.field(number)
        table = table.set_column(number, field, pa.nulls(table.num_rows, field.type))
    return table
