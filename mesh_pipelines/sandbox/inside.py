"""What runs in the worker: a database that reads the files of some views, and an author's SELECTs in it.

A worker has one database at a time, opened anew for each author.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesh_pipelines.engine import View, check, lock
from mesh_pipelines.gx.validate import Validated, validate_rules
from mesh_pipelines.sql.quote import quote

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from mesh_pipelines.contract.model import DataProduct
    from mesh_pipelines.rules.compile import CompiledRule
    from mesh_pipelines.rules.results import RuleResult


# An author's spill may take so much of what is free on its disk: several at once leave room for everything else.
_SHARE_OF_DISK = 4


@dataclass(frozen=True)
class Terms:
    """What a database has: views by ``name`` or ``(schema, name)``, and what it may take of memory and of disk."""

    views: tuple[tuple[tuple[str, ...], View], ...]
    memory_limit: str
    spill: str


@dataclass(frozen=True)
class Text:
    """An author's SELECT, and the tables that it may read, by ``name`` or ``schema.name``."""

    sql: str
    tables: frozenset[str]


def database(terms: Terms) -> duckdb.DuckDBPyConnection:
    """A fresh database that has these views, reads their files and no others, and writes nothing but its spill."""
    import duckdb

    files = sorted(file for _, view in terms.views for file in view.files)
    opened = lock(
        duckdb.connect(),
        {
            "memory_limit": terms.memory_limit,
            "temp_directory": terms.spill,
            "max_temp_directory_size": f"{shutil.disk_usage(terms.spill).free // _SHARE_OF_DISK} bytes",
            "parquet_metadata_cache": True,
            "python_enable_replacements": False,
            "allowed_paths": files,
        },
    )
    for name, view in terms.views:
        for schema in name[:-1]:
            opened.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        # What stands behind a plain view can be asked for.
        opened.execute(f"CREATE SECURE VIEW {'.'.join(map(quote, name))} AS {view.sql}")
    return opened


_opened: list[duckdb.DuckDBPyConnection] = []


def open_database(terms: Terms) -> None:
    """Make a database of these terms the worker's, in place of the one before."""
    while _opened:
        _opened.pop().close()
    _opened.append(database(terms))


def columns(text: Text) -> list[str]:
    """The names of the columns that a SELECT gives.

    Raises:
        NotReadable: it reads more than it may.
        duckdb.Error: the engine refuses it.
    """
    return list(_relation(text).columns)


def rows(text: Text, projection: str, batch_rows: int) -> Iterator[bytes]:
    """The rows of a SELECT, each part a stream in Arrow's format; the first has no rows.

    ``projection`` is SQL of ours, after SELECT; "" gives the columns as they are.

    Raises:
        NotReadable, duckdb.Error: as ``columns``; the second also at any part.
    """
    relation = _relation(text)
    reader = (relation.project(projection) if projection else relation).to_arrow_reader(batch_rows)
    yield _stream(reader.schema, [])
    while (batch := _next(reader)) is not None:
        yield _stream(reader.schema, [batch])


def values(text: Text) -> list[tuple[Any, ...]]:
    """The first two rows of a SELECT, in which a text has its first thousand characters.

    Raises:
        NotReadable, duckdb.Error: as ``columns``.
    """
    [database] = _opened
    check(database, text.sql, text.tables)
    # A line of its own for the bracket: the text may end in a comment.
    found = database.execute(f"SELECT * FROM (\n{text.sql}\n) LIMIT 2").fetchall()
    return [tuple(_short(value) for value in row) for row in found]


def expectations(
    relation: str, rows: int, product: DataProduct, rules: Sequence[CompiledRule]
) -> tuple[RuleResult, ...]:
    """The results of rules that are written as expectations, over a view that has so many rows."""
    return validate_rules(Validated(_opened[0], relation, rows), product, rules, {})


def _relation(text: Text) -> duckdb.DuckDBPyRelation:
    [database] = _opened
    check(database, text.sql, text.tables)
    return database.sql(text.sql)


def _next(reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    """The next batch; Arrow knows a failure of the engine by its text only."""
    import duckdb

    try:
        return next(reader, None)
    except OSError as error:
        if error.errno is not None or " Error: " not in str(error).partition("\n")[0]:
            raise
        kind = duckdb.IOException if str(error).startswith("IO Error") else duckdb.Error
        raise kind(str(error)) from error


def _stream(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _short(value: Any) -> Any:
    return value[:1000] if isinstance(value, str | bytes) else value
