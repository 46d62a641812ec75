r"""Patterns and named formats of text, in the one dialect the engine runs: RE2.

A pattern is compiled by RE2 itself when the contract is read. The standard names ECMA-262, of which RE2 lacks
look-around and back-references: such a pattern is refused rather than run by a second engine, because linear time
whatever the text is worth more in a pass over millions of rows. A pattern is searched for, not matched in full. What
RE2 only writes otherwise, as the character ``\u0041``, is translated.
"""

from __future__ import annotations

import re
from typing import Any

import re2

from mesh_pipelines.contract.metrics.refusal import Uncompilable

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_H16 = "[0-9A-Fa-f]{1,4}"
_LS32 = f"(?:{_H16}:{_H16}|{_IPV4})"
# RFC 3986, section 3.2.2, in its order: how many groups stand before the "::" and how many after.
_IPV6 = "|".join(
    [
        f"(?:{_H16}:){{6}}{_LS32}",
        f"::(?:{_H16}:){{5}}{_LS32}",
        f"(?:{_H16})?::(?:{_H16}:){{4}}{_LS32}",
        *(f"(?:(?:{_H16}:){{0,{n}}}{_H16})?::(?:{_H16}:){{{4 - n}}}{_LS32}" for n in (1, 2, 3)),
        f"(?:(?:{_H16}:){{0,4}}{_H16})?::{_LS32}",
        f"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}",
        f"(?:(?:{_H16}:){{0,6}}{_H16})?::",
    ]
)

# An escaped backslash and what follows it is nothing to translate; a pair of surrogates is one character.
_HIGH, _LOW = r"[Dd][89ABab][0-9A-Fa-f]{2}", r"[Dd][C-Fc-f][0-9A-Fa-f]{2}"
_ESCAPED = re.compile(rf"\\u({_HIGH})\\u({_LOW})|\\u([0-9A-Fa-f]{{4}})|\\.", re.DOTALL)

# email: HTML's definition of a valid address (WHATWG, section 4.10.5.1.5), which is what forms accept.
FORMATS = {
    "email": rf"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*$",
    "uuid": r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$",
    "uri": r"""^[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-\[\]_a-z~]+$""",
    "hostname": rf"^{_LABEL}(?:\.{_LABEL})*$",
    "ipv4": f"^{_IPV4}$",
    "ipv6": f"^(?:{_IPV6})$",
}


def checked(pattern: Any) -> str:
    """The pattern as the engine runs it.

    Raises:
        Uncompilable: it is not text, or not RE2.
    """
    if not isinstance(pattern, str):
        raise Uncompilable(f"the pattern must be text, got {pattern!r}", "quote it")
    options = re2.Options()
    options.log_errors = False
    translated = _ESCAPED.sub(_character, pattern)
    try:
        re2.compile(translated, options=options)
    except re2.error as error:
        said = _message(error)
        raise Uncompilable(f"the pattern {pattern!r} is not RE2: {said}", _fix(said)) from error
    return translated


def of_format(name: Any) -> str:
    """The pattern of a named format.

    Raises:
        Uncompilable: that format does not exist.
    """
    if name not in FORMATS:
        raise Uncompilable(f"must be a known format, got {name!r}", f"use one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _character(found: re.Match[str]) -> str:
    high, low, single = found.groups()
    if single:
        return f"\\x{{{single}}}"
    if high is None:
        return found[0]
    # Two escapes for a character beyond 16 bits (ECMA-262, section 11.1.3).
    return f"\\x{{{0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00):X}}}"


def _fix(said: str) -> str:
    if "repetition" in said or "too large" in said:
        return "repeat at most 1,000 times, inner repetitions multiplied; for the length of a text use maxLength"
    return "write it without look-around and back-references"


def _message(error: Exception) -> str:
    detail = error.args[0] if error.args else ""
    return detail.decode() if isinstance(detail, bytes) else str(detail)
