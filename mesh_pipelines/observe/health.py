"""Whether a product is well, decided in one place, which status, doctor, observer, pages and exit codes ask.

It is decided from levels: what the tables say, what the stream holds from its first offset to its end, what the inputs'
readers see, and what came of the last attempt. What takes time to tell (service levels, events that wait) is taken from
the last observation. What could not be looked at is not well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.objectives import duration, patience, roughly
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import ContractInvalid, ServiceFailed, TablesLost
from mesh_pipelines.observe.store.records import Health, ObjectiveState
from mesh_pipelines.pipeline.attempts import Failure, mark_of, mends
from mesh_pipelines.pipeline.due import need
from mesh_pipelines.pipeline.lag import lag
from mesh_pipelines.pipeline.level import Level
from mesh_pipelines.pipeline.publish import blocked

# Where a cause may pass by itself, this many attempts in a row have failed before it is told as a fault.
_TRANSIENT_TRIES = 3

# The incident that events wait in a stream for too long: what it is about, apart from streams that broke off.
WAITING = ("stalled", "events")

Kind = Literal[
    "broken",
    "stalled",
    "failing",
    "blocked",
    "behind",
    "unasked",
    "objective",
    "rule",
    "withdrawn",
    "unloaded",
    "waits",
    "proposed",
]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a product, and the next command.

    ``severity``: "bad" is red, "warning" yellow; a "notice" is told and makes no product less well. ``code`` is that of
    the error behind it, where there is one.
    """

    kind: Kind
    severity: Literal["bad", "warning", "notice"]
    text: str
    next_step: str
    code: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.text}" if self.code else self.text


@dataclass(frozen=True)
class Observed:
    """What others have to say: the last observation of the version there was, of service levels that are missed and of
    events that wait, and Dagster of why it did not load the product.
    """

    version: int | None = None
    missed: tuple[str, ...] = ()
    stalled: str | None = None
    unloaded: str | None = None


def problems(level: Level, now: datetime, observed: Observed | None = None) -> list[Problem]:
    """Everything that is wrong with a product now, the worst first; pure."""
    observed = observed or Observed()
    if level.standing.missing:
        return [*_unloaded(observed), _no_tables(level, observed)]
    found = [
        *_unloaded(observed),
        *_of_stream(level),
        *_of_audit(level),
        *_of_attempt(level, now),
        *_behind(level, now),
        *_of_observation(level, observed),
        *_told(level, now),
    ]
    return sorted(found, key=lambda one: ("bad", "warning", "notice").index(one.severity))


def of_contract(error: ContractInvalid) -> Problem:
    """A contract with faults."""
    return Problem(
        "broken",
        "bad",
        f"{counted(len(error.faults), 'fault')} in its contract",
        f"mesh lint {error.product}",
        error.code,
    )


def without_file(fqn: str) -> Problem:
    """A product that was applied and has no contract file: it can be read, and nothing runs it from here."""
    text = "it has no contract file, so nothing runs it; what was applied stays readable"
    return Problem("proposed", "notice", text, f"mesh versions {fqn}")


def without_catalog(error: TablesLost, fqn: str) -> Problem:
    """A product of which the warehouse has tables, and neither the catalog nor a contract file knows of it."""
    return _lost_tables(fqn, error.message)


def _lost_tables(fqn: str, text: str) -> Problem:
    return Problem("broken", "bad", text.removeprefix(f"{fqn}: "), f"mesh recover {fqn}", TablesLost.code)


def health(severities: Collection[str], *, is_published: bool) -> Health:
    """A product's health, by how severe what is wrong with it is."""
    if "bad" in severities:
        return Health.BAD
    if not is_published:
        return Health.UNKNOWN
    return Health.WARNING if "warning" in severities else Health.GOOD


def _unloaded(observed: Observed) -> Iterator[Problem]:
    if observed.unloaded:
        text = f"Dagster did not load it, so nothing runs it: {observed.unloaded}"
        yield Problem("unloaded", "bad", text, "read logs/webserver.log in the home folder", ServiceFailed.code)


def _no_tables(level: Level, observed: Observed) -> Problem:
    """A product that has none was not applied yet; one that was seen with a version has lost them."""
    code, _, text = (level.standing.missing or "").partition(" ")
    if code == TablesLost.code:
        return _lost_tables(level.product.fqn, text)
    severity = "warning" if observed.version is None else "bad"
    return Problem("broken", severity, text, f"mesh apply {level.product.fqn}", code)


