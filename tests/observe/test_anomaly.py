from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.observe.store.anomaly import LEAST, THRESHOLD, is_anomalous, score

numbers = st.floats(-1e9, 1e9)


def test_an_outlier_is_found_among_outliers() -> None:
    usual = [100 + number % 7 for number in range(30)]
    assert is_anomalous(400, [*usual, 5_000, 9_000])
    assert is_anomalous(0, usual)
    assert not is_anomalous(106, usual)


def test_few_points_say_nothing() -> None:
    assert not is_anomalous(1e9, [1.0] * (LEAST - 1))
    assert is_anomalous(1e9, [1.0] * LEAST)


def test_a_constant_series_does_not_flag_noise() -> None:
    assert not is_anomalous(1_030, [1_000] * 20)
    assert not is_anomalous(1, [0] * 20)
    assert is_anomalous(2_000, [1_000] * 20)


def test_normal_noise_is_seldom_flagged() -> None:
    drawn = random.Random(1)
    flagged = 0
    for _ in range(2_000):
        series = [drawn.gauss(1_000, 100) for _ in range(31)]
        flagged += is_anomalous(series[0], series[1:])
    # 3.5 standard deviations are passed once in two thousand; the estimate from thirty points costs some more.
    assert flagged < 40


@settings(deadline=None, max_examples=50)
@given(st.lists(numbers, min_size=LEAST, max_size=60), numbers, st.randoms())
def test_the_order_of_the_past_does_not_matter(before: list[float], value: float, drawn: random.Random) -> None:
    mixed = drawn.sample(before, len(before))
    assert score(value, mixed) == score(value, before)
    assert is_anomalous(value, before) == (abs(score(value, before)) > THRESHOLD)
