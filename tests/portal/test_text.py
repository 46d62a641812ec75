"""Figures as people read them: short, and never better than they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.portal.text import ago, compact, count, duration, percent, utc

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("figure", [count, compact, percent, duration])
def test_what_is_not_known_is_a_dash(figure) -> None:
    assert figure(None) == "–"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1234567, "1,234,567"), (1.5, "2"), (-1234, "-1,234")]
)
def test_counts(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (987, "987"),
        (9_999, "9,999"),
        (0.125, "0.12"),
        (10_000, "10 k"),
        (12_345, "12.3 k"),
        (999_999, "1 M"),
        (1_200_000, "1.2 M"),
        (999_999_999, "1 G"),
        (2.5e12, "2.5 T"),
        (-34_000, "-34 k"),
    ],
)
def test_large_numbers_are_short(number: float, text: str) -> None:
    assert compact(number) == text


@given(st.floats(1e4, 1e14))
def test_a_short_number_is_near_the_number_and_short(number: float) -> None:
    shown, unit = compact(number).split(" ")
    assert float(shown) * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[unit] == pytest.approx(number, rel=0.006)
    assert 1 <= float(shown) < 1000


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (0, 1, "0 %"),
        (1, 1, "100 %"),
        (0.5, 1, "50 %"),
        (0.995, 1, "99.5 %"),
        (0.99999, 1, "99.9 %"),
        (0.99999, 2, "99.99 %"),
        (0.9999, 0, "99 %"),
        (1.2, 1, "120 %"),
        (-0.25, 1, "-25 %"),
    ],
)
def test_percentages(share: float, digits: int, text: str) -> None:
    assert percent(share, digits) == text


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 3))
def test_a_share_short_of_all_is_never_all(share: float, digits: int) -> None:
    assert percent(share, digits) != "100 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0.4 s"),
        (0.0512, "0.051 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3599.6, "1 h"),
        (7500, "2 h 5 min"),
        (7259, "2 h"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
        (864_000, "10 days"),
        (86_400 * 1500, "1,500 days"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (timedelta(seconds=-30), "just now"),
        (timedelta(seconds=4), "just now"),
        (timedelta(seconds=5), "5 seconds ago"),
        (timedelta(seconds=119), "1 minute ago"),
        (timedelta(minutes=59, seconds=59), "59 minutes ago"),
        (timedelta(hours=1), "1 hour ago"),
        (timedelta(days=2), "2 days ago"),
        (timedelta(days=31), "1 month ago"),
        (timedelta(days=364), "12 months ago"),
        (timedelta(days=800), "2 years ago"),
    ],
)
def test_how_long_ago(passed: timedelta, text: str) -> None:
    assert ago(NOW - passed, NOW) == text


def test_what_never_was_is_never() -> None:
    assert ago(None) == "never"


def test_moments_are_told_in_utc() -> None:
    assert utc(None) == "–"
    assert utc(datetime(2026, 3, 4, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))) == "2026-03-03 23:02:03 UTC"
