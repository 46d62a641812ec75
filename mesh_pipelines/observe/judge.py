"""What the measures of a product mean: which objectives are met, what is wrong, and its health. Pure.

Burn is how many times faster than allowed the error budget is used: 1 uses exactly all of it in the window. A missed
objective is an incident where it burns fast, after the multi-window alerts of Beyer et al., The Site Reliability
Workbook, chapter 5: a short miss costs budget and wakes nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mesh_pipelines.contract.objectives import Objective, freshness_window, roughly
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import TablesLost
from mesh_pipelines.observe.health import WAITING, health, late
from mesh_pipelines.observe.measure import Measured, Memory, Seen
from mesh_pipelines.observe.store.records import Current, ObjectiveState, RuleState
from mesh_pipelines.observe.store.writer import Finding

# A fiftieth of a window's budget in an hour, and a tenth of it in a day.
FAST_BURN = 14.4
SLOW_BURN = 3.0
# Landing and publishing follow events within seconds: ten minutes without either is a stall, unless more was promised.
STALLED_S = 600.0
# Of objectives about incidents, those that were opened and closed.
_ABOUT_INCIDENTS = ("timeToDetect", "timeToNotify", "timeToRepair")
# What is said of what stops a product, and which incident it is; "" is that of the error's code.
_STOPPED = {
    "stalled": ("stream", "its stream does not continue where its log ends"),
    "failing": ("", "its last attempt failed"),
    "unloaded": ("dagster", "Dagster did not load it"),
}
# What incidents say already.
_FOUND = (*_STOPPED, "broken", "blocked", "objective")
# What is said of a rule in these states where it does not block.
_WARNS = {"warn": "is broken", "error": "could not be computed", "not-executed": "was not run"}


@dataclass(frozen=True)
class Shares:
    """(good, total) of the observations of one objective: in its window, in the last hour and in the last day."""

    window: tuple[int, int] = (0, 0)
    hour: tuple[int, int] = (0, 0)
    day: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Judged:
    """An objective's state, and whether this observation met it; None where there was nothing to observe."""

    state: ObjectiveState
    good: bool | None


@dataclass(frozen=True)
class Promise:
    """An objective of a product at a look; ``before`` is its state after the look before."""

    product: str
    objective: Objective
    now: datetime
    before: ObjectiveState | None = None

    def judge(self, measured: Measured, shares: Shares, *, lost: bool = False) -> Judged:
        """The objective after the look; ``shares`` are those before it. ``lost``: a loss of events was accepted."""
        value = _value(self.objective, measured)
        good = _good(self.objective, measured, value, lost)
        if good is not None:
            shares = Shares(*(_add(share, good) for share in (shares.window, shares.hour, shares.day)))
        if self.objective.property != "availability":
            return Judged(self.state(value, good, shares), good)
        share = _share(shares.window)
        readable = None if share is None else 100 * share
        return Judged(self.state(readable, None if readable is None else self.objective.met_by(readable), shares), good)

    def state(self, measured: float | None, met: bool | None, shares: Shares) -> ObjectiveState:
        """The objective's state with attainment, budget and burn of these shares."""
        budget = round(1 - self.objective.target, 9)
        attainment = _share(shares.window)
        since = self.before.since if self.before and self.before.met == met else self.now
        return ObjectiveState(
            product=self.product,
            objective=self.objective.id,
            property=self.objective.property,
            promise=self.objective.promise,
            promised=self.objective.promised,
            unit=self.objective.unit,
            measured=measured,
            met=met,
            attainment=attainment,
            target=self.objective.target,
            budget_left=None if attainment is None or budget <= 0 else 1 - (1 - attainment) / budget,
            burn_1h=_burn(shares.hour, budget),
            burn_24h=_burn(shares.day, budget),
            since=since if met is not None else None,
        )


def is_about_incidents(objective: Objective) -> bool:
    """Whether an objective is measured on incidents, and not on looks."""
    return objective.property in _ABOUT_INCIDENTS


def broken(problem: str, now: datetime) -> Finding:
    """A contract with faults."""
    return Finding("broken", "contract", "its contract has faults", problem, "bad", now)


@dataclass(frozen=True)
class Judgement:
    """What a look at a product means: ``before`` is what was known before it, ``rules`` are the newest results."""

    seen: Seen
    before: Memory
    measured: Measured
    judged: Sequence[Judged]
    rules: Sequence[RuleState]
    now: datetime

    def findings(self) -> list[Finding]:
        """Everything that is wrong with the product, the worst first."""
        seen, now = self.seen, self.now
        blocking = set(seen.newest.verdict.blocking if seen.newest and seen.newest.verdict else ())
        found = [
            *_unreadable(seen, self.before, now),
            *_blocked(self.rules, blocking),
            *_stalled(seen, self.measured, now, blocked=bool(blocking)),
            *_missed(self.judged, now),
            *_warned(self.rules, blocking),
        ]
        return sorted(found, key=lambda one: one.severity != "bad")

    def current(self, found: Sequence[Finding], bad_inputs: Collection[str] = ()) -> Current:
        """The product's state in one record. ``bad_inputs`` are the inputs that are not well themselves."""
        seen, status = self.seen, self.seen.status
        reasons = [one.title for one in found if one.severity == "bad"]
        missed = [one.state for one in self.judged if one.good is False]
        reasons += [text for one in missed if (text := late(one)) not in reasons]
        reasons += [one.text for one in status.problems if one.severity == "bad" and one.kind not in _FOUND]
        warnings = [one.title for one in found if one.severity == "warning"]
        warnings += [one.text for one in status.problems if one.severity == "warning" and one.kind != "rule"]
        warnings += [f"its input {name} is not healthy" for name in bad_inputs]
        severities = ["bad"] * bool(reasons) + ["warning"] * bool(warnings)
        nothing = ["nothing is published yet"] if seen.published is None else []
        return Current(
            product=seen.product.fqn,
            health=health(severities, is_published=seen.published is not None),
            reasons=(*reasons, *warnings, *nothing),
            observed_at=self.now,
            version=status.version,
            rows=status.rows,
            published_at=datetime.fromisoformat(status.published_at) if status.published_at else None,
            lag=status.lag,
            freshness_s=self.measured.freshness,
            rules_passed=status.rules_passed,
            rules_warned=status.rules_warned,
            rules_failed=status.rules_failed,
            quarantined=status.quarantined,
            redriven=status.redriven,
            problem=seen.error or status.problem,
            versions_behind=status.versions_behind,
            behind_since=status.behind_since,
            next_step=status.next_step,
        )


