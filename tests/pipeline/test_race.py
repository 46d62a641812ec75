"""A lost commit is tried again, a few times; any other error is not, and neither is a race that is lost every time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh_pipelines.errors import BrokerUnreachable, ConcurrentWriter, MeshError
from mesh_pipelines.pipeline import race


class Attempts:
    """A step that loses its commit so many times, and then gives its own number."""

    def __init__(self, losses: int, error: Callable[[], MeshError] = lambda: ConcurrentWriter("lost")) -> None:
        self.made = 0
        self._losses = losses
        self._error = error

    def __call__(self) -> int:
        self.made += 1
        if self.made <= self._losses:
            raise self._error()
        return self.made


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The longest that each wait might have been; none is waited for."""
    found: list[float] = []

    def drawn(least: float, most: float) -> float:
        assert least == 0
        found.append(most)
        return 0.0

    monkeypatch.setattr(race.random, "uniform", drawn)
    return found


@pytest.mark.parametrize("losses", range(6))
def test_it_says_how_often_it_lost(losses: int, pauses: list[float]) -> None:
    attempts = Attempts(losses)
    assert race.outlast(attempts) == (losses + 1, losses)
    assert attempts.made == losses + 1
    assert len(pauses) == losses


def test_waits_double_so_that_two_losers_part(pauses: list[float]) -> None:
    race.outlast(Attempts(5))
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8]


def test_who_loses_every_time_is_told_so(pauses: list[float]) -> None:
    attempts = Attempts(99)
    with pytest.raises(ConcurrentWriter):
        race.outlast(attempts)
    assert attempts.made == 6
    assert len(pauses) == 5


def test_another_error_is_not_tried_again() -> None:
    attempts = Attempts(1, lambda: BrokerUnreachable("gone"))
    with pytest.raises(BrokerUnreachable):
        race.outlast(attempts)
    assert attempts.made == 1
