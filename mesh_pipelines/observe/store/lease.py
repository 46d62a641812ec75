"""The right to observe, which one process has at a time."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.writer import Writer

_NAME = "observe"
LEASE_S = 30.0


class LeaseLost(Exception):
    """Another process observes by now; nothing of the transaction that noticed it was kept."""


class Lease:
    """Taken at the start of a round and kept by every write: a process that slept for longer than it lasts notices
    before it writes, and one that died is followed by another when its time is up.
    """

    def __init__(self, history: History, seconds: float = LEASE_S) -> None:
        self._history = history
        self._holder = uuid.uuid4().hex
        self._seconds = seconds
        self._kept_at = 0.0

    def take(self) -> bool:
        """Whether this process observes now."""
        with self._history.writing() as writer:
            return self._hold(writer)

    def keep(self, writer: Writer | None = None) -> None:
        """Go on holding it: within a transaction or, where that is due, in one of its own.

        Raises:
            LeaseLost: another process has it.
        """
        if writer is None and time.monotonic() - self._kept_at < self._seconds / 3:
            return
        if not (self._hold(writer) if writer else self.take()):
            raise LeaseLost

    def release(self) -> None:
        """Let another process observe at once."""
        with self._history.writing() as writer:
            writer.release(_NAME, self._holder)

    def _hold(self, writer: Writer) -> bool:
        self._kept_at = time.monotonic()
        return writer.lease(_NAME, self._holder, datetime.now(UTC), self._seconds)
