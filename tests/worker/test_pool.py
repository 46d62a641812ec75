"""A worker answers, is ended when it must be, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh_pipelines.worker.child import is_worker, narrowed
from mesh_pipelines.worker.pool import Limits, Overdue, Pool, Worker, WorkerLost, guarded

MEGABYTE = 2**20


def environment(name: str) -> str | None:
    return os.environ.get(name)


def guarded_process() -> int:
    """The process in which guarded code runs."""
    return guarded(os.getpid, cpu=5)


def narrowed_power(exponent: int) -> int:
    with narrowed(1):
        pow(3, exponent)
    return os.getpid()


def fail(message: str) -> None:
    raise ValueError(message)


def fail_with_what_cannot_be_sent() -> None:
    class OnlyHere(Exception):
        pass

    raise OnlyHere("no more")


def count_to(number: int) -> Iterator[int]:
    yield from range(number)


def count_and_fail(number: int) -> Iterator[int]:
    yield from range(number)
    raise ValueError("at the end")


def recurse(depth: int) -> int:
    return depth if depth == 0 else recurse(depth - 1)


@pytest.fixture
def worker() -> Iterator[Worker]:
    started = Worker()
    yield started
    started.close()


def test_a_function_is_called_there_and_its_value_or_error_is_given(worker: Worker) -> None:
    assert worker.call(Limits(30), os.getpid) != os.getpid()
    assert worker.call(Limits(30), sorted, [3, 1, 2]) == [1, 2, 3]
    with pytest.raises(ValueError, match="no more"):
        worker.call(Limits(30), fail, "no more")
    with pytest.raises(RuntimeError, match="OnlyHere: no more"):
        worker.call(Limits(30), fail_with_what_cannot_be_sent)
    with pytest.raises(RecursionError):
        worker.call(Limits(30), recurse, 10**6)
    assert worker.call(Limits(30), len, "four") == 4


def test_a_generator_gives_its_values_one_by_one(worker: Worker) -> None:
    assert list(worker.stream(Limits(30), count_to, 3)) == [0, 1, 2]
    values = worker.stream(Limits(30), count_and_fail, 2)
    assert [next(values), next(values)] == [0, 1]
    with pytest.raises(ValueError, match="at the end"):
        next(values)
    assert worker.call(Limits(30), len, "four") == 4


def test_who_leaves_a_generator_loses_the_worker(worker: Worker) -> None:
    values = worker.stream(Limits(30), count_to, 10**9)
    assert next(values) == 0
    values.close()
    assert not worker.is_alive


def test_what_takes_too_long_is_killed_even_where_nothing_interrupts_it(worker: Worker) -> None:
    worker.call(Limits(30), len, "")
    started = time.monotonic()
    with pytest.raises(Overdue, match="took too long"):
        worker.call(Limits(0.5), pow, 3, 10**9)
    assert time.monotonic() - started < 5
    assert not worker.is_alive


def test_the_time_of_a_generator_is_its_own(worker: Worker) -> None:
    worker.call(Limits(30), len, "")
    for _ in worker.stream(Limits(4), count_to, 3):
        time.sleep(1.5)


def test_what_needs_too_much_memory_ends_there(worker: Worker) -> None:
    with pytest.raises(MemoryError):
        worker.call(Limits(30, memory=300 * MEGABYTE), bytearray, 2000 * MEGABYTE)
    assert worker.is_alive
    assert len(worker.call(Limits(30), bytes, 400 * MEGABYTE)) == 400 * MEGABYTE


def test_what_fills_too_much_memory_ends_there(worker: Worker) -> None:
    with pytest.raises(WorkerLost, match="needed more memory than it may have"):
        worker.call(Limits(30, memory=200 * MEGABYTE), sorted, range(20_000_000))
    assert not worker.is_alive


def test_cpu_is_limited_however_long_it_may_take(worker: Worker) -> None:
    with pytest.raises(Overdue):
        worker.call(Limits(120, cpu=1), pow, 3, 10**9)


def test_a_part_of_a_call_can_be_held_to_less_and_no_longer_than_it_takes(worker: Worker) -> None:
    assert worker.call(Limits(120, cpu=60), narrowed_power, 10) == worker.call(Limits(120, cpu=60), os.getpid)
    began = time.monotonic()
    with pytest.raises(Overdue):
        worker.call(Limits(120, cpu=60), narrowed_power, 10**9)
    assert time.monotonic() - began < 30


def test_a_crash_is_told_by_its_signal(worker: Worker) -> None:
    with pytest.raises(WorkerLost, match="SIGSEGV"):
        worker.call(Limits(30), signal.raise_signal, signal.SIGSEGV)
    assert not worker.is_alive
    with pytest.raises(WorkerLost):
        worker.call(Limits(30), len, "")


def test_a_worker_knows_that_it_is_one_and_starts_no_other(worker: Worker) -> None:
    assert not is_worker()
    assert worker.call(Limits(30), is_worker)
    first = worker.call(Limits(30), guarded_process)
    assert first == worker.call(Limits(30), os.getpid)
    assert guarded_process() != os.getpid()


def test_it_knows_no_variable_of_this_process(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_SCHEMA_REGISTRY_URL", "https://user:secret@registry")
    with_secret = Worker()
    for one in (worker, with_secret):
        assert one.call(Limits(30), environment, "MESH_SCHEMA_REGISTRY_URL") is None
    with_secret.close()


def test_it_outlives_the_thread_that_started_it_and_not_the_process(tmp_path: Path) -> None:
    started: list[Worker] = []
    thread = threading.Thread(target=lambda: started.append(Worker()))
    thread.start()
    thread.join()
    assert started[0].call(Limits(30), len, "four") == 4
    started[0].close()
    code = """
import os, time
from mesh_pipelines.worker.pool import Limits, Worker
worker = Worker()
print(worker.call(Limits(30), os.getpid), flush=True)
worker.call(Limits(600), pow, 3, 10**10)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        if not is_running(child):
            return
        time.sleep(0.1)
    pytest.fail("the worker went on")


def is_running(process: int) -> bool:
    try:
        return "Z (zombie)" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_a_pool_keeps_idle_workers_and_replaces_lost_ones() -> None:
    pool = Pool()
    with pool.worker() as one, pool.worker() as other:
        first, second = (worker.call(Limits(30), os.getpid) for worker in (one, other))
        assert first != second
    with pool.worker() as one, pool.worker() as other:
        assert {worker.call(Limits(30), os.getpid) for worker in (one, other)} == {first, second}
        for again in (one, other):
            with pytest.raises(WorkerLost, match="SIGKILL"):
                again.call(Limits(30), signal.raise_signal, signal.SIGKILL)
    with pool.worker() as fresh:
        assert fresh.call(Limits(30), os.getpid) not in (first, second)
    pool.close()
    assert not fresh.is_alive
