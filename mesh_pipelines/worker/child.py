"""What runs in a worker: it calls the functions that it is told to, one after the other, until nobody tells it to.

It says READY once. A call is a function's name, its arguments, and how many seconds of CPU and how many bytes it may
take (0: any). Its answer is (RETURNED, value), (RAISED, error), or, from a generator, (YIELDED, value) each time and
(RETURNED, None) at the end. The process dies with the one that started it.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pkgutil import resolve_name

# The exit code of a process that took more memory than it may.
OUT_OF_MEMORY = 77
READY, YIELDED, RETURNED, RAISED = "ready", "yielded", "returned", "raised"
_PR_SET_PDEATHSIG = 1
_serving = False
# How often the memory of a call is looked at, and how many times as much may be mapped as held: allocators keep some.
_LOOK_S = 0.05
_MAPPED = 4


def main() -> None:
    """Take calls from a connection; its file descriptor and who started this process are on the command line."""
    descriptor, parent = map(int, sys.argv[1:])
    _bind(parent)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(Connection(descriptor))


def is_worker() -> bool:
    """Whether this process is one."""
    return _serving


def _bind(parent: int) -> None:
    """End with the process ``parent``, and leave no core behind."""
    # The terminal's interrupt is for the parent, which ends this process when it has to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended before this process could be bound to it.
        os._exit(0)


def _serve(connection: Connection) -> None:
    global _serving
    _serving = True
    connection.send((READY, None))
    while True:
        name, arguments, cpu, memory = connection.recv()
        with _limited(cpu, memory):
            connection.send(_answer(connection, name, arguments))


@contextmanager
def narrowed(cpu: int) -> Generator[None]:
    """In a worker: end this process when what is done now takes so many seconds of CPU, if the call has as many."""
    before, _ = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time()) + 1 + cpu
    if before != resource.RLIM_INFINITY:
        soft = min(soft, before)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (before, resource.RLIM_INFINITY))


@contextmanager
def _limited(cpu: int, memory: int) -> Generator[None]:
    """End this process when it takes so many seconds of CPU from now on, or holds so many bytes."""
    soft = int(time.process_time()) + 1 + cpu if cpu else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    mapped = _MAPPED * memory or resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_DATA, (mapped, resource.RLIM_INFINITY))
    if not memory or sys.platform != "linux":
        yield
        return
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(memory, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(memory: int, done: threading.Event) -> None:
    """End this process when it holds more than these bytes, until ``done``."""
    page = resource.getpagesize()
    while not done.wait(_LOOK_S):
        with open("/proc/self/statm", encoding="ascii") as statm:
            if int(statm.read().split()[1]) * page > memory:
                os._exit(OUT_OF_MEMORY)


def _answer(connection: Connection, name: str, arguments: tuple[object, ...]) -> tuple[str, object]:
    try:
        result = resolve_name(name)(*arguments)
        if isinstance(result, Iterator):
            for value in result:
                connection.send((YIELDED, value))
            result = None
        return RETURNED, result
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        return RAISED, _portable(error)


def _portable(error: Exception) -> Exception:
    """The error, or if it cannot be sent, one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    # As a module of its own, this would know nothing of what others ask of it by name.
    from mesh_pipelines.worker import child

    child.main()
