"""Readers beside publishing and upkeep: what they see is audited and whole, and a version reads the same for ever."""

from __future__ import annotations

from mesh_pipelines.errors import AuditBlocked, ConcurrentWriter, NothingPublished, StorageUnavailable
from mesh_pipelines.selftest.bench import RUN_S, Bench, Outcome
from mesh_pipelines.selftest.subject import Subject
from mesh_pipelines.selftest.verify import Findings, compare, digest, fold
from mesh_pipelines.selftest.workers import RACED, Reading, Upkeep

# What upkeep may say when it loses to a landing or has nothing to work on.
_MAY_LOSE = {ConcurrentWriter.code, StorageUnavailable.code, NothingPublished.code}


def reader(bench: Bench, rounds: int) -> Outcome:
    """A reader polls while versions are published, every other one with bad data first, and upkeep runs beside."""
    subject = bench.subject("reader")
    subject.producer.send(50)
    bench.run(subject)
    reading = bench.workers.start(Reading(subject.settings, subject.product))
    upkeep = bench.workers.start(Upkeep(subject.settings, subject.product))
    blocked, problems = 0, list[str]()
    for at in range(rounds):
        subject.producer.send(bench.rng.randrange(10, 60), bad=at % 2 == 0)
        if at % 2 == 0:
            blocked += _decided(bench, subject) == [AuditBlocked.code]
            subject.producer.correct()
        codes = _decided(bench, subject)
        if not set(codes) <= {"", RACED}:
            problems.append(f"publishing ended with {codes}")
        bench.on_round(at + 1, rounds)
    upkeep.stop()
    strange = set(upkeep.result(RUN_S)) - _MAY_LOSE
    if strange:
        problems.append(f"upkeep failed with {', '.join(sorted(strange))}")
    reading.stop()
    seen = reading.result(RUN_S)
    if blocked < rounds // 2:
        problems.append(f"only {blocked} of {rounds // 2} bad candidates were blocked")
    findings = _judge(subject, seen) + compare(subject) + bench.settle(subject)
    return Outcome("a reader beside all this", rounds, len({one[0] for one in seen}), findings, "; ".join(problems))


def _decided(bench: Bench, subject: Subject) -> list[str]:
    """Run the product until upkeep does not win; the codes of that run."""
    codes = bench.run(subject)
    while set(codes) <= _MAY_LOSE:
        codes = bench.run(subject)
    return codes


def _judge(subject: Subject, seen: list[tuple[int, str]]) -> Findings:
    """Each reading against the ledger's fold at the position of the version it says it is."""
    versions = {one.number: one for one in subject.platform().tables_of(subject.product).versions.all()}
    expected = {number: digest(fold(subject.ledger, version.position).values()) for number, version in versions.items()}
    wrong = sum(expected.get(number) != text for number, text in seen)
    return Findings(unaudited=wrong)
