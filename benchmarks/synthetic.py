"""A made-up past: what a mesh of many products has in its history after months, written in bulk.

For pages and queries that have to be fast at that size. The numbers are drawn; the same seed gives the same past.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from mesh_pipelines.observe.store.history import OBSERVED_AT, History
from mesh_pipelines.observe.store.records import (
    MEASURES,
    ContractRevision,
    Current,
    Health,
    ObjectiveState,
    Publication,
    RuleState,
)
from mesh_pipelines.observe.store.times import micros
from mesh_pipelines.observe.store.writer import Finding, Writer, series_of

RULES = 5
AUDITS_A_DAY = 24
ROWS = 10_000
_DIMENSIONS = ("completeness", "uniqueness", "validity", "timeliness", "consistency")
_OBJECTIVES = ("freshness", "availability")


def synthetic(
    history: History, products: int | Sequence[str], days: int, seed: int = 0, *, until: datetime | None = None
) -> list[str]:
    """Fill an empty history with ``days`` days of products, by name or so many of them; gives their names.

    Each has five rules, two objectives, a publication an hour for the last two days, and now and then an incident.
    """
    names = (
        [f"domain{number % 20:02}.product{number:04}" for number in range(products)]
        if isinstance(products, int)
        else list(products)
    )
    drawn, now = random.Random(seed), until or datetime.now(UTC)
    last = now.astimezone(UTC).date()
    span = [last - timedelta(days=back) for back in reversed(range(days))]
    with history.writing() as writer:
        for name in names:
            _states(writer, name, drawn, now)
            _incidents(writer, name, drawn, now, days)
        writer.note(OBSERVED_AT, micros(now))
    with history.transaction() as connection:
        numbers = dict(connection.execute("SELECT name, id FROM products").fetchall())
        rules = connection.execute("SELECT id FROM rules ORDER BY id").fetchall()
        objectives = connection.execute("SELECT id FROM objectives ORDER BY id").fetchall()
        # The states written above counted towards today; every day is written whole instead.
        for table in ("rule_days", "dimension_days", "product_days", "objective_days", "measure_days"):
            connection.execute(f"DELETE FROM {table}")
        connection.executemany(f"INSERT INTO rule_days VALUES ({', '.join('?' * 10)})", _rule_days(rules, span, drawn))
        connection.execute(
            "INSERT INTO dimension_days SELECT product, dimension, day, sum(evaluated), sum(passed) "
            "FROM rule_days JOIN rules ON id = rule_days.rule GROUP BY 1, 2, 3"
        )
        connection.execute(
            "INSERT INTO dimension_days SELECT 0, dimension, day, sum(evaluated), sum(passed) "
            "FROM dimension_days GROUP BY 2, 3"
        )
        connection.execute(
            "INSERT INTO product_days SELECT product, day, sum(evaluated), sum(passed), sum(warned), sum(failed), "
            f"{AUDITS_A_DAY}, min(sum(failed), {AUDITS_A_DAY}), {AUDITS_A_DAY} - min(sum(failed), {AUDITS_A_DAY}), "
            f"{ROWS}, abs(random()) % 10 FROM rule_days JOIN rules ON id = rule_days.rule GROUP BY 1, 2"
        )
        sums = ", ".join(
            f"sum({name})"
            for name in (
                *("evaluated", "passed", "warned", "failed", "audits"),
                *("blocked", "published", "landed_rows", "quarantined"),
            )
        )
        connection.execute(f"INSERT INTO product_days SELECT 0, day, {sums} FROM product_days GROUP BY day")
        connection.executemany(
            "INSERT INTO objective_days VALUES (?, ?, ?, ?)",
            (
                (number, day.toordinal(), 8640 - (drawn.randrange(900) if drawn.random() < 0.1 else 0), 8640)
                for (number,) in objectives
                for day in span
            ),
        )
        connection.executemany(
            "INSERT INTO measure_days VALUES (?, ?, 288, ?, ?, ?, ?)",
            _measure_days([numbers[name] for name in names], span, drawn),
        )
    return names


def _states(writer: Writer, name: str, drawn: random.Random, now: datetime) -> None:
    hours = [now - timedelta(hours=back) for back in reversed(range(48))]
    for number, at in enumerate(hours, start=1):
        new = round(drawn.gauss(400, 40))
        writer.publication(Publication(name, number, at, ROWS + 400 * number, max(new, 0), 1.5, 0, None, False))
        writer.sample(name, "lag", at, float(drawn.randrange(20)))
        writer.sample(name, "freshness", at, drawn.uniform(0, 900))
    states = [_rule(name, number, drawn, now) for number in range(RULES)]
    writer.audit(states, now, f"{name}-48")
    met = drawn.random() > 0.05
    writer.objectives(name, [_objective(name, one, drawn, met, now) for one in _OBJECTIVES])
    for one in _OBJECTIVES:
        writer.tally(name, one, now, good=met)
    writer.revision(ContractRevision(name, "1.0.0", f"{name}-hash", now, f"name: {name}\n"))
    failed = sum(state.state == "fail" for state in states)
    health = Health.BAD if failed or not met else Health.GOOD
    reasons = tuple([f"{failed} rules fail"] * bool(failed) + ["it is late"] * (not met))
    writer.current(
        Current(
            *(name, health, reasons, now, 48, ROWS, now - timedelta(minutes=5), drawn.randrange(20)),
            *(drawn.uniform(0, 900), RULES - failed, 0, failed, drawn.randrange(5), 0),
        )
    )


def _rule(name: str, number: int, drawn: random.Random, now: datetime) -> RuleState:
    state = "fail" if drawn.random() < 0.01 else "pass"
    return RuleState(
        *(name, f"rule{number}", "nullValues", _DIMENSIONS[number % len(_DIMENSIONS)], "block", state, ROWS),
        *(int(state == "fail"), 0.0, "must be 0", "", 48, f"{name}-48", "1.0.0", now, None, state == "fail", None),
    )


def _objective(name: str, objective: str, drawn: random.Random, met: bool, now: datetime) -> ObjectiveState:
    share = drawn.uniform(0.985, 1)
    return ObjectiveState(
        *(name, objective, objective, "no older than 15 minutes", 900.0, "s", drawn.uniform(0, 900), met),
        *(share, 0.99, 1 - (1 - share) / 0.01, 0.0 if met else 20.0, 1.0, now - timedelta(days=1)),
    )


def _incidents(writer: Writer, name: str, drawn: random.Random, now: datetime, days: int) -> None:
    for _ in range(drawn.randrange(4)):
        at = now - timedelta(days=drawn.uniform(0, days))
        finding = Finding("blocked", "rule0", "version 7 is blocked by rule0", "3 rows have no key", "bad", at, 7, None)
        incident = writer.open(name, finding, at)
        if drawn.random() < 0.95:
            writer.close(incident, min(now, at + timedelta(hours=drawn.uniform(0, 12))))


def _rule_days(rules: Sequence[tuple[int]], span: Sequence[date], drawn: random.Random) -> Iterator[tuple[int, ...]]:
    for (rule,) in rules:
        for day in span:
            failed = drawn.randrange(3) if drawn.random() < 0.02 else 0
            warned = drawn.randrange(3) if drawn.random() < 0.02 else 0
            passed = AUDITS_A_DAY - failed - warned
            yield rule, day.toordinal(), AUDITS_A_DAY, passed, warned, failed, 0, 0, AUDITS_A_DAY * ROWS, failed * 7


def _measure_days(products: Sequence[int], span: Sequence[date], drawn: random.Random) -> Iterator[tuple[float, ...]]:
    for product in products:
        for measure in MEASURES:
            for day in span:
                top = drawn.uniform(1, 900)
                yield series_of(product, measure), day.toordinal(), 0.0, top, 144 * top, top / 2
