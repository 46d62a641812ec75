"""A short run of the fuzzer, in a process of its own: what it looks for may end that process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_hostile_bytes_neither_crash_nor_stall_nor_spoil_their_neighbours() -> None:
    script = Path(__file__).parent / "fuzz.py"
    done = subprocess.run(
        [sys.executable, str(script), "--inputs", "20000", "--seed", "2013"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("seed 2013: 2"), done.stdout
