"""What may stand in words, decided in one place."""

from __future__ import annotations

import duckdb
import pytest

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.telling import got, may_tell, words

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
