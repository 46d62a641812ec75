"""Telling owners: what is wrong with a product, and that it is over, to the channels its contract names.

Messages follow from incidents and from what was said of them before, both of which are in the history: so nothing is
said twice after a restart, and what did not arrive is tried again. It happens apart from observing, with a limit on the
time of each message; a channel that does not answer delays nothing but itself. No address comes from anywhere but a
contract, and the operator says which are asked (``targets.py``); no redirect is followed, and no proxy or password is
taken from this process's environment.
"""

from __future__ import annotations

import logging
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_address
from typing import IO, Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from mesh_pipelines.bounded_http import Bounds, client_of
from mesh_pipelines.contract.model import SupportChannel
from mesh_pipelines.errors import MeshError
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.records import Delivery, Incident
from mesh_pipelines.observe.targets import NotAllowed, Targets, recipients_of
from mesh_pipelines.settings import Settings

SCOPE = "notifications"
_TIMEOUT_S = 10.0
# A post, from resolving the name to the head of the answer.
_POST_S = 20.0
# However slowly a server drips its answer.
_DEADLINE_S = 30.0
# Bytes of all replies of a mail server to one mail.
_MOST_REPLIES = 262_144
_SIDE_BY_SIDE = 8
_REMIND = timedelta(days=1)
# Of an incident that was over and came back, no more often.
_AGAIN = timedelta(hours=1)
_BACK_OFF = timedelta(seconds=30)
_LONGEST_BACK_OFF = timedelta(hours=6)
# What is over for longer is not told of any more.
_STALE = timedelta(days=7)
_log = logging.getLogger(__name__)

Said = Literal["opened", "closed"]


@dataclass(frozen=True)
class Message:
    """What one channel is told of one product at once: incidents that go on, and those that are over."""

    product: str
    channel: str
    opened: tuple[Incident, ...]
    closed: tuple[Incident, ...]
    portal: str

    @property
    def link(self) -> str:
        """The portal's page of the one incident, or else of the product."""
        if len(self.opened) + len(self.closed) == 1:
            return f"{self.portal}/incidents/{(*self.opened, *self.closed)[0].id}"
        return f"{self.portal}/products/{self.product.replace('.', '/')}"

    @property
    def subject(self) -> str:
        """The message in one line."""
        first = (*self.opened, *self.closed)[0]
        more = len(self.opened) + len(self.closed) - 1
        over = "" if self.opened else "over: "
        return f"{self.product}: {over}{first.title}" + (f" (and {more} more)" if more else "")

    @property
    def text(self) -> str:
        """The message in full."""
        lines = [self.product, ""]
        for incident in self.opened:
            began = f"since {incident.began_at:%Y-%m-%d %H:%M} UTC"
            lines += [f"- {incident.title} ({began})", *(f"  {line}" for line in incident.detail.splitlines())]
        lines += [f"- over: {incident.title}" for incident in self.closed]
        return "\n".join([*lines, "", self.link, ""])

    @property
    def body(self) -> dict[str, Any]:
        """The message for programs; ``text`` is what chat services show."""
        return {
            "product": self.product,
            "text": self.text,
            "link": self.link,
            "incidents": [
                {"state": state, **msgspec.to_builtins(incident)}
                for state, incidents in (("open", self.opened), ("closed", self.closed))
                for incident in incidents
            ],
        }


def notify(history: History, settings: Settings, now: datetime | None = None) -> list[Delivery]:
    """Send what is due and note how it went; gives the deliveries that were tried.

    Raises:
        StorageUnavailable: the history cannot be used.
    """
    now = now or datetime.now(UTC)
    known = {(one.incident, one.channel): one for one in history.deliveries()}
    channels = {name: addresses(body, settings) for name, body in history.memories().items()}
    incidents = [one for one in history.incidents_since(now - _STALE) if one.severity == "bad"]
    messages = list(due(incidents, channels, known, settings.portal_address, now))
    problems = _at_once([lambda message=message: send(message, settings) for message in messages])
    tried: list[Delivery] = []
    for message, problem in zip(messages, problems, strict=True):
        with history.writing() as writer:
            for incident in (*message.opened, *message.closed):
                before = known.get((incident.id, message.channel))
                delivery = _outcome(before, incident, message.channel, problem, now)
                writer.delivery(delivery)
                if problem is None:
                    writer.told(incident.id, now)
                tried.append(delivery)
    return tried


