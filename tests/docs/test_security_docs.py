"""Every promise of docs/security.md has the test that it names."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_REFERENCE = re.compile(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`")


def test_every_promise_names_tests_that_there_are() -> None:
    rows = [line for line in (ROOT / "docs/security.md").read_text().splitlines() if line.startswith("| ")]
    promises = [line for line in rows if "test_" in line]
    assert len(promises) > 10
    missing = [name for line in promises for name in _missing(line)]
    assert missing == []


def _missing(line: str) -> list[str]:
    """The tests of a row that are not there; one without a file is in that of the one before."""
    file, lacking = "", []
    for named, test in _REFERENCE.findall(line):
        file = named or file
        path = ROOT / file
        if not path.is_file() or f"def {test}(" not in path.read_text():
            lacking.append(f"{file}::{test}")
    return lacking
