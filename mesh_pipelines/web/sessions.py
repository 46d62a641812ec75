"""Who is signed in: a session is a file of the home folder, and the cookie only names it.

So signing out ends the session wherever its cookie was copied to, and a forged cookie names no session. The portal and
Dagster's pages are two processes with one home, and share their sessions. Files were chosen over a database: each is
written once, read often and removed. A session tells how it began, and is worth nothing once that is no longer a way
to sign in: one of the development link ends when a provider is configured.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
from starlette.requests import HTTPConnection

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.web.security import is_https

SECONDS = 12 * 3600
_log = logging.getLogger(__name__)
_FOLDER = "sessions"
_ID = "session"


@dataclass(frozen=True)
class User:
    """Someone who signed in; ``names`` are what contracts and settings may call them by, in lower case."""

    name: str
    names: frozenset[str]
    everything: bool = False

    def may_act_for(self, product: DataProduct) -> bool:
        """Whether they belong to the product's team."""
        return self.everything or bool(self.names & {member.lower() for member in product.team})


@dataclass(frozen=True)
class _Session:
    """What is kept of a session; ``issuer`` is None for the development user."""

    user: User
    issuer: str | None
    until: float


def cookie_at(address: str) -> str:
    """The name of the cookie of a server that users see at an address; by HTTPS, one that no other host can set."""
    return "__Host-mesh_portal" if is_https(address) else "mesh_portal"


def note_refused(user: User, what: str) -> None:
    """Write down that a user was refused what they asked for."""
    _log.info("refused: %r asked for %.200r", user.name, what)


class Sessions:
    """The sessions of one home folder, of those that the ways to sign in allow."""

    def __init__(self, home: Path, issuer: str | None, *, development: bool) -> None:
        self._folder = home / _FOLDER
        self._issuer = issuer
        self._development = development

    def begin(self, request: HTTPConnection, user: User, issuer: str | None) -> None:
        """Begin a session, in place of any that the cookie names."""
        self.end(request)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()
        name = secrets.token_urlsafe(32)
        handle = os.open(self._file(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(_Session(user, issuer, time.time() + SECONDS)))
        request.session[_ID] = name
        _log.info("signed in: %r by %s", user.name, issuer or "the development link")

    def user(self, request: HTTPConnection) -> User | None:
        """The user of a request, if any."""
        name = request.session.get(_ID)
        if not isinstance(name, str):
            return None
        try:
            kept = msgspec.json.decode(self._file(name).read_bytes(), type=_Session)
        except (OSError, msgspec.MsgspecError):
            return None
        allowed = kept.issuer == self._issuer if kept.issuer else self._development
        return kept.user if allowed and kept.until > time.time() else None

    def end(self, request: HTTPConnection) -> None:
        """End the session that a request's cookie names."""
        name, user = request.session.get(_ID), self.user(request)
        if user:
            _log.info("signed out: %r", user.name)
        request.session.clear()
        if isinstance(name, str):
            self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        """Where a session is; its name is a secret, which those who read the folder do not learn."""
        return self._folder / hashlib.sha256(name.encode()).hexdigest()

    def _sweep(self) -> None:
        """Remove what has ended by itself."""
        before = time.time() - SECONDS
        for file in self._folder.iterdir():
            if file.stat().st_mtime < before:
                file.unlink(missing_ok=True)
