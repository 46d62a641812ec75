"""The collected attempts, as the files beside this one have them: classes, what is right for each, and the attempts.

Text says what a line cannot hold between ``⟨`` and ``⟩``: ``⟨202E⟩`` is the character of that number, ``⟨xFF⟩`` the
byte, and ``⟨( × 1000⟩`` is ``(`` a thousand times (``␠`` is a space where one would be lost); what is repeated may have
such marks in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
_REPEATED = re.compile(r"⟨([^⟨⟩]*?) × (\d+)⟩")
_CHARACTER = re.compile(r"⟨([0-9A-F]{4,6})⟩")
_BYTE = re.compile(r"⟨x([0-9A-F]{2})⟩")


@dataclass(frozen=True)
class Attempt:
    """One attempt: its class, its name in it, what it says, and what else its class or the attempt itself states."""

    kind: str
    name: str
    said: Any
    stated: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


@cache
def attempts(file: str) -> tuple[Attempt, ...]:
    """The attempts of a YAML file: a list of classes, each with its ``attempts`` by name."""
    found: list[Attempt] = []
    for one in yaml.safe_load((FOLDER / file).read_text(encoding="utf-8")):
        kind, several = one.pop("class"), one.pop("attempts")
        for name, said in several.items():
            own = said if isinstance(said, dict) else {}
            found.append(Attempt(kind, str(name), said, {**one, **own}))
    assert len({str(one) for one in found}) == len(found), "two attempts of one class have one name"
    return tuple(found)


@cache
def lines(file: str) -> tuple[Attempt, ...]:
    """The attempts of a file that has one a line, under a heading for each class."""
    kind, found = "", list[Attempt]()
    for line in (FOLDER / file).read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            kind = line[3:]
        elif line and not line.startswith("#"):
            found.append(Attempt(kind, line, line))
    return tuple(found)


def by_class(several: tuple[Attempt, ...]) -> dict[str, list[Attempt]]:
    """Attempts by their class."""
    found: dict[str, list[Attempt]] = {}
    for one in several:
        found.setdefault(one.kind, []).append(one)
    return found


def written_out(text: str) -> str:
    """A text with what its marks stand for; a byte that is no text is a surrogate, as Python reads such a file."""
    text = _CHARACTER.sub(lambda found: chr(int(found[1], 16)), text)
    text = _BYTE.sub(lambda found: bytes.fromhex(found[1]).decode("utf-8", "surrogateescape"), text)
    while _REPEATED.search(text):
        text = _REPEATED.sub(lambda found: found[1] * int(found[2]), text)
    return text.replace("␠", " ")
