"""Findings of one round to incidents that last: opened, gone on with, closed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from mesh_pipelines.contract.objectives import Objective
from mesh_pipelines.observe.judge import Promise, Shares
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.records import Incident, ObjectiveState
from mesh_pipelines.observe.store.times import day_of
from mesh_pipelines.observe.store.writer import Finding, Writer

# What comes back within the hour is the same incident, so that one that flickers is reported once.
_SAME = timedelta(hours=1)
# An objective can flicker at its promise from round to round: it is well after so many good rounds.
_CALM_ROUNDS = 3

Key = tuple[str, str, str]


class Incidents:
    """The incidents of one round; ``opened`` and ``closed`` are the numbers of those that it did that to."""

    def __init__(self, history: History, now: datetime) -> None:
        self.opened: list[int] = []
        self.closed: list[int] = []
        self._now = now
        self._known: dict[str, dict[Key, Incident]] = {}
        for incident in history.incidents_since(now - _SAME):
            known = self._known.setdefault(incident.product, {})
            if (key := _key(incident)) not in known or incident.closed_at is None:
                known[key] = incident

    def reconcile(
        self,
        writer: Writer,
        product: str,
        found: Iterable[Finding],
        calm: Mapping[str, int],
        unknown: Collection[str] = (),
    ) -> dict[str, int]:
        """Bring a product's incidents to what was found; gives for how many rounds each open one has been calm.

        Of kinds in ``unknown`` it could not be found out whether they go on: they stay as they are.
        """
        known = self._known.get(product, {})
        seen: set[Key] = set()
        for finding in found:
            key = (product, finding.kind, finding.subject)
            seen.add(key)
            self._go_on(writer, product, finding, known.get(key))
        rounds: dict[str, int] = {}
        for key, incident in known.items():
            if key in seen or incident.closed_at or incident.kind in unknown:
                continue
            name = f"{incident.kind}:{incident.subject}"
            rounds[name] = calm.get(name, 0) + 1
            if incident.kind != "objective" or rounds[name] >= _CALM_ROUNDS:
                writer.close(incident.id, self._now)
                self.closed.append(incident.id)
                del rounds[name]
        return rounds

    def end(self, writer: Writer, product: str) -> None:
        """Close the incidents of a product that no longer exists."""
        for incident in self._known.get(product, {}).values():
            if incident.closed_at is None:
                writer.close(incident.id, self._now)
                self.closed.append(incident.id)

    def _go_on(self, writer: Writer, product: str, finding: Finding, known: Incident | None) -> None:
        if known is None:
            self.opened.append(writer.open(product, finding, self._now))
            return
        if known.closed_at:
            self.opened.append(known.id)
        said = (known.title, known.detail, known.severity)
        if known.closed_at or said != (finding.title, finding.detail, finding.severity):
            writer.update(known.id, finding)


@dataclass(frozen=True)
class OfIncidents:
    """An objective about incidents: its state, and (good, total) by the day they were opened on."""

    state: ObjectiveState
    days: Mapping[date, tuple[int, int]]


def judge_incidents(promise: Promise, incidents: Sequence[Incident]) -> OfIncidents:
    """An objective about incidents, measured on those that were opened in its window; the slowest is what is shown."""
    objective = promise.objective
    days: dict[date, tuple[int, int]] = {}
    slowest: float | None = None
    for incident in incidents:
        seconds = _seconds(objective, incident, promise.now)
        if incident.severity != "bad" or seconds is None:
            continue
        slowest = max(slowest or 0.0, seconds)
        good, total = days.get(day_of(incident.opened_at), (0, 0))
        days[day_of(incident.opened_at)] = (good + objective.met_by(seconds), total + 1)
    window = (sum(good for good, _ in days.values()), sum(total for _, total in days.values()))
    met = None if slowest is None else objective.met_by(slowest)
    return OfIncidents(promise.state(slowest, met, Shares(window)), days)


def _seconds(objective: Objective, incident: Incident, now: datetime) -> float | None:
    """How long an incident took, so far, of what the objective is about; None where that is not known."""
    match objective.property:
        case "timeToDetect":
            return (incident.opened_at - incident.began_at).total_seconds()
        case "timeToNotify":
            return (incident.told_at - incident.opened_at).total_seconds() if incident.told_at else None
        case _:
            return ((incident.closed_at or now) - incident.opened_at).total_seconds()


def _key(incident: Incident) -> Key:
    return incident.product, incident.kind, incident.subject
