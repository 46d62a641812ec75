"""JSON that no field can hold, or that is meant to stall: refused with a reason, beside good neighbours."""

from __future__ import annotations

import datetime as dt
import time
from decimal import Decimal

import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.json.portable import JsonReader

READER = JsonReader(
    (
        Field("price", FieldType(Kind.DECIMAL, 38, 2)),
        Field("at", FieldType(Kind.TIMESTAMP)),
        Field("time", FieldType(Kind.TIME)),
        Field("count", FieldType(Kind.LONG)),
        Field("ratio", FieldType(Kind.DOUBLE)),
        Field("name", FieldType(Kind.STRING)),
        Field("prices", FieldType(Kind.LIST, items=FieldType(Kind.DECIMAL, 5, 2))),
        Field(
            "stops",
            FieldType(Kind.LIST, items=FieldType(Kind.STRUCT, fields=(Field("at", FieldType(Kind.TIMESTAMP)),))),
        ),
        Field("times", FieldType(Kind.MAP, items=FieldType(Kind.TIMESTAMP))),
    )
)
GOOD = b'{"price": 123456789012345678901234567890123456.78, "at": "2013-01-31T12:00:00+02:00", "prices": [1.5]}'


@pytest.mark.parametrize(
    "bad",
    [
        *(b'{"price": %s}' % price for price in (b'"NaN"', b'"sNaN"', b'"Infinity"', b"1e999999999", b"1e-999999999")),
        *(b'{"price": %s}' % price for price in (b"1.234", b"1" * 100_000, b"0." + b"0" * 100_000 + b"1")),
        b'{"prices": [1.5, 1.234]}',
        b'{"prices": [123456]}',
        b'{"at": "0001-01-01T00:00:00+14:00"}',
        b'{"at": "2013-01-31T12:00:00"}',
        b'{"stops": [null, {"at": "0001-01-01T00:00:00+14:00"}]}',
        b'{"times": {"start": "9999-12-31T23:59:59-14:00"}}',
        b'{"time": "12:00:00Z"}',
        b'{"count": 9223372036854775808}',
        b'{"count": %s}' % (b"9" * 100_000),
        b'{"ratio": 1e400}',
        b'{"name": "\\ud800"}',
        b'{"name": "\xff"}',
        b'{"name": "' + b"x" * 1_000_000,
        b"[" * 1_000_000,
        b'{"unknown": ' + b"[" * 1_000_000,
        b'{"count": 1e999999999}',
        b'{"count": %s.0}' % (b"9" * 100_000),
        b'{"at": "2013-01-31T12:00:00.%sX"}' % (b"9" * 100_000),
        b'{"unknown": 1}',
        b"",
    ],
    ids=lambda bad: bad[:40].decode("latin-1"),
)
def test_what_no_field_holds_is_refused_beside_good_neighbours(bad: bytes) -> None:
    began = time.monotonic()
    found = READER.decode(pa.array([GOOD, bad, GOOD], pa.large_binary()))
    assert list(found.faults) == [1]
    assert 10 < len(found.faults[1]) < 300
    names = [field.name for field in READER.fields]
    first, second = pa.table(found.columns, names=names).to_pylist()
    assert first == second
    assert first["price"] == Decimal("123456789012345678901234567890123456.78")
    assert first["at"] == dt.datetime(2013, 1, 31, 10, tzinfo=dt.UTC)
    assert first["prices"] == [Decimal("1.50")]
    assert time.monotonic() - began < 5


def test_of_a_field_that_is_there_twice_the_last_counts() -> None:
    found = READER.decode(pa.array([b'{"count": 1, "count": 2}'], pa.large_binary()))
    assert found.columns[3].to_pylist() == [2]


def test_two_ways_not_to_fit_one_field_are_both_found() -> None:
    found = READER.decode(pa.array([b'{"price": 1.234}', GOOD, b'{"price": "NaN"}'], pa.large_binary()))
    assert list(found.faults) == [0, 2]
    assert len(found.columns[0]) == 1


@pytest.mark.parametrize(
    ("event", "size"),
    [
        (b'{"size": 1, "width": 2, "w": 3}', 1),
        (b'{"w": 3, "width": 2}', 2),
        (b'{"w": 3}', 3),
        (b'{"size": null, "w": 3}', None),
        (b'{"other": 1, "size": 7}', 7),
    ],
)
def test_a_field_is_read_from_its_former_names(event: bytes, size: int | None) -> None:
    field = Field("size", FieldType(Kind.LONG), aliases=("width", "w"), default=7, has_default=True)
    found = JsonReader((field,)).decode(pa.array([event, b'{"w": "no number"}'], pa.large_binary()))
    assert found.columns[0].to_pylist() == [size]
    assert list(found.faults) == [1]
