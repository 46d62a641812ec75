"""Named places in the life of an event where a test may stop, kill or pause the process.

A crash matters most between two writes, and no random kill is sure to hit that moment. Each step that leaves something
behind calls ``reach`` with its name; nothing happens there unless something was armed in this very process.
"""

from __future__ import annotations

from collections.abc import Callable

# In the order a run reaches them. "written": files are there, nothing names them; "committed": the catalog names them.
POINTS = (
    "log.written",
    "log.catalog",
    "log.committed",
    "base.written",
    "base.catalog",
    "base.committed",
    "checks.written",
    "checks.catalog",
    "checks.committed",
    "versions.written",
    "versions.catalog",
    "versions.committed",
    "publish.audited",
    "serving.written",
)

_armed: dict[str, Callable[[], None]] = {}


def arm(point: str, action: Callable[[], None], *, passes: int = 0) -> None:
    """Call ``action`` when this process reaches the point, after letting it pass that many times.

    Raises:
        ValueError: that point does not exist.
    """
    if point not in POINTS:
        raise ValueError(f"no fail point is named {point}")
    left = passes

    def reached() -> None:
        nonlocal left
        if left == 0:
            action()
        left -= 1

    _armed[point] = reached


def reach(point: str) -> None:
    """Say that the process is at this point."""
    if point in _armed:
        _armed[point]()
