"""Metrics that judge single rows: their SQL in DuckDB against what they say in words, over values of each type."""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.metrics.metric import EVERY_TYPE
from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.contract.metrics.registry import metrics
from mesh_pipelines.contract.model import Field, FieldType, Kind, RuleKind
from mesh_pipelines.contract.types import duckdb_type

INT, LONG, FLOAT, DOUBLE = (FieldType(kind) for kind in (Kind.INT, Kind.LONG, Kind.FLOAT, Kind.DOUBLE))
STRING, BYTES, BOOLEAN, DATE = (FieldType(kind) for kind in (Kind.STRING, Kind.BYTES, Kind.BOOLEAN, Kind.DATE))
INSTANT, LOCAL, TIME = (FieldType(kind) for kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LOCAL, Kind.TIME))
UUID = FieldType(Kind.UUID)
DECIMAL = FieldType(Kind.DECIMAL, precision=9, scale=2)
LIST = FieldType(Kind.LIST, items=INT)

INTS = st.integers(-(2**31), 2**31 - 1)
DECIMALS = st.decimals(-9_999_999, 9_999_999, places=2)
TEXTS = st.text("abz09 -_é😀\n", max_size=6)


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        yield opened


def broken(engine: duckdb.DuckDBPyConnection, metric: str, of: FieldType, value: Any, **arguments: Any) -> bool | None:
    """Whether a value breaks a rule, by the metric's SQL."""
    predicate = metrics()[metric].predicate('"a"', of, arguments)
    given = engine.execute(f"SELECT {predicate} FROM (SELECT CAST(? AS {duckdb_type(of)}) AS a)", [value]).fetchone()
    assert given is not None
    return given[0]


LIMITS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, limit: value < limit,
    "maximum": lambda value, limit: value > limit,
    "exclusiveMinimum": lambda value, limit: value <= limit,
    "exclusiveMaximum": lambda value, limit: value >= limit,
}


@pytest.mark.parametrize("metric", LIMITS)
@settings(max_examples=30)
@given(value=INTS, limit=INTS | st.floats(-1e6, 1e6).map(lambda number: round(number, 3)))
def test_a_limit_of_integers_need_not_be_one(engine, metric: str, value: int, limit: float) -> None:
    assert broken(engine, metric, INT, value, **{metric: limit}) is LIMITS[metric](Decimal(value), Decimal(str(limit)))


@pytest.mark.parametrize("metric", LIMITS)
@settings(max_examples=30)
@given(value=DECIMALS, limit=st.integers(-1000, 1000) | st.sampled_from([0.1, 0.125, -3.333, 1e-7]))
def test_a_limit_of_decimals_is_compared_exactly(engine, metric: str, value: Decimal, limit: float) -> None:
    assert broken(engine, metric, DECIMAL, value, **{metric: limit}) is LIMITS[metric](value, Decimal(str(limit)))


@pytest.mark.parametrize("metric", LIMITS)
@settings(max_examples=30)
@given(value=st.floats(allow_nan=False), limit=st.floats(allow_nan=False, allow_infinity=False))
def test_a_limit_of_doubles(engine, metric: str, value: float, limit: float) -> None:
    assert broken(engine, metric, DOUBLE, value, **{metric: limit}) is LIMITS[metric](value, limit)


def test_a_limit_of_floats_is_a_float() -> None:
    with duckdb.connect() as engine:
        [tenth] = struct.unpack("f", struct.pack("f", 0.1))
        assert tenth != 0.1
        assert broken(engine, "exclusiveMinimum", FLOAT, tenth, exclusiveMinimum=0.1) is True
        assert broken(engine, "minimum", FLOAT, tenth, minimum=0.1) is False


@pytest.mark.parametrize("metric", LIMITS)
@settings(max_examples=30)
@given(value=st.dates(), limit=st.dates())
def test_a_limit_of_dates(engine, metric: str, value: dt.date, limit: dt.date) -> None:
    assert broken(engine, metric, DATE, value, **{metric: limit.isoformat()}) is LIMITS[metric](value, limit)


