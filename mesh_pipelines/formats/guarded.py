"""Decoding in a process that may be lost: under a deadline and a memory limit, started when it is first needed.

What landing's own process decodes is bounded beforehand: whole values, of at most ``LARGE_BYTES``. What is larger, and
whatever a decoder failed on there, is decoded here. Nothing that is known needs it; it is for what is not known, since
the readers are native code, and a crash of landing at one event is a crash at every start from there on. Where the
process dies, hangs or gives up, its values are halved until the one that did it is alone.

A process for everything was ruled out: it would cost every landing 150 MB and most of a second's start for what one in
a million events may need. multiprocessing was, because its processes import the main module of whoever calls.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import psutil
import pyarrow as pa

from mesh_pipelines.contract.telling import words
from mesh_pipelines.errors import EnvironmentFault
from mesh_pipelines.formats.codec import codec_of
from mesh_pipelines.formats.decoded import Decoded, Reader
from mesh_pipelines.formats.registered import FORMATS
from mesh_pipelines.formats.resolve import project

# Values above this are not decoded in the process that lands: walked singly, one is about a second's work.
LARGE_BYTES = 1 << 20
DEADLINE_S = 10.0
# A legitimate value takes a second for each mebibyte at most.
_DEADLINE_S_PER_BYTE = 2.0 / (1 << 20)
MEMORY_BYTES = 1 << 30
_START_S = 60.0


class Guarded:
    """Decodes in a child process; each death of it costs most of a second for another one's start."""

    def __init__(self, *, deadline_s: float = DEADLINE_S, memory_bytes: int = MEMORY_BYTES) -> None:
        self._deadline_s = deadline_s
        self._memory_bytes = memory_bytes
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._end: Callable[[], object] = lambda: None

    def decode(self, reader: Reader, values: pa.LargeBinaryArray) -> Decoded:
        """What the reader makes of the values; those that it does not survive are faults.

        Raises:
            EnvironmentFault: no process could be started.
        """
        found = self._ask(reader, values)
        if isinstance(found, Decoded):
            return found
        if len(values) == 1:
            return Decoded(1, project({}, 0, reader.fields).columns, {0: found})
        first, second = np.array_split(np.arange(len(values)), 2)
        return Decoded.join([self.decode(reader, values.take(pa.array(half))) for half in (first, second)])

    def close(self) -> None:
        """End the child process, if there is one; it also ends with this object."""
        self._end()
        self._child = None

    def _ask(self, reader: Reader, values: pa.LargeBinaryArray) -> Decoded | str:
        """What the child makes of the values, or how it failed on them."""
        process, connection = self._child = self._child or self._start()
        deadline_s = self._deadline_s + values.nbytes * _DEADLINE_S_PER_BYTE
        try:
            connection.send((reader, values, deadline_s))
            if connection.poll(deadline_s):
                return connection.recv()
        except (EOFError, OSError):
            code = process.wait()
            self.close()
            died = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return f"decoding it ended the process ({died})"
        self.close()
        return f"decoding it took more than {deadline_s:.0f} s"

    def _start(self) -> tuple[subprocess.Popen[bytes], Connection]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), str(self._memory_bytes)],
                pass_fds=[theirs.fileno()],
                # One thread, and an allocator that reserves no gibibyte of addresses ahead, so that what is limited
                # is the memory of the values.
                env={**os.environ, "POLARS_MAX_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # A native reader prints a page for each of its panics; what it says of them is in the reason.
                stderr=subprocess.DEVNULL,
            )
        connection = Connection(ours.detach())
        self._end = weakref.finalize(self, _end, process, connection)
        try:
            if connection.poll(_START_S):
                connection.recv()
                return process, connection
        except (EOFError, OSError):
            pass
        self.close()
        raise EnvironmentFault("the process that decodes large events did not start", next_step="mesh land PRODUCT")


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    connection.close()
    process.kill()
    process.wait()


def serve(connection: Connection, memory_bytes: int) -> None:
    """Decode what comes in until the other side hangs up; the child's side of ``Guarded``."""
    # What the readers need is in memory before it is limited.
    for each in FORMATS.values():
        codec_of(each).prepare()
    _limit_memory(memory_bytes)
    connection.send(None)
    while True:
        try:
            reader, values, deadline_s = connection.recv()
        except EOFError:
            return
        _limit_time(deadline_s)
        try:
            found = reader.decode(values)
        except Exception as error:  # the readers raise a dozen kinds; each means the same of these values
            found = f"cannot be decoded: {words(error, reader.fields)}"
        connection.send(found)


def _limit_memory(memory_bytes: int) -> None:
    """Allow this many bytes more than the process has mapped by now; where the system does not say, no limit."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        most = psutil.Process().memory_info().vms + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _limit_time(deadline_s: float) -> None:
    """End this process if it still computes at twice the deadline: its parent, who would, may be gone."""
    used = int(time.process_time() + 2 * deadline_s) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used, hard))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
