"""Decoding in a process that may be lost: under a deadline and a memory limit, started when it is first needed.

What landing's own process decodes is bounded beforehand: whole values, of at most ``LARGE_BYTES``. What is larger, and
whatever a decoder failed on there, is decoded here. Nothing that is known needs it; it is for what is not known, since
the readers are native code, and a crash of landing at one event is a crash at every start from there on. Where the
process dies, hangs or gives up, its values are halved until the one that did it is alone.

A process for everything was ruled out: it would cost every landing 150 MB and most of a second's start for what one in
a million events may need.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mesh_pipelines.contract.telling import words
from mesh_pipelines.errors import EnvironmentFault
from mesh_pipelines.formats.codec import codec_of
from mesh_pipelines.formats.decoded import Decoded, Reader
from mesh_pipelines.formats.registered import FORMATS
from mesh_pipelines.formats.resolve import project
from mesh_pipelines.worker.pool import Limits, Overdue, Worker, WorkerLost

# Values above this are not decoded in the process that lands: walked singly, one is about a second's work.
LARGE_BYTES = 1 << 20
DEADLINE_S = 10.0
# A legitimate value takes a second for each mebibyte at most.
_DEADLINE_S_PER_BYTE = 2.0 / (1 << 20)
# A gibibyte for the values, and what the readers themselves take.
MEMORY_BYTES = 3 << 29
_START_S = 60.0
# One thread, and an allocator that reserves no gibibyte ahead, so that what is limited is the memory of the values.
_ENVIRONMENT = {"POLARS_MAX_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


class Guarded:
    """Decodes in a child process; each death of it costs most of a second for another one's start."""

    def __init__(self, *, deadline_s: float = DEADLINE_S, memory_bytes: int = MEMORY_BYTES) -> None:
        self._deadline_s = deadline_s
        self._memory_bytes = memory_bytes
        self._worker: Worker | None = None

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
        if self._worker:
            self._worker.close()

    def _ask(self, reader: Reader, values: pa.LargeBinaryArray) -> Decoded | str:
        """What the child makes of the values, or how it failed on them."""
        worker = self._started()
        deadline_s = self._deadline_s + values.nbytes * _DEADLINE_S_PER_BYTE
        try:
            return worker.call(Limits(deadline_s, int(2 * deadline_s), self._memory_bytes), decode, reader, values)
        except Overdue:
            return f"decoding it took more than {deadline_s:.0f} s"
        except WorkerLost as error:
            return f"decoding it {error}"

    def _started(self) -> Worker:
        if self._worker is None or not self._worker.is_alive:
            self._worker = Worker(_ENVIRONMENT, quiet=True)
            try:
                self._worker.call(Limits(_START_S), prepare)
            except WorkerLost as error:
                raise EnvironmentFault(
                    f"the process that decodes large events did not start: it {error}", next_step="mesh land PRODUCT"
                ) from error
        return self._worker


def prepare() -> None:
    """Load what the readers need, before memory is limited; in the child."""
    for each in FORMATS.values():
        codec_of(each).prepare()


def decode(reader: Reader, values: pa.LargeBinaryArray) -> Decoded | str:
    """What a reader makes of the values, or how it failed on them; in the child."""
    try:
        return reader.decode(values)
    except Exception as error:  # the readers raise a dozen kinds; each means the same of these values
        return f"cannot be decoded: {words(error, reader.fields)}"
