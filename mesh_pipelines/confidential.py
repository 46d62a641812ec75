"""What must not be shown: addresses and properties of the settings that hold passwords, keys and tokens.

Two guards, since one alone leaks. An ``Address`` shows itself without its secrets however it is printed; who needs the
real one says so by ``reveal``. And libraries print what they were given: ``masked`` replaces every secret that this
process knows in any text. Errors of the mesh (``errors.py``) and log records pass through it by themselves.

The known secrets are kept per process, and not per settings object, on purpose: a log record or a library's exception
has no settings at hand.
"""

from __future__ import annotations

import logging
import re
import traceback
from base64 import b64encode
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, quote_plus, unquote

_HIDDEN = "***"
# Names of properties and of an address's parameters whose values are secrets; not those that name a file or an address.
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?\b|secret|token|credential|api[-_.]?key|(access|account|private|shared)[-_.]key|"
    r"authorization|user[-_.]info|jaas|signature|\b(pwd|key|auth|sig)$|key[-_.](password|pem)|sas[-_.]",
    re.IGNORECASE,
)
_PUBLIC_NAME = re.compile(
    r"(location|path|file|uri|url|endpoint|source|method|type|class|ttl|expir\w*)$", re.IGNORECASE
)
# Shorter ones are replaced where they stand in an address, and not in the middle of words.
_SHORTEST = 6
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/{2}")
_SEVERAL = re.compile(rf",(?={_SCHEME.pattern})")
_QUERY = re.compile(r"\?(?=[\w.-]+=)")
# Addresses with a password in any text, also one that no setting named.
_IN_TEXT = re.compile(r"(?<=://)([^\s/:@'\"<>]*):([^\s/@'\"<>]+)@")


class Address:
    """An address that may hold a password or tokens; as text it shows neither.

    Passwords may hold ``@``, ``/``, ``:`` and ``%`` as they are or percent-encoded: what stands before the last ``@``
    is user and password. Several addresses may be given with commas between them.
    """

    __slots__ = ("_parts", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._parts = [_Parts(one) for one in _SEVERAL.split(text)]

    def reveal(self) -> str:
        """The real address, for a client; what would end user or password too early is percent-encoded."""
        return ",".join(part.revealed() for part in self._parts)

    def given(self) -> str:
        """The real address as it was written in the settings, to hand it to a process that reads it from there."""
        return self._text

    def secrets(self) -> Iterator[str]:
        """All that has to be hidden, as it may stand in a text: the address itself, its password, its tokens."""
        for part in self._parts:
            if secrets := list(part.secrets()):
                yield from (part.text, part.revealed(), *secrets)

    def __str__(self) -> str:
        return ",".join(part.masked() for part in self._parts)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        from pydantic_core import core_schema

        made = core_schema.no_info_after_validator_function(cls, core_schema.str_schema(strict=True))
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), made],
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )


class _Parts:
    """One address, taken apart: scheme, user, password, what follows them, and the parameters."""

    def __init__(self, text: str) -> None:
        self.text = text
        found = _SCHEME.match(text)
        self.scheme = found[0] if found else ""
        rest, *query = _QUERY.split(text[len(self.scheme) :], maxsplit=1)
        self.query = query[0] if query else None
        user, at, self.place = rest.rpartition("@")
        if not at or rest.startswith("/") or (":" not in user and ("/" in user or not found)):
            user, at, self.place = "", "", rest
        self.has_user = bool(at)
        self.user, colon, password = user.partition(":")
        self.password = password if colon else None
        # host:80/a@b may be a password with a slash, too: it is hidden like one, and handed on as it is.
        self.is_plain = bool(re.match(r"[^/@]*:\d{1,5}/", rest))

    def masked(self) -> str:
        shown = _HIDDEN if self.password is None else f"{self.user}:{_HIDDEN}"
        return self._joined(shown, lambda name, value: f"{name}={_HIDDEN if is_secret(name) else value}")

    def revealed(self) -> str:
        if self.is_plain:
            return self.text
        real = _encoded(self.user) + ("" if self.password is None else f":{_encoded(self.password)}")
        return self._joined(real, lambda name, value: f"{name}={value}")

    def secrets(self) -> Iterator[str]:
        if self.password:
            yield self.password
            yield f"{self.user}:{self.password}"
            yield f"{unquote(self.user)}:{unquote(self.password)}"
        elif self.has_user and self.password is None:
            yield self.user
        for name, value in self._parameters():
            if is_secret(name):
                yield value

    def _joined(self, user: str, parameter: Any) -> str:
        before = f"{user}@" if self.has_user else ""
        after = "" if self.query is None else "?" + "&".join(parameter(*one) for one in self._parameters())
        return f"{self.scheme}{before}{self.place}{after}"

    def _parameters(self) -> Iterator[tuple[str, str]]:
        for pair in (self.query or "").split("&"):
            name, _, value = pair.partition("=")
            yield name, value


