"""What the answers under a registry's address mean: those of a registry, and those of what stands in front of it.

Registries stand behind gateways, sign-in pages and rate limits, whose answers a client of a registry takes for the
registry's own. Each is looked at here before the client does: a page that redirects, asks for a password or is no JSON
does not become right by waiting, so only silence, a server's own failure and a rate limit are transient.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from mesh_pipelines.errors import EnvironmentFault, NotAuthorized, RegistryUnreachable
from mesh_pipelines.settings import Settings

# The longest that a request waits because it was told to; what asks for more is left for another run.
LONGEST_WAIT_S = 10.0
_SHOWN = 120
_LATER = (429, 503)
_URL = "MESH_SCHEMA_REGISTRY_URL"
_CONFIG = "MESH_SCHEMA_REGISTRY_CONFIG"
# A server's own failure and a client that was too slow or asked too often.
_PASSING = (408, 429)
_READ_ONLY = 42205


class Answers(httpx2.BaseTransport):
    """Another transport, whose answers are a registry's, or an error that says what they are."""

    def __init__(self, inner: httpx2.BaseTransport, settings: Settings) -> None:
        self._inner = inner
        self._settings = settings

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer; one that asks to wait a moment is asked for once more after it.

        Raises:
            RegistryUnreachable: it cannot answer now; transient.
            NotAuthorized: it does not let this client ask.
            EnvironmentFault: what answers there is not a registry, or TLS does not work.
        """
        try:
            answer = self._inner.handle_request(request)
            if _wait(answer, request):
                answer = self._inner.handle_request(request)
        except httpx2.TransportError as error:
            if fault := _tls_fault(error):
                raise EnvironmentFault(f"{_asked(request)}: TLS fails: {fault}", next_step=_tls_step(fault)) from error
            raise
        answer.read()
        self._check(answer, request)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._inner.close()

    def _check(self, answer: httpx2.Response, request: httpx2.Request) -> None:
        status, asked = answer.status_code, _asked(request)
        if 300 <= status < 400:
            raise self._redirected(answer, request)
        if status == 401:
            step = f"set basic.auth.user.info, or bearer.auth.* for a token, in {_CONFIG}"
            raise NotAuthorized(
                f"{asked}: the schema registry does not accept the credentials (HTTP 401)", next_step=step
            )
        if status == 403:
            step = f"ask for the right to do that for the user in {_CONFIG}, see docs/services.md"
            raise NotAuthorized(
                f"{asked}: the schema registry does not let this user do that (HTTP 403)", next_step=step
            )
        if status >= 500 or status in _PASSING or not answer.content or _is_json(answer):
            return
        what = f"{answer.headers.get('content-type', 'no type')[:40]}, {_printable(answer.text.strip()[:_SHOWN])!r}"
        raise EnvironmentFault(
            f"{asked}: the answer is none of a schema registry (HTTP {status}, {what})",
            next_step=f"set {_URL} to the registry itself: a sign-in page or a proxy answers there",
        )

    def _redirected(self, answer: httpx2.Response, request: httpx2.Request) -> EnvironmentFault:
        target = request.url.join(answer.headers.get("location", ""))
        to = _plain(target)
        rest = self._rest(request)
        base = to.removesuffix(rest).rstrip("/") if rest and to.endswith(rest) else to
        return EnvironmentFault(
            f"{_asked(request)}: it redirects to {_printable(to)} (HTTP {answer.status_code}), and redirects are not "
            "followed with credentials",
            next_step=f"set {_URL}={_printable(base)}",
        )

    def _rest(self, request: httpx2.Request) -> str:
        """What of a request's path comes after the registry's own address."""
        path = request.url.path
        for base in self._settings.registry_url.reveal().split(","):
            own = httpx2.URL(base.strip()).path.rstrip("/")
            if path.startswith(f"{own}/"):
                return path.removeprefix(own)
        return ""


def fault_of(status: int, code: int | None, message: str, settings: Settings) -> EnvironmentFault:
    """The error for what a registry answers that is neither what was asked for nor "not found"."""
    at = f"the schema registry at {settings.registry_url}"
    said = _printable(str(message)[:300])
    if status in _PASSING:
        return RegistryUnreachable(f"{at} is asked too often, or too slowly (HTTP {status})", next_step=_step(settings))
    if status >= 500 or status < 0:
        return RegistryUnreachable(f"{at} fails (HTTP {status}): {said}", next_step=_step(settings))
    if status == 404:
        step = f"check the path in {_URL}: Apicurio's is /apis/ccompat/v7, Confluent's is empty"
        return EnvironmentFault(f"{at} has no registry's API at this path (HTTP 404)", next_step=step)
    if code == _READ_ONLY:
        step = "apply against the registry that takes writes, or end its mode READONLY"
        return EnvironmentFault(f"{at} takes no changes (mode READONLY or IMPORT): {said}", next_step=step)
    refused = f"{at} refused: {said} (HTTP {status}, code {code})"
    return EnvironmentFault(refused, next_step=f"check {_CONFIG}")


def silent(reason: str, settings: Settings) -> RegistryUnreachable:
    """The error for a registry that does not answer at all."""
    return RegistryUnreachable(
        f"the schema registry at {settings.registry_url} does not answer: {reason}", next_step=_step(settings)
    )


def alien(reason: str, settings: Settings) -> EnvironmentFault:
    """The error for JSON that is no answer to what was asked."""
    return EnvironmentFault(
        f"the schema registry at {settings.registry_url} gives an answer that is none of a registry: {reason}",
        next_step=f"set {_URL} to a registry with Confluent's API",
    )


def _step(settings: Settings) -> str:
    return "mesh up --services" if settings.uses_local_registry else f"check {_URL}"


def _wait(answer: httpx2.Response, request: httpx2.Request) -> bool:
    """Whether the answer asked to wait, and it was waited.

    Raises:
        RegistryUnreachable: it asks for more than is waited.
    """
    asked = answer.headers.get("retry-after") if answer.status_code in _LATER else None
    seconds = _seconds(asked) if asked else None
    if seconds is None:
        return False
    if seconds > LONGEST_WAIT_S:
        raise RegistryUnreachable(
            f"{_asked(request)}: the schema registry asks to come back in {seconds:.0f} s (HTTP {answer.status_code})",
            next_step=f"run it again after that, or ask for a higher rate limit for the user in {_CONFIG}",
        )
    answer.close()
    time.sleep(seconds)
    return True


def _seconds(retry_after: str) -> float | None:
    """The seconds of a Retry-After header, which gives them or a date (RFC 9110, section 10.2.3)."""
    if retry_after.isdecimal():
        return float(retry_after[:9])
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    return None


def _is_json(answer: httpx2.Response) -> bool:
    try:
        json.loads(answer.content)
    except (ValueError, RecursionError):
        return False
    return True


def _tls_fault(error: Exception) -> str:
    """What is wrong with TLS, if an error comes from that and does not pass by waiting."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return (cause.reason or str(cause)).lower().replace("_", " ")
    return ""


def _tls_step(fault: str) -> str:
    if "certificate" in fault:
        return (
            f"set ssl.ca.location in {_CONFIG} to the file of the CA (and ssl.certificate.location to your own, if any)"
        )
    return f"write http:// in {_URL} if it has no TLS"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _asked(request: httpx2.Request) -> str:
    return f"{request.method} {_printable(_plain(request.url))}"


def _plain(url: httpx2.URL) -> str:
    """An address without user, password and query."""
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:300]
