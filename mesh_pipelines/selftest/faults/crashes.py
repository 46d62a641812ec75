"""Processes that die: at random moments, at every named step, and the broker under them."""

from __future__ import annotations

import signal
import threading
import time

from mesh_pipelines.errors import EnvironmentFault
from mesh_pipelines.failpoints import POINTS
from mesh_pipelines.selftest.bench import RUN_S, Bench, Outcome, progress
from mesh_pipelines.selftest.subject import Subject
from mesh_pipelines.selftest.verify import Findings, compare
from mesh_pipelines.selftest.workers import Job

# Kills fall on all of a run, and now and then on the next one; how long a run takes is the machine's affair.
_KILL_WITHIN_RUNS = 1.6
_COMPARE_EVERY = 25
# One kill in three comes before the first commit of its run; far fewer commits would mean that nothing was tested.
_LEAST_PROGRESS = 0.33
_BAD_EVERY = 10


def kills(bench: Bench, rounds: int) -> Outcome:
    """``kill -9`` of the working process at random moments, with bad events planted now and then."""
    subject = bench.subject("kills")
    found, moved = Findings(), 0
    a_run = _seconds_of_a_run(bench, subject)
    for at in range(rounds):
        if at % _BAD_EVERY == _BAD_EVERY - 1:
            subject.producer.correct()
        subject.producer.send(bench.rng.randrange(20, 200), bad=at % _BAD_EVERY == _BAD_EVERY - 3)
        before = progress(subject)
        worker = bench.workers.start(Job(subject.settings, subject.product))
        time.sleep(bench.rng.uniform(0, _KILL_WITHIN_RUNS * a_run))
        worker.kill()
        moved += progress(subject) != before
        if at % _COMPARE_EVERY == 0:
            found += compare(subject)
            a_run = _seconds_of_a_run(bench, subject)
        bench.on_round(at + 1, rounds)
    problem = "" if moved >= _LEAST_PROGRESS * rounds else f"only {moved} kills fell on work"
    return Outcome("kill -9 of the worker", rounds, moved, found + bench.settle(subject), problem)


def _seconds_of_a_run(bench: Bench, subject: Subject) -> float:
    """How long a run of the product takes now, from the start of its process."""
    subject.producer.send(100)
    began = time.monotonic()
    bench.run(subject)
    return time.monotonic() - began


def steps(bench: Bench, rounds: int) -> Outcome:
    """``kill -9`` at every named step, and at its second passing; ``rounds`` times over."""
    subject = bench.subject("steps")
    found, hit, missed = Findings(), 0, list[str]()
    plan = [
        (point, passes) for point in POINTS for passes in ((0, 1) if point.startswith(("log", "versions")) else (0,))
    ]
    for at in range(rounds):
        for number, (point, passes) in enumerate(plan):
            subject.producer.send(400)
            worker = bench.workers.start(Job(subject.settings, subject.product, once=True, point=point, passes=passes))
            worker.process.join(RUN_S)
            if worker.process.exitcode == -signal.SIGKILL:
                hit += 1
            else:
                missed.append(point)
            found += compare(subject)
            bench.on_round(at * len(plan) + number + 1, rounds * len(plan))
    problem = f"never reached: {', '.join(missed)}" if missed else ""
    return Outcome("kill -9 at every step", rounds * len(plan), hit, found + bench.settle(subject), problem)


def broker(bench: Bench, rounds: int) -> Outcome:
    """``kill -9`` of the broker while events are produced and landed, and its restart."""
    subject = bench.subject("broker")
    worker = bench.workers.start(Job(subject.settings, subject.product))
    done, failures = threading.Event(), list[Exception]()

    def produce() -> None:
        try:
            while not done.is_set():
                subject.producer.post(20)
                time.sleep(0.05)
            subject.producer.wait()
        except Exception as error:  # told to the thread that waits
            failures.append(error)

    producing = threading.Thread(target=produce, daemon=True)
    producing.start()
    moved = 0
    for at in range(rounds):
        before = progress(subject)
        time.sleep(bench.rng.uniform(0.5, 3.0))
        bench.own_services.kill_broker()
        bench.own_services.stop()
        bench.own_services.start()
        moved += progress(subject) != before
        bench.on_round(at + 1, rounds)
    done.set()
    producing.join()
    alive = worker.process.is_alive()
    worker.kill()
    if failures:
        raise EnvironmentFault(f"the producer failed: {failures[0]}")
    problem = "" if alive else f"the worker did not survive (exit code {worker.process.exitcode})"
    return Outcome("kill -9 of the broker", rounds, moved, bench.settle(subject), problem)