def _value(objective: Objective, measured: Measured) -> float | None:
    if objective.element:
        return measured.ages.get(objective.element)
    match objective.property:
        case "freshness":
            return measured.freshness
        case "latency":
            return measured.latency
        case "frequency":
            return measured.frequency
        case "retention":
            return measured.retention
        case "errorRate":
            return measured.error_rate
        case "throughput":
            return measured.throughput
        case _:
            return None


def _good(objective: Objective, measured: Measured, value: float | None, lost: bool) -> bool | None:
    if objective.property == "availability":
        return measured.available
    if value is None:
        return None
    if objective.property == "throughput" and not measured.lag:
        return True
    if objective.property == "retention" and not lost:
        return True
    return objective.met_by(value)


def _unreadable(seen: Seen, before: Memory, now: datetime) -> Iterator[Finding]:
    missing = seen.standing.missing if seen.standing else None
    is_lost = bool(missing and missing.startswith(TablesLost.code))
    if problem := seen.error or (missing if before.marks or is_lost else None):
        yield Finding("broken", "tables", "its tables cannot be read", problem, "bad", now)


def _blocked(rules: Iterable[RuleState], blocking: Collection[str]) -> Iterator[Finding]:
    for rule in rules:
        if rule.rule in blocking:
            title = f"version {rule.version} is blocked by {rule.rule}"
            yield Finding(
                *("blocked", rule.rule, title, _told(rule), "bad", rule.since or rule.at, rule.version, rule.run)
            )


def _warned(rules: Iterable[RuleState], blocking: Collection[str]) -> Iterator[Finding]:
    """Rules that do not hold and block nothing: pages show them, and nobody is sent a message."""
    for rule in rules:
        if rule.rule in blocking or rule.state not in _WARNS:
            continue
        title = f"the rule {rule.rule} {_WARNS[rule.state]}"
        yield Finding(
            *("rule", rule.rule, title, _told(rule), "warning", rule.since or rule.at, rule.version, rule.run)
        )


def _told(rule: RuleState) -> str:
    measured = "" if rule.measured is None else f"measured {rule.measured:g}, promised: {rule.threshold}"
    bad = f"{rule.bad:,} of {counted(rule.rows, 'row')}" if rule.bad else ""
    return "; ".join(text for text in (rule.message, measured, bad) if text)


def _stalled(seen: Seen, measured: Measured, now: datetime, *, blocked: bool) -> Iterator[Finding]:
    """What keeps events or versions from being taken in: a stream that broke off, failing attempts, a long wait."""
    stopped = [one for one in seen.status.problems if one.kind in _STOPPED and one.severity == "bad"]
    for problem in stopped:
        subject, title = _STOPPED[problem.kind]
        detail = f"{problem.code} {problem.text} ({problem.next_step})".strip()
        yield Finding("stalled", subject or problem.code, title, detail, "bad", now)
    patience = max(STALLED_S, freshness_window(seen.product) or 0)
    if stopped or blocked or measured.latency is None or measured.latency < patience:
        return
    what = "its inputs have versions" if seen.product.transform else "events wait in its stream"
    title = f"{what} that were not published for {roughly(patience)}"
    detail = seen.status.problem or f"the oldest has waited {roughly(measured.latency)}"
    yield Finding(*WAITING, title, detail, "bad", now - timedelta(seconds=measured.latency))


def _missed(judged: Iterable[Judged], now: datetime) -> Iterator[Finding]:
    for one in judged:
        found = one.state
        burns = max((found.burn_1h or 0) / FAST_BURN, (found.burn_24h or 0) / SLOW_BURN) >= 1
        if one.good is False and burns:
            began = found.since if found.met is False and found.since else None
            detail = f"met in {_shown(found.attainment)} of the last 30 days, promised {_shown(found.target)}"
            yield Finding("objective", found.objective, late(found), detail, "bad", began or now)


def _add(share: tuple[int, int], good: bool) -> tuple[int, int]:
    return share[0] + good, share[1] + 1


def _share(share: tuple[int, int]) -> float | None:
    good, total = share
    return good / total if total else None


def _burn(share: tuple[int, int], budget: float) -> float | None:
    good, total = share
    return (total - good) / total / budget if total and budget > 0 else None


def _shown(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.4g} %"
