"""Where every product stands: its version, its rules, its quarantine, how far it is behind, and its health."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mesh_pipelines.lake.lost import lost_in
from mesh_pipelines.observe.health import (
    WAITING,
    Observed,
    Problem,
    health,
    late,
    of_contract,
    problems,
    without_catalog,
    without_file,
    worst,
)
from mesh_pipelines.observe.store.history import FILE, History
from mesh_pipelines.observe.store.records import Health
from mesh_pipelines.observe.unloaded import unloaded
from mesh_pipelines.pipeline.lag import lag
from mesh_pipelines.pipeline.level import Level, levels
from mesh_pipelines.platform import Platform

# What was observed longer ago says nothing of now: nobody observes any more.
_OBSERVED_WITHIN = timedelta(minutes=5)


@dataclass(frozen=True)
class ProductStatus:
    """One product's state. Counts of rules are of its newest audit; ``lag`` is what readers do not see yet, in offsets
    of its stream or, for a derived product, of what its inputs read (``pipeline/lag.py``), with the ``versions_behind``
    of its inputs and ``behind_since`` when the first of them was published.

    ``not_checked`` counts what the contract promises and nothing here checks: it is among none of the rules.
    ``quarantined`` and ``redriven`` are the events its log holds back now, and those that redrives brought back.
    ``version`` is None where nothing is published; ``lag`` is None where it is not known. ``problem`` is the worst of
    ``problems``, with the next command; None where there are only notices.
    """

    product: str
    health: Health
    alignment: str
    version: int | None = None
    rows: int | None = None
    rules_passed: int | None = None
    rules_failed: int | None = None
    rules_warned: int | None = None
    not_checked: int | None = None
    quarantined: int | None = None
    redriven: int | None = None
    lag: int | None = None
    versions_behind: int | None = None
    behind_since: datetime | None = None
    published_at: str | None = None
    problem: str | None = None
    next_step: str | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nobody has to do anything: it is good or warns, or has nothing to publish and nothing is wrong."""
        return self.health in (Health.GOOD, Health.WARNING) or (self.health is Health.UNKNOWN and not self.problem)


def status(platform: Platform, now: datetime | None = None) -> list[ProductStatus]:
    """The state of every product of the assets folder, broken ones included; asks the broker once for all topics."""
    moment = now or datetime.now(UTC)
    found = levels(platform, platform.in_order)
    sound = statuses(platform, found.values(), moment)
    broken = [_status("", [of_contract(one)], name) for name, one in platform.broken.items() if name not in found]
    others = [_status(str(one.alignment), [without_file(name)], name) for name, one in platform.fileless.items()]
    lost = [
        _status("", [without_catalog(tables[0].error, name)], name)
        for name, tables in lost_in(platform.tables).items()
        if name not in found and name not in platform.broken and name not in platform.fileless
    ]
    return sorted([*sound, *broken, *others, *lost], key=lambda one: one.product)


def statuses(platform: Platform, found: Iterable[Level], now: datetime) -> list[ProductStatus]:
    """The state of the products that were looked at, with what was last observed of them."""
    found = list(found)
    observed = _observed(platform, now)
    for name, reason in unloaded(platform.settings, [level.product.fqn for level in found]).items():
        observed[name] = replace(observed.get(name, Observed()), unloaded=reason)
    return [status_of(level, now, observed.get(level.product.fqn)) for level in found]


def status_of(level: Level, now: datetime, observed: Observed | None = None) -> ProductStatus:
    """One product's state; pure."""
    product, standing = level.product, level.standing
    found = problems(level, now, observed)
    unchecked = len(product.not_checked)
    if standing.missing:
        return _status(product.alignment, found, product.fqn, not_checked=unchecked)
    published, behind = standing.published, lag(level)
    verdict = standing.newest.verdict if standing.newest else None
    return _status(
        product.alignment,
        found,
        product.fqn,
        version=published.number if published else None,
        rows=published.rows if published else None,
        rules_passed=verdict.rules - verdict.failed - verdict.warned - verdict.errors if verdict else None,
        rules_failed=verdict.failed + verdict.errors if verdict else None,
        rules_warned=verdict.warned if verdict else None,
        not_checked=unchecked,
        quarantined=standing.quarantined,
        redriven=standing.redriven,
        lag=behind.rows,
        versions_behind=behind.versions,
        behind_since=behind.since,
        published_at=published.published_at if published else None,
    )


def _status(alignment: str, found: list[Problem], product: str, **state: Any) -> ProductStatus:
    first = worst(found)
    return ProductStatus(
        product,
        health([one.severity for one in found], is_published=state.get("version") is not None),
        alignment,
        problem=str(first) if first else None,
        next_step=first.next_step if first else None,
        problems=tuple(found),
        **state,
    )


def _observed(platform: Platform, now: datetime) -> dict[str, Observed]:
    """What the last observation said of each product; nothing where it was too long ago, or never."""
    if not (platform.settings.home / FILE).exists():
        return {}
    with closing(History.open(platform.settings)) as history:
        at = history.observed_at()
        is_recent = at is not None and now - at < _OBSERVED_WITHIN
        return dict(_each(history, is_recent=is_recent))


def _each(history: History, *, is_recent: bool) -> Iterator[tuple[str, Observed]]:
    missed: dict[str, list[str]] = {}
    for state in history.objectives() if is_recent else ():
        if state.met is False:
            missed.setdefault(state.product, []).append(late(state))
    incidents = history.incidents(open_only=True, limit=-1) if is_recent else ()
    waiting = {one.product: one.title for one in incidents if (one.kind, one.subject) == WAITING}
    for current in history.current():
        name = current.product
        yield name, Observed(current.version, tuple(missed.get(name, ())), waiting.get(name))
