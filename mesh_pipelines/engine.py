"""DuckDB, locked: what a connection may read is said when it is opened, and cannot be changed afterwards.

Connections for SQL of ours (``connect``) read the warehouse and spill beside it; those for what a person wrote
(``sandbox/inside.py``) read the files of the views that they are given. Neither loads an extension, reaches an address
or sees a variable of this process. Before a person's text runs, DuckDB's own parser is asked what it reads. Trusting
the check in ``sql/select.py`` alone was ruled out: it parses by another grammar, and what two parsers read differently
is where a name can hide.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesh_pipelines.local_path import local_path
from mesh_pipelines.settings import Settings
from mesh_pipelines.sql.functions import REFUSED, WHY_REFUSED, is_allowed
from mesh_pipelines.sql.quote import literal, quote
from mesh_pipelines.sql.select import SERIES, NotReadable

if TYPE_CHECKING:
    import duckdb

# Views of this schema are read by its name and theirs only.
_QUALIFIED = "information_schema"
# How often an overdue connection is interrupted again: whoever uses it may go on to a next statement.
_INSIST_S = 0.1


@dataclass(frozen=True)
class View:
    """A SELECT of ours over data files, and the paths of all the files that it reads."""

    sql: str
    files: frozenset[str]


def connect(settings: Settings) -> duckdb.DuckDBPyConnection:
    """A fresh in-memory database, confined; memory above ``MESH_MEMORY_LIMIT`` spills to files. UTC throughout."""
    import duckdb

    return confine(duckdb.connect(), settings)


def confine(connection: duckdb.DuckDBPyConnection, settings: Settings) -> duckdb.DuckDBPyConnection:
    """Confine the database of a connection, whoever opened it; one that is locked already stays as it is."""
    [(locked,)] = connection.execute("SELECT current_setting('lock_configuration')").fetchall()
    if locked:
        return connection
    spill = settings.home / "spill"
    spill.mkdir(parents=True, exist_ok=True)
    return lock(
        connection,
        {
            "memory_limit": settings.memory_limit,
            "temp_directory": str(spill),
            # Files of tables never change, and one step asks for the same ones several times.
            "parquet_metadata_cache": True,
            "allowed_directories": [local_path(settings.warehouse_uri)],
        },
    )


def isolated() -> duckdb.DuckDBPyConnection:
    """A fresh in-memory database that reads and writes no file at all, to bind text in; its errors are JSON."""
    import duckdb

    return lock(duckdb.connect(), {"memory_limit": "1GB", "temp_directory": "", "errors_as_json": True})


def lock(connection: duckdb.DuckDBPyConnection, settings: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """Make these settings, and those that confine every connection; none can be changed afterwards."""
    confinement: dict[str, Any] = {
        "TimeZone": "UTC",
        **settings,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        # After the folders: that list cannot change any more. Also hides the variables of this process.
        "enable_external_access": False,
        "lock_configuration": True,
    }
    for name, value in confinement.items():
        connection.execute(f"SET {name} = {literal(value)}")
    return connection


def create_view(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
    """Give a SELECT of ours a name in a connection, in place of what had that name."""
    connection.execute(f"CREATE OR REPLACE VIEW {quote(name)} AS {select}")


def check(connection: duckdb.DuckDBPyConnection, sql: str, tables: Collection[str]) -> None:
    """Ask DuckDB's parser whether a text is one SELECT over these tables, by ``name`` or ``schema.name``, and no more.

    Raises:
        NotReadable: it is not.
    """
    [(text,)] = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [sql]).fetchall()
    try:
        parsed = json.loads(text)
    except RecursionError as error:
        raise NotReadable("nests too deeply") from error
    if parsed["error"] and parsed["error_type"] == "parser":
        raise NotReadable(f"does not parse: {parsed['error_message'].splitlines()[0]}")
    if parsed["error"] or len(parsed["statements"]) != 1:
        raise NotReadable("must be exactly one SELECT")
    # A table expression may have the name of a view of the engine's, which its own first part then reads.
    allowed = {name.lower() for name in tables} - _own_views(connection)
    for node in _nodes(parsed["statements"][0]):
        _check_node(node, allowed)
        _check_function(connection, str(node.get("function_name") or ""))


def _own_views(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The engine's views that are read by one name."""
    found = connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE internal AND schema_name <> $1", [_QUALIFIED]
    )
    return {name for (name,) in found.fetchall()}


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _check_node(node: dict[str, Any], allowed: set[str]) -> None:
    match node.get("type"):
        case "BASE_TABLE":
            parts = [node["catalog_name"], node["schema_name"], node["table_name"]]
            name = ".".join(part for part in parts if part)
            if name.lower() not in allowed:
                raise NotReadable(f"reads {name}; only products can be read, as domain.product")
        case "TABLE_FUNCTION":
            name = node["function"]["function_name"]
            if name.lower() not in SERIES:
                raise NotReadable(f"reads {name}(); only products can be read, as domain.product")
        case "SHOW_REF":
            raise NotReadable("must be exactly one SELECT")
        case _:
            pass


def _check_function(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Refuse a function that may not be called. Of one that there is not, the engine says where it stands."""
    if is_allowed(name):
        return
    there = "SELECT count(*) FROM duckdb_functions() WHERE lower(function_name) = lower($1)"
    if name.lower() in REFUSED or connection.execute(there, [name]).fetchall() != [(0,)]:
        raise NotReadable(f"calls {name}, which {WHY_REFUSED}")


@contextmanager
def interrupting(connection: duckdb.DuckDBPyConnection, seconds: float) -> Generator[None]:
    """Interrupt what runs on the connection after so many seconds, again and again until the block ends."""
    done = threading.Event()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            connection.interrupt()
            wait = _INSIST_S

    watcher = threading.Thread(target=watch, name="sql-timeout", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