def _of_stream(level: Level) -> Iterator[Problem]:
    topic = level.product.topic
    if topic is None:
        return
    if level.unasked:
        error = level.unasked
        yield Problem("unasked", "bad", error.message, error.next_step or "mesh doctor", error.code)
    elif level.bounds is None:
        text = f"the topic {topic.name} does not exist"
        yield Problem("stalled", "bad", text, f"mesh apply {level.product.fqn}", "M404")
    elif broken := level.broken:
        yield Problem("stalled", "bad", _without_name(level, broken.message), broken.next_step or "", broken.code)


def _of_audit(level: Level) -> Iterator[Problem]:
    newest = level.standing.newest
    if newest and newest.verdict and not newest.verdict.passed:
        text = f"version {newest.number} blocked by {', '.join(newest.verdict.blocking)}"
        refused = blocked(level.product, newest, level.standing.published)
        yield Problem("blocked", "bad", text, refused.next_step or "", refused.code)


def _of_attempt(level: Level, now: datetime) -> Iterator[Problem]:
    """The last attempt, where it failed and nothing was done about it that the next one has not tried yet."""
    failure = level.failure
    if failure is None or _is_told(level, failure):
        return
    if mends(mark_of(level.contract_hash, level.standing, failure.step, level.inputs), failure.mark):
        return
    is_passing = failure.transient and failure.count < _TRANSIENT_TRIES
    again = f"; tried again at {failure.until:%H:%M:%S} UTC" if failure.until and failure.until > now else ""
    text = f"{failure.step} failed {_times(failure.count)}: {_without_name(level, failure.message)}{again}"
    step = failure.next_step or f"mesh run {level.product.fqn}"
    yield Problem("failing", "warning" if is_passing else "bad", text, step, failure.code)


def _is_told(level: Level, failure: Failure) -> bool:
    """Whether levels say the same as the last attempt."""
    if failure.step == "audit":
        return True
    return level.unasked is not None or (level.broken is not None and level.broken.code == failure.code)


def _behind(level: Level, now: datetime) -> Iterator[Problem]:
    """A derived product that its inputs have left behind for longer than it may take."""
    since = lag(level).since
    allowed = timedelta(seconds=patience(level.product))
    if since and now - since > allowed:
        wait = roughly((now - since).total_seconds())
        text = f"behind its inputs for {wait}, more than {duration(allowed.total_seconds())}"
        yield Problem("behind", "bad", text, f"mesh run {level.product.fqn}")


def _of_observation(level: Level, observed: Observed) -> Iterator[Problem]:
    for text in observed.missed:
        yield Problem("objective", "bad", text, f"mesh observe, and the page of {level.product.fqn} in the portal")
    if observed.stalled and lag(level).rows:
        yield Problem("stalled", "bad", observed.stalled, f"mesh run {level.product.fqn}")


def _told(level: Level, now: datetime) -> Iterator[Problem]:
    newest, published = level.standing.newest, level.standing.published
    if level.faults:
        yield of_contract(level.faults)
    proposed = level.proposed
    if proposed and proposed.contract_hash != level.contract_hash:
        text = f"contract {proposed.contract_version} is not applied"
        yield Problem("proposed", "notice", text, f"mesh plan {level.product.fqn}")
    if newest and newest.withdrawn and published:
        text = f"readers were taken back to version {published.number}, {newest.withdrawn}"
        yield Problem("withdrawn", "warning", text, _mend(level.product))
    if newest and newest.verdict and newest.verdict.warned:
        text = f"{counted(newest.verdict.warned, 'rule warns', 'rules warn')} in version {newest.number}"
        yield Problem("rule", "warning", text, f"mesh snapshot {level.product.fqn}")
    lacking = need(level, now)
    if level.product.transform and lacking.what and lacking.held and not level.failure:
        inputs = " ".join(level.product.inputs)
        yield Problem("waits", "warning" if published else "notice", lacking.held, f"mesh run {inputs}")


def _mend(product: DataProduct) -> str:
    return f"fix the data at its source or the contract, then mesh run {product.fqn}"


def _without_name(level: Level, text: str) -> str:
    return text.removeprefix(f"{level.product.fqn}: ")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def late(found: ObjectiveState) -> str:
    """A service level that is missed, in words."""
    if found.property == "availability":
        return "its published version cannot be read"
    measured = found.measured or 0.0
    text = roughly(measured) if found.unit == "s" else f"{measured:.3g} {found.unit}"
    return f"{found.objective}: {text}, promised: {found.promise}"


def worst(found: Sequence[Problem]) -> Problem | None:
    """The first problem that is more than a notice."""
    return next((problem for problem in found if problem.severity != "notice"), None)
