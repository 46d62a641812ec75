"""The quality dashboard: how a mesh, a domain or an owner's products keep their promises, now and over days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from mesh_pipelines.observe.store.anomaly import is_anomalous
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.records import Incident, ObjectiveState, ProductDay
from mesh_pipelines.portal.draw import charts
from mesh_pipelines.portal.landscape import Entry
from mesh_pipelines.portal.pages.products import find, owners
from mesh_pipelines.portal.shared import page, portal_of

router = APIRouter(include_in_schema=False)

_TABLE = 100
PERIODS = (7, 30, 90, 365)
# A line of the table is as wide as so many days can be told apart.
_TREND_DAYS = 90


@dataclass(frozen=True)
class Line:
    """One product's line of the table."""

    entry: Entry
    trend: tuple[float | None, ...]
    freshness: ObjectiveState | None
    worst: ObjectiveState | None
    blocked: Incident | None
    quarantined: int


@router.get("/quality", response_class=HTMLResponse)
def dashboard(
    request: Request,
    owner: Annotated[str, Query(max_length=200)] = "",
    domain: Annotated[str, Query(max_length=200)] = "",
    days: Annotated[int, Query(ge=1, le=400)] = 30,
) -> HTMLResponse:
    """The dashboard of an owner, a domain, or the mesh."""
    portal = portal_of(request)
    landscape, history = portal.landscape, portal.history
    entries, _ = find(landscape, "", {"owner": owner, "domain": domain}, "health")
    today, trend_days = datetime.now(UTC).date(), min(days, _TREND_DAYS)
    since, trend_since = (today - timedelta(days=count - 1) for count in (days, trend_days))
    names = {entry.fqn for entry in entries}
    chosen = names if owner or domain else None
    by_day = _by_day(history, chosen, since)
    incidents = [one for entry in entries for one in entry.incidents]
    shown = entries[:_TABLE]
    return page(
        request,
        "quality.html",
        owner=owner,
        domain=domain,
        days=days,
        periods=PERIODS,
        owners=owners(landscape.entries.values()),
        domains=sorted({entry.domain for entry in landscape.entries.values()}),
        entries=entries,
        totals=_totals(entries),
        trend=_trend(by_day, since, days),
        rate=_rate(by_day),
        blocked_trend=_blocked(by_day, since, days),
        volume=_volume(by_day, since, days),
        quarantine=_quarantine(by_day, since, days),
        dimensions=_dimensions(history, chosen, since, days),
        lines=[_line(history, entry, trend_since, trend_days) for entry in shown],
        trend_days=trend_days,
        more=len(entries) - len(shown),
        incidents=sorted(incidents, key=lambda one: (one.severity != "bad", one.opened_at)),
        scope=owner or domain or "the mesh",
    )


@dataclass(frozen=True)
class Totals:
    """Counts over the products shown."""

    products: int
    healthy: int
    attention: int
    unknown: int
    rules: int
    passed: int
    warned: int
    failed: int
    objectives: int
    met: int
    quarantined: int
    blocked: int

    @property
    def pass_rate(self) -> float | None:
        """Share of rules that hold now."""
        return self.passed / self.rules if self.rules else None


def _totals(entries: Sequence[Entry]) -> Totals:
    objectives = [one for entry in entries for one in entry.objectives if one.met is not None]
    health = [str(entry.current.health) for entry in entries]
    return Totals(
        products=len(entries),
        healthy=health.count("good"),
        attention=health.count("bad") + health.count("warning"),
        unknown=health.count("unknown"),
        rules=sum(entry.rules for entry in entries),
        passed=sum(entry.current.rules_passed or 0 for entry in entries),
        warned=sum(entry.current.rules_warned or 0 for entry in entries),
        failed=sum(entry.current.rules_failed or 0 for entry in entries),
        objectives=len(objectives),
        met=sum(bool(one.met) for one in objectives),
        quarantined=sum(entry.current.quarantined or 0 for entry in entries),
        blocked=sum(any(one.kind == "blocked" for one in entry.incidents) for entry in entries),
    )


def _by_day(history: History, chosen: Collection[str] | None, since: date) -> Mapping[date, ProductDay]:
    if chosen is None:
        return {day.day: day for day in history.mesh_days(since=since)}
    summed: dict[date, list[ProductDay]] = defaultdict(list)
    for name in chosen:
        for day in history.product_days(name, since=since):
            summed[day.day].append(day)
    return {day: _sum(day, found) for day, found in summed.items()}


def _sum(day: date, found: Sequence[ProductDay]) -> ProductDay:
    parts = ("evaluated", "passed", "warned", "failed", "audits", "blocked", "published", "landed_rows", "quarantined")
    return ProductDay(product="", day=day, **{part: sum(getattr(one, part) or 0 for one in found) for part in parts})


