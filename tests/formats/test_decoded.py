"""Columns of what could be decoded beside reasons for the rest: joined, placed among others, spread over nulls."""

from __future__ import annotations

import base64
import datetime as dt
import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.formats.decoded import Decoded, buffers, spread, without_header
from mesh_pipelines.formats.json.plain import plain

VALUES = st.lists(st.none() | st.binary(max_size=6), max_size=12)


def decoded(values: list[int | None]) -> Decoded:
    """Values of which None could not be decoded."""
    good = [value for value in values if value is not None]
    faults = {at: f"fault {at}" for at, value in enumerate(values) if value is None}
    return Decoded(len(values), [pa.array(good, pa.int64())], faults)


def rows(of: Decoded) -> list[int | str]:
    """By value: its row, or why it has none."""
    found = iter(of.columns[0].to_pylist())
    return [of.faults[at] if at in of.faults else next(found) for at in range(of.count)]


PARTS = st.lists(st.lists(st.none() | st.integers(0, 9), max_size=5), min_size=1, max_size=4)


@settings(max_examples=50)
@given(PARTS)
def test_parts_joined_are_the_values_one_after_the_other(parts: list[list[int | None]]) -> None:
    joined = Decoded.join([decoded(part) for part in parts])
    values = [value for part in parts for value in part]
    assert joined.count == len(values)
    assert joined.good.tolist() == [value is not None for value in values]
    assert joined.columns[0].to_pylist() == [value for value in values if value is not None]
    assert joined.faults.keys() == {at for at, value in enumerate(values) if value is None}


def test_one_part_is_itself() -> None:
    part = decoded([1, None])
    assert Decoded.join([part]) is part


@settings(max_examples=50)
@given(st.lists(st.none() | st.integers(0, 9), max_size=8), st.data())
def test_values_among_others_keep_their_rows_and_reasons(values: list[int | None], data: st.DataObject) -> None:
    among = data.draw(st.integers(len(values), len(values) + 5))
    places = sorted(data.draw(st.permutations(range(among)))[: len(values)])
    others = {at: "not looked at" for at in range(among) if at not in places}
    found = decoded(values).within(among, np.array(places, np.int64), others)
    expected: list[int | str] = ["not looked at"] * among
    for number, (at, value) in enumerate(zip(places, values, strict=True)):
        expected[at] = f"fault {number}" if value is None else value
    assert rows(found) == expected


@settings(max_examples=50)
@given(VALUES, st.integers(0, 3))
def test_bytes_in_front_are_taken_off(values: list[bytes | None], header: int) -> None:
    long = [None if value is None else b"\x00" * header + value for value in values]
    found = without_header(pa.array(long, pa.large_binary()), header)
    assert found.to_pylist() == values


@settings(max_examples=50)
@given(VALUES, st.data())
def test_the_buffers_of_a_slice_are_its_own_values(values: list[bytes | None], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(values)))
    array = pa.array(values, pa.large_binary())[start:]
    content, offsets = buffers(array)
    found = [content[one:two].tobytes() for one, two in pairwise(offsets)]
    assert found == [value or b"" for value in values[start:]]
    assert len(offsets) == len(values) - start + 1


def test_an_array_of_nothing_has_one_offset() -> None:
    content, offsets = buffers(pa.array([], pa.large_binary()))
    assert (content.size, offsets.tolist()) == (0, [0])


@settings(max_examples=50)
@given(st.lists(st.booleans(), max_size=10))
def test_rows_spread_over_what_was_not_given_are_null_there(given: list[bool]) -> None:
    column = pa.array(range(sum(given)), pa.int64())
    [found] = spread([column], np.array(given, np.bool_))
    expected = iter(range(sum(given)))
    assert found.to_pylist() == [next(expected) if one else None for one in given]


@pytest.mark.parametrize(
    ("value", "json_value"),
    [
        (dt.datetime(2013, 1, 31, 12, tzinfo=dt.UTC), "2013-01-31T12:00:00Z"),
        (dt.datetime.fromisoformat("2013-01-31T12:00:00.5"), "2013-01-31T12:00:00.500000"),
        (dt.date(2013, 1, 31), "2013-01-31"),
        (dt.time(13, 45), "13:45:00"),
        (Decimal("1.50"), "1.50"),
        (b"\x00\xff", base64.b64encode(b"\x00\xff").decode()),
        ([Decimal(1), None, [b"a"]], ["1", None, ["YQ=="]]),
        ({"at": dt.date(2013, 1, 31), "in": {"x": b""}}, {"at": "2013-01-31", "in": {"x": ""}}),
        (None, None),
        (True, True),
        (1.5, 1.5),
        ("text", "text"),
    ],
)
def test_values_as_json_has_them(value: Any, json_value: Any) -> None:
    found = plain(value)
    assert found == json_value
    assert json.loads(json.dumps(found)) == json_value
