"""A command whose output nobody reads ends without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.building import contract_text, write_contract

_MESH = f"{sys.executable} -m mesh_pipelines"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A mesh with more products than a pipe holds lines of."""
    for number in range(3):
        write_contract(tmp_path / "assets", contract_text(f"shop.orders{number}"))
    return {**os.environ, "MESH_HOME": str(tmp_path / "home"), "MESH_ASSETS": str(tmp_path / "assets")}


@pytest.mark.parametrize(
    "command",
    [
        "lint | head -c 1",
        "lint | true",
        "lint -o json | head -c 1",
        "--help | true",
        "lint >&-",
        "lint 2>&-",
        "lint >&- 2>&-",
        "lint <&- >&- 2>&-",
        "versions shop.none >&-",
        "lint > /dev/full",
    ],
)
def test_no_traceback(environment: dict[str, str], tmp_path: Path, command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{_MESH} {command}"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr
    assert "M000" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode in (0, 2, 3)
