"""The forms in which JSON producers write times and whole numbers: read in C and by the strict reader alike."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.codec import codec_of
from mesh_pipelines.formats.decoded import Decoded
from mesh_pipelines.formats.registered import FORMATS

INSTANT, LOCAL = FieldType(Kind.TIMESTAMP), FieldType(Kind.TIMESTAMP_LOCAL)
DAY, CLOCK = FieldType(Kind.DATE), FieldType(Kind.TIME)


def decoded(kind: FieldType, values: list[str], native: bool) -> Decoded:
    """What becomes of the values as a field of an event, at the top and in a list inside an object."""
    inner = FieldType(Kind.STRUCT, fields=(Field("each", FieldType(Kind.LIST, items=kind)),))
    fields = (Field("top", kind), Field("inside", inner))
    events = [f'{{"top": {value}, "inside": {{"each": [{value}]}}}}'.encode() for value in values]
    plain = codec_of(FORMATS["json"]).reader(fields[:1], "", native=native).decode(pa.array(events, pa.large_binary()))
    nested = codec_of(FORMATS["json"]).reader(fields, "", native=native).decode(pa.array(events, pa.large_binary()))
    assert nested.faults == plain.faults
    assert nested.columns[0].equals(plain.columns[0])
    assert [row["each"] for row in nested.columns[1].to_pylist()] == [[one] for one in plain.columns[0].to_pylist()]
    return plain


def texts(*values: str) -> list[str]:
    return [f'"{value}"' for value in values]


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc, arg-type]


INSTANTS = {
    "2024-01-01T10:15:30Z": utc(2024, 1, 1, 10, 15, 30),
    "2024-01-01T10:15Z": utc(2024, 1, 1, 10, 15),
    "2024-01-01t10:15:30z": utc(2024, 1, 1, 10, 15, 30),
    "2024-01-01 10:15:30Z": utc(2024, 1, 1, 10, 15, 30),
    "2024-01-01T10:15:30+02:00": utc(2024, 1, 1, 8, 15, 30),
    "2024-01-01T10:15:30+0200": utc(2024, 1, 1, 8, 15, 30),
    "2024-01-01T10:15:30+02": utc(2024, 1, 1, 8, 15, 30),
    "2024-01-01 10:15-0930": utc(2024, 1, 1, 19, 45),
    "2024-01-01 10:15:30.1234567 -03:30": utc(2024, 1, 1, 13, 45, 30, 123456),
    "2024-01-01T10:15:30,5Z": utc(2024, 1, 1, 10, 15, 30, 500000),
    "2024-01-01T10:15:30.123456789Z": utc(2024, 1, 1, 10, 15, 30, 123456),
    "2024-12-31T23:59:59.9999999Z": utc(2024, 12, 31, 23, 59, 59, 999999),
    "2024-12-31T23:59:59.99999999999999999999999999Z": utc(2024, 12, 31, 23, 59, 59, 999999),
    "1969-12-31T23:59:59.9999999Z": utc(1969, 12, 31, 23, 59, 59, 999999),
    "9999-12-31T23:59:59.9999999Z": utc(9999, 12, 31, 23, 59, 59, 999999),
    "0001-01-01T00:00:00Z": utc(1, 1, 1),
    "2024-01-01T10:15:30\\u002e123456789Z": utc(2024, 1, 1, 10, 15, 30, 123456),
    "2024-01-01T10:15:30.\\u0031234569Z": utc(2024, 1, 1, 10, 15, 30, 123456),
    "2024-01-01T10:15:30-00:00": utc(2024, 1, 1, 10, 15, 30),
}


def test_an_instant_is_read_in_the_forms_that_producers_write_and_finer_digits_are_cut(native: bool) -> None:
    found = decoded(INSTANT, texts(*INSTANTS), native)
    assert found.faults == {}
    assert dict(zip(INSTANTS, found.columns[0].to_pylist(), strict=True)) == INSTANTS


REFUSED = {
    "2024-01-01T10:15:30": (
        "must be an instant with a zone such as 2024-01-31T10:15:30Z; timezone: false takes local times"
    ),
    "2024-01-01": "must be an instant such as 2024-01-31T10:15:30Z",
    "20240101T101530Z": "must be an instant such as 2024-01-31T10:15:30Z",
    "2024-01-01T10Z": "must be an instant such as 2024-01-31T10:15:30Z",
    "1700000000000": "must be an instant such as 2024-01-31T10:15:30Z",
    "2024-01-01T10:15:30.Z": "must be an instant such as 2024-01-31T10:15:30Z",
    "2024-01-01T10:15:30 UTC": "must be an instant such as 2024-01-31T10:15:30Z",
    "2024-01-01T10:15:30+2": "must be an instant such as 2024-01-31T10:15:30Z",
    "+010000-01-01T00:00:00Z": "must be an instant such as 2024-01-31T10:15:30Z",
    "": "must be an instant such as 2024-01-31T10:15:30Z",
    "2016-12-31T23:59:60Z": "must be a day and a time that exist: hours go to 23, minutes and seconds to 59",
    "2024-01-01T24:00:00Z": "must be a day and a time that exist: hours go to 23, minutes and seconds to 59",
    "2023-02-29T00:00:00Z": "must be a day and a time that exist: hours go to 23, minutes and seconds to 59",
    "2024-01-01T10:15:30+24:00": "must be a day and a time that exist: hours go to 23, minutes and seconds to 59",
}


def test_a_text_that_is_no_instant_is_refused_with_what_it_must_be(native: bool) -> None:
    found = decoded(INSTANT, texts(*REFUSED), native)
    reasons = [f"is not the contract's JSON: {why} - at `$.top`" for why in REFUSED.values()]
    assert list(found.faults.values()) == reasons


def test_local_times_days_and_times_of_day_have_the_same_forms(native: bool) -> None:
    local = decoded(LOCAL, texts("2024-01-01 10:15", "9999-12-31t23:59:59,9999999", "2024-01-01T10:15:30Z"), native)
    assert local.columns[0].to_pylist() == [
        utc(2024, 1, 1, 10, 15).replace(tzinfo=None),
        utc(9999, 12, 31, 23, 59, 59, 999999).replace(tzinfo=None),
    ]
    assert "without a zone" in local.faults[2]
    clock = decoded(CLOCK, texts("10:15", "23:59:59.9999999", "10:15:30,25", "24:00", "10:15:30+02", "t10:15"), native)
    assert clock.columns[0].to_pylist() == [dt.time(10, 15), dt.time(23, 59, 59, 999999), dt.time(10, 15, 30, 250000)]
    assert list(clock.faults) == [3, 4, 5]
    day = decoded(DAY, texts("9999-12-31", "0001-01-01", "2024-01-01T00:00:00Z", "20240101"), native)
    assert day.columns[0].to_pylist() == [dt.date(9999, 12, 31), dt.date(1, 1, 1)]
    assert list(day.faults) == [2, 3]


EPOCHS: list[tuple[str, str, Any]] = [
    ("s", "1700000000", utc(2023, 11, 14, 22, 13, 20)),
    ("s", "1700000000.5", utc(2023, 11, 14, 22, 13, 20, 500000)),
    ("s", "1700000000.123456999", utc(2023, 11, 14, 22, 13, 20, 123456)),
    ("s", "1.7e9", utc(2023, 11, 14, 22, 13, 20)),
    ("s", "-0.0000001", utc(1969, 12, 31, 23, 59, 59, 999999)),
    ("s", "253402300799.9999999", utc(9999, 12, 31, 23, 59, 59, 999999)),
    ("s", "253402300800", None),
    ("ms", "1700000000123", utc(2023, 11, 14, 22, 13, 20, 123000)),
    ("ms", "1700000000123.4567", utc(2023, 11, 14, 22, 13, 20, 123456)),
    ("ms", "-62135596800000", utc(1, 1, 1)),
    ("ms", "-62135596800001", None),
    ("ms", "1e999999999", None),
    ("ms", "9" * 400, None),
    ("us", "1700000000123456", utc(2023, 11, 14, 22, 13, 20, 123456)),
    ("ns", "1700000000123456789", utc(2023, 11, 14, 22, 13, 20, 123456)),
    ("ns", "1.7e18", utc(2023, 11, 14, 22, 13, 20)),
    ("ns", "-1", utc(1969, 12, 31, 23, 59, 59, 999999)),
    ("ms", '"2023-11-14T22:13:20Z"', utc(2023, 11, 14, 22, 13, 20)),
    ("ms", '"1700000000123"', None),
    ("ms", "true", None),
    ("", "1700000000123", None),
]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", ""])
def test_a_number_is_an_instant_where_the_contract_says_what_it_counts(unit: str, native: bool) -> None:
    cases = [(value, instant) for each, value, instant in EPOCHS if each == unit]
    found = decoded(FieldType(Kind.TIMESTAMP, epoch=unit), [value for value, _ in cases], native)
    assert found.columns[0].to_pylist() == [instant for _, instant in cases if instant]
    assert list(found.faults) == [index for index, (_, instant) in enumerate(cases) if not instant]
    local = decoded(FieldType(Kind.TIMESTAMP_LOCAL, epoch=unit), [v for v, at in cases if at and '"' not in v], native)
    assert local.columns[0].to_pylist() == [at.replace(tzinfo=None) for v, at in cases if at and '"' not in v]


def test_a_number_is_a_day_where_the_contract_says_what_it_counts(native: bool) -> None:
    days = decoded(FieldType(Kind.DATE, epoch="d"), ["19675", "-719162", "2932896", "2932897", "19675.9"], native)
    assert days.columns[0].to_pylist() == [
        dt.date(2023, 11, 14),
        dt.date(1, 1, 1),
        dt.date(9999, 12, 31),
        dt.date(2023, 11, 14),
    ]
    assert list(days.faults) == [3]
    late = decoded(FieldType(Kind.DATE, epoch="ms"), ["1700000000123", "-1", '"2024-01-31"'], native)
    assert late.columns[0].to_pylist() == [dt.date(2023, 11, 14), dt.date(1969, 12, 31), dt.date(2024, 1, 31)]


def test_a_number_without_a_unit_is_refused_and_the_reason_names_the_setting(native: bool) -> None:
    found = decoded(INSTANT, ["1700000000"], native)
    reason = "must be ISO 8601 text, got a number; mesh.epoch says what it counts"
    assert found.faults == {0: f"is not the contract's JSON: {reason} - at `$.top`"}


WHOLE = {
    "1.0": 1,
    "1e3": 1000,
    "-25.00": -25,
    "1200e-2": 12,
    "0e99": 0,
    "-0.0": 0,
    "2147483647.0": 2**31 - 1,
    "1.5": "must be a whole number",
    "1e-1": "must be a whole number",
    "2147483648": "must be a whole number of 32 bits",
    "1e999999999": "must be a whole number of 32 bits",
    '"1"': "must be a whole number, got text",
    "true": "must be a whole number, got true or false",
}


def test_a_whole_number_may_be_written_with_a_point_or_an_exponent(native: bool) -> None:
    found = decoded(FieldType(Kind.INT), list(WHOLE), native)
    assert found.columns[0].to_pylist() == [value for value in WHOLE.values() if isinstance(value, int)]
    reasons = [f"is not the contract's JSON: {why} - at `$.top`" for why in WHOLE.values() if isinstance(why, str)]
    assert list(found.faults.values()) == reasons
    exact = decoded(
        FieldType(Kind.LONG), ["9007199254740993.0", "9223372036854775807.00", "-9.223372036854775808e18"], native
    )
    assert exact.columns[0].to_pylist() == [2**53 + 1, 2**63 - 1, -(2**63)]


def test_numbers_and_truths_as_text_are_refused_but_for_decimals(native: bool) -> None:
    for kind in (Kind.INT, Kind.LONG, Kind.DOUBLE, Kind.FLOAT):
        assert list(decoded(FieldType(kind), ['"1"', "1"], native).faults) == [0]
    assert list(decoded(FieldType(Kind.BOOLEAN), ['"true"', "1", "true"], native).faults) == [0, 1]
    assert decoded(FieldType(Kind.DECIMAL, 5, 2), ['"1.5"', "1.5"], native).faults == {}


def test_a_byte_order_mark_in_front_is_passed_over(native: bool) -> None:
    reader = codec_of(FORMATS["json"]).reader((Field("id", FieldType(Kind.LONG)),), "", native=native)
    events = [b'\xef\xbb\xbf{"id": 1}', b'\0\0\0\0\x05\xef\xbb\xbf{"id": 2}', b'\xef\xbb\xbf\xef\xbb\xbf{"id": 3}']
    found = reader.decode(pa.array(events, pa.large_binary()))
    assert found.columns[0].to_pylist() == [1, 2]
    assert list(found.faults) == [2]
