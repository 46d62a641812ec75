"""Several writers of one product: side by side, and one that wakes after its work was done by another."""

from __future__ import annotations

import signal
import time

import psutil

from mesh_pipelines.errors import ConcurrentWriter, EnvironmentFault, StorageUnavailable
from mesh_pipelines.selftest.bench import RUN_S, Bench, Outcome
from mesh_pipelines.selftest.verify import Findings, compare
from mesh_pipelines.selftest.workers import RACED, Job, Worker

# What a loser may say: it went on from what another had done, or others were faster again and again, or the catalog
# was busy.
_LOSES = {"", RACED, ConcurrentWriter.code, StorageUnavailable.code}
# Where a paused writer holds work that another then does; past its last commit it holds none.
_PAUSES = ("log.written", "log.catalog", "base.written", "checks.written", "versions.written", "publish.audited")


def two(bench: Bench, rounds: int) -> Outcome:
    """Two writers at once."""
    return _race(bench, rounds, 2)


def four(bench: Bench, rounds: int) -> Outcome:
    """Four writers at once."""
    return _race(bench, rounds, 4)


def _race(bench: Bench, rounds: int, writers: int) -> Outcome:
    subject = bench.subject(f"race{writers}")
    found, lost, strange = Findings(), 0, set[str]()
    for at in range(rounds):
        subject.producer.send(bench.rng.randrange(100, 400))
        job = Job(subject.settings, subject.product, once=True)
        racing = [bench.workers.start(job) for _ in range(writers)]
        codes = [code for worker in racing for code in worker.result(RUN_S)]
        lost += any(codes)
        strange |= set(codes) - _LOSES
        found += compare(subject)
        bench.on_round(at + 1, rounds)
    problem = f"writers failed with {', '.join(sorted(strange))}" if strange else ""
    if not lost:
        problem = problem or "no writer ever lost, so none ever raced"
    return Outcome(f"{writers} writers race", rounds, lost, found + bench.settle(subject), problem)


def zombie(bench: Bench, rounds: int) -> Outcome:
    """A writer paused at a step, whose work another does meanwhile, wakes and goes on."""
    subject = bench.subject("zombie")
    found, lost, strange = Findings(), 0, list[str]()
    for at in range(rounds):
        point = _PAUSES[at % len(_PAUSES)]
        subject.producer.send(400)
        job = Job(subject.settings, subject.product, once=True, point=point, signal=signal.SIGSTOP)
        paused = bench.workers.start(job)
        _await_pause(paused, point)
        # One that was stopped inside the catalog's own statement holds its lock; the other waits for it, or gives up.
        second = bench.run(subject)
        if not set(second) <= {"", StorageUnavailable.code}:
            strange.append(f"beside the one paused at {point} a second writer ended with {second}")
        psutil.Process(paused.pid).resume()
        codes = paused.result(RUN_S)
        lost += any(codes)
        if not set(codes) <= _LOSES:
            strange.append(f"{point}: {codes}")
        found += compare(subject)
        bench.on_round(at + 1, rounds)
    return Outcome("a zombie wakes", rounds, lost, found + bench.settle(subject), "; ".join(strange))


def _await_pause(worker: Worker, point: str) -> None:
    deadline = time.monotonic() + RUN_S
    process = psutil.Process(worker.pid)
    while process.status() != psutil.STATUS_STOPPED:
        if time.monotonic() > deadline or not worker.process.is_alive():
            raise EnvironmentFault(f"the writer never came to {point}")
        time.sleep(0.01)
