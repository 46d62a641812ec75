"""The functions that people's SQL may call, by name: what is not judged in ``functions.txt`` is refused.

A function that came with another version of the engine, or with an extension, may read files, run a text as SQL
(``json_serialize_plan`` binds and computes what it is given) or tell of the session. To refuse by name what is known to
be harmful was ruled out: each version brings functions that nobody looked at.
"""

from __future__ import annotations

import re
from pathlib import Path

_FILE = Path(__file__).with_name("functions.txt")
# Orders of texts by language; the engine has two for each.
_FAMILIES = ("collate_", "icu_collate_")
# What the parser itself calls by words; other operators have no letters.
_OF_THE_PARSER = frozenset({"is distinct from", "is not distinct from", "!__postfix", "unnest"})
# Of a function that is not allowed, after its name and "which".
WHY_REFUSED = "is not about rows"
_WORD = re.compile(r"[^\W\d]")


def is_allowed(name: str) -> bool:
    """Whether people's SQL may call a function of this name, in any case, or an operator."""
    lower = name.lower()
    return lower in ALLOWED or lower.startswith(_FAMILIES) or lower in _OF_THE_PARSER or not _WORD.search(lower)


def _judged() -> tuple[frozenset[str], frozenset[str]]:
    """The functions that are allowed, and those that are refused."""
    allowed: set[str] = set()
    refused: set[str] = set()
    into = refused
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            into = refused if line.startswith("[refused") else allowed
        elif not line.startswith("#"):
            into.update(line.lower().split())
    return frozenset(allowed), frozenset(refused)


ALLOWED, REFUSED = _judged()
