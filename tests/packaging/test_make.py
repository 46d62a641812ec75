"""``make test`` looks for a browser before it does anything, and says the one command where it finds none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make with nothing but a folder on the PATH."""
    program = shutil.which("make")
    assert program
    command = [program, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": str(folder)}, capture_output=True, text=True, timeout=60, check=False
    )


def test_without_a_browser_nothing_runs_and_the_command_is_said(tmp_path: Path) -> None:
    done = make(tmp_path, "test")
    assert done.returncode == 2
    assert "on Debian: apt-get install -y chromium" in done.stderr
    assert "Error 3" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_browser_on_the_path_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / name).chmod(0o755)
    done = make(tmp_path, "browser")
    assert (done.returncode, done.stderr) == (0, "")
