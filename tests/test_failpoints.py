"""Named places where a test may stop a process: nothing happens there unless something was armed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mesh_pipelines
from mesh_pipelines import failpoints

POINT = "log.committed"


@pytest.fixture(autouse=True)
def disarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_armed", {})


def test_nothing_happens_at_a_point_that_is_not_armed() -> None:
    for point in failpoints.POINTS:
        failpoints.reach(point)


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_an_armed_point_acts_once_after_letting_pass(passes: int) -> None:
    reached: list[int] = []
    failpoints.arm(POINT, lambda: reached.append(1), passes=passes)
    for number in range(6):
        failpoints.reach(POINT)
        assert len(reached) == (number >= passes)


def test_other_points_are_not_armed_with_it() -> None:
    failpoints.arm(POINT, lambda: pytest.fail("this point was not armed"))
    for point in failpoints.POINTS:
        if point != POINT:
            failpoints.reach(point)


def test_what_it_raises_ends_the_step() -> None:
    def fail() -> None:
        raise OSError("killed")

    failpoints.arm(POINT, fail)
    with pytest.raises(OSError, match="killed"):
        failpoints.reach(POINT)


def test_there_is_no_other_point() -> None:
    with pytest.raises(ValueError, match="no fail point is named log.comitted"):
        failpoints.arm("log.comitted", lambda: None)


def test_every_point_that_the_code_names_is_known() -> None:
    root = Path(mesh_pipelines.__file__).parent
    named = {
        node.args[0].value
        for file in root.rglob("*.py")
        if "failpoints" in file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute | ast.Name)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id) == "reach"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert named <= set(failpoints.POINTS)
    assert named
