"""What the history says: frozen values, one class a view. Times are aware and in UTC, days are days of UTC.

Counts of rules: ``evaluated`` is passed, warned, failed and, where they are told apart, errors. A rule that had no rows
to judge (vacuous) was not evaluated; one that could not be computed is an error, and counts as failed where there is no
column of its own for errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Literal

Severity = Literal["bad", "warning"]
# "blocked": a rule that keeps a version from being published. "rule": one that warned. "objective": a service level
# that is being missed. "stalled": events that are not landed or published. "broken": a contract or a product's tables.
Kind = Literal["blocked", "rule", "objective", "stalled", "broken"]

# What is sampled. The order is that of the numbers they are stored under: add at the end.
MEASURES = ("lag", "freshness", "latency", "rows", "quarantined", "landing_rate", "available")


class Health(StrEnum):
    """A product's state in one word; UNKNOWN is nothing published, or never observed."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Current:
    """A product as it was last observed. ``reasons`` say why its health is not good, the worst first.

    ``lag`` is offsets not yet published or, of a derived product, what its inputs read since the versions that it was
    made from: ``versions_behind`` of them, ``behind_since`` the first. ``freshness_s`` is the age in seconds of the
    newest data that readers see, ``next_step`` the command that goes on from ``problem``.
    Counts of rules are of its newest audit; ``quarantined`` and ``redriven`` of its log.
    """

    product: str
    health: Health
    reasons: tuple[str, ...]
    observed_at: datetime
    version: int | None = None
    rows: int | None = None
    published_at: datetime | None = None
    lag: int | None = None
    freshness_s: float | None = None
    rules_passed: int | None = None
    rules_warned: int | None = None
    rules_failed: int | None = None
    quarantined: int | None = None
    redriven: int | None = None
    problem: str | None = None
    versions_behind: int | None = None
    behind_since: datetime | None = None
    next_step: str | None = None


@dataclass(frozen=True)
class RuleDay:
    """One rule's audits of one day; ``rows`` and ``bad`` are summed over them."""

    product: str
    rule: str
    check: str
    dimension: str
    on_failure: str
    day: date
    evaluated: int
    passed: int
    warned: int
    failed: int
    errors: int
    vacuous: int
    rows: int
    bad: int


@dataclass(frozen=True)
class ProductDay:
    """One product's day, or the whole mesh's (``product`` is empty): rules evaluated, and audits, of which ``blocked``
    kept their candidate from being published; versions published; offsets landed, and events quarantined of them.
    """

    product: str
    day: date
    evaluated: int
    passed: int
    warned: int
    failed: int
    audits: int
    blocked: int
    published: int
    landed_rows: int
    quarantined: int


@dataclass(frozen=True)
class RuleState:
    """The newest result of one rule; ``since`` is the time of the first of the audits that have all come to it.

    ``state`` is one of quality's: pass, warn, fail, error, vacuous, not-executed. ``run`` is the orchestrator's run.
    """

    product: str
    rule: str
    check: str
    dimension: str
    on_failure: str
    state: str
    rows: int
    bad: int | None
    measured: float | None
    threshold: str
    message: str
    version: int
    candidate_id: str
    contract_version: str
    at: datetime
    run: str | None
    blocks: bool
    since: datetime | None


@dataclass(frozen=True)
class Sample:
    """A value at a moment: seconds of ``freshness`` and ``latency``, offsets of ``lag``, rows of ``rows`` and
    ``quarantined``, events a second of ``landing_rate``, 1 or 0 of ``available``.
    """

    product: str
    measure: str
    at: datetime
    value: float


@dataclass(frozen=True)
class MeasureDay:
    """The samples of one day, ``n`` of them."""

    product: str
    measure: str
    day: date
    n: int
    minimum: float
    maximum: float
    mean: float
    last: float


@dataclass(frozen=True)
class ObjectiveState:
    """One promised service level as it was last measured.

    ``promised`` and ``measured`` are in ``unit``. ``attainment`` is the share of good rounds in the window, ``target``
    the share that was promised. ``budget_left`` is the share of the error budget that is not used up; below 0 it is
    overdrawn. ``burn_1h`` and ``burn_24h`` say how many times faster than allowed it was used in that time. ``since``
    is when ``met`` became what it is. What was not measured yet is None.
    """

    product: str
    objective: str
    property: str
    promise: str
    promised: float | None
    unit: str
    measured: float | None
    met: bool | None
    attainment: float | None
    target: float
    budget_left: float | None
    burn_1h: float | None
    burn_24h: float | None
    since: datetime | None


@dataclass(frozen=True)
class ObjectiveDay:
    """How many of a day's rounds (or incidents, for promises about those) met an objective."""

    product: str
    objective: str
    day: date
    good: int
    total: int


@dataclass(frozen=True)
class Incident:
    """Something that went wrong with a product, from when it was noticed until it was over.

    ``subject`` is the rule or objective that it is about, ``began_at`` when it started as far as is known: noticing
    it came later. ``told_at`` is when the first message about it arrived.
    """

    id: int
    product: str
    kind: Kind
    subject: str
    title: str
    detail: str
    severity: Severity
    began_at: datetime
    opened_at: datetime
    closed_at: datetime | None
    version: int | None
    run: str | None
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    note: str | None
    told_at: datetime | None = None


@dataclass(frozen=True)
class Publication:
    """A version that was published. ``new_rows`` is offsets since the version before, or rows gained by a derived
    product; ``seconds`` from the beginning of its candidate to its publication; ``anomalous`` says that ``new_rows`` is
    far from what is usual.
    """

    product: str
    version: int
    at: datetime
    rows: int
    new_rows: int | None
    seconds: float | None
    quarantined: int
    run: str | None
    anomalous: bool


@dataclass(frozen=True)
class ContractRevision:
    """A contract as it was when it was first seen: ``document`` is the text of its file."""

    product: str
    version: str
    hash: str
    seen_at: datetime
    document: str


@dataclass(frozen=True)
class Delivery:
    """A message to one address about one incident: ``said`` is the last that arrived ("opened" or "closed"; None:
    nothing yet), ``tries`` how often the next was tried in vain, ``problem`` what came of that.
    """

    incident: int
    channel: str
    said: Literal["opened", "closed"] | None
    said_at: datetime | None
    tries: int
    next_try: datetime | None
    problem: str | None
