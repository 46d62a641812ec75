"""Numbers in words: one of a thing is not several, and no message writes a number before a plural by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mesh_pipelines
from mesh_pipelines.counted import counted

ROOT = Path(mesh_pipelines.__file__).parent
# A count and a plural right after it.
_BESIDE = re.compile(
    r"\{(?:len|sum)\([^{}]*\)(?::,)?\} "
    r"(?:rules|faults|contracts|products|rows|events|versions|tables|fields|columns)\b"
)


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (1, ("fault",), "1 fault"),
        (0, ("fault",), "0 faults"),
        (2000, ("fault",), "2,000 faults"),
        (1, ("rule is", "rules are"), "1 rule is"),
        (3, ("rule is", "rules are"), "3 rules are"),
    ],
)
def test_one_is_not_several(number: int, words: tuple[str, ...], said: str) -> None:
    assert counted(number, *words) == said


def test_no_message_counts_by_itself() -> None:
    found = {
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in ROOT.rglob("*.py")
        for match in _BESIDE.finditer(file.read_text(encoding="utf-8"))
    }
    assert found == set()
