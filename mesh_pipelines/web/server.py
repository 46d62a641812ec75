"""The web server of the portal and of Dagster's pages: uvicorn, with limits on what a client may hold and send.

uvicorn bounds neither the bytes of a request's head, nor the time it takes to arrive, nor how many connections there
are. So its protocol is extended here: a head that is too large or too slow is refused, a client that does not read its
answer is cut off, and if there are too many connections the one that has waited longest for its client gives way. A
newcomer is refused only where every other connection is being answered. A proxy in front was ruled out: a local
portal has to hold without one.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_SLICE = 16_384
# Half of the files a process may open are for clients, and no more than so many.
_MOST_CONNECTIONS = 512


@dataclass(frozen=True)
class Limits:
    """What one client, and all of them, may hold: bytes, headers, seconds and connections."""

    head_bytes: int = 32_768
    headers: int = 100
    head_s: float = 10.0
    body_s: float = 30.0
    write_s: float = 30.0
    idle_s: int = 5
    message_bytes: int = 1_048_576
    connections: int = field(
        default_factory=lambda: max(8, min(_MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
    )

    @property
    def of_one_client(self) -> int:
        """Connections of one address; behind a proxy all clients have one."""
        return max(4, self.connections // 2)


def log_who_asks() -> None:
    """Have who signs in and out, and what they are refused, written to standard error, with the time.

    What nobody signed in for is left out: whoever reaches the port could fill the disk.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger(__package__)
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def server_of(app: ASGIApp, host: str, port: int, limits: Limits | None = None) -> uvicorn.Server:
    """A server of an application, not started yet."""
    limits = limits or Limits()
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=_protocol(limits),
            ws="websockets-sansio",
            ws_max_size=limits.message_bytes,
            ws_per_message_deflate=False,
            # What clients send wrongly is no news: a line for each would fill the disk.
            log_level="error",
            access_log=False,
            server_header=False,
            # Only a configured proxy can say who asked and by which scheme.
            proxy_headers=False,
            timeout_keep_alive=limits.idle_s,
            timeout_graceful_shutdown=3,
        )
    )


class _Connections:
    """The connections of one server; those that wait for their client give way to new ones."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[asyncio.Transport, _Connection] = {}

    def admit(self, new: _Connection) -> bool:
        """Take a connection in; False where it has to be refused."""
        self._open = {transport: one for transport, one in self._open.items() if not transport.is_closing()}
        of_client = Counter(one.address for one in self._open.values())
        if of_client[new.address] >= self._limits.of_one_client:
            return self._make_way(new, new.address)
        if len(self._open) >= self._limits.connections:
            return self._make_way(new, of_client.most_common(1)[0][0])
        self._open[new.transport] = new
        return True

    def _make_way(self, new: _Connection, address: str) -> bool:
        """Drop the connection of an address that has waited longest for its client, websockets last."""
        waiting = [one for one in self._of(address) if one.waiting_since is not None]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda one: (one.is_websocket, one.waiting_since))
        self._open.pop(oldest.transport, None)
        oldest.transport.abort()
        self._open[new.transport] = new
        return True

    def _of(self, address: str) -> Iterator[_Connection]:
        return (one for one in self._open.values() if one.address == address)


class _Connection(HttpToolsProtocol):
    """One connection of uvicorn's, held to limits."""

    limits: Limits
    connections_of_all: _Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = ""
        # When it began to wait for its client; None while a request is being answered.
        self.waiting_since: float | None = None
        self.is_websocket = False
        self._in_head = True
        # What has arrived of a head, by the slice, and what its headers say, to the byte.
        self._head_bytes = 0
        self._in_headers = 0
        self._too_large = False
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take the connection in, or refuse it at once."""
        super().connection_made(transport)
        self.address = str(self.client[0]) if self.client else ""
        self._wait_for(self.limits.head_s)
        if not self.connections_of_all.admit(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers."""
        self._stop_waiting()
        self._unset_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser in slices: what is behind a head that is too large is not looked at."""
        for begin in range(0, len(data), _SLICE):
            if self.transport.is_closing() or self.is_websocket:
                return
            if self._timer is None and self._in_head:
                self._wait_for(self.limits.head_s)
            piece = data[begin : begin + _SLICE]
            self._head_bytes += len(piece) if self._in_head else 0
            super().data_received(piece)
            if self._in_head and self._head_bytes > self.limits.head_bytes:
                self._refuse(431, "The head of this request is too large.")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._in_headers = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, if there are not too many of them, and not too much in them."""
        self._in_headers += len(name) + len(value)
        if len(self.headers) >= self.limits.headers or self._in_headers > self.limits.head_bytes:
            self._too_large = True
            raise ValueError("too much in the head")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: its body has a time of its own."""
        self._in_head = False
        self._wait_for(self.limits.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is there as a whole."""
        self._stop_waiting()
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered: the next request may come."""
        super().on_response_complete()
        if not self.pipeline:
            self.waiting_since = self.loop.time()

    def handle_websocket_upgrade(self) -> None:
        """From here on another protocol has the connection, which asks the client for a sign of life by itself."""
        self._stop_waiting()
        self.is_websocket = True
        self.waiting_since = self.loop.time()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """The client does not read: for so long, and no longer."""
        super().pause_writing()
        self.waiting_since = self.loop.time()
        self._write_timer = self.loop.call_later(self.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self.waiting_since = None if self.cycle and not self.cycle.response_complete else self.loop.time()
        self._unset_write_timer()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or too much of it."""
        if self._too_large:
            self._refuse(431, "The head of this request is too large.")
        else:
            super().send_400_response(msg)

    def _wait_for(self, seconds: float) -> None:
        self._stop_waiting()
        self.waiting_since = self.loop.time()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        self.waiting_since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _unset_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _too_slow(self) -> None:
        if self.cycle and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
        else:
            self._refuse(408, "This request took too long to arrive.")

    def _refuse(self, status: int, why: str) -> None:
        reason = {408: "Request Timeout", 431: "Request Header Fields Too Large"}[status]
        head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain\r\ncontent-length: {len(why)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n{why}".encode())
        self.transport.close()


def _protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol of one server: uvicorn makes an instance of it for every connection."""
    members = {"limits": limits, "connections_of_all": _Connections(limits)}
    return type("_LimitedConnection", (_Connection,), members)
