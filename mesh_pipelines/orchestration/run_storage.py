"""Dagster's storage in SQLite, where it always lies, with pooled connections and a batch of events in one transaction.

Dagster's own makes an engine and a connection for each event that it stores and each question that it asks, compiles
the statement again, and closes both. The last to close a database then moves its write-ahead log into it, which the
next one makes again. Of a run of small products that was more than a fifth. It also looks for its tables with
each event.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, Self

from dagster._core.events.log import EventLogEntry
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, QueuePool, create_engine

# A run writes to its own database and to the index of all runs; who looks at runs looks at a few at a time.
_POOLED_DATABASES = 8


class PooledSqliteStorage(DagsterSqliteStorage):
    """Dagster's storage of this mesh, named in ``dagster.yaml``; its folders are those of Dagster's own."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self.base_dir = base_dir
        home = Path(base_dir)
        self._run_storage = _Runs.from_local(str(home / "history"))
        self._event_log_storage = _EventLog(str(home / "history" / "runs"))
        self._schedule_storage = SqliteScheduleStorage.from_local(str(home / "schedules"))
        self._inst_data = inst_data
        # Dagster's own would open storages of its own.
        DagsterStorage.__init__(self)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """The storage that a ``dagster.yaml`` names."""
        return cls.from_local(inst_data=inst_data, **config_value)


class _Runs(SqliteRunStorage):
    @cached_property
    def _engine(self) -> Engine:
        return _pooled_engine(self._conn_string)

    @contextmanager
    def connect(self) -> Generator[Connection]:
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()
        super().dispose()


class _EventLog(SqliteEventLogStorage):
    def __init__(self, base_dir: str) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._there: set[str] = set()
        self._joined: dict[str, Connection] = {}
        super().__init__(base_dir)
        # Whoever stores several events together holds it while each is stored.
        self._db_lock = RLock()

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events in one transaction for each database, instead of two or three for each event."""
        with self._db_lock, ExitStack() as transactions:
            # What is left first is committed first: a run has its events before the index of all runs.
            shards = (INDEX_SHARD_NAME, *{event.run_id: None for event in events})
            self._joined = {shard: transactions.enter_context(self._engine(shard).begin()) for shard in shards}
            try:
                for event in events:
                    self.store_event(event)
            finally:
                self._joined = {}

    def has_table(self, table_name: str) -> bool:
        with self._connect(INDEX_SHARD_NAME) as connection:
            return self._is_there(table_name, lambda: connection.dialect.has_table(connection, table_name))

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        looked_up = super()._has_asset_key_col_on_connection
        return self._is_there(f"asset_keys.{column_name}", lambda: looked_up(conn, column_name))

    def _is_there(self, name: str, look: Callable[[], bool]) -> bool:
        """Whether the database has a table or a column: asked for with each event, and one that is there stays."""
        if name not in self._there and look():
            self._there.add(name)
        return name in self._there

    @contextmanager
    def _connect(self, shard: str) -> Generator[Connection]:
        with self._db_lock:
            if shard in self._joined:
                yield self._joined[shard]
            else:
                with self._engine(shard).begin() as connection:
                    yield connection

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.pop(shard, None) or _pooled_engine(self.conn_string_for_shard(shard))
        self._engines[shard] = engine
        if len(self._engines) > _POOLED_DATABASES:
            self._engines.popitem(last=False)[1].dispose()
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        return engine

    def wipe(self) -> None:
        # It removes the databases.
        self._close()
        super().wipe()

    def dispose(self) -> None:
        self._close()
        super().dispose()

    def _close(self) -> None:
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


def _pooled_engine(address: str) -> Engine:
    waiting = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
    return create_engine(address, poolclass=QueuePool, max_overflow=-1, connect_args=waiting)