def addresses(memory: str, settings: Settings) -> tuple[str, ...]:
    """The addresses that a product's contract names for notifications, of those that can be written to."""
    channels = msgspec.json.decode(memory, type=_Channels).channels
    return tuple(
        channel.url for channel in channels if channel.scope.lower() == SCOPE and _scheme(channel, settings) is not None
    )


def due(
    incidents: Sequence[Incident],
    channels: Mapping[str, Sequence[str]],
    known: Mapping[tuple[int, str], Delivery],
    portal: str,
    now: datetime,
) -> Iterator[Message]:
    """The messages to send now: one for each product and channel that there is something to say of."""
    by_product: dict[str, list[Incident]] = {}
    for incident in sorted(incidents, key=lambda one: one.id):
        by_product.setdefault(incident.product, []).append(incident)
    for product, its in by_product.items():
        for channel in channels.get(product, ()):
            said = [(incident, known.get((incident.id, channel))) for incident in its]
            wanted = [incident for incident, before in said if _is_due(incident, before, now)]
            if wanted:
                opened = tuple(one for one in wanted if one.closed_at is None)
                closed = tuple(one for one in wanted if one.closed_at is not None)
                yield Message(product, channel, opened, closed, portal)


def send(message: Message, settings: Settings) -> str | None:
    """Send one message; gives why it did not arrive, or None. Never raises."""
    try:
        if message.channel.lower().startswith("mailto:"):
            _mail(message, settings)
        else:
            _post(message, settings)
    except (_NotSent, NotAllowed) as error:
        return str(error)
    except Exception as error:
        # Only its kind: the text of many holds the address, and that of a webhook is a secret.
        return type(error).__name__
    return None


class Courier:
    """Sends what is due in a thread of its own, one round at a time."""

    def __init__(self, history: History, settings: Settings) -> None:
        self._history, self._settings = history, settings
        self._thread: threading.Thread | None = None

    def send(self) -> None:
        """Begin to send what is due, unless that is going on; comes back at once."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for what is going on, for a little."""
        if self._thread:
            self._thread.join(_TIMEOUT_S)

    def _run(self) -> None:
        try:
            for delivery in notify(self._history, self._settings):
                if delivery.problem:
                    _log.warning(
                        "a message about incident %s was not delivered: %s", delivery.incident, delivery.problem
                    )
        except MeshError as error:
            _log.warning("no message was sent: %s %s", error.code, error.message)


class _NotSent(Exception):
    """Why a message did not arrive, in words that name no address."""


class _Channels(msgspec.Struct):
    """What is read of an observer's memory."""

    channels: tuple[SupportChannel, ...] = ()


def _scheme(channel: SupportChannel, settings: Settings) -> str | None:
    """How a channel is written to; None where it cannot be."""
    try:
        scheme = urlsplit(channel.url).scheme.lower()
    except ValueError:
        return None
    if scheme == "mailto":
        return scheme if settings.smtp_url else None
    return scheme if scheme in ("http", "https") and channel.tool.lower() != "email" else None


def _is_due(incident: Incident, before: Delivery | None, now: datetime) -> bool:
    said, said_at = (before.said, before.said_at) if before else (None, None)
    if before and before.next_try and before.next_try > now:
        return False
    if incident.closed_at is not None:
        return said == "opened"
    if said is None or said_at is None:
        return True
    if said == "closed":
        return now - said_at >= _AGAIN
    return now - said_at >= _REMIND and incident.acknowledged_at is None


