"""What DuckDB says of a transform or a query before there are any rows: names, types, functions.

A statement is bound over empty tables that have the columns and types of the contracts, in a database that can reach no
file and no address. So a column that does not exist, a function that takes no such type, or a result that has not the
contract's columns is found by ``mesh lint`` and ``mesh apply``, in the words and by the rules of the engine that will
run the statement. Checking columns by sqlglot's own types was ruled out: it knows another dialect's functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.engine import check, isolated
from mesh_pipelines.sql.quote import literal, quote
from mesh_pipelines.sql.select import NotReadable

if TYPE_CHECKING:
    import duckdb

_MISSING = (
    re.compile(r'Referenced column "(?P<name>.+)" not found'),
    re.compile(r'does not have a column named "(?P<name>.+)"'),
    re.compile(r'Column "(?P<name>.+)" in \w+ list not found'),
    re.compile(r'Column "(?P<name>.+)" does not exist on (left|right) side of join'),
)
_NAMES = re.compile(r'"([^"]+)"')
# Run through the engine as a statement: errors of a relation's text have no place.
_DESCRIBE = "DESCRIBE "
# Texts of which one can be cast to any type that a result can have.
_VALUES = ("1", "2000-01-01", "00:00:00", "1 day", "{}", "[]")
_NEVER = "Unimplemented type for cast"


@dataclass(frozen=True)
class Refused:
    """What DuckDB does not bind. ``start`` and ``length`` count characters of the statement; -1 where it gives none.

    ``column`` is the name of a column that is not there, "" for any other fault. ``near`` are names that DuckDB knows.
    """

    problem: str
    start: int
    length: int = 0
    column: str = ""
    near: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column of a statement's result, with DuckDB's type of it."""

    name: str
    type: str


class Unbindable(Exception):
    """A statement that DuckDB does not bind."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.problem)
        self.refused = refused


class Binder:
    """Empty tables of products, in a database of their own that is opened for the first statement.

    ``products`` may be exchanged for others at any time.
    """

    def __init__(self, products: Mapping[str, DataProduct]) -> None:
        self.products = products
        self._made: dict[str, str] = {}
        self._casts: dict[tuple[str, str], str] = {}

    def bind(self, statement: str, tables: Iterable[str], expressions: Iterable[str]) -> list[Column]:
        """The columns of one SELECT over products; ``expressions`` are its common table expressions.

        Raises:
            Unbindable: DuckDB refuses it.
        """
        names = set(tables)
        with self._refusing(statement):
            for name in sorted(names):
                self._make(self.products[name])
            try:
                check(self._connection, statement, {*names, *expressions})
            except NotReadable as error:
                raise Unbindable(Refused(f"it {error}", -1)) from error
            rows = self._connection.execute(f"{_DESCRIBE}{statement}").fetchall()
        return [Column(row[0], row[1]) for row in rows]

    def cast_problem(self, column: Column, wanted: str) -> str:
        """Why no value of a result's column can become one of a type; "" where some can."""
        if (column.type, wanted) not in self._casts:
            self._casts[column.type, wanted] = self._cast(column.type, wanted)
        return self._casts[column.type, wanted]

    @contextmanager
    def assuming(self) -> Generator[Callable[[str, str, str], bool]]:
        """Gives a function that adds a column (of a product, by name, with a type) until the block ends.

        It gives False where the table has it already.
        """
        added: list[tuple[str, str]] = []

        def add(product: str, column: str, kind: str) -> bool:
            if (product, column) in added:
                return False
            self._connection.execute(f"ALTER TABLE {relation(product)} ADD COLUMN {quote(column)} {kind}")
            added.append((product, column))
            return True

        try:
            yield add
        finally:
            for product, column in added:
                self._connection.execute(f"ALTER TABLE {relation(product)} DROP COLUMN {quote(column)}")

    def _cast(self, kind: str, wanted: str) -> str:
        """DuckDB says of a value only, and not of a type, that it has no cast; so it is asked with one of the type."""
        value = ", ".join(f"TRY_CAST({literal(text)} AS {kind})" for text in _VALUES)
        try:
            with self._refusing(""):
                self._connection.execute(f"SELECT CAST(coalesce({value}) AS {wanted})")
        except Unbindable as error:
            return error.refused.problem if error.refused.problem.startswith(_NEVER) else ""
        return ""

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return isolated()

    def _make(self, product: DataProduct) -> None:
        if self._made.get(product.fqn) == product.contract_hash:
            return
        columns = ", ".join(f"{quote(field.name)} {duckdb_type(field.type)}" for field in product.fields)
        self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(product.domain)}")
        self._connection.execute(f"CREATE OR REPLACE TABLE {relation(product.fqn)} ({columns})")
        self._made[product.fqn] = product.contract_hash

    @contextmanager
    def _refusing(self, statement: str) -> Generator[None]:
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            raise Unbindable(_refused(statement, error)) from error


def relation(product: str) -> str:
    """A product's table, as SQL."""
    return ".".join(map(quote, product.split(".")))


def _refused(statement: str, error: Exception) -> Refused:
    """DuckDB's error, which is a class and JSON, with its place as characters of the statement."""
    kind, _, rest = str(error).partition(": ")
    try:
        told: dict[str, Any] = json.loads(rest)
    except ValueError:
        return Refused(str(error).strip().splitlines()[0], -1)
    first, *more = str(told["exception_message"]).splitlines() or [kind]
    near = tuple(name for line in more if line.startswith("Candidate ") for name in _NAMES.findall(line))
    column = next((found["name"] for missing in _MISSING if (found := missing.search(first))), "")
    start, length = _extent(statement, told)
    return Refused(first.strip(), start, length, column, near)


def _extent(statement: str, told: Mapping[str, Any]) -> tuple[int, int]:
    """Where in the statement an error is: DuckDB counts bytes, of the text with what stands before the statement."""
    if "position" not in told:
        return -1, 0
    text = f"{_DESCRIBE}{statement}".encode()
    start, length = json.loads(told.get("location", f"[{told['position']}, 0]"))
    before = text[:start].decode(errors="replace")
    return len(before) - len(_DESCRIBE), len(text[start : start + length].decode(errors="replace"))