@pytest.mark.parametrize(
    ("of", "limit", "value", "below"),
    [
        (INSTANT, "2013-01-31T12:00:00+02:00", "2013-01-31T09:59:59Z", True),
        (INSTANT, "2013-01-31T12:00:00+02:00", "2013-01-31T10:00:00Z", False),
        (LOCAL, "2013-01-31T12:00:00", "2013-01-31T11:59:59.999999", True),
        (LOCAL, "2013-01-31 12:00", "2013-01-31T12:00:00", False),
        (TIME, "13:45:00", "13:44:59", True),
        (TIME, "13:45", "13:45:00", False),
    ],
)
def test_a_limit_of_times_keeps_its_zone(engine, of: FieldType, limit: str, value: str, below: bool) -> None:
    assert broken(engine, "minimum", of, value, minimum=limit) is below


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_a_limit_means_the_same_whatever_the_zone_of_the_session(zone: str) -> None:
    with duckdb.connect() as engine:
        engine.execute(f"SET TimeZone = '{zone}'")
        value = dt.datetime(2013, 1, 31, 10, tzinfo=dt.UTC)
        limit = "2013-01-31T12:00:00+02:00"
        assert broken(engine, "minimum", INSTANT, value, minimum=limit) is False
        assert broken(engine, "exclusiveMinimum", INSTANT, value, exclusiveMinimum=limit) is True


@pytest.mark.parametrize("value", [True, "5", None, math.inf, math.nan])
def test_what_is_no_number_is_no_limit_of_numbers(value: Any) -> None:
    with pytest.raises(Uncompilable, match="must be a number"):
        metrics()["minimum"].predicate('"a"', INT, {"minimum": value})


@pytest.mark.parametrize("value", ["2013-02-30", "31.1.2013", 20130131, "2013-01-31T00:00:00"])
def test_what_is_no_date_is_no_limit_of_dates(value: Any) -> None:
    with pytest.raises(Uncompilable, match="must be of type date"):
        metrics()["maximum"].predicate('"a"', DATE, {"maximum": value})
    field = Field("a", DATE)
    [problem] = metrics()["maximum"].option_problems(value, field)
    assert problem.fix == "write a date such as 2013-01-31"


@settings(max_examples=30)
@given(value=INTS, step=st.integers(1, 1000))
def test_a_multiple_of_integers(engine, value: int, step: int) -> None:
    assert broken(engine, "multipleOf", INT, value, multipleOf=step) is (value % step != 0)


@settings(max_examples=30)
@given(value=DECIMALS, step=st.sampled_from([0.01, 0.05, 0.25, 1, 3, 0.1]))
def test_a_multiple_of_decimals_is_exact(engine, value: Decimal, step: float) -> None:
    assert broken(engine, "multipleOf", DECIMAL, value, multipleOf=step) is (value % Decimal(str(step)) != 0)


@settings(max_examples=30)
@given(many=st.integers(-(10**9), 10**9), step=st.sampled_from([0.01, 0.1, 0.25, 1.5, 7.0]))
def test_a_multiple_of_doubles_is_near_enough_and_half_a_step_off_is_not(engine, many: int, step: float) -> None:
    assert broken(engine, "multipleOf", DOUBLE, many * step, multipleOf=step) is False
    assert broken(engine, "multipleOf", DOUBLE, (many + 0.5) * step, multipleOf=step) is True


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_no_multiple(engine, value: float) -> None:
    assert broken(engine, "multipleOf", DOUBLE, value, multipleOf=0.5) is True


SIZES: Mapping[str, Callable[[int, int], bool]] = {
    "minLength": lambda length, size: length < size,
    "maxLength": lambda length, size: length > size,
}


@pytest.mark.parametrize("metric", SIZES)
@settings(max_examples=30)
@given(value=TEXTS, size=st.integers(0, 7))
def test_a_text_is_as_long_as_it_has_code_points(engine, metric: str, value: str, size: int) -> None:
    assert broken(engine, metric, STRING, value, **{metric: size}) is SIZES[metric](len(value), size)


