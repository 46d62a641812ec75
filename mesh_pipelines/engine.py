"""DuckDB for text that a person wrote: an engine that reads table files, writes nothing, and stops when told.

Every connection in which such text runs is confined: it reads the warehouse and its own spill folder, no other path and
no address, loads no extension, sees no variable of this process, and its settings are locked. That leaves the files of
other products in the warehouse, so before a text runs DuckDB's own parser is asked what it reads. Trusting the check in
``sql/select.py`` alone was ruled out: it parses by another grammar, and what two parsers read differently is where
a name can hide. A user's own process or container for each query was ruled out for its cost, half a second and more.

One call of one function is not interrupted, and its value counts towards no memory limit: DuckDB looks up between
vectors of rows only.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesh_pipelines.errors import MeshError
from mesh_pipelines.local_path import local_path
from mesh_pipelines.settings import Settings
from mesh_pipelines.sql.quote import literal, quote
from mesh_pipelines.sql.select import REACHING, SERIES, NotReadable, Select

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# How often an overdue connection is interrupted again: whoever uses it may go on to a next statement.
_INSIST_S = 0.1


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
    return _lock(
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

    return _lock(duckdb.connect(), {"memory_limit": "1GB", "temp_directory": "", "errors_as_json": True})


def _lock(connection: duckdb.DuckDBPyConnection, settings: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
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
    allowed = {name.lower() for name in tables}
    for node in _nodes(parsed["statements"][0]):
        _check_node(node, allowed)


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
    if str(node.get("function_name")).lower() in REACHING:
        raise NotReadable(f"calls {node['function_name']}, which is not about rows")
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


@contextmanager
def interrupting(connection: duckdb.DuckDBPyConnection, seconds: float | None) -> Generator[None]:
    """Interrupt what runs on the connection after so many seconds, again and again until the block ends."""
    if seconds is None:
        yield
        return
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


@dataclass
class Author:
    """Runs the SELECT of one author on a confined connection; ``invalid`` makes the error that tells them of a fault.

    ``seconds`` is the engine's time that is left to it. What readers of the rows do in between costs none of it.
    """

    connection: duckdb.DuckDBPyConnection
    seconds: float
    invalid: Callable[[str], MeshError]

    def relation(self, select: Select, tables: Collection[str]) -> duckdb.DuckDBPyRelation:
        """The SELECT as a lazy relation, if it reads nothing but these tables.

        Raises:
            MeshError: by ``invalid``; DuckDB refuses the text, or reads more in it.
        """
        with self._running():
            try:
                check(self.connection, select.text, {*tables, *select.expressions})
            except NotReadable as error:
                raise self.invalid(f"the SQL {error}") from error
            return self.connection.sql(select.text)

    def rows(self, relation: duckdb.DuckDBPyRelation, batch_rows: int) -> pa.RecordBatchReader:
        """A relation's rows, computed as they are read.

        Raises:
            MeshError: by ``invalid``, here or while reading; DuckDB fails, or the time is over.
            duckdb.IOException: the disk fails, here or while reading.
        """
        import pyarrow as pa

        with self._running():
            reader = relation.to_arrow_reader(batch_rows)
        return pa.RecordBatchReader.from_batches(reader.schema, self._batches(reader))

    def _batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        while True:
            with self._running():
                batch = next(reader, None)
            if batch is None:
                return
            yield batch

    @contextmanager
    def _running(self) -> Generator[None]:
        import duckdb

        try:
            with self._on_the_clock(), interrupting(self.connection, self.seconds):
                yield
        except duckdb.IOException:
            raise
        except (duckdb.Error, OSError) as error:
            # Arrow knows a failure of the engine as an OSError only, by its text.
            if isinstance(error, OSError) and not _is_engines(error):
                raise
            if str(error).startswith("IO Error"):
                raise duckdb.IOException(str(error)) from error
            raise self.invalid(self._reason(error)) from error

    @contextmanager
    def _on_the_clock(self) -> Generator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds = max(0.0, self.seconds - (time.monotonic() - started))

    def _reason(self, error: Exception) -> str:
        if str(error).startswith("INTERRUPT Error") and not self.seconds:
            return "the SQL took longer than MESH_SQL_TIMEOUT_S allows and was stopped"
        return str(error).strip()


def _is_engines(error: OSError) -> bool:
    return error.errno is None and " Error: " in str(error).partition("\n")[0]