def _rate(by_day: Mapping[date, ProductDay]) -> float | None:
    """Share of all rule results of the period that passed."""
    evaluated = sum(day.evaluated for day in by_day.values())
    return sum(day.passed for day in by_day.values()) / evaluated if evaluated else None


def _trend(by_day: Mapping[date, ProductDay], since: date, days: int) -> Any:
    """By day the rule results that did not pass: what passed is nearly all, and would hide them."""
    bars: list[charts.Day] = []
    for number in range(days):
        at = since + timedelta(days=number)
        day = by_day.get(at)
        if day is None or not day.evaluated:
            bars.append(charts.Day(at, (), f"{at:%d %b}: no audit"))
            continue
        text = f"{at:%d %b}: {100 * day.passed / day.evaluated:.2f} % of {day.evaluated:,} rule results passed"
        parts = (("bad", float(day.failed)), ("warning", float(day.warned)))
        bars.append(charts.Day(at, parts, f"{text}, {day.warned:,} warned, {day.failed:,} failed"))
    title = f"Rule results that did not pass, by day, last {days} days"
    return charts.stack(bars, title, none="Every rule result passed." if by_day else "")


def _blocked(by_day: Mapping[date, ProductDay], since: date, days: int) -> Any:
    bars: list[charts.Day] = []
    for number in range(days):
        at = since + timedelta(days=number)
        day = by_day.get(at)
        published, blocked = (day.published, day.blocked) if day else (0, 0)
        parts = (("accent", float(published)), ("bad", float(blocked)))
        bars.append(charts.Day(at, parts, f"{at:%d %b}: {published} versions published, {blocked} blocked"))
    return charts.stack(bars, f"Versions published and blocked by day, last {days} days", height=80)


def _volume(by_day: Mapping[date, ProductDay], since: date, days: int) -> Any:
    """Events landed by day; a day that is far from those before it is marked, today left out: it is not over."""
    bars: list[charts.Day] = []
    before: list[float] = []
    for number in range(days):
        at = since + timedelta(days=number)
        landed = float(by_day[at].landed_rows) if at in by_day else 0.0
        unusual = number < days - 1 and is_anomalous(landed, before)
        if at in by_day or before:
            before.append(landed)
        text = f"{at:%d %b}: {landed:,.0f} events landed{', unusual' if unusual else ''}"
        bars.append(charts.Day(at, (("warning" if unusual else "accent", landed),), text))
    return charts.stack(bars, f"Events landed by day, last {days} days", height=80, none="No event was landed.")


def _quarantine(by_day: Mapping[date, ProductDay], since: date, days: int) -> Any:
    bars: list[charts.Day] = []
    for number in range(days):
        at = since + timedelta(days=number)
        held = float(by_day[at].quarantined) if at in by_day else 0.0
        bars.append(charts.Day(at, (("warning", held),), f"{at:%d %b}: {held:,.0f} events held back"))
    title = f"Events held back by day, last {days} days"
    return charts.stack(bars, title, height=80, none="No event was held back." if by_day else "")


def _dimensions(
    history: History, chosen: Collection[str] | None, since: date, days: int
) -> list[tuple[str, float, Any]]:
    """Each dimension's pass rate over the period and its line by day, the worst first."""
    found: dict[str, dict[date, tuple[int, int]]] = defaultdict(dict)
    for dimension, day, evaluated, passed in history.dimension_days(chosen, since=since):
        found[dimension or "none named"][day] = evaluated, passed
    lines: list[tuple[str, float, Any]] = []
    for dimension, by_day in found.items():
        evaluated, passed = (sum(one[part] for one in by_day.values()) for part in (0, 1))
        if not evaluated:
            continue
        series = _series({day: (100 * good / of) for day, (of, good) in by_day.items() if of}, since, days)
        rate = passed / evaluated
        lines.append((dimension, rate, charts.sparkline(series, f"Pass rate of {dimension} by day")))
    return sorted(lines, key=lambda one: one[1])


def _line(history: History, entry: Entry, since: date, days: int) -> Line:
    found = history.product_days(entry.fqn, since=since)
    rates = {day.day: 100 * day.passed / day.evaluated for day in found if day.evaluated}
    measured = [one for one in entry.objectives if one.budget_left is not None]
    return Line(
        entry=entry,
        trend=tuple(_series(rates, since, days)),
        freshness=next((one for one in entry.objectives if one.property in ("freshness", "latency")), None),
        worst=min(measured, key=lambda one: one.budget_left or 0.0, default=None),
        blocked=next((one for one in entry.incidents if one.kind == "blocked"), None),
        quarantined=entry.current.quarantined or 0,
    )


def _series(values: Mapping[date, float], since: date, days: int) -> list[float | None]:
    return [values.get(since + timedelta(days=number)) for number in range(days)]