@pytest.mark.parametrize("metric", SIZES)
@settings(max_examples=30)
@given(value=st.binary(max_size=6), size=st.integers(0, 7))
def test_a_binary_is_as_long_as_it_has_bytes(engine, metric: str, value: bytes, size: int) -> None:
    assert broken(engine, metric, BYTES, value, **{metric: size}) is SIZES[metric](len(value), size)


@settings(max_examples=30)
@given(value=st.lists(st.none() | st.integers(0, 3), max_size=5), size=st.integers(0, 6))
def test_a_list_is_as_long_as_it_has_items_nulls_included(engine, value: list[int | None], size: int) -> None:
    assert broken(engine, "minItems", LIST, value, minItems=size) is (len(value) < size)
    assert broken(engine, "maxItems", LIST, value, maxItems=size) is (len(value) > size)


@settings(max_examples=30)
@given(value=st.lists(st.none() | st.integers(0, 3), max_size=5))
def test_an_item_that_is_there_twice_is_found_and_null_is_no_item(engine, value: list[int | None]) -> None:
    known = [one for one in value if one is not None]
    assert broken(engine, "uniqueItems", LIST, value, uniqueItems=True) is (len(known) != len(set(known)))


def test_that_items_need_not_be_unique_promises_nothing() -> None:
    from mesh_pipelines.contract.model import Rule

    rule = Rule("a.uniqueItems", RuleKind.ROW, "uniqueItems", ("a",))
    field = Field("a", LIST)
    assert metrics()["uniqueItems"].of_option(rule, False, field) is None
    kept = metrics()["uniqueItems"].of_option(rule, True, field)
    assert kept is not None
    assert kept.arguments == {"uniqueItems": True}
    with pytest.raises(Uncompilable, match="must be true, got False"):
        metrics()["uniqueItems"].predicate('"a"', LIST, {"uniqueItems": False})


@pytest.mark.parametrize("metric", ["minLength", "maxLength", "minItems", "maxItems"])
@pytest.mark.parametrize("size", [-1, 1.5, True, "3", None])
def test_what_is_no_whole_number_is_no_length(metric: str, size: Any) -> None:
    with pytest.raises(Uncompilable, match="must be a whole number from 0"):
        metrics()[metric].predicate('"a"', STRING, {metric: size})


@pytest.mark.parametrize(
    ("metric", "of", "value", "arguments"),
    [
        ("minimum", INT, None, {"minimum": 3}),
        ("multipleOf", DOUBLE, None, {"multipleOf": 0.5}),
        ("minLength", STRING, None, {"minLength": 3}),
        ("maxItems", LIST, None, {"maxItems": 0}),
        ("uniqueItems", LIST, None, {"uniqueItems": True}),
        ("pattern", STRING, None, {"pattern": "a"}),
        ("format", STRING, None, {"format": "uuid"}),
        ("format", STRING, None, {"format": "hostname"}),
        ("invalidValues", STRING, None, {"validValues": ["a"]}),
        ("invalidValues", STRING, None, {"validValues": ["a"], "pattern": "a"}),
        ("range", INT, None, {"minimum": 0, "maximum": 3}),
    ],
)
def test_null_breaks_no_rule_but_those_about_null(engine, metric: str, of: FieldType, value: Any, arguments) -> None:
    assert not broken(engine, metric, of, value, **arguments)


@pytest.mark.parametrize("metric", ["required", "nullValues"])
def test_null_breaks_the_rules_about_null(engine, metric: str) -> None:
    assert broken(engine, metric, INT, None) is True
    assert broken(engine, metric, INT, 0) is False


@settings(max_examples=30)
@given(value=st.none() | TEXTS, listed=st.lists(st.none() | TEXTS, min_size=1, max_size=4))
def test_a_missing_value_is_null_or_listed(engine, value: str | None, listed: list[str | None]) -> None:
    found = broken(engine, "missingValues", STRING, value, missingValues=listed)
    assert found is (value is None or value in listed)


@settings(max_examples=30)
@given(value=TEXTS, listed=st.lists(TEXTS, min_size=1, max_size=4))
def test_an_invalid_value_is_not_listed(engine, value: str, listed: list[str]) -> None:
    assert broken(engine, "invalidValues", STRING, value, validValues=listed) is (value not in listed)


