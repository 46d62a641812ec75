"""Events to a file and to a backend, without ever holding up or failing the run that they tell of.

Each way out has a thread of its own and a short queue. A step waits for its last event, and no longer than a moment;
a way out that fails or takes longer is left alone for a minute, with one warning, and what would have gone out
meanwhile is lost: a run's tables are the truth, lineage is its echo. The library's own client was ruled out: it reads
the environment, files and git for what to send where, and waits for a slow backend again with every event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread

import httpx2

from mesh_pipelines.bounded_http import Bounds, limit
from mesh_pipelines.settings import Settings

Send = Callable[[bytes], None]

_ENDPOINT = "/api/v1/lineage"
# What a step waits, at most, for its events to be taken.
_PATIENCE_S = 3.0
_LEFT_ALONE_S = 60.0
_QUEUED = 100
# Nothing in an answer matters.
_ANSWER_BYTES = 65_536
_log = logging.getLogger(__name__)


class Delivery:
    """One way out: ``send`` is called in a thread of its own, one event after the other."""

    def __init__(self, name: str, send: Send, *, patience_s: float = _PATIENCE_S) -> None:
        self._name = name
        self._send = send
        self._patience_s = patience_s
        self._queue: Queue[bytes | Event] = Queue(_QUEUED)
        self._closed_until = 0.0
        self._warned = False
        Thread(target=self._work, name=f"lineage to {name}", daemon=True).start()

    def put(self, event: bytes) -> None:
        """Take an event on its way, or lose it where this way is closed."""
        if time.monotonic() >= self._closed_until:
            self._enqueue(event)

    def wait(self) -> None:
        """Wait until what was put has gone out, for no longer than a moment."""
        if time.monotonic() < self._closed_until:
            return
        done = Event()
        if self._enqueue(done) and not done.wait(self._patience_s):
            self._close(f"no answer within {self._patience_s:g} s")

    def _enqueue(self, item: bytes | Event) -> bool:
        try:
            self._queue.put_nowait(item)
        except Full:
            self._close(f"{_QUEUED} events are waiting already")
            return False
        return True

    def _work(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, Event):
                item.set()
            elif time.monotonic() >= self._closed_until:
                try:
                    self._send(item)
                except Exception as error:  # whatever it is, no run may feel it
                    self._close(f"{type(error).__name__}: {error}")

    def _close(self, reason: str) -> None:
        self._closed_until = time.monotonic() + _LEFT_ALONE_S
        if not self._warned:
            self._warned = True
            _log.warning("lineage is no longer sent to %s: %s; runs go on without it", self._name, reason)


def deliveries(settings: Settings) -> Sequence[Delivery]:
    """The ways out that the settings name."""
    found: list[Delivery] = []
    if settings.openlineage_file:
        found.append(Delivery(str(settings.openlineage_file), append_to(settings.openlineage_file)))
    if settings.openlineage_url:
        key = settings.openlineage_api_key
        send = post_to(settings.openlineage_url.reveal(), key.get_secret_value() if key else None)
        found.append(Delivery(str(settings.openlineage_url), send))
    return found


def append_to(file: Path) -> Send:
    """Appends an event as a line, in one write: lines of several processes stay whole."""

    def send(event: bytes) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab", buffering=0) as opened:
            opened.write(event + b"\n")

    return send


def post_to(url: str, key: str | None) -> Send:
    """Posts an event; follows no redirect, since that could carry it and the key elsewhere."""
    client = httpx2.Client(auth=_bearer(key), timeout=_PATIENCE_S, follow_redirects=False)
    limit(client, Bounds(_PATIENCE_S, _ANSWER_BYTES))
    plain = url.rstrip("/")
    address = plain if "/" in plain.split("://", 1)[1] else plain + _ENDPOINT

    def send(event: bytes) -> None:
        answer = client.post(address, content=event, headers={"Content-Type": "application/json"})
        if not answer.is_success:
            raise OSError(f"it answered {answer.status_code}")

    return send


def _bearer(key: str | None) -> Callable[[httpx2.Request], httpx2.Request]:
    """The key, and nothing else."""

    def signed(request: httpx2.Request) -> httpx2.Request:
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    return signed
