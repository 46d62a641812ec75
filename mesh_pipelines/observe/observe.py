"""Observing the mesh: one round looks at every product, and writes down what it measured and what is wrong.

A round asks the broker once and reads no stream; tables are read only of products that have a new audit or version. It
never changes what it observes, and an error in one product is a finding about that product. Whoever observes holds a
lease in the history, and every write asks for it again: of two processes, one waits for the other to stop or die.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import msgspec

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.objectives import WINDOW_DAYS, objectives
from mesh_pipelines.errors import ContractInvalid, MeshError
from mesh_pipelines.observe.from_tables import News, news, with_times
from mesh_pipelines.observe.incidents import Incidents, judge_incidents
from mesh_pipelines.observe.judge import Judged, Judgement, Promise, Shares, broken, is_about_incidents
from mesh_pipelines.observe.look import look, told
from mesh_pipelines.observe.measure import Mark, Measured, Memory, Round, Seen, measure, remember
from mesh_pipelines.observe.notify import Courier
from mesh_pipelines.observe.store.history import OBSERVED_AT, History
from mesh_pipelines.observe.store.lease import LEASE_S, Lease, LeaseLost
from mesh_pipelines.observe.store.records import MEASURES, ContractRevision, Current, Health, RuleState
from mesh_pipelines.observe.store.rollup import tidy_daily
from mesh_pipelines.observe.store.times import SECOND, day_of, micros
from mesh_pipelines.observe.store.writer import SLOT_S, Finding, Writer
from mesh_pipelines.platform import Platform, discreet
from mesh_pipelines.serve.stored_results import told_now

# Rows of samples a day, whatever the number of products: with few, every round is one, with a thousand every fourth
# minute. A row is some twenty bytes, and two days are kept whole.
_SAMPLES_A_DAY = 3_000_000
_DAY_S = 86_400
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Observation:
    """One round: products as they are, the incidents that it opened and closed, and what it could not do."""

    at: datetime
    current: tuple[Current, ...]
    opened: tuple[int, ...]
    closed: tuple[int, ...]
    problems: tuple[str, ...]
    seconds: float


def observe(
    platform: Platform, history: History, now: datetime | None = None, *, lease: Lease | None = None
) -> Observation:
    """One round over all products; ``now`` is the time it is taken to be. Without a ``lease``, who calls sees to it
    that nobody else observes.

    Raises:
        StorageUnavailable: the history cannot be written.
        LeaseLost: another process observes; the rest of the round was not written.
    """
    started = time.monotonic()
    round_ = _Round(platform, history, lease, now or datetime.now(UTC))
    round_.recount()
    round_.judge()
    done = round_.write()
    tidy_daily(history, platform.settings.history_days, round_.now)
    return replace(done, seconds=time.monotonic() - started)


def watch(platform_factory: Callable[[], Platform], history: History, interval: float, stop: threading.Event) -> None:
    """Observe every ``interval`` seconds until told to stop; contracts are read again each time.

    Whatever goes wrong with a round is logged, and the next one tried. Messages are sent meanwhile, by a thread.
    """
    lease = Lease(history, max(LEASE_S, 3 * interval))
    platform: Platform | None = None
    courier: Courier | None = None
    while not stop.is_set():
        began = time.monotonic()
        try:
            platform = platform.reloaded() if platform else platform_factory()
            courier = courier or Courier(history, platform.settings)
            if lease.take():
                observe(platform, history, lease=lease)
                courier.send()
        except LeaseLost:
            _log.info("another process observes the mesh now")
        except MeshError as error:
            _log.warning("not observed: %s", told(error))
        except Exception:
            _log.exception("not observed")
        stop.wait(max(0.0, interval - (time.monotonic() - began)))
    if courier:
        courier.close()
    with suppress(MeshError):
        lease.release()


@dataclass
class _Product:
    """What a round finds out of one product; ``days`` are (good, total) of objectives about incidents."""

    seen: Seen
    before: Memory
    memory: Memory
    measured: Measured = field(default_factory=Measured)
    news: News = field(default_factory=News)
    judged: Sequence[Judged] = ()
    days: dict[str, Mapping[date, tuple[int, int]]] = field(default_factory=dict[str, Mapping[date, tuple[int, int]]])
    found: Sequence[Finding] = ()
    current: Current | None = None


class _Round:
    """One round, step by step."""

    def __init__(self, platform: Platform, history: History, lease: Lease | None, now: datetime) -> None:
        self.now = now
        self._platform, self._history, self._lease = platform, history, lease
        self._last = history.observed_at()
        self._memories = {name: msgspec.json.decode(body, type=Memory) for name, body in history.memories().items()}
        self._known = {one.product: one for one in history.current()}
        self._problems: list[str] = []
        self._marks: dict[str, tuple[Mark, ...]] = {}
        self._products: dict[str, _Product] = {}
        for seen in look(platform, now):
            before = self._memories.get(seen.product.fqn, Memory())
            memory = remember(seen, before, self._marks, now)
            self._marks[seen.product.fqn] = memory.marks
            self._products[seen.product.fqn] = _Product(seen, before, memory)

    def recount(self) -> None:
        """Copy what products' tables have that the history has not."""
        audited, published = self._history.known_until()
        for name, one in self._products.items():
            if self._lease:
                self._lease.keep()
            with self._alone(one):
                one.news = news(self._platform, one.seen, audited.get(name), published.get(name))
                one.memory = with_times(self._platform, one.seen, one.memory)
        known = self._history.known_revisions()
        with self._writing() as writer:
            for one in self._products.values():
                for results in one.news.audits:
                    writer.audit(results, results[0].at, results[0].candidate_id)
                for publication in one.news.publications:
                    writer.publication(publication)
                if (one.seen.product.fqn, one.seen.product.contract_hash) not in known:
                    with self._alone(one):
                        writer.revision(self._revision(one.seen.product))

    def _revision(self, product: DataProduct) -> ContractRevision:
        text = self._platform.files_of(product).contract
        return ContractRevision(product.fqn, product.contract_version, product.contract_hash, self.now, text)

    def judge(self) -> None:
        """Say of every product which objectives it meets and what is wrong with it; of inputs first."""
        shares = self._shares()
        for name, one in self._products.items():
            with self._alone(one):
                one.measured = measure(one.seen, one.before, one.memory, Round(self.now, self._last, self._marks))
                self._judge(one, shares.get(name, {}))
            ill = [
                other
                for other in one.seen.product.inputs
                if other in self._products and _health(self._products[other]) is Health.BAD
            ]
            rules = self._rules(one.seen)
            judgement = Judgement(one.seen, one.before, one.measured, one.judged, rules, self.now)
            one.found = judgement.findings()
            one.current = judgement.current(one.found, ill)

    def write(self) -> Observation:
        """Write the round down."""
        sampled = self._is_sampled()
        incidents = Incidents(self._history, self.now)
        with self._writing() as writer:
            for name, one in self._products.items():
                self._write(writer, one, sampled=sampled)
                calm = incidents.reconcile(writer, name, one.found, one.before.calm, _unknown(one.seen))
                memory = replace(one.memory, calm=calm)
                if memory != self._memories.get(name):
                    writer.memory(name, msgspec.json.encode(memory).decode())
            for name, error in self._platform.broken.items():
                found = broken(_faults(error), self.now)
                incidents.reconcile(writer, name, [found], {}, unknown=_OF_TABLES)
                writer.current(self._broken(name, found))
            for name in self._known.keys() - self._products.keys() - self._platform.broken.keys():
                writer.forget(name)
                incidents.end(writer, name)
            writer.note(OBSERVED_AT, micros(self.now))
        states = tuple(one.current for one in self._products.values() if one.current)
        problems = tuple(self._problems)
        return Observation(self.now, states, tuple(incidents.opened), tuple(incidents.closed), problems, 0.0)

    def _judge(self, one: _Product, shares: Mapping[str, Shares]) -> None:
        """The product's objectives."""
        name, lost = one.seen.product.fqn, bool(one.seen.standing and one.seen.standing.losses)
        before = {state.objective: state for state in self._history.objectives(name)}
        for objective in objectives(one.seen.product):
            promise = Promise(name, objective, self.now, before.get(objective.id))
            if is_about_incidents(objective):
                since = self.now - timedelta(days=WINDOW_DAYS)
                incidents = self._history.incidents_opened_since(name, since)
                of_incidents = judge_incidents(promise, incidents)
                one.days[objective.id] = of_incidents.days
                one.judged = [*one.judged, Judged(of_incidents.state, None)]
            else:
                share = shares.get(objective.id, Shares())
                done = promise.judge(one.measured, share, lost=lost)
                one.judged = [*one.judged, done]

    def _rules(self, seen: Seen) -> Sequence[RuleState]:
        """The newest results, where any rule does not hold."""
        verdict = seen.newest.verdict if seen.newest else None
        if verdict is None or not (verdict.failed or verdict.warned or verdict.errors):
            return ()
        return told_now(self._platform, seen.product, self._history.rule_states(seen.product.fqn))

    def _shares(self) -> dict[str, dict[str, Shares]]:
        """What was observed of each product's objectives before this round."""
        slot = micros(self.now) // (SLOT_S * SECOND)
        window = self._history.shares(day_of(self.now) - timedelta(days=WINDOW_DAYS - 1))
        hour = self._history.shares_of_slots(slot - 3600 // SLOT_S)
        day = self._history.shares_of_slots(slot - _DAY_S // SLOT_S)
        found: dict[str, dict[str, Shares]] = {}
        for product, objective in window:
            key = (product, objective)
            shares = Shares(window[key], hour.get(key, (0, 0)), day.get(key, (0, 0)))
            found.setdefault(product, {})[objective] = shares
        return found

    def _write(self, writer: Writer, one: _Product, *, sampled: bool) -> None:
        name, measured = one.seen.product.fqn, one.measured
        if one.current:
            writer.current(one.current)
        writer.objectives(name, [judged.state for judged in one.judged])
        for judged in one.judged:
            if judged.good is not None:
                writer.tally(name, judged.state.objective, self.now, good=judged.good)
        for objective, days in one.days.items():
            for day, (good, total) in days.items():
                writer.day(name, objective, day, good, total)
        writer.landed(name, self.now, measured.landed, measured.held)
        for measure_ in MEASURES if sampled else ():
            value = getattr(measured, measure_)
            if value is not None:
                writer.sample(name, measure_, self.now, float(value))

    def _broken(self, name: str, found: Finding) -> Current:
        """A product whose contract has faults: what was known of it, and why it is not well."""
        known = self._known.get(name)
        known = known or Current(name, Health.BAD, (), self.now)
        return replace(known, health=Health.BAD, reasons=(found.title,), problem=found.detail, observed_at=self.now)

    def _is_sampled(self) -> bool:
        """Whether this round's values are kept as samples, too."""
        seconds = _DAY_S * len(MEASURES) * max(1, len(self._products)) / _SAMPLES_A_DAY
        if self._last is None:
            return True
        return int(self.now.timestamp() / seconds) != int(self._last.timestamp() / seconds)

    @contextmanager
    def _alone(self, one: _Product) -> Generator[None]:
        """Errors of one product are its own, and the round goes on."""
        try:
            with discreet(self._platform, one.seen.product):
                yield
        except LeaseLost:
            raise
        except Exception as error:
            problem = told(error)
            _log.warning("%s was not observed: %s", one.seen.product.fqn, problem)
            self._problems.append(f"{one.seen.product.fqn}: {problem}")
            one.seen = replace(one.seen, error=problem)

    @contextmanager
    def _writing(self) -> Generator[Writer]:
        with self._history.writing() as writer:
            if self._lease:
                self._lease.keep(writer)
            yield writer


# What cannot be found out without tables, and without the broker.
_OF_TABLES = ("blocked", "rule", "objective", "stalled")


def _unknown(seen: Seen) -> tuple[str, ...]:
    """The kinds of incidents of which this look could not say whether they go on."""
    if seen.error or (seen.standing and seen.standing.missing):
        return _OF_TABLES
    return () if seen.product.topic is None or seen.end else ("stalled",)


def _health(one: _Product) -> Health | None:
    return one.current.health if one.current else None


def _faults(error: ContractInvalid) -> str:
    return "\n".join(f"{fault.file.name}:{fault.line}: {fault.field}: {fault.problem}" for fault in error.faults)