def is_secret(name: str) -> bool:
    """Whether a property or parameter of this name holds a secret."""
    return bool(_SECRET_NAME.search(name)) and not _PUBLIC_NAME.search(name)


def secrets_of(properties: Mapping[str, str]) -> Iterator[str]:
    """What has to be hidden of client properties: values of secret names, and addresses with a password."""
    for name, value in properties.items():
        if is_secret(name):
            yield value
            # user:password, or client id:secret
            yield value.partition(":")[2]
            # sasl.jaas.config and its like
            yield from re.findall(r"(?:password|secret)\s*=\s*[\"']?([^\"';\s]+)", value, re.IGNORECASE)
        elif "://" in value:
            yield from Address(value).secrets()


_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def remember(secrets: Iterable[str]) -> None:
    """Hide these in every text that ``masked`` sees from now on, and in every log record of this process."""
    global _pattern
    new = {form for secret in secrets if secret for form in _forms(secret)} - _known
    if not new:
        return
    _known.update(new)
    # The longest first: an address before the password in it.
    _pattern = re.compile("|".join(re.escape(one) for one in sorted(_known, key=len, reverse=True)))
    logging.setLogRecordFactory(_MaskedRecord)


def masked(text: str) -> str:
    """The text with every known secret, and every password in an address, replaced."""
    if _pattern is not None:
        text = _pattern.sub(_replacement, text)
    return _IN_TEXT.sub(rf"\1:{_HIDDEN}@", text) if "://" in text else text


def _replacement(found: re.Match[str]) -> str:
    return str(Address(found[0])) if "://" in found[0] else _HIDDEN


@contextmanager
def hiding() -> Generator[None]:
    """Hide secrets in the messages of exceptions that pass through, and of what caused them."""
    try:
        yield
    except Exception as error:
        hide_in(error)
        raise


def hide_in(error: BaseException) -> None:
    """Hide secrets in an exception's message, and in those of what caused it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.args = tuple(masked(value) if isinstance(value, str) else value for value in one.args)
        waiting += [one.__cause__, one.__context__, *(value for value in one.args if isinstance(value, BaseException))]


class _MaskedRecord(logging.LogRecord):
    """A log record without secrets, its traceback included."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[1]:
            # Formatters take the text of a traceback from here, where it is set.
            self.exc_text = masked("".join(traceback.format_exception(*self.exc_info)).rstrip("\n"))

    def getMessage(self) -> str:  # noqa: N802 - the name is the base class's
        return masked(super().getMessage())


def _forms(secret: str) -> Iterator[str]:
    """How a secret may stand in a text; short ones only as part of their address."""
    plain = unquote(secret)
    for form in (secret, plain, quote(plain, safe=""), quote(plain), quote_plus(plain), repr(plain)[1:-1]):
        if "://" in form or len(form) >= _SHORTEST:
            yield form
    if ":" in secret and "://" not in secret:
        yield b64encode(plain.encode()).decode()


def _encoded(text: str) -> str:
    """Percent-encoded for the place of a user or password in an address; what is encoded already stays so."""
    return quote(unquote(text), safe="!$&'()*+,;=~")