def _outcome(before: Delivery | None, incident: Incident, channel: str, problem: str | None, now: datetime) -> Delivery:
    before = before or Delivery(incident.id, channel, None, None, 0, None, None)
    if problem is None:
        said: Said = "opened" if incident.closed_at is None else "closed"
        return Delivery(incident.id, channel, said, now, 0, None, None)
    wait = min(_BACK_OFF * 2**before.tries, _LONGEST_BACK_OFF)
    return replace(before, tries=min(before.tries + 1, 20), next_try=now + wait, problem=problem)


def _post(message: Message, settings: Settings) -> None:
    targets = Targets(settings.notify_allow)
    checked = targets.check(message.channel)

    def resolve(host: str, port: int) -> Sequence[str]:
        if (host.strip("[]").lower(), port) != checked:
            raise NotAllowed("its address is written in an unusual form")
        return targets.resolve(host, port)

    # The answer's body is not read: nothing in it matters.
    with client_of(Bounds(_POST_S, 0), resolve) as client:
        answer = client.post(message.channel, json=message.body)
        if not answer.is_success:
            raise _NotSent(f"answered {answer.status_code}")


def _mail(message: Message, settings: Settings) -> None:
    mail = EmailMessage()
    mail["Subject"] = message.subject
    mail["From"] = settings.mail_from
    recipients = recipients_of(message.channel)
    Targets(settings.notify_allow).check_mail(recipients)
    mail["To"] = recipients
    mail.set_content(message.text)
    server = urlsplit(settings.smtp_url.reveal() if settings.smtp_url else "")
    secure = server.scheme == "smtps"
    client = _BoundedSecure if secure else _BoundedPlain
    with client(server.hostname or "", server.port or 0, timeout=_TIMEOUT_S) as connection:
        if not secure and connection.ehlo()[0] == 250 and connection.has_extn("starttls"):
            connection.starttls(context=ssl.create_default_context())
            secure = True
        if server.username:
            if not secure and not _is_loopback(server.hostname):
                raise _NotSent("the mail server offers no TLS, and the password is not sent without it")
            connection.login(unquote(server.username), unquote(server.password or ""))
        connection.send_message(mail)


class _Replies:
    """The replies of a mail server: so many bytes, and until a time, however slowly they come."""

    def __init__(self, inner: IO[bytes], connection: socket.socket) -> None:
        self._inner = inner
        self._left = _MOST_REPLIES
        # Looks at the socket have a time-out each; a byte for each of them would go on for ever.
        self._timer = threading.Timer(_DEADLINE_S, _hang_up, (connection,))
        self._timer.daemon = True
        self._timer.start()

    def readline(self, size: int) -> bytes:
        """The next line."""
        line = self._inner.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise _NotSent("the mail server's replies are too long")
        return line

    def close(self) -> None:
        """Hang up."""
        self._timer.cancel()
        self._inner.close()


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Bounded:
    """A client of a mail server whose replies are bounded: it reads them from what it keeps as its ``file``."""

    _replies: _Replies | None = None

    @property
    def file(self) -> _Replies | None:
        """What replies are read from."""
        return self._replies

    @file.setter
    def file(self, opened: IO[bytes] | None) -> None:
        if self._replies:
            self._replies.close()
        self._replies = _Replies(opened, self.sock) if opened else None  # pyright: ignore[reportAttributeAccessIssue]


class _BoundedPlain(_Bounded, smtplib.SMTP):
    """Without TLS from the start."""


class _BoundedSecure(_Bounded, smtplib.SMTP_SSL):
    """With TLS from the start."""


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def _at_once(calls: Sequence[Callable[[], str | None]]) -> list[str | None]:
    """Make calls side by side; gives what each came to, also where it has not come back in time."""
    results: list[str | None] = [f"no answer in {_DEADLINE_S:g} s"] * len(calls)

    def run(place: int) -> None:
        results[place] = calls[place]()

    for begin in range(0, len(calls), _SIDE_BY_SIDE):
        threads = [
            threading.Thread(target=run, args=(place,), name="message", daemon=True)
            for place in range(begin, min(begin + _SIDE_BY_SIDE, len(calls)))
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + _DEADLINE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return list(results)
