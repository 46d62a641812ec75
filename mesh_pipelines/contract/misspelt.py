"""What a misspelt name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_PREFIX = "mesh."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, whatever its case; the prefix of settings counts for nothing."""
    folded = {one.casefold().removeprefix(_PREFIX): one for one in known}
    near = difflib.get_close_matches(name.casefold().removeprefix(_PREFIX)[:64], folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The fix for an unknown name: the nearest known one, or what else to do."""
    near = nearest(name, known)
    return f"did you mean {near}?" if near else otherwise
