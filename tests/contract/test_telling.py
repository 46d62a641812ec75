"""What may stand in words, decided in one place."""

from __future__ import annotations

import traceback

import duckdb
import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.telling import got, may_tell, repeated, unquoted, words
from mesh_pipelines.errors import EnvironmentFault, TransformInvalid

PUBLIC = Field("name", FieldType(Kind.STRING))
SECRET = Field("name", FieldType(Kind.STRING), classification="restricted")


def wrapped(field: Field) -> list[Field]:
    inside = FieldType(Kind.STRUCT, fields=(PUBLIC, field))
    kinds = [inside, FieldType(Kind.LIST, items=inside), FieldType(Kind.MAP, items=inside)]
    return [field, *(Field("top", kind) for kind in kinds), Field("top", FieldType(Kind.MAP, items=kinds[1]))]


@pytest.mark.parametrize("number", range(5))
def test_a_column_is_told_where_it_is_public_at_every_depth(number: int) -> None:
    assert may_tell([wrapped(PUBLIC)[number]])
    assert got(wrapped(PUBLIC)[number], "v" * 100) == ", got " + "v" * 60
    assert not may_tell([PUBLIC, wrapped(SECRET)[number]])
    assert got(wrapped(SECRET)[number], "v") == ""


def test_an_error_tells_its_words_where_all_columns_are_public_or_it_is_about_a_text() -> None:
    quoting = duckdb.ConversionException("Conversion Error: Could not convert string 'canary'\nLINE 1: SELECT")
    assert words(quoting, [PUBLIC]) == "Conversion Error: Could not convert string 'canary'"
    assert words(quoting, [SECRET]) == "ConversionException"
    assert words(duckdb.BinderException("Binder Error: no column x"), [SECRET]) == "Binder Error: no column x"
    assert words(KeyError(), [PUBLIC]) == "KeyError"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "ConversionException",
        "Binder Error: no column x",
        "the query gave null",
        "great_expectations is not installed",
    ],
)
def test_stored_words_that_quote_nothing_are_repeated(said: str) -> None:
    assert repeated(said, [SECRET]) == said


@pytest.mark.parametrize(
    "said",
    [
        "Conversion Error: Could not convert string 'canary'",
        "Invalid Input Error: Binder Error: canary",
        "could not convert string to float: 'canary'",
        "canary",
        "canary\nthe query gave null",
    ],
)
def test_other_stored_words_are_repeated_of_public_fields_only(said: str) -> None:
    assert repeated(said, [PUBLIC]) == said
    assert "canary" not in repeated(said, [PUBLIC, SECRET])


# What DuckDB says while it reads rows, of values in them; none of these errors is of a kind that is told.
QUOTING = (
    "SELECT value::INTEGER FROM held",
    "SELECT value::DATE FROM held",
    "SELECT value::UUID FROM held",
    "SELECT value::ENUM('a') FROM held",
    "SELECT strptime(value, '%Y') FROM held",
    "SELECT error(value) FROM held",
    "SELECT regexp_matches(value, value || '(') FROM held",
    "SELECT date_trunc(value, now()) FROM held",
    "SELECT timezone(value, now()) FROM held",
    "SELECT from_base64(value) FROM held",
    "SELECT strftime(now(), value || '%') FROM held",
)


@pytest.mark.parametrize("query", QUOTING)
def test_what_duckdb_quotes_of_rows_is_not_told(query: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE held AS SELECT 'canary' AS value FROM range(3)")
        with pytest.raises(duckdb.Error, match="canary") as raised:
            connection.execute(query).fetchall()
    assert words(raised.value, [SECRET]) == type(raised.value).__name__


def quoting(error: Exception) -> Exception:
    """A fault of ours that repeats what a library said, as the steps raise it."""
    try:
        raise TransformInvalid(f"shop.orders: transform.sql: {error}", next_step="mesh lint") from error
    except TransformInvalid as raised:
        return raised


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "error",
    [
        quoting(duckdb.ConversionException("Conversion Error: Could not convert 'canary'\n\nLINE 1: 'canary'")),
        quoting(OSError("Conversion Error: Could not convert 'canary'")),
        duckdb.InvalidInputException("Invalid Input Error: canary"),
        pa.ArrowInvalid("Could not convert 'canary' with type str"),
        ValueError("canary"),
        KeyError("canary"),
        UnicodeDecodeError("utf-8", b"canary\xff", 6, 7, "canary"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_on_its_way_out_quotes_no_value_that_is_not_public(error: Exception) -> None:
    assert unquoted(error, [PUBLIC]) is error
    assert "canary" in shown(error)
    found = unquoted(error, [PUBLIC, SECRET])
    assert "canary" not in shown(found) + repr(found) + str(getattr(found, "message", ""))
    assert isinstance(found, RuntimeError if isinstance(error, UnicodeDecodeError) else type(error))


def test_an_error_that_is_not_about_rows_keeps_its_words() -> None:
    unbound = quoting(duckdb.BinderException("Binder Error: no column amuont"))
    for error in (unbound, OSError(28, "No space left on device"), EnvironmentFault("the broker is away")):
        before = str(error)
        assert str(unquoted(error, [SECRET])) == before
