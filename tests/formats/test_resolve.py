"""A writer's columns to the contract's: what promotes, what is filled, and which rows hold what no column can."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.types import arrow_type
from mesh_pipelines.formats.ranges import out_of_range
from mesh_pipelines.formats.readable import Irreconcilable, check, find
from mesh_pipelines.formats.resolve import project

INT, LONG, FLOAT, DOUBLE = (FieldType(kind) for kind in (Kind.INT, Kind.LONG, Kind.FLOAT, Kind.DOUBLE))
STRING, BYTES, DATE = FieldType(Kind.STRING), FieldType(Kind.BYTES), FieldType(Kind.DATE)
DECIMAL = FieldType(Kind.DECIMAL, precision=5, scale=2)
POINT = FieldType(Kind.STRUCT, fields=(Field("x", INT), Field("y", LONG, aliases=("z",))))


def holds(have: FieldType, want: FieldType) -> str | None:
    """Why a writer's field cannot be read as one of the contract's; None where it can."""
    try:
        check(["a"], lambda _: have, [Field("a", want)])
    except Irreconcilable as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("have", "want", "fits"),
    [
        (INT, LONG, True),
        (LONG, INT, False),
        (INT, DOUBLE, True),
        (FLOAT, DOUBLE, True),
        (DOUBLE, FLOAT, False),
        (STRING, BYTES, True),
        (BYTES, STRING, True),
        (STRING, FieldType(Kind.UUID), True),
        (STRING, INT, False),
        (FieldType(Kind.DECIMAL, precision=4, scale=2), DECIMAL, True),
        (FieldType(Kind.DECIMAL, precision=64, scale=2), DECIMAL, True),
        (FieldType(Kind.DECIMAL, precision=5, scale=1), DECIMAL, True),
        (BYTES, DECIMAL, False),
        (INT, FieldType(Kind.BOOLEAN), True),
        (LONG, FieldType(Kind.BOOLEAN), False),
        (STRING, FieldType(Kind.TIMESTAMP), True),
        (LONG, FieldType(Kind.TIMESTAMP), False),
        (FieldType(Kind.LIST, items=INT), FieldType(Kind.LIST, items=LONG), True),
        (FieldType(Kind.MAP, items=LONG), FieldType(Kind.MAP, items=INT), False),
        (FieldType(Kind.STRUCT, fields=(Field("x", INT),)), POINT, True),
        (FieldType(Kind.STRUCT, fields=(Field("x", STRING),)), POINT, False),
        (FieldType(Kind.STRUCT, fields=(Field("z", INT),)), POINT, True),
    ],
)
def test_what_a_type_may_be_read_as(have: FieldType, want: FieldType, fits: bool) -> None:
    assert (holds(have, want) is None) is fits


def test_the_field_that_does_not_fit_is_named_by_its_path() -> None:
    lists = FieldType(Kind.LIST, items=POINT)
    written = FieldType(Kind.LIST, items=FieldType(Kind.STRUCT, fields=(Field("x", STRING),)))
    assert "field a[].x must be int" in str(holds(written, lists))
    needed = FieldType(Kind.STRUCT, fields=(Field("x", INT, required=True),))
    assert str(holds(FieldType(Kind.STRUCT), needed)) == "field a.x, which is required, is missing"


def test_a_required_field_needs_a_writer_or_a_default() -> None:
    missing = [Field("a", INT, required=True)]
    with pytest.raises(Irreconcilable, match="has no field a, which is required"):
        check(["b"], lambda _: INT, missing)
    check(["b"], lambda _: INT, [Field("a", INT, required=True, default=7, has_default=True)])
    check(["b"], lambda _: INT, [Field("a", INT)])


def test_a_field_is_found_by_its_own_name_before_a_former_one() -> None:
    field = Field("new", INT, aliases=("old", "older"))
    assert find(["older", "old", "new"], field) == "new"
    assert find(["older", "old"], field) == "old"
    assert find(["other"], field) is None


def test_fields_that_a_writer_lacks_take_their_default_or_null() -> None:
    fields = [Field("a", INT, default=7), Field("b", DATE, default="2013-01-31"), Field("c", STRING)]
    found = project({}, 2, fields)
    assert [column.to_pylist() for column in found.columns] == [[7, 7], [dt.date(2013, 1, 31)] * 2, [None, None]]
    assert found.faults == {}


def test_rows_of_no_event_take_no_default() -> None:
    given = np.array([True, False])
    found = project({"b": pa.array([1, None], pa.int32())}, 2, [Field("a", INT, default=7), Field("b", INT)], given)
    assert [column.to_pylist() for column in found.columns] == [[7, None], [1, None]]


def test_a_row_that_does_not_fit_is_left_out_of_every_column_with_its_reason() -> None:
    columns = {
        "a": pa.array([b"x", b"\xff", None, "é".encode()], pa.large_binary()),
        "b": pa.array([1, 2, 3, 4], pa.int32()),
    }
    found = project(columns, 4, [Field("a", STRING), Field("b", INT)])
    assert [column.to_pylist() for column in found.columns] == [["x", None, "é"], [1, 3, 4]]
    assert found.faults == {1: "field a has a value that does not fit the type large_string"}
    assert found.count == 4


TEXTS = st.lists(st.none() | st.binary(max_size=4) | st.text(max_size=3).map(str.encode), max_size=8)


def is_text(value: bytes | None) -> bool:
    try:
        return value is None or bool(value.decode()) or True
    except UnicodeDecodeError:
        return False


@given(TEXTS, st.data())
def test_text_is_what_decodes_whatever_its_neighbours(values: list[bytes | None], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(values)))
    array = pa.array(values, pa.large_binary())[start:]
    kept = [one for one in values[start:] if is_text(one)]
    found = project({"a": array}, len(array), [Field("a", STRING)])
    assert found.columns[0].to_pylist() == [None if one is None else one.decode() for one in kept]
    assert found.faults.keys() == {at for at, one in enumerate(values[start:]) if not is_text(one)}


def unscaled(value: Decimal) -> bytes:
    number = int(value.scaleb(2))
    return number.to_bytes(max(1, (number.bit_length() + 8) // 8), "big", signed=True)


@given(st.lists(st.none() | st.decimals(-2000, 2000, places=2), max_size=8), st.integers(0, 3))
def test_decimals_are_read_from_bytes_of_any_length_and_held_to_their_digits(
    values: list[Decimal | None], padding: int
) -> None:
    def wide(value: Decimal) -> bytes:
        return (b"\xff" if value < 0 else b"\x00") * padding + unscaled(value)

    array = pa.array([None if one is None else wide(one) for one in values], pa.large_binary())
    found = project({"a": array}, len(values), [Field("a", DECIMAL)])
    fits = [one is None or abs(one) <= Decimal("999.99") for one in values]
    assert found.columns[0].to_pylist() == [one for one, fit in zip(values, fits, strict=True) if fit]
    assert found.faults.keys() == {at for at, fit in enumerate(fits) if not fit}


@pytest.mark.parametrize("value", [b"", b"\x01" + b"\x00" * 16, b"\xff" + b"\x00" * 16, b"\x00" + b"\xff" * 16])
def test_a_decimal_of_no_bytes_or_of_too_many_is_none(value: bytes) -> None:
    found = project({"a": pa.array([value, b"\x01"], pa.large_binary())}, 2, [Field("a", DECIMAL)])
    assert found.columns[0].to_pylist() == [Decimal("0.01")]
    assert found.faults.keys() == {0}


DAYS = st.lists(st.none() | st.integers(-(2**31), 2**31 - 1) | st.integers(-800_000, 3_000_000), max_size=8)


@settings(max_examples=50)
@given(DAYS)
def test_days_outside_the_calendar_are_found(days: list[int | None]) -> None:
    first, last = ((one - dt.date(1970, 1, 1)).days for one in (dt.date.min, dt.date.max))
    out = [one is not None and not first <= one <= last for one in days]
    found = out_of_range(pa.array(days, pa.int32()).cast(pa.date32()))
    assert (found.tolist() if found is not None else [False] * len(days)) == out


def test_a_time_is_within_a_day() -> None:
    array = pa.array([0, 86_399_999, 86_400_000, -1, None], pa.int32()).cast(pa.time32("ms"))
    found = out_of_range(array)
    assert found is not None
    assert found.tolist() == [False, False, True, True, False]
    assert out_of_range(array[:2]) is None


def test_a_list_or_map_that_holds_what_does_not_fit_does_not_fit() -> None:
    lists = pa.array([[b"a"], [b"\xff", b"b"], None, []], pa.list_(pa.large_binary()))
    found = project({"a": lists}, 4, [Field("a", FieldType(Kind.LIST, items=STRING))])
    assert found.columns[0].to_pylist() == [["a"], None, []]
    assert found.faults.keys() == {1}
    entries = [[{"key": b"k", "value": 1}], None, [{"key": b"\xff", "value": 2}], []]
    entry = pa.struct([("key", pa.large_binary()), ("value", pa.int32())])
    found = project({"a": pa.array(entries, pa.list_(entry))}, 4, [Field("a", FieldType(Kind.MAP, items=INT))])
    assert found.columns[0].to_pylist() == [[("k", 1)], None, []]
    assert found.faults.keys() == {2}


def test_a_null_struct_stays_null_and_its_fields_are_found_by_former_names() -> None:
    written = pa.array([{"x": 1, "z": 2}, None], pa.struct([("x", pa.int32()), ("z", pa.int32())]))
    found = project({"a": written}, 2, [Field("a", POINT)])
    assert found.columns[0].to_pylist() == [{"x": 1, "y": 2}, None]
    assert found.columns[0].type == arrow_type(POINT)


@pytest.mark.parametrize("slice_from", [0, 1, 3])
def test_columns_may_be_slices(slice_from: int) -> None:
    array = pa.array([[1], [2, 3], None, [4]], pa.list_(pa.int32()))[slice_from:]
    found = project({"a": array}, len(array), [Field("a", FieldType(Kind.LIST, items=LONG))])
    assert found.columns[0].to_pylist() == [[1], [2, 3], None, [4]][slice_from:]


def test_a_dictionary_is_the_texts_that_it_stands_for() -> None:
    found = project({"a": pa.array(["x", "y", "x"]).dictionary_encode()}, 3, [Field("a", STRING)])
    assert found.columns[0].to_pylist() == ["x", "y", "x"]


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=6))
def test_numbers_widen(values: list[int | None]) -> None:
    found: Any = project({"a": pa.array(values, pa.int64())}, len(values), [Field("a", DOUBLE)])
    assert found.columns[0].to_pylist() == [None if one is None else float(one) for one in values]
