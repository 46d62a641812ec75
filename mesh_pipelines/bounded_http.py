"""Asking others over HTTP, with a limit on the bytes and on the whole time of every answer.

Time-outs of HTTP clients are for one look at the socket: a server that sends a byte a second is waited for without end,
and a body without end is read until memory is. So each request has a budget here, which every look at the socket is
charged to: heads, bodies, TLS and all tries of addresses. Bodies are not unpacked, since a small one may become a huge
one: none is asked for in a packed form, and none is taken. A thread that is given up on was ruled out: it reads on.

The clients of libraries are limited in place (``limit``): their proxies, certificates and retries stay as they are.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import httpcore2
import httpx2

Resolve = Callable[[str, int], Sequence[str]]

_PLAIN = ("", "identity")
_OF_FORM = (b"content-encoding", b"content-length", b"transfer-encoding")


@dataclass(frozen=True)
class Bounds:
    """What one answer may cost: seconds from the first to the last byte, and bytes of its body; of 0 it is not read."""

    seconds: float
    body_bytes: int = 16_777_216


class _Budget:
    """What is left of a request's bounds; what goes over the wire beside the body has as much again."""

    def __init__(self, bounds: Bounds) -> None:
        self._deadline = time.monotonic() + bounds.seconds
        self._bytes = 2 * bounds.body_bytes + 1_048_576

    def seconds(self) -> float:
        """The time that is left.

        Raises:
            ReadTimeout: none.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the answer took too long")
        return left

    def charge(self, count: int) -> None:
        """Take so many bytes.

        Raises:
            ReadError: they are too many.
        """
        self._bytes -= count
        if self._bytes < 0:
            raise httpcore2.ReadError("the answer is too large")


class _Spending(threading.local):
    """The budget of the request that this thread makes, if any."""

    budget: _Budget | None = None


_spending = _Spending()


@contextmanager
def _spent(bounds: Bounds) -> Generator[None]:
    before, _spending.budget = _spending.budget, _Budget(bounds)
    try:
        yield
    finally:
        _spending.budget = before


def _seconds(timeout: float | None) -> float | None:
    budget = _spending.budget
    if budget is None:
        return timeout
    return min(budget.seconds(), timeout if timeout is not None else float("inf"))


class _Stream(httpcore2.NetworkStream):
    """A connection each look at which is charged to the request of its thread."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived."""
        data = self._inner.read(max_bytes, _seconds(timeout))
        if _spending.budget:
            _spending.budget.charge(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send."""
        self._inner.write(buffer, _seconds(timeout))

    def close(self) -> None:
        """Hang up."""
        self._inner.close()

    def start_tls(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> httpcore2.NetworkStream:
        """Go on over TLS."""
        return _Stream(self._inner.start_tls(*args, timeout=_seconds(timeout), **kwargs))

    def get_extra_info(self, info: str) -> Any:
        """What is known of it."""
        return self._inner.get_extra_info(info)


class _Network(httpcore2.NetworkBackend):
    """Connections that are charged; ``resolve`` gives the addresses of a name, and may refuse it."""

    def __init__(self, inner: httpcore2.NetworkBackend, resolve: Resolve) -> None:
        self._inner = inner
        self._resolve = resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to one of a name's addresses, as they were resolved and no others."""
        failed: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in self._resolve(host, port):
            try:
                found = self._inner.connect_tcp(address, port, _seconds(timeout), local_address, socket_options)
                return _Stream(found)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed


def addresses_of(host: str, port: int) -> Sequence[str]:
    """The addresses that a name has now.

    Raises:
        ConnectError: it has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(f"{host} has no address: {error}") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class BoundedTransport(httpx2.BaseTransport):
    """Another transport, whose answers are read at once and within bounds."""

    def __init__(self, inner: httpx2.HTTPTransport, bounds: Bounds, resolve: Resolve = addresses_of) -> None:
        self._inner = inner
        self._bounds = bounds
        _charge(inner, resolve)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The whole answer.

        Raises:
            TransportError: it is too large, takes too long, or is packed.
        """
        request.headers["Accept-Encoding"] = "identity"
        with _spent(self._bounds):
            answer = self._inner.handle_request(request)
            if not self._bounds.body_bytes:
                answer.close()
                return _whole(answer, b"")
            try:
                _check_plain(answer, request)
                body = bytearray()
                for piece in cast("Iterable[bytes]", answer.stream):
                    body += piece
                    _check_size(len(body), self._bounds, request)
            finally:
                answer.close()
        return _whole(answer, bytes(body))

    def close(self) -> None:
        """Hang up."""
        self._inner.close()


class BoundedAsyncTransport(httpx2.AsyncBaseTransport):
    """The same for clients of an event loop, with the proxies of the environment; a connection for each request."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The whole answer, as ``BoundedTransport`` gives it."""
        request.headers["Accept-Encoding"] = "identity"
        try:
            async with asyncio.timeout(self._bounds.seconds):
                return await self._answer(request)
        except TimeoutError as error:
            raise httpx2.ReadTimeout("the answer took too long", request=request) from error

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        async with httpx2.AsyncHTTPTransport(proxy=_proxy_of(str(request.url))) as inner:
            answer = await inner.handle_async_request(request)
            try:
                _check_plain(answer, request)
                body = bytearray()
                async for piece in cast("AsyncIterable[bytes]", answer.stream):
                    body += piece
                    _check_size(len(body), self._bounds, request)
            finally:
                await answer.aclose()
        return _whole(answer, bytes(body))


def limit(client: httpx2.Client, bounds: Bounds) -> None:
    """Hold a library's client to bounds; its proxies and certificates stay as they are."""
    wrap(client, lambda inner: BoundedTransport(cast("httpx2.HTTPTransport", inner), bounds))


def wrap(client: httpx2.Client, around: Callable[[httpx2.BaseTransport], httpx2.BaseTransport]) -> None:
    """Put something around each of the ways on which a library's client makes its requests."""
    inner: Any = client
    inner._transport = around(inner._transport)
    inner._mounts = {pattern: around(transport) if transport else None for pattern, transport in inner._mounts.items()}


def client_of(bounds: Bounds, resolve: Resolve = addresses_of) -> httpx2.Client:
    """A client that follows no redirect, and takes no proxy, password or certificate from the environment."""
    transport = BoundedTransport(httpx2.HTTPTransport(trust_env=False), bounds, resolve)
    return httpx2.Client(transport=transport, timeout=bounds.seconds, trust_env=False, follow_redirects=False)


def download(url: str, to: BinaryIO, bounds: Bounds, *, certificates: ssl.SSLContext, proxy: str | None) -> None:
    """Write what is at an address to a file as it comes; redirects are part of the same answer.

    Raises:
        TransportError: it is too large, takes too long, or is packed.
        HTTPStatusError: it is refused.
    """
    with httpx2.HTTPTransport(verify=certificates, proxy=proxy, trust_env=False) as transport:
        _charge(transport, addresses_of)
        client = httpx2.Client(transport=transport, timeout=bounds.seconds, trust_env=False, follow_redirects=True)
        with _spent(bounds), client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer:
            _check_plain(answer, answer.request)
            answer.raise_for_status()
            size = 0
            for piece in answer.iter_raw():
                size += len(piece)
                _check_size(size, bounds, answer.request)
                to.write(piece)


def certificates(verify: bool | str, cert: Any = None) -> ssl.SSLContext:
    """What ``verify`` and ``cert`` of the library requests mean: whom to trust, and who we are."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    place = str(DEFAULT_CA_BUNDLE_PATH if verify is True else verify)
    if verify is False:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif Path(place).is_dir():
        context = ssl.create_default_context(capath=place)
    else:
        context = ssl.create_default_context(cafile=place)
    if cert:
        context.load_cert_chain(*([cert] if isinstance(cert, str) else cert))
    return context


def _charge(transport: httpx2.HTTPTransport, resolve: Resolve) -> None:
    # The pool takes a network when it is made, and the transport hands none on.
    pool: Any = transport._pool  # pyright: ignore[reportPrivateUsage]
    pool._network_backend = _Network(pool._network_backend, resolve)


def _check_plain(answer: httpx2.Response, request: httpx2.Request) -> None:
    packed = answer.headers.get("content-encoding", "").strip().lower()
    if packed not in _PLAIN:
        raise httpx2.ReadError(f"the answer is packed ({packed[:40]}), which was not asked for", request=request)


def _check_size(size: int, bounds: Bounds, request: httpx2.Request) -> None:
    if size > bounds.body_bytes:
        raise httpx2.ReadError(f"the answer has more than {bounds.body_bytes:,} bytes", request=request)


def _whole(answer: httpx2.Response, body: bytes) -> httpx2.Response:
    # What the headers say of its form is true no more.
    headers = [one for one in answer.headers.raw if one[0].lower() not in _OF_FORM]
    return httpx2.Response(answer.status_code, headers=headers, content=body, extensions=answer.extensions)


def _proxy_of(url: str) -> str | None:
    place = urlsplit(url)
    if urllib.request.proxy_bypass(place.hostname or ""):
        return None
    return urllib.request.getproxies().get(place.scheme)
