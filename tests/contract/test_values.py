"""Values as a contract writes them, as values of a field's type: strictly, or not at all."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.values import default_value, parse

DECIMAL = FieldType(Kind.DECIMAL, precision=5, scale=2)
UTC = dt.UTC


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (Kind.BOOLEAN, True, True),
        (Kind.INT, -(2**31), -(2**31)),
        (Kind.INT, 2**31 - 1, 2**31 - 1),
        (Kind.LONG, 2**63 - 1, 2**63 - 1),
        (Kind.DOUBLE, 3, 3.0),
        (Kind.FLOAT, 0.5, 0.5),
        (Kind.STRING, "", ""),
        (Kind.DATE, "2012-02-29", dt.date(2012, 2, 29)),
        (Kind.TIME, "13:45", dt.time(13, 45)),
        (Kind.TIME, "13:45:00.5", dt.time(13, 45, 0, 500_000)),
        (Kind.TIMESTAMP, "2013-01-31T12:00:00+02:00", dt.datetime(2013, 1, 31, 10, tzinfo=UTC)),
        (Kind.TIMESTAMP, "2013-01-31 12:00Z", dt.datetime(2013, 1, 31, 12, tzinfo=UTC)),
        (Kind.TIMESTAMP_LOCAL, "2013-01-31T12:00:00.123456", dt.datetime.fromisoformat("2013-01-31T12:00:00.123456")),
        (Kind.UUID, "{C056A475-6A53-4BBA-8F2B-3EB1E85A29DE}", "c056a475-6a53-4bba-8f2b-3eb1e85a29de"),
    ],
)
def test_a_value_of_the_type(kind: Kind, given: Any, value: Any) -> None:
    found = parse(given, FieldType(kind))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        (Kind.BOOLEAN, 1, "true or false"),
        (Kind.BOOLEAN, "true", "true or false"),
        (Kind.INT, 2**31, "a whole number of 32 bits"),
        (Kind.INT, -(2**31) - 1, "a whole number of 32 bits"),
        (Kind.LONG, 2**63, "a whole number of 64 bits"),
        (Kind.INT, True, "a whole number of 32 bits"),
        (Kind.INT, 1.0, "a whole number of 32 bits"),
        (Kind.DOUBLE, True, "a number"),
        (Kind.DOUBLE, "1", "a number"),
        (Kind.STRING, 1, "text"),
        (Kind.DATE, "2013-02-29", "a date such as 2013-01-31"),
        (Kind.DATE, "20130131", "a date such as 2013-01-31"),
        (Kind.DATE, "2013-W05-4", "a date such as 2013-01-31"),
        (Kind.DATE, dt.date(2013, 1, 31), "a date such as 2013-01-31"),
        (Kind.TIME, "24:00:01", "a time such as 13:45:00"),
        (Kind.TIME, "13:45:00Z", "a time such as 13:45:00"),
        (Kind.TIME, "13:45:00.1234567", "a time such as 13:45:00"),
        (Kind.TIMESTAMP, "2013-01-31T12:00:00", "an instant such as 2013-01-31T13:45:00Z, with a zone"),
        (Kind.TIMESTAMP_LOCAL, "2013-01-31T12:00:00Z", "an instant such as 2013-01-31T13:45:00, without a zone"),
        (Kind.TIMESTAMP, "2013-01-31", "an instant such as 2013-01-31T13:45:00Z"),
        # It is an instant, and in UTC it lies before the year 1.
        (Kind.TIMESTAMP, "0001-01-01T00:00:00+02:00", "an instant such as 2013-01-31T13:45:00Z"),
        (Kind.UUID, "c056a475", "a UUID"),
        (Kind.UUID, 7, "a UUID"),
        (Kind.LIST, [1], "null"),
        (Kind.BYTES, "a", "null"),
    ],
)
def test_a_value_of_another_type_says_what_would_be_one(kind: Kind, given: Any, wanted: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse(given, FieldType(kind))
    assert str(caught.value) == wanted


@given(st.decimals(-Decimal("999.99"), Decimal("999.99"), places=2))
def test_a_decimal_that_fits_is_kept_exactly(value: Decimal) -> None:
    assert parse(str(value), DECIMAL) == value


@pytest.mark.parametrize("given", ["1000", "-1000.00", "0.001", "x", "NaN", "Infinity", True, None])
def test_a_decimal_that_does_not_fit_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(given, DECIMAL)


@pytest.mark.parametrize("given", ["1.50", "1.5000", 1.5, "15e-1"])
def test_zeros_at_the_end_of_a_decimal_need_no_place(given: Any) -> None:
    assert parse(given, DECIMAL) == Decimal("1.5")


@given(st.dates())
def test_a_date_comes_back(value: dt.date) -> None:
    assert parse(value.isoformat(), FieldType(Kind.DATE)) == value


@given(st.datetimes(dt.datetime.fromisoformat("0001-01-02"), timezones=st.timezones()))
def test_an_instant_is_the_same_in_utc(value: dt.datetime) -> None:
    offset = value.utcoffset()
    if offset is None or offset.seconds % 60 or value.year == 9999:
        return
    found = parse(value.isoformat(), FieldType(Kind.TIMESTAMP))
    assert found == value.astimezone(UTC)
    assert found.tzinfo is UTC


@given(st.uuids(), st.booleans())
def test_a_uuid_is_in_one_form(value: uuid.UUID, capitals: bool) -> None:
    text = str(value).upper() if capitals else value.hex
    assert parse(text, FieldType(Kind.UUID)) == str(value)


@given(st.sampled_from(Kind), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12))
def test_any_value_is_of_the_type_or_refused(kind: Kind, value: Any) -> None:
    try:
        found = parse(value, FieldType(kind, precision=9, scale=2))
    except ValueError:
        return
    assert found is not None


def test_a_default_is_a_value_of_its_field() -> None:
    assert default_value(Field("a", FieldType(Kind.DATE), default="2013-01-31")) == dt.date(2013, 1, 31)
    assert default_value(Field("a", FieldType(Kind.DATE))) is None
    assert default_value(Field("a", FieldType(Kind.LIST, items=FieldType(Kind.INT)), default=[])) == []
