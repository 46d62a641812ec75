"""What every answer and every request of the portal has to keep to, whoever wrote the page.

Pages hold text of many authors. Escaping keeps it text; the policy in the headers is the second wall: a browser runs no
script and applies no style that is not a file of the portal's own, talks to no other host, and shows the portal inside
no other page. Requests that change something must come from the portal's own pages, and requests of any kind must name
it by a host name it has, so that no other site reaches it through a name of its own (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# A name or an IPv6 address in brackets, and a port. What is written otherwise is read in more than one way.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
# On every answer.
HEADERS = {
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


class Guard:
    """Refuses requests of other hosts and other sites, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """``hosts`` are the names it answers to, without ports; loopback addresses are always among them."""
        self._app = app
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        if not self._is_ours(headers.get("host", "")):
            refusal = "this address is not the portal's: see MESH_PORTAL_URL"
            await PlainTextResponse(refusal, 400)(scope, receive, guarded)
        elif scope["method"] not in _SAFE_METHODS and not _is_same_origin(headers):
            refusal = "a request that changes something must come from a page of the portal"
            await PlainTextResponse(refusal, 403)(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host.lower())
        return bool(found) and (found[1] in self._hosts or is_loopback(found[1]))


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine and nothing else."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_same_origin(headers: Headers) -> bool:
    """Whether the page that sent it was loaded from the host it is sent to; who says nothing is not believed."""
    source = headers.get("origin") or headers.get("referer") or ""
    try:
        place = urlsplit(source).netloc.lower()
    except ValueError:
        return False
    return bool(place) and place == headers.get("host", "").lower()
