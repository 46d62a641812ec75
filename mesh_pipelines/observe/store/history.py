"""The history's file: many processes read it while one writes.

SQLite with a write-ahead log was chosen over tables of the warehouse: a page needs a few hundred rows of two million in
a hundredth of a second, and every round changes some thousand of them. It is on this machine, beside the home folder's
other state; what cannot be told again from the tables is lost with it, and no data depends on it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from mesh_pipelines.errors import StorageUnavailable, UsageError
from mesh_pipelines.observe.store import schema
from mesh_pipelines.observe.store.records import (
    MEASURES,
    ContractRevision,
    Current,
    Delivery,
    Incident,
    MeasureDay,
    ObjectiveDay,
    ObjectiveState,
    ProductDay,
    Publication,
    RuleDay,
    RuleState,
    Sample,
)
from mesh_pipelines.observe.store.times import micros, moment
from mesh_pipelines.observe.store.writer import Writer, incident_of, series_of
from mesh_pipelines.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

FILE = "history.db"
OBSERVED_AT = "observed_at"
_BUSY_S = 30.0
_PRODUCT = "(SELECT id FROM products WHERE name = ?)"


def _guarded(method: Callable[Concatenate[History, P], T]) -> Callable[Concatenate[History, P], T]:
    """A method whose faults of the file are raised as StorageUnavailable."""

    @wraps(method)
    def guarded(self: History, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.faults():
            return method(self, *args, **kwargs)

    return guarded


class History:
    """What was measured, read and written; may be used by many threads at once.

    Every method raises StorageUnavailable where the file cannot be used. Lists that grow are given oldest first, but
    incidents, publications and revisions newest first. Names of products that are not known give nothing.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False
        with self.faults():
            file.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection:
                _prepare(connection, file)

    @classmethod
    def open(cls, settings: Settings) -> History:
        """The history under the home folder, made if it does not exist.

        Raises:
            StorageUnavailable: its file cannot be used, or was written by a newer version of this package.
        """
        return cls(settings.home / FILE)

    def close(self) -> None:
        """Close the file; what is running in other threads ends first."""
        with self._writing, self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    @_guarded
    def current(self, product: str | None = None) -> list[Current]:
        """Every product as it was last observed, by name, or the one named."""
        rows = self._all(
            "SELECT body FROM current JOIN products ON id = product WHERE ?1 IS NULL OR name = ?1 ORDER BY name",
            product,
        )
        return [msgspec.json.decode(body, type=Current) for (body,) in rows]

    @_guarded
    def rule_states(self, product: str) -> list[RuleState]:
        """The newest result of each of a product's rules, in the contract's order."""
        rows = self._all(f"SELECT body FROM rule_states WHERE product = {_PRODUCT} ORDER BY place", product)
        return [msgspec.json.decode(body, type=RuleState) for (body,) in rows]

    @_guarded
    def rule_days(self, product: str | None = None, *, since: date, rule: str | None = None) -> list[RuleDay]:
        """Days of rules: of all products, of one, or of one rule."""
        chosen, values = ["day >= ?"], list[str | int]((since.toordinal(),))
        for column, value in (("name", product), ("rules.rule", rule)):
            if value is not None:
                chosen.append(f"{column} = ?")
                values.append(value)
        rows = self._all(
            'SELECT name, rules.rule, "check", dimension, on_failure, day, evaluated, passed, warned, failed, errors, '
            "vacuous, rows, bad FROM products CROSS JOIN rules ON rules.product = products.id "
            f"CROSS JOIN rule_days ON rule_days.rule = rules.id WHERE {' AND '.join(chosen)} "
            "ORDER BY name, rules.id, day",
            *values,
        )
        return [
            RuleDay(name, rule, check, dimension, on_failure, date.fromordinal(day), *counts)
            for name, rule, check, dimension, on_failure, day, *counts in rows
        ]

    @_guarded
    def product_days(self, product: str | None = None, *, since: date) -> list[ProductDay]:
        """Days of one product, or of every one."""
        if product is None:
            rows = self._all(
                "SELECT products.name, product_days.* FROM products CROSS JOIN product_days ON product = id "
                "WHERE id > 0 AND day >= ? ORDER BY name, day",
                since.toordinal(),
            )
            return [_product_day(name, row) for name, *row in rows]
        return self._days_of(product, since) if product else []

    @_guarded
    def mesh_days(self, *, since: date) -> list[ProductDay]:
        """Days of the whole mesh: sums over all products; ``product`` is empty."""
        return self._days_of("", since)

    @_guarded
    def dimension_days(self, products: Collection[str] | None, *, since: date) -> list[tuple[str, date, int, int]]:
        """(dimension, day, evaluated, passed): of rules of these products, or of the whole mesh."""
        names = [""] if products is None else list(products)
        rows = self._all(
            "SELECT dimension, day, sum(evaluated), sum(passed) "
            "FROM products CROSS JOIN dimension_days ON product = id "
            "WHERE name IN (SELECT value FROM json_each(?)) AND day >= ? "
            "GROUP BY dimension, day ORDER BY dimension, day",
            msgspec.json.encode(names).decode(),
            since.toordinal(),
        )
        return [(dimension, date.fromordinal(day), evaluated, passed) for dimension, day, evaluated, passed in rows]

    @_guarded
    def samples(self, product: str, measure: str, *, since: datetime) -> list[Sample]:
        """A product's samples of a measure: every one of the last two days, before that one an hour."""
        rows = self._series(
            "SELECT at, value FROM samples WHERE series = ? AND at >= ? ORDER BY at", product, measure, micros(since)
        )
        return [Sample(product, measure, moment(at), value) for at, value in rows]

    @_guarded
    def measure_days(self, product: str, measure: str, *, since: date) -> list[MeasureDay]:
        """A product's days of a measure."""
        rows = self._series(
            "SELECT day, n, minimum, maximum, total / n, last FROM measure_days "
            "WHERE series = ? AND day >= ? ORDER BY day",
            product,
            measure,
            since.toordinal(),
        )
        return [MeasureDay(product, measure, date.fromordinal(day), *values) for day, *values in rows]

    @_guarded
    def objectives(self, product: str | None = None) -> list[ObjectiveState]:
        """Every objective as it was last measured, by product, or those of one."""
        rows = self._all(
            "SELECT body FROM objectives JOIN products ON products.id = product "
            "WHERE body IS NOT NULL AND (?1 IS NULL OR products.name = ?1) ORDER BY products.name, objectives.id",
            product,
        )
        return [msgspec.json.decode(body, type=ObjectiveState) for (body,) in rows]

    @_guarded
    def objective_days(self, product: str | None = None, *, since: date) -> list[ObjectiveDay]:
        """Days of all objectives, or of one product's."""
        rows = self._all(
            "SELECT products.name, objectives.name, day, good, total FROM products "
            "CROSS JOIN objectives ON objectives.product = products.id "
            "CROSS JOIN objective_days ON objective = objectives.id "
            "WHERE day >= ?1 AND (?2 IS NULL OR products.name = ?2) ORDER BY products.name, objectives.id, day",
            since.toordinal(),
            product,
        )
        return [ObjectiveDay(name, one, date.fromordinal(day), good, total) for name, one, day, good, total in rows]

    @_guarded
    def incidents(self, product: str | None = None, *, open_only: bool = False, limit: int = 200) -> list[Incident]:
        """Incidents, newest first: all, or a product's, or those that are not over."""
        chosen = ["closed_at IS NULL"] if open_only else []
        values: list[object] = []
        if product is not None:
            chosen.append(f"product = {_PRODUCT}")
            values.append(product)
        where = f"WHERE {' AND '.join(chosen)}" if chosen else ""
        return self._incidents(f"{where} ORDER BY opened_at DESC, incidents.id DESC LIMIT ?", *values, limit)

    @_guarded
    def incidents_since(self, at: datetime) -> list[Incident]:
        """Incidents that were open at some time since, newest first."""
        return self._incidents(
            "WHERE closed_at IS NULL OR closed_at >= ? ORDER BY opened_at DESC, incidents.id DESC", micros(at)
        )

    @_guarded
    def incidents_opened_since(self, product: str, at: datetime) -> list[Incident]:
        """A product's incidents that were opened since, newest first."""
        return self._incidents(
            f"WHERE product = {_PRODUCT} AND opened_at >= ? ORDER BY opened_at DESC", product, micros(at)
        )

    @_guarded
    def incident(self, number: int) -> Incident | None:
        """The incident of this number."""
        return next(iter(self._incidents("WHERE incidents.id = ?", number)), None)

    @_guarded
    def acknowledge(self, number: int, by: str, note: str) -> Incident:
        """Note that somebody has seen an incident, and what they say about it; gives it as it is then.

        Raises:
            UsageError: that incident does not exist.
        """
        known = self.incident(number)
        if known is None:
            raise UsageError(f"no incident has the number {number}", next_step="mesh observe")
        at = datetime.now(UTC)
        with self.writing() as writer:
            writer.acknowledge(number, by, note, at)
        return replace(known, acknowledged_by=by, acknowledged_at=at, note=note)

    @_guarded
    def publications(self, product: str, *, limit: int = 100) -> list[Publication]:
        """A product's published versions, newest first."""
        rows = self._all(
            "SELECT version, at, rows, new_rows, seconds, quarantined, run, anomalous FROM publications "
            f"WHERE product = {_PRODUCT} ORDER BY version DESC LIMIT ?",
            product,
            limit,
        )
        return [
            Publication(product, version, moment(at), count, new, seconds, quarantined, run, bool(odd))
            for version, at, count, new, seconds, quarantined, run, odd in rows
        ]

    @_guarded
    def revisions(self, product: str) -> list[ContractRevision]:
        """A product's contracts as they were, newest first."""
        rows = self._all(
            f"SELECT version, hash, seen_at, document FROM revisions WHERE product = {_PRODUCT} "
            "ORDER BY seen_at DESC, version DESC",
            product,
        )
        return [ContractRevision(product, version, hash_, moment(at), text) for version, hash_, at, text in rows]

    @_guarded
    def known_revisions(self) -> set[tuple[str, str]]:
        """(product, hash) of every contract that was seen."""
        return set(self._all("SELECT name, hash FROM revisions JOIN products ON id = product"))

    @_guarded
    def newest(self, measure: str) -> dict[str, float]:
        """The last sample of a measure, by product."""
        rows = self._all(
            "SELECT name, (SELECT value FROM samples WHERE series = id * 16 + ? ORDER BY at DESC LIMIT 1) "
            "FROM products WHERE id > 0",
            series_of(0, measure),
        )
        return {name: value for name, value in rows if value is not None}

    @_guarded
    def observed_at(self) -> datetime | None:
        """When a round of observing was last finished."""
        return moment(self.noted(OBSERVED_AT))

    @_guarded
    def deliveries(self) -> list[Delivery]:
        """How the messages about incidents stand."""
        rows = self._all("SELECT * FROM deliveries")
        return [
            Delivery(incident, channel, said, moment(at), tries, moment(then), problem)
            for incident, channel, said, at, tries, then, problem in rows
        ]

    @_guarded
    def memories(self) -> dict[str, str]:
        """What the observer noted of each product at its last round."""
        return dict(self._all("SELECT name, body FROM memories JOIN products ON id = product"))

    @_guarded
    def known_until(self) -> tuple[dict[str, datetime], dict[str, datetime]]:
        """By product, the times of the newest audit and of the newest publication that are known."""
        rows = self._all(
            "SELECT name, (SELECT max(at) FROM audits WHERE product = id), "
            "(SELECT at FROM publications WHERE product = id ORDER BY version DESC LIMIT 1) FROM products"
        )
        audits = {name: moment(at) for name, at, _ in rows if at is not None}
        return audits, {name: moment(at) for name, _, at in rows if at is not None}

    @_guarded
    def shares(self, since: date) -> dict[tuple[str, str], tuple[int, int]]:
        """(good, total) by product and objective since a day."""
        return self._shares("objective_days", "day", since.toordinal())

    @_guarded
    def shares_of_slots(self, since: int) -> dict[tuple[str, str], tuple[int, int]]:
        """(good, total) by product and objective since a slot of ``writer.SLOT_S`` seconds."""
        return self._shares("objective_slots", "slot", since)

    @_guarded
    def noted(self, name: str) -> int | None:
        """A number of the observer's own."""
        rows = self._all("SELECT value FROM meta WHERE name = ?", name)
        return rows[0][0] if rows else None

    @_guarded
    def series(self) -> list[int]:
        """The numbers of all series of samples."""
        products = self._all("SELECT id FROM products WHERE id > 0 ORDER BY id")
        return [product * 16 + place for (product,) in products for place in range(len(MEASURES))]

    @_guarded
    def checkpoint(self) -> None:
        """Bring the write-ahead log into the file and cut it, where no reader is in its way."""
        with self._writing:
            self._all("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def writing(self) -> Generator[Writer]:
        """One transaction, of which all is kept or, where it ends with an error, nothing."""
        with self.faults(), self._writing, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Writer(connection)
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """One transaction of statements on the tables themselves, for upkeep and for loads in bulk."""
        with self.faults(), self._writing, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    @contextmanager
    def faults(self) -> Generator[None]:
        """Faults of the file as what they are."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageUnavailable(
                f"the history {self.file} cannot be used: {error}",
                next_step="free the disk or the lock, or move the file away, so that a new one is made",
            ) from error

    def _days_of(self, product: str, since: date) -> list[ProductDay]:
        rows = self._all(
            f"SELECT * FROM product_days WHERE product = {_PRODUCT} AND day >= ? ORDER BY day",
            product,
            since.toordinal(),
        )
        return [_product_day(product, row) for row in rows]

    def _series(self, sql: str, product: str, measure: str, since: int) -> list[tuple[Any, ...]]:
        known = self._all("SELECT id FROM products WHERE name = ?", product)
        return self._all(sql, series_of(known[0][0], measure), since) if known else []

    def _incidents(self, rest: str, *values: object) -> list[Incident]:
        rows = self._all(
            f"SELECT incidents.*, name FROM incidents JOIN products ON products.id = product {rest}", *values
        )
        return [incident_of(row[:-1], row[-1]) for row in rows]

    def _shares(self, table: str, bucket: str, since: int) -> dict[tuple[str, str], tuple[int, int]]:
        rows = self._all(
            "SELECT products.name, objectives.name, sum(good), sum(total) FROM products "
            "CROSS JOIN objectives ON objectives.product = products.id "
            f"CROSS JOIN {table} ON objective = objectives.id WHERE {bucket} >= ? GROUP BY objectives.id",
            since,
        )
        return {(product, objective): (good, total) for product, objective, good, total in rows}

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connection() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection]:
        """A connection that nobody else has meanwhile: SQLite's are not shared by threads, and opening one costs."""
        with self._lock:
            if self._closed:
                raise sqlite3.ProgrammingError("it was closed")
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        try:
            yield connection
        finally:
            with self._lock:
                keep = not self._closed
                if keep:
                    self._idle.append(connection)
            if not keep:
                connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    """Bring the file's tables to this form."""
    connection.execute("PRAGMA journal_mode = WAL")
    [found] = connection.execute("PRAGMA user_version").fetchone()
    if found > schema.VERSION:
        raise StorageUnavailable(
            f"the history {file} was written by a newer version of mesh-pipelines",
            next_step="install that version, or move the file away, so that a new one is made",
        )
    if found == schema.VERSION:
        return
    # FORGET needs product_days, which is of the tables that stay.
    forget = schema.FORGET if found else ""
    connection.executescript(
        f"BEGIN IMMEDIATE; {schema.OWN} {forget} {schema.CACHE} PRAGMA user_version = {schema.VERSION}; COMMIT;"
    )


def _product_day(name: str, row: Sequence[int]) -> ProductDay:
    _, day, *counts = row
    return ProductDay(name, date.fromordinal(day), *counts)