@settings(max_examples=30)
@given(value=TEXTS)
def test_an_invalid_value_breaks_the_list_or_the_pattern(engine, value: str) -> None:
    found = broken(engine, "invalidValues", STRING, value, validValues=["a", "ab", "z"], pattern="^a")
    assert found is (value not in ("a", "ab", "z") or re.match("a", value) is None)


@settings(max_examples=30)
@given(value=st.integers(-200, 200))
def test_the_pattern_of_an_integer_is_about_its_digits(engine, value: int) -> None:
    found = broken(engine, "invalidValues", LONG, value, pattern="^-?[0-9]{2}$")
    assert found is (re.fullmatch("-?[0-9]{2}", str(value)) is None)


@pytest.mark.parametrize(
    ("of", "value", "listed", "found"),
    [
        (FLOAT, 0.1, [0.1, 5], False),
        (DOUBLE, 0.1, [0.1], False),
        (DECIMAL, Decimal("1.50"), [1.5], False),
        (BOOLEAN, True, [False], True),
        (DATE, "2013-01-31", ["2013-01-31"], False),
        (INSTANT, "2013-01-31T10:00:00Z", ["2013-01-31T12:00:00+02:00"], False),
        (UUID, "C056A475-6A53-4BBA-8F2B-3EB1E85A29DE", ["c056a475-6a53-4bba-8f2b-3eb1e85a29de"], False),
    ],
)
def test_listed_values_are_compared_in_the_type_of_the_field(engine, of: FieldType, value, listed, found) -> None:
    assert broken(engine, "invalidValues", of, value, validValues=listed) is found


@pytest.mark.parametrize(
    ("metric", "of", "arguments", "problem"),
    [
        ("invalidValues", INT, {"validValues": ["N/A"]}, "must be of type int, got 'N/A'"),
        ("invalidValues", BYTES, {"validValues": ["a"]}, "the values of a bytes cannot be listed"),
        ("invalidValues", INT, {"validValues": [None]}, "must list at least one valid value"),
        ("invalidValues", INT, {"validValues": 3}, "validValues must be a list"),
        ("invalidValues", INT, {}, "must have validValues or pattern"),
        ("invalidValues", DATE, {"pattern": "a"}, "a date has no text to match"),
        ("missingValues", INT, {}, "missingValues must be a list"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(metric: str, of: FieldType, arguments, problem: str) -> None:
    with pytest.raises(Uncompilable, match=re.escape(problem)):
        metrics()[metric].predicate('"a"', of, arguments)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("i8", -128, 127), ("i16", -32768, 32767), ("u8", 0, 255), ("u16", 0, 65535), ("u32", 0, 4_294_967_295)],
)
def test_the_format_of_an_integer_is_its_range(engine, name: str, low: int, high: int) -> None:
    from mesh_pipelines.contract.model import Rule

    rule = metrics()["format"].of_option(Rule("a.format", RuleKind.ROW, "format", ("a",)), name, Field("a", LONG))
    assert rule is not None
    assert rule.check == "range"
    for value, out in ((low - 1, True), (low, False), (high, False), (high + 1, True)):
        assert broken(engine, rule.check, LONG, value, **rule.arguments) is out


def test_a_format_that_chooses_the_type_of_an_integer_is_no_rule() -> None:
    from mesh_pipelines.contract.model import Rule

    rule = Rule("a.format", RuleKind.ROW, "format", ("a",))
    assert metrics()["format"].of_option(rule, "i64", Field("a", LONG)) is None


def test_a_hostname_is_no_longer_than_it_may_be(engine) -> None:
    label = "a" * 63
    long = ".".join([label, label, label, "b" * 61])
    assert len(long) == 253
    assert broken(engine, "format", STRING, long, format="hostname") is False
    assert broken(engine, "format", STRING, long + "b", format="hostname") is True


def test_a_column_is_only_ever_named_as_it_was_quoted() -> None:
    for name, metric in metrics().items():
        if metric.kind is RuleKind.ROW and metric.types == EVERY_TYPE:
            assert '"a b"' in metric.predicate('"a b"', INT, {}), name
