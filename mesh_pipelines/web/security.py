"""What every answer and every request of our pages has to keep to, whoever wrote the page.

Pages hold text of many authors. Escaping keeps it text; the policy in the headers is the second wall: a browser runs no
script and applies no style that is not a file of the portal's own, talks to no other host, and shows the portal inside
no other page. Requests that change something must come from the portal's own pages, and requests of any kind must name
it by a host name it has, so that no other site reaches it through a name of its own (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# A name or an IPv6 address in brackets, and a port. What is written otherwise is read in more than one way.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
# On every answer; only the portal's own files say themselves how long they may be kept.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


# On answers of pages that are not ours, beside a policy of their own.
FRAMELESS = {name: HEADERS[name] for name in HEADERS if name not in ("Cache-Control", "Content-Security-Policy")}
# A year: for a server that is reached by HTTPS, browsers ask for nothing else.
_ONLY_HTTPS = {"Strict-Transport-Security": "max-age=31536000"}
_PATH = re.compile(r"/(?![/\\])[\x21-\x7e]*")


@dataclass(frozen=True)
class Rules:
    """What a guard holds requests to: names of the host, headers of answers, and the size of a request's body.

    A request that ``trusts`` accepts comes from a program of this mesh, and needs no page to come from.
    """

    hosts: frozenset[str]
    headers: Mapping[str, str]
    most_body: int = 1_048_576
    setting: str = "MESH_PORTAL_URL"
    trusts: Callable[[Headers], bool] = lambda _: False

    def is_ours(self, host: str) -> bool:
        """Whether a Host header names this server; loopback addresses always do."""
        found = _HOST.fullmatch(host.lower())
        return bool(found) and (found[1] in self.hosts or is_loopback(found[1]))


def headers_at(address: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of answers of a server whose users see it at this address."""
    return {**headers, **_ONLY_HTTPS} if is_https(address) else headers


def is_https(address: str) -> bool:
    """Whether users reach an address by HTTPS, ours or that of a proxy before us."""
    return address.lower().startswith("https:")


def names_of(host: str, address: str) -> frozenset[str]:
    """The names of a server's host: what it listens on, and that of the address as its users see it."""
    return frozenset({host.lower(), (urlsplit(address).hostname or host).lower()})


class Guard:
    """Refuses requests of other hosts and other sites, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope) if scope["type"] in ("http", "websocket") else None
        if headers is None:
            await self._app(scope, receive, send)
            return
        is_own = is_same_origin(headers) or self._rules.trusts(headers)
        if scope["type"] == "websocket":
            if self._rules.is_ours(headers.get("host", "")) and is_own:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._rules.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        if not self._rules.is_ours(headers.get("host", "")):
            refusal = f"this address is not one of this server: see {self._rules.setting}"
            await PlainTextResponse(refusal, 400)(scope, receive, guarded)
        elif scope["method"] not in SAFE_METHODS and not is_own:
            refusal = "a request that changes something must come from a page of this server"
            await PlainTextResponse(refusal, 403)(scope, receive, guarded)
        elif (_length(headers) or 0) > self._rules.most_body:
            await PlainTextResponse(_TOO_LARGE, 413)(scope, receive, guarded)
        else:
            await self._app(scope, _bounded(receive, self._rules.most_body), guarded)


_TOO_LARGE = "the body of this request is too large"


def _length(headers: Headers) -> int | None:
    said = headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() else None


def _bounded(receive: Receive, most: int) -> Receive:
    """Receive a body of no more than so many bytes, whatever length it said it has."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return bounded


def path_of_ours(path: str) -> str:
    """A path to go back to, as it was given, or ``/``: it never leads to another host, however it is written."""
    if not _PATH.fullmatch(path):
        return "/"
    plain = path.partition("?")[0]
    # Browsers read a backslash as a slash, drop tabs and line breaks, and some servers decode twice.
    for _ in range(3):
        plain = unquote(plain)
        if not _PATH.fullmatch(plain) or "\\" in plain or "//" in plain or ".." in plain.split("/"):
            return "/"
    return path


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine and nothing else."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_same_origin(headers: Headers) -> bool:
    """Whether the page that sent it was loaded from the host it is sent to; who says nothing is not believed."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    source = headers.get("origin") or headers.get("referer") or ""
    try:
        place = urlsplit(source).netloc.lower()
    except ValueError:
        return False
    return bool(place) and place == headers.get("host", "").lower()
