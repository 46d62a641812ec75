"""Streams that are not what they were, and streams with more in them than events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient

from mesh_pipelines.errors import (
    ClusterChanged,
    EnvironmentFault,
    MeshError,
    OffsetsTrimmed,
    PartitionsAdded,
    StreamDiscontinuity,
    StreamTruncated,
    TopicRecreated,
)
from mesh_pipelines.local.services import Services
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.repair.resume import resume
from mesh_pipelines.selftest.bench import RUN_S, Bench, Outcome, progress
from mesh_pipelines.selftest.ledger import Entry, LedgerProducer
from mesh_pipelines.selftest.subject import Subject
from mesh_pipelines.selftest.verify import Findings, as_sent, compare, state


def recreated(bench: Bench, rounds: int) -> Outcome:
    """The topic deleted and created again, with events on the old one that were never landed."""

    def break_off(subject: Subject) -> None:
        _recreate(bench, subject)
        subject.ledger.generation += 1

    return _broken(bench, rounds, "topic recreated", TopicRecreated, break_off)


def trimmed(bench: Bench, rounds: int) -> Outcome:
    """Retention past the position: events dropped before they were landed."""

    def break_off(subject: Subject) -> None:
        ends = subject.platform().streams.end_offsets([subject.name])[subject.name]
        upto = [TopicPartition(subject.name, number, one.next_offset) for number, one in ends.partitions.items()]
        _ask(bench, lambda client: client.delete_records(upto))

    return _broken(bench, rounds, "retention past the position", OffsetsTrimmed, break_off)


def truncated(bench: Bench, rounds: int) -> Outcome:
    """The broker crashes and loses the end of what was landed; new events take the offsets of the lost ones."""
    found, noticed, problems = Findings(), 0, list[str]()
    for at in range(rounds):
        subject = bench.subject(f"truncated{at}", partitions=1)
        subject.producer.send(300)
        problems += _expect(bench.run(subject), "")
        bench.own_services.kill_broker()
        _cut_off(bench.own_services.settings.home, subject)
        bench.own_services.stop()
        bench.own_services.start()
        subject.producer.restart()
        subject.ledger.generation += 1
        # Half of the time the stream grows past the position again, and only the leader epoch tells.
        subject.producer.send(400 if at % 2 else 5)
        noticed += _noticed(bench, subject, StreamTruncated, problems)
        found += bench.settle(subject)
        bench.on_round(at + 1, rounds)
    return Outcome("history cut off", rounds, noticed, found, "; ".join(problems))


def moved(bench: Bench, rounds: int) -> Outcome:
    """Another cluster behind the same address; and back again."""
    found, noticed, problems = Findings(), 0, list[str]()
    for at in range(rounds):
        subject = bench.subject(f"moved{at}")
        subject.producer.send(200)
        problems += _expect(bench.run(subject), "")
        bench.own_services.stop()
        elsewhere = bench.settings.model_copy(update={"home": bench.settings.home / f"elsewhere{at}"})
        other = Services(elsewhere, registry=False)
        other.start()
        try:
            platform = subject.platform()
            apply_contracts(platform, [subject.product])
            stray = LedgerProducer(bench.settings.client_config(), subject.name, type(subject.ledger)(), bench.rng)
            stray.send(300)
            before = progress(subject)
            problems += _expect(bench.run(subject), ClusterChanged.code)
            noticed += progress(subject) == before
        finally:
            other.stop()
            bench.own_services.start()
        # Pointed back, nothing was lost and nothing needs to be accepted.
        subject.producer.send(50)
        found += bench.settle(subject)
        bench.on_round(at + 1, rounds)
    return Outcome("another cluster", rounds, noticed, found, "; ".join(problems))


def partitions(bench: Bench, rounds: int) -> Outcome:
    """Partitions added between landings, with events on them at once: each key's last event sent has to count."""
    subject = bench.subject("partitions", partitions=1)
    found, noticed, problems = Findings(), 0, list[str]()
    for at in range(rounds):
        subject.producer.send(100)
        problems += _expect(bench.run(subject), "")
        subject.platform().streams.add_partitions(subject.name, at + 2)
        # A client of its own knows of the new partition at once.
        subject.producer.restart()
        subject.ledger.generation += 1
        subject.producer.send(100)
        noticed += _noticed(bench, subject, PartitionsAdded, problems)
        subject.ledger.generation += 1
        subject.producer.send(100)
        problems += _expect(bench.run(subject), "")
        found += compare(subject, settled=True) + as_sent(subject)
        bench.on_round(at + 1, rounds)
    return Outcome("partitions added", rounds, noticed, found, "; ".join(problems))


def transactions(bench: Bench, rounds: int) -> Outcome:
    """Committed, aborted and open transactions; then a topic that holds nothing but aborted ones."""
    subject = bench.subject("transactions")
    found, held, problems = Findings(), 0, list[str]()
    with subject.producer.transaction("writer") as transaction:
        for at in range(rounds):
            transaction.begin(40)
            transaction.commit()
            transaction.begin(40)
            transaction.abort()
            _await_markers(subject)
            problems += _expect(bench.run(subject), "")
            found += compare(subject, settled=True)
            transaction.begin(40)
            subject.producer.send(40)
            problems += _expect(bench.run(subject), "")
            found += compare(subject)
            held += not _covers_all(subject)
            transaction.commit()
            _await_markers(subject)
            problems += _expect(bench.run(subject), "")
            found += compare(subject, settled=True)
            bench.on_round(at + 1, rounds)
    aborted = bench.subject("aborted")
    with aborted.producer.transaction("writer") as transaction:
        transaction.begin(100)
        transaction.abort()
    _await_markers(aborted)
    problems += _expect(bench.run(aborted), "")
    found += compare(aborted, settled=True)
    if held < rounds:
        problems.append(f"an open transaction held the end only {held} times")
    return Outcome("transactions", rounds, held, found, "; ".join(problems))


