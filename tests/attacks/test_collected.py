"""There are enough attempts of each kind, each under a class of its own, and none is there twice."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.attacks.collected import Attempt, attempts, lines, written_out

COLLECTED = {
    "sql": (lines("sql.txt"), 300, 9),
    "contracts": (attempts("contracts.yaml"), 300, 20),
    "http": (attempts("http.yaml"), 200, 15),
    "registry": (attempts("registry.yaml"), 100, 7),
}


@pytest.mark.parametrize("kind", COLLECTED)
def test_there_are_enough_of_them(kind: str) -> None:
    found, least, classes = COLLECTED[kind]
    assert len(found) >= least
    assert len({one.kind for one in found}) >= classes
    assert all(one.kind for one in found)
    twice = [one for one, times in Counter(map(meaning, found)).items() if times > 1]
    assert twice == []


def meaning(attempt: Attempt) -> str:
    """What an attempt is, but for its class and name."""
    place = attempt.stated.get("place", attempt.stated.get("as", ""))
    return f"{place} {attempt.said}"


@pytest.mark.parametrize("kind", ["contracts", "http", "registry"])
def test_each_says_what_is_right(kind: str) -> None:
    assert all(one.stated["right"] for one in COLLECTED[kind][0])


def test_marks_are_written_out() -> None:
    assert written_out("a⟨202E⟩b⟨xFF⟩c⟨x0A⟩") == "a\u202eb\udcffc\n"
    assert written_out("⟨(␠ × 3⟩⟨⟨0000⟩x × 2⟩⟨ × 2⟩") == "( ( ( \0x\0x"
    assert written_out("⟨⟨a × 2⟩b × 2⟩") == "aabaab"
