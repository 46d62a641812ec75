"""Every promise of docs/security.md has the test that it names, and every chapter of the standard its verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
_REFERENCE = re.compile(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`")
_FILE = re.compile(r"`((?:tests/)?[\w/]+\.(?:py|lock))`")
_CHAPTER = re.compile(r"\| V(\d+) ([^|]+) \| ([^|]+) \| (.+) \|")
CHAPTERS = [
    (int(found[1]), found[2], found[3], found[4]) for line in PAGE.splitlines() if (found := _CHAPTER.fullmatch(line))
]


def test_every_promise_names_tests_that_there_are() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    promises = [line for line in rows if "test_" in line]
    assert len(promises) > 10
    missing = [name for line in promises for name in _missing(line)]
    assert missing == []


def test_every_chapter_of_the_standard_is_judged() -> None:
    assert {number for number, *_ in CHAPTERS} == set(range(1, 18))
    assert {verdict for _, _, verdict, _ in CHAPTERS} == {"met", "not applicable", "not met"}
    assert len({name for _, name, _, _ in CHAPTERS}) == 17
    rows = [line for line in PAGE.splitlines() if re.match(r"\| V\d", line)]
    assert len(rows) == len(CHAPTERS)


@pytest.mark.parametrize(("number", "name", "verdict", "why"), CHAPTERS)
def test_what_is_met_names_a_test_and_what_is_not_what_an_operator_can_do(
    number: int, name: str, verdict: str, why: str
) -> None:
    if verdict == "met":
        assert _REFERENCE.search(why), f"V{number} {name}"
    if verdict == "not met":
        assert "Operator: " in why, f"V{number} {name}"
    places = (ROOT, ROOT / "mesh_pipelines")
    named = _FILE.findall(why)
    assert [one for one in named if not any((place / one).is_file() for place in places)] == []


def _missing(line: str) -> Iterator[str]:
    """The tests of a row that are not there; one without a file is in that of the one before."""
    file = ""
    for named, test in _REFERENCE.findall(line):
        file = named or file
        path = ROOT / file
        if not path.is_file() or f"def {test}(" not in path.read_text():
            yield f"{file}::{test}"
