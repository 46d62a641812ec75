"""Workers, as the process that starts them has them: called with a limit of time, and killed when it is over.

A worker is a fresh interpreter and not a fork: this process has threads, connections and secrets, and a worker inherits
none of them. Of the environment it gets what a program needs to run at all.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pkgutil import resolve_name
from signal import SIGXCPU, Signals
from socket import socketpair
from typing import Any, TypeAlias

from mesh_pipelines.worker.child import OUT_OF_MEMORY, RAISED, READY, RETURNED, is_worker, narrowed

# What a program needs to find its libraries, its language and its time zone.
_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")


# To start takes half a second; on a busy machine it may take many times as long.
_STARTING_S = 120.0
# A reader's memory: libraries (Great Expectations is one), and a text of 100,000 characters as a tree.
_READER_BYTES = 2 * 2**30
# Idle workers that are kept: a page's two questions, side by side.
_MOST_IDLE = 2
_OVERDUE = "took too long and was stopped"


class WorkerLost(Exception):
    """A worker did not live to answer; the message is why, after "it"."""


class Overdue(WorkerLost):
    """A worker did not answer in time, and was killed."""


@dataclass(frozen=True)
class Limits:
    """What a call may take: seconds from question to answer, seconds of CPU and one, and bytes of memory; 0 is any.

    A busy machine stretches the first and not the second.
    """

    seconds: float
    cpu: int = 0
    memory: int = 0


# A function's name, as ``module:name``, spares its caller the import.
Function: TypeAlias = Callable[..., Any] | str


class Worker:
    """One process, which answers one call at a time, and ends with this object.

    ``environment`` has variables for it besides those that any program needs. A ``quiet`` one says nothing of its own,
    as native code does when it fails.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, quiet: bool = False) -> None:
        ours, theirs = socketpair()
        with ours, theirs:
            started = _starter().submit(_start, theirs.fileno(), {**_environment(), **(environment or {})}, quiet)
            self._process = started.result()
            self._connection = Connection(ours.detach())
        self._end = weakref.finalize(self, _end, self._process, self._connection)
        self._seconds = 0.0
        self._is_ready = False

    @property
    def is_alive(self) -> bool:
        """Whether it can be called."""
        return not self._connection.closed and self._process.poll() is None

    def call(self, limits: Limits, function: Function, *arguments: Any) -> Any:
        """What a function gives there; arguments, value and errors go as pickles.

        Raises:
            Overdue: it took more time than the limits. The worker is gone.
            WorkerLost: it crashed, or needed more memory than the limits. The worker is gone.
            Exception: what the function raises; a MemoryError for one, above the limits.
        """
        self._ask(limits, function, arguments)
        kind, value = self._answer()
        assert kind == RETURNED
        return value

    def stream(self, limits: Limits, function: Function, *arguments: Any) -> Generator[Any]:
        """What a generator function yields there; the time is its own, not that of who takes the values.

        Whoever does not take them to the end loses the worker.

        Raises:
            Overdue, WorkerLost, Exception: as ``call``, at any value.
        """
        self._ask(limits, function, arguments)
        is_over = False
        try:
            while True:
                kind, value = self._answer()
                if kind == RETURNED:
                    is_over = True
                    return
                yield value
        except Exception:
            is_over = True
            raise
        finally:
            if not is_over:
                self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._end()

    def _ask(self, limits: Limits, function: Function, arguments: tuple[Any, ...]) -> None:
        if not self._is_ready:
            self._seconds = _STARTING_S
            self._is_ready = self._answer()[0] == READY
        self._seconds = limits.seconds
        name = function if isinstance(function, str) else f"{function.__module__}:{function.__qualname__}"
        try:
            self._connection.send((name, arguments, limits.cpu, limits.memory))
        except OSError as error:
            raise self._lost() from error

    def _answer(self) -> tuple[str, Any]:
        started = time.monotonic()
        try:
            if not self._connection.poll(max(0.0, self._seconds)):
                self.close()
                raise Overdue(_OVERDUE)
            kind, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        finally:
            self._seconds -= time.monotonic() - started
        if kind == RAISED:
            raise value
        return kind, value

    def _lost(self) -> WorkerLost:
        ended = self._process.wait()
        self._connection.close()
        if -ended == SIGXCPU:
            return Overdue(_OVERDUE)
        if ended == OUT_OF_MEMORY:
            return WorkerLost("needed more memory than it may have, and was stopped")
        how = f"by {Signals(-ended).name}" if ended < 0 else f"with exit code {ended}"
        return WorkerLost(f"ended the process that it ran in, {how}")


class Pool:
    """Workers, one for each who needs one at a time; idle ones are kept for the next."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        atexit.register(self.close)

    @contextmanager
    def worker(self) -> Generator[Worker]:
        """A worker, until the block ends."""
        worker = self._take()
        try:
            yield worker
        finally:
            self._give(worker)

    def close(self) -> None:
        """End the idle workers."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()

    def _take(self) -> Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive:
                    return worker
        return Worker()

    def _give(self, worker: Worker) -> None:
        with self._lock:
            if worker.is_alive and len(self._idle) < _MOST_IDLE:
                self._idle.append(worker)
                return
        worker.close()


@cache
def workers() -> Pool:
    """The workers of this process."""
    return Pool()


def guarded(function: Function, *arguments: Any, cpu: int) -> Any:
    """What a function gives, computed in a worker: for reading what people wrote, which may have no end.

    In a worker it is computed there, within the same time and the limits of whoever called that.

    Raises:
        Overdue, WorkerLost, Exception: as ``Worker.call``.
    """
    if is_worker():
        with narrowed(cpu):
            return (resolve_name(function) if isinstance(function, str) else function)(*arguments)
    with workers().worker() as worker:
        return worker.call(Limits(_STARTING_S, cpu, _READER_BYTES), function, *arguments)


@cache
def _starter() -> ThreadPoolExecutor:
    """The thread that starts workers and lives as long as this process: they end with the thread that started them."""
    return ThreadPoolExecutor(1, thread_name_prefix="worker-starter")


def _start(descriptor: int, environment: Mapping[str, str], quiet: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "mesh_pipelines.worker.child", str(descriptor), str(os.getpid())]
    said = subprocess.DEVNULL if quiet else None
    return subprocess.Popen(
        command, pass_fds=[descriptor], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
    )


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    process.kill()
    process.wait()
    connection.close()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
