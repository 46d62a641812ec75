"""Tokens for brokers that sign clients in by SASL/OAUTHBEARER, from a Python function that a setting names.

Cloud brokers take tokens that their provider's own library makes, which no text in a setting can do. The function is
called ahead of every client, so that what goes wrong is said as what it is and not as a broker that does not answer;
and again when most of a token's life is over. All clients of a process share a token, since each step makes several.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import Any, cast

from mesh_pipelines.confidential import remember
from mesh_pipelines.errors import SettingInvalid, TokenUnavailable
from mesh_pipelines.settings import Settings

_SETTING = "MESH_KAFKA_OAUTH"
# What the client asks for a new one at, too: the rest of its life is for a service that is slow or away.
_SHARE_USED = 0.8
# Seconds since 1970 beyond which a time must be milliseconds.
_FAR = 1e11
_SHORTEST_S = 1.0
# A bearer token (RFC 6750, section 2.1).
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")

Function = Callable[[str], Any]


@dataclass(frozen=True)
class Token:
    """A token, when it was made and ends (seconds since 1970), and whom it is of, as far as the function says."""

    value: str
    made_at: float
    expires_at: float
    principal: str = ""
    extensions: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def renew_at(self) -> float:
        """When another one is due."""
        return self.made_at + _SHARE_USED * (self.expires_at - self.made_at)


_lock = threading.Lock()
_tokens: dict[tuple[str, str], Token] = {}


def token(settings: Settings) -> Token | None:
    """A token that is good for a while yet; None where no function is named.

    Raises:
        SettingInvalid: there is no such function, or what it gives is no token.
        TokenUnavailable: it failed, or gave none in time; transient.
    """
    name = settings.kafka_oauth
    if name is None:
        return None
    given = settings.client_config().get("sasl.oauthbearer.config", "")
    with _lock:
        known = _tokens.get((name, given))
        if known is None or time.time() >= known.renew_at:
            known = _tokens[name, given] = _made(name, _called(name, given, settings.timeout_s))
        return known


def refused_token(settings: Settings, reason: str) -> SettingInvalid:
    """The error for a token that the client does not take."""
    return _no_token(str(settings.kafka_oauth), f"returned a token that cannot be used: {reason}")


def callbacks(settings: Settings) -> dict[str, Any]:
    """The properties by which a client of the Python library gets its tokens.

    Raises:
        SettingInvalid, TokenUnavailable: there is none to begin with.
    """
    if token(settings) is None:
        return {}

    def again(_config: str) -> tuple[str, float, str, dict[str, str]]:
        found = token(settings)
        assert found is not None
        return found.value, found.expires_at, found.principal, dict(found.extensions)

    return {"oauth_cb": again}


def _function(name: str) -> Function:
    module, _, path = name.partition(":")
    try:
        found = attrgetter(path)(import_module(module))
    except Exception as error:  # whatever a module does when it is imported
        step = "install it beside the mesh, or add its folder to PYTHONPATH"
        raise SettingInvalid(f"{_SETTING}: {name} cannot be imported: {_said(error)}", next_step=step) from error
    if not callable(found):
        raise SettingInvalid(f"{_SETTING}: {name} must be a function", next_step="see docs/settings.md")
    return found


def _called(name: str, given: str, timeout_s: float) -> Any:
    """What the function gives, waited for so long; one that hangs is left behind."""
    function = _function(name)
    answers: SimpleQueue[tuple[bool, Any]] = SimpleQueue()

    def call() -> None:
        try:
            answers.put((True, function(given)))
        except Exception as error:
            answers.put((False, error))

    threading.Thread(target=call, name="token", daemon=True).start()
    try:
        worked, answer = answers.get(timeout=timeout_s)
    except Empty:
        raise TokenUnavailable(
            f"{name} gave no token in {timeout_s:g} s", next_step="check what it asks, or raise MESH_TIMEOUT_S"
        ) from None
    if not worked:
        step = f"run it by itself: python -c 'import {name.partition(':')[0]}'"
        raise TokenUnavailable(f"{name} gave no token: {_said(answer)}", next_step=step) from answer
    return answer


def _made(name: str, answer: Any) -> Token:
    """The token of a function's answer: the text, when it ends, and maybe a principal and extensions."""
    parts: list[Any] = list(answer) if isinstance(answer, tuple | list) else []
    if not 2 <= len(parts) <= 4:
        raise _no_token(name, "must return (token, seconds since 1970 at which it ends)")
    value, ends, principal, extensions = [*parts, *("", {})[len(parts) - 2 :]]
    now = time.time()
    if not isinstance(value, str) or not _BEARER.fullmatch(value):
        raise _no_token(name, "returned a token that cannot be used: it has other letters than a bearer token may have")
    if isinstance(ends, bool) or not isinstance(ends, int | float) or not ends < _FAR:
        raise _no_token(name, "must return the end of the token in seconds since 1970; divide milliseconds by 1000")
    if ends < now + _SHORTEST_S:
        raise _no_token(name, f"returned a token that ended {now - ends:.0f} s ago")
    if not isinstance(principal, str) or not isinstance(extensions, Mapping):
        raise _no_token(name, "must return a text as principal, and a mapping as extensions")
    remember([value])
    named = cast("Mapping[object, object]", extensions)
    return Token(value, now, float(ends), principal, {str(key): str(one) for key, one in named.items()})


def _no_token(name: str, problem: str) -> SettingInvalid:
    return SettingInvalid(f"{_SETTING}: {name} {problem}", next_step="see docs/settings.md")


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