def compacted(bench: Bench, rounds: int) -> Outcome:
    """A topic that the broker compacted before it was landed: gaps between the offsets."""
    found, gaps = Findings(), 0
    for at in range(rounds):
        subject = bench.subject(f"compacted{at}", partitions=1)
        settings = {
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.01",
            "segment.bytes": str(1024 * 1024),
        }
        subject.platform().streams.alter(subject.name, {**settings, "max.compaction.lag.ms": "100"})
        for _ in range(4):
            subject.producer.send(400)
            # A segment is closed by the first write after its time is up.
            time.sleep(0.2)
        _await_compaction(bench, subject)
        codes = bench.run(subject)
        landed = subject.platform().tables_of(subject.product).log.rows()
        gaps += len(subject.ledger.entries) - landed
        published = subject.platform().tables_of(subject.product).versions.published()
        if codes != [""] or published is None:
            return Outcome("compacted topic", rounds, gaps, found, f"the run ended with {codes}")
        found += state(subject, published)
        bench.on_round(at + 1, rounds)
    problem = "" if gaps else "the broker compacted nothing away"
    return Outcome("compacted topic", rounds, gaps, found, problem)


def _broken(
    bench: Bench, rounds: int, fault: str, kind: type[StreamDiscontinuity], break_off: Callable[[Subject], None]
) -> Outcome:
    """Break the stream off with events on it that were not landed; they are lost, which has to be accepted."""
    subject = bench.subject(kind.accept)
    found, noticed, problems = Findings(), 0, list[str]()
    for at in range(rounds):
        subject.producer.send(150)
        problems += _expect(bench.run(subject), "")
        landed = dict(subject.ledger.entries)
        subject.producer.send(100)
        _forget(subject, landed)
        break_off(subject)
        subject.producer.send(250)
        noticed += _noticed(bench, subject, kind, problems)
        found += bench.settle(subject)
        bench.on_round(at + 1, rounds)
    return Outcome(fault, rounds, noticed, found, "; ".join(problems))


def _noticed(bench: Bench, subject: Subject, kind: type[StreamDiscontinuity], problems: list[str]) -> bool:
    """Run into the break, see that nothing moved, and accept it; whether all of that was as promised."""
    before = progress(subject)
    problems += _expect(bench.run(subject), kind.code)
    stopped = progress(subject) == before
    done = resume(subject.platform(), subject.product, kind.accept)
    records = subject.platform().tables_of(subject.product).log.losses()
    if not stopped or done.accepted is None or done.accepted not in records:
        problems.append(f"the log moved before the loss was accepted, or kept no record of it: {records}")
        return False
    return True


def _forget(subject: Subject, landed: dict[tuple[int, int, int], Entry]) -> None:
    subject.ledger.entries.clear()
    subject.ledger.entries.update(landed)


def _recreate(bench: Bench, subject: Subject) -> None:
    _ask(bench, lambda client: client.delete_topics([subject.name]))
    deadline = time.monotonic() + RUN_S
    while True:
        try:
            platform = subject.platform()
            apply_contracts(platform, [subject.product])
            return
        except MeshError:
            # The broker goes on deleting after it has answered that it did.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _cut_off(home: Path, subject: Subject) -> None:
    """Take the last third off the topic's only segment, in the middle of a batch, as a lost disk write would."""
    [segment] = (home / "services" / "kafka" / "data" / f"{subject.name}-0").glob("*.log")
    os.truncate(segment, segment.stat().st_size * 2 // 3)


def _ask(bench: Bench, request: Callable[[Any], dict[Any, Future[Any]]]) -> None:
    client = AdminClient({**bench.settings.client_config(), "log_level": 0})
    for future in request(client).values():
        future.result(RUN_S)


def _expect(codes: list[str], code: str) -> list[str]:
    return [] if codes == [code] else [f"a run ended with {codes} instead of {code or 'success'}"]


def _covers_all(subject: Subject) -> bool:
    position = subject.platform().tables_of(subject.product).log.position()
    assert position is not None
    return all(offset < position.next_offset(partition) for _, partition, offset in subject.ledger.entries)


def _await_markers(subject: Subject) -> None:
    """Wait until what was committed or aborted has its markers; a commit returns before the partitions have them."""
    streams, name = subject.platform().streams, subject.name
    deadline = time.monotonic() + RUN_S
    written = streams.end_offsets([name], IsolationLevel.READ_UNCOMMITTED)[name]
    while streams.end_offsets([name])[name].lag_to(written):
        if time.monotonic() > deadline:
            raise EnvironmentFault(f"{name}: its transactions do not end")
        time.sleep(0.02)


def _await_compaction(bench: Bench, subject: Subject) -> None:
    """Wait until the topic's files on our broker, or else the time the cleaner takes, say that it was compacted."""
    if bench.services is None:
        time.sleep(40)
        return
    folder = bench.services.settings.home / "services" / "kafka" / "data" / f"{subject.name}-0"
    before = _size(folder)
    deadline = time.monotonic() + RUN_S
    while _size(folder) >= before * 0.7 and time.monotonic() < deadline:
        time.sleep(0.2)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.log"))
