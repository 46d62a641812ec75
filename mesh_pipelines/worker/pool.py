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
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection
from signal import SIGXCPU, Signals
from socket import socketpair
from typing import Any

from mesh_pipelines.worker.child import RAISED, READY, RETURNED, is_worker

# What a program needs to find its libraries, its language and its time zone.
_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")


# To start takes half a second; on a busy machine it may take many times as long.
_STARTING_S = 120.0
# A reader's memory: libraries (Great Expectations is one), and a text of 100,000 characters as a tree.
_READER_BYTES = 2 * 2**30
_OVERDUE = "took too long and was stopped"


class WorkerLost(Exception):
    """A worker did not live to answer; the message is why, after "it"."""


class Overdue(WorkerLost):
    """A worker did not answer in time, and was killed."""


class Worker:
    """One process, which answers one call at a time.

    ``memory`` is the most bytes that it may hold, 0 is no limit; ``preloaded`` are modules that it loads at once.
    """

    def __init__(self, memory: int = 0, preloaded: tuple[str, ...] = ()) -> None:
        ours, theirs = socketpair()
        with ours, theirs:
            command = [sys.executable, "-P", "-m", "mesh_pipelines.worker.child"]
            command += [str(theirs.fileno()), str(os.getpid()), str(memory), *preloaded]
            self._process = _starter().submit(_start, command, theirs.fileno()).result()
            self._connection = Connection(ours.detach())
        self._seconds = 0.0
        self._is_ready = False

    @property
    def is_alive(self) -> bool:
        """Whether it can be called."""
        return not self._connection.closed and self._process.poll() is None

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float, cpu: int = 0) -> Any:
        """What a function gives there. Functions go by their names, values as pickles.

        Raises:
            Overdue: it took longer than ``seconds``, or more CPU than ``cpu`` seconds and one (0: any), which a busy
                machine does not stretch. The worker is gone.
            WorkerLost: it crashed, or needed too much memory. The worker is gone.
            Exception: what the function raises.
        """
        self._ask(function, arguments, seconds, cpu)
        kind, value = self._answer()
        assert kind == RETURNED
        return value

    def stream(self, function: Callable[..., Any], *arguments: Any, seconds: float) -> Generator[Any]:
        """What a generator function yields there; ``seconds`` is its own time, not that of who takes the values.

        Whoever does not take them to the end loses the worker.

        Raises:
            Overdue, WorkerLost, Exception: as ``call``, at any value.
        """
        self._ask(function, arguments, seconds, 0)
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
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _ask(self, function: Callable[..., Any], arguments: tuple[Any, ...], seconds: float, cpu: int) -> None:
        if not self._is_ready:
            self._seconds = _STARTING_S
            self._is_ready = self._answer()[0] == READY
        self._seconds = seconds
        try:
            self._connection.send((f"{function.__module__}:{function.__qualname__}", arguments, cpu))
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
        how = f"by {Signals(-ended).name}" if ended < 0 else f"with exit code {ended}"
        return WorkerLost(f"ended the process that it ran in, {how}")


class Pool:
    """Workers of one kind, one for each who needs one at a time; idle ones are kept for the next."""

    def __init__(self, memory: int = 0, preloaded: tuple[str, ...] = (), idle: int = 1) -> None:
        self._memory = memory
        self._preloaded = preloaded
        self._most_idle = idle
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        atexit.register(self.close)

    def warm(self) -> None:
        """Have a worker ready, which starts while this process goes on."""
        self._give(self._take())

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
        return Worker(self._memory, self._preloaded)

    def _give(self, worker: Worker) -> None:
        with self._lock:
            if worker.is_alive and len(self._idle) < self._most_idle:
                self._idle.append(worker)
                return
        worker.close()


def guarded(function: Callable[..., Any], *arguments: Any, cpu: int) -> Any:
    """What a function gives, computed in a worker: for reading what people wrote, which may have no end.

    In a worker it is computed there, within the limits of whoever called that.

    Raises:
        Overdue, WorkerLost, Exception: as ``Worker.call``.
    """
    if is_worker():
        return function(*arguments)
    with _readers().worker() as worker:
        return worker.call(function, *arguments, seconds=_STARTING_S, cpu=cpu)


@cache
def _readers() -> Pool:
    return Pool(_READER_BYTES)


@cache
def _starter() -> ThreadPoolExecutor:
    """The thread that starts workers and lives as long as this process: they end with the thread that started them."""
    return ThreadPoolExecutor(1, thread_name_prefix="worker-starter")


def _start(command: Sequence[str], descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, pass_fds=[descriptor], stdin=subprocess.DEVNULL, env=_environment())


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
