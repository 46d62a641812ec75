"""Which files are worth merging, and when a tail is worth taking in: pure choices by size."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.lake.base import TAIL_SHARE, worth_taking_in
from mesh_pipelines.lake.tiers import BIG_ROWS, TIER, worth_merging


def files(*rows: int) -> list[Any]:
    return [SimpleNamespace(record_count=count) for count in rows]


def chosen(*rows: int) -> list[int]:
    return sorted(one.record_count for one in worth_merging(files(*rows)))


def test_few_files_stay_as_they_are() -> None:
    assert chosen() == []
    assert chosen(*[10] * (TIER - 1)) == []


def test_enough_files_of_like_size_are_merged() -> None:
    assert chosen(*[10] * TIER) == [10] * TIER


def test_a_large_file_is_not_written_again_for_small_ones() -> None:
    assert chosen(*[10] * TIER, 10_000) == [10] * TIER


def test_files_that_are_big_enough_are_left_alone() -> None:
    assert chosen(*[BIG_ROWS] * 10) == []
    assert chosen(*[BIG_ROWS - 1] * TIER) == [BIG_ROWS - 1] * TIER


def test_empty_files_are_small_ones() -> None:
    assert chosen(*[0] * TIER) == [0] * TIER


ROWS = st.lists(st.integers(0, 2 * BIG_ROWS), max_size=40)


@given(ROWS)
def test_files_of_one_size_are_all_merged_or_none(rows: list[int]) -> None:
    found = Counter(chosen(*rows))
    for count, times in Counter(rows).items():
        assert found[count] in (0, times)


@given(ROWS)
def test_whatever_is_merged_has_as_many_like_it(rows: list[int]) -> None:
    found = [rows or 1 for rows in chosen(*rows)]
    for one in found:
        assert sum(one <= other * TIER and other <= one * TIER for other in found) >= TIER


@settings(max_examples=30)
@given(st.integers(1, 2_000))
def test_appending_for_ever_leaves_few_files(appends: int) -> None:
    sizes: list[int] = []
    for _ in range(appends):
        sizes.append(1)
        merged = chosen(*sizes)
        if merged:
            left = Counter(sizes) - Counter(merged)
            sizes = [*left.elements(), sum(merged)]
    assert sum(sizes) == appends
    assert len(sizes) <= (TIER - 1) * 8


@pytest.mark.parametrize(
    ("base", "tail", "short", "worth"),
    [
        (0, 0, 10, False),
        (0, 10, 10, False),
        (0, 11, 10, True),
        (1_000_000, 11, 10, False),
        (1_000_000, int(TAIL_SHARE * 1_000_000), 10, False),
        (1_000_000, int(TAIL_SHARE * 1_000_000) + 1, 10, True),
    ],
)
def test_a_tail_is_taken_in_once_it_is_felt(base: int, tail: int, short: int, worth: bool) -> None:
    assert worth_taking_in(base, tail, short) is worth
