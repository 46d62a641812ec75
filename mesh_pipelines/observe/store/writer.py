"""Writing the history: everything one round of observing found, in one transaction.

All counts are added to the day they belong to as they come, for the product and for the mesh, so no page ever sums up
what one product did.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from mesh_pipelines.observe.store.anomaly import is_anomalous
from mesh_pipelines.observe.store.records import (
    MEASURES,
    ContractRevision,
    Current,
    Delivery,
    Incident,
    Kind,
    ObjectiveState,
    Publication,
    RuleState,
    Severity,
)
from mesh_pipelines.observe.store.schema import MESH
from mesh_pipelines.observe.store.times import SECOND, day_of, micros, moment

# Ten minutes: fine enough for the burn of an hour, coarse enough for a thousand products.
SLOT_S = 600
# Publications that a new one's rows are compared with.
_BEFORE = 50
_COUNTS = ("evaluated", "passed", "warned", "failed", "audits", "blocked", "published", "landed_rows", "quarantined")
_ERRORS = ("error", "not-executed")


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a product now; ``subject`` tells two findings of one kind apart."""

    kind: Kind
    subject: str
    title: str
    detail: str
    severity: Severity
    began_at: datetime
    version: int | None = None
    run: str | None = None


class Writer:
    """Writes within one transaction; made by ``History.writing``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._products: dict[str, int] = {}
        self._objectives: dict[tuple[str, str], int] = {}

    def current(self, state: Current) -> None:
        """A product as it is now."""
        self._connection.execute(
            "INSERT OR REPLACE INTO current VALUES (?, ?)", (self.product(state.product), _text(state))
        )

    def forget(self, name: str) -> None:
        """A product that no contract declares any more: it has no current state; its past stays."""
        product = self.product(name)
        for table in ("current", "memories", "rule_states"):
            self._connection.execute(f"DELETE FROM {table} WHERE product = ?", (product,))
        self._connection.execute("UPDATE objectives SET body = NULL WHERE product = ?", (product,))

    def memory(self, name: str, body: str) -> None:
        """What the observer has to know of a product at its next round."""
        self._connection.execute("INSERT OR REPLACE INTO memories VALUES (?, ?)", (self.product(name), body))

    def sample(self, name: str, measure: str, at: datetime, value: float) -> None:
        """A value at a moment, also added to its day."""
        series = series_of(self.product(name), measure)
        self._connection.execute("INSERT OR REPLACE INTO samples VALUES (?, ?, ?)", (series, micros(at), value))
        self._connection.execute(
            "INSERT INTO measure_days VALUES (?1, ?2, 1, ?3, ?3, ?3, ?3) ON CONFLICT DO UPDATE SET n = n + 1, "
            "minimum = min(minimum, ?3), maximum = max(maximum, ?3), total = total + ?3, last = ?3",
            (series, day_of(at).toordinal(), value),
        )

    def landed(self, name: str, at: datetime, rows: int, quarantined: int) -> None:
        """Offsets landed since the last round, and the events of them that are held back."""
        if rows or quarantined:
            self._count(name, at, landed_rows=rows, quarantined=quarantined)

    def audit(self, results: Sequence[RuleState], at: datetime, candidate_id: str) -> bool:
        """One audit of one product; gives whether it was not known yet. Audits come in the order they were made."""
        name = results[0].product
        product = self.product(name)
        known = self._connection.execute(
            "INSERT OR IGNORE INTO audits VALUES (?, ?, ?)", (product, micros(at), candidate_id)
        )
        if not known.rowcount:
            return False
        for result in results:
            self._rule_day(product, result)
        self._states(product, results)
        judged = [result for result in results if result.state != "vacuous"]
        self._count(
            name,
            at,
            evaluated=len(judged),
            passed=sum(result.state == "pass" for result in judged),
            warned=sum(result.state == "warn" for result in judged),
            failed=sum(result.state in ("fail", *_ERRORS) for result in judged),
            audits=1,
            blocked=int(any(result.blocks for result in results)),
        )
        return True

    def publication(self, published: Publication) -> None:
        """A version that was published; whether its rows are unusual is found out here."""
        product = self.product(published.product)
        before = self._connection.execute(
            "SELECT new_rows FROM publications WHERE product = ? AND new_rows IS NOT NULL AND version < ? "
            f"ORDER BY version DESC LIMIT {_BEFORE}",
            (product, published.version),
        ).fetchall()
        odd = published.new_rows is not None and is_anomalous(published.new_rows, [rows for (rows,) in before])
        added = self._connection.execute(
            "INSERT OR IGNORE INTO publications VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(product, published.version, micros(published.at), published.rows, published.new_rows),
                *(published.seconds, published.quarantined, published.run, odd),
            ),
        )
        if added.rowcount:
            self._count(published.product, published.at, published=1)

    def revision(self, revision: ContractRevision) -> None:
        """A contract as it is; where it is known already, it stays as it was first seen."""
        self._connection.execute(
            "INSERT OR IGNORE INTO revisions VALUES (?, ?, ?, ?, ?)",
            (
                *(self.product(revision.product), revision.hash, revision.version),
                *(micros(revision.seen_at), revision.document),
            ),
        )

    def tally(self, name: str, objective: str, at: datetime, *, good: bool) -> None:
        """One more round in which an objective was met, or was not."""
        number = self._objective(name, objective)
        for table, bucket in (
            ("objective_days", day_of(at).toordinal()),
            ("objective_slots", micros(at) // (SLOT_S * SECOND)),
        ):
            self._connection.execute(
                f"INSERT INTO {table} VALUES (?1, ?2, ?3, 1) "
                "ON CONFLICT DO UPDATE SET good = good + ?3, total = total + 1",
                (number, bucket, int(good)),
            )

    def day(self, name: str, objective: str, day: date, good: int, total: int) -> None:
        """A day's count of an objective that is counted again each time, like those of incidents."""
        self._connection.execute(
            "INSERT OR REPLACE INTO objective_days VALUES (?, ?, ?, ?)",
            (self._objective(name, objective), day.toordinal(), good, total),
        )

    def objectives(self, name: str, states: Sequence[ObjectiveState]) -> None:
        """The states of all of a product's objectives; of those it no longer has, only the past stays."""
        self._connection.execute("UPDATE objectives SET body = NULL WHERE product = ?", (self.product(name),))
        for state in states:
            number = self._objective(name, state.objective)
            self._connection.execute("UPDATE objectives SET body = ? WHERE id = ?", (_text(state), number))

    def open(self, name: str, finding: Finding, at: datetime) -> int:
        """A new incident; gives its number."""
        done = self._connection.execute(
            "INSERT INTO incidents (product, kind, subject, title, detail, severity, began_at, opened_at, version, run)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(self.product(name), finding.kind, finding.subject, finding.title, finding.detail),
                *(finding.severity, micros(min(finding.began_at, at)), micros(at), finding.version, finding.run),
            ),
        )
        assert done.lastrowid is not None
        return done.lastrowid

    def update(self, incident: int, finding: Finding) -> None:
        """An incident that goes on, with its current texts; one that was closed is open again."""
        self._connection.execute(
            "UPDATE incidents SET title = ?, detail = ?, severity = ?, closed_at = NULL WHERE id = ?",
            (finding.title, finding.detail, finding.severity, incident),
        )

    def close(self, incident: int, at: datetime) -> None:
        """An incident that is over."""
        self._connection.execute("UPDATE incidents SET closed_at = ? WHERE id = ?", (micros(at), incident))

    def acknowledge(self, incident: int, by: str, note: str, at: datetime) -> None:
        """Somebody has seen it, and says something about it."""
        self._connection.execute(
            "UPDATE incidents SET acknowledged_by = ?, acknowledged_at = ?, note = ? WHERE id = ?",
            (by, micros(at), note, incident),
        )

    def told(self, incident: int, at: datetime) -> None:
        """A message about an incident arrived; the first counts."""
        self._connection.execute(
            "UPDATE incidents SET told_at = ? WHERE id = ? AND told_at IS NULL", (micros(at), incident)
        )

    def delivery(self, delivery: Delivery) -> None:
        """How a message stands."""
        self._connection.execute(
            "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(delivery.incident, delivery.channel, delivery.said, micros(delivery.said_at), delivery.tries),
                *(micros(delivery.next_try), delivery.problem),
            ),
        )

    def note(self, name: str, value: int) -> None:
        """A number of the observer's own."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def lease(self, name: str, holder: str, now: datetime, seconds: float) -> bool:
        """Take or keep what only one process may have at a time; gives whether it is the holder's now."""
        row = self._connection.execute("SELECT holder, until FROM lease WHERE name = ?", (name,)).fetchone()
        if row and row[0] != holder and row[1] > micros(now):
            return False
        until = micros(now + timedelta(seconds=seconds))
        self._connection.execute("INSERT OR REPLACE INTO lease VALUES (?, ?, ?)", (name, holder, until))
        return True

    def release(self, name: str, holder: str) -> None:
        """Give it up before its time."""
        self._connection.execute("DELETE FROM lease WHERE name = ? AND holder = ?", (name, holder))

    def product(self, name: str) -> int:
        """The number a product is stored under."""
        if name not in self._products:
            self._connection.execute("INSERT OR IGNORE INTO products (name) VALUES (?)", (name,))
            [number] = self._connection.execute("SELECT id FROM products WHERE name = ?", (name,)).fetchone()
            self._products[name] = number
        return self._products[name]

    def _objective(self, name: str, objective: str) -> int:
        key = (name, objective)
        if key not in self._objectives:
            product = self.product(name)
            self._connection.execute(
                "INSERT OR IGNORE INTO objectives (product, name) VALUES (?, ?)", (product, objective)
            )
            [self._objectives[key]] = self._connection.execute(
                "SELECT id FROM objectives WHERE product = ? AND name = ?", (product, objective)
            ).fetchone()
        return self._objectives[key]

    def _count(self, name: str, at: datetime, **counts: int) -> None:
        values = [counts.get(column, 0) for column in _COUNTS]
        added = ", ".join(f"{column} = {column} + excluded.{column}" for column in _COUNTS)
        for product in (self.product(name), MESH):
            self._connection.execute(
                f"INSERT INTO product_days VALUES (?, ?, {', '.join('?' * len(_COUNTS))}) "
                f"ON CONFLICT DO UPDATE SET {added}",
                (product, day_of(at).toordinal(), *values),
            )

    def _rule_day(self, product: int, result: RuleState) -> None:
        names = (product, result.rule, result.check, result.dimension, result.on_failure)
        self._connection.execute(
            'INSERT OR IGNORE INTO rules (product, rule, "check", dimension, on_failure) VALUES (?, ?, ?, ?, ?)', names
        )
        state, day = result.state, day_of(result.at).toordinal()
        passed, vacuous = int(state == "pass"), int(state == "vacuous")
        self._connection.execute(
            "INSERT INTO rule_days SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM rules WHERE product = ? AND rule = ? "
            'AND "check" = ? AND dimension = ? AND on_failure = ? '
            "ON CONFLICT DO UPDATE SET evaluated = evaluated + excluded.evaluated, passed = passed + excluded.passed, "
            "warned = warned + excluded.warned, failed = failed + excluded.failed, errors = errors + excluded.errors, "
            "vacuous = vacuous + excluded.vacuous, rows = rows + excluded.rows, bad = bad + excluded.bad",
            (
                *(day, 1 - vacuous, passed, state == "warn", state == "fail", state in _ERRORS, vacuous),
                *(result.rows, result.bad or 0, *names),
            ),
        )
        for owner in (product, MESH) if not vacuous else ():
            self._connection.execute(
                "INSERT INTO dimension_days VALUES (?, ?, ?, 1, ?) "
                "ON CONFLICT DO UPDATE SET evaluated = evaluated + 1, passed = passed + excluded.passed",
                (owner, result.dimension, day, passed),
            )

    def _states(self, product: int, results: Sequence[RuleState]) -> None:
        before = {
            rule: msgspec.json.decode(body, type=RuleState)
            for rule, body in self._connection.execute(
                "SELECT rule, body FROM rule_states WHERE product = ?", (product,)
            )
        }
        self._connection.execute("DELETE FROM rule_states WHERE product = ?", (product,))
        for place, result in enumerate(results):
            known = before.get(result.rule)
            since = known.since if known and known.state == result.state else result.at
            self._connection.execute(
                "INSERT OR REPLACE INTO rule_states VALUES (?, ?, ?, ?)",
                (product, result.rule, place, _text(replace(result, since=since))),
            )


def series_of(product: int, measure: str) -> int:
    """The number of a product's measure."""
    return product * 16 + MEASURES.index(measure)


def incident_of(row: Sequence[Any], name: str) -> Incident:
    """An incident of its row, in the order of the table's columns."""
    number, _, kind, subject, title, detail, severity, began, opened, closed, version, run, by, at, note, told = row
    return Incident(
        *(number, name, kind, subject, title, detail, severity, moment(began), moment(opened), moment(closed)),
        *(version, run, by, moment(at), note, moment(told)),
    )


def _text(state: object) -> str:
    return msgspec.json.encode(state).decode()
