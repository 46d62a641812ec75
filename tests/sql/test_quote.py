import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_pipelines.sql.quote import UNCARRIED, literal, quote

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
HOSTILE = st.text(alphabet="\"'\\;-/*$[]{}%_ \n\t`a;)", max_size=20)
LENIENT = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def only_value(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    rows = connection.execute(sql).fetchall()
    assert len(rows) == 1
    (value,) = rows[0]
    return value


@LENIENT
@given(st.one_of(TEXT, HOSTILE))
def test_text_comes_back_as_it_was(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    assert only_value(connection, f"SELECT {literal(text)}") == text


@LENIENT
@given(st.one_of(TEXT, HOSTILE).filter(bool))
def test_identifier_names_its_column(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    assert connection.execute(f"SELECT 1 AS {quote(name)}").description[0][0] == name


@LENIENT
@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.dates(),
        st.times(),
        st.datetimes(),
        st.lists(st.integers(-5, 5), max_size=3),
    )
)
def test_value_comes_back_as_it_was(connection: duckdb.DuckDBPyConnection, value: Any) -> None:
    assert only_value(connection, f"SELECT {literal(value)}") == value


@pytest.mark.parametrize(
    "value", [float("inf"), float("-inf"), Decimal("12.50"), dt.datetime(2013, 1, 1, tzinfo=dt.UTC)]
)
def test_other_values(connection: duckdb.DuckDBPyConnection, value: Any) -> None:
    assert only_value(connection, f"SELECT {literal(value)}") == value


@LENIENT
@given(st.floats(allow_nan=False))
def test_float_is_exact_against_a_double_and_decimal_against_a_decimal(
    connection: duckdb.DuckDBPyConnection, value: float
) -> None:
    assert only_value(connection, f"SELECT CAST({literal(value)} AS DOUBLE)") == value
    assert only_value(connection, f"SELECT 0.1::DECIMAL(7, 2) < {literal(0.1)}") is False


def test_decimal_with_an_exponent(connection: duckdb.DuckDBPyConnection) -> None:
    assert only_value(connection, f"SELECT {literal(Decimal('1E+5'))}") == 100_000


@given(st.lists(st.one_of(TEXT, HOSTILE), min_size=2, max_size=2, unique=True))
def test_quoting_is_injective(pair: list[str]) -> None:
    assert quote(pair[0]) != quote(pair[1])
    assert literal(pair[0]) != literal(pair[1])


@LENIENT
@given(st.one_of(st.text(), HOSTILE, st.text(alphabet="\0\ud800\udfff\n\r\u2028\u202e\"'$e", max_size=8)))
def test_any_text_is_carried_whole_or_refused(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """As a value, a member of a list, a column, a table, a field of a struct: never as anything else."""
    if UNCARRIED.search(text):
        for function in (literal, quote):
            with pytest.raises(ValueError, match="cannot hold"):
                function(text)
        return
    assert only_value(connection, f"SELECT {literal([text, text])}") == [text, text]
    assert only_value(connection, f"SELECT 1 WHERE {literal(text)} = {literal(text)} -- {literal('x')}") == 1
    if not text:
        return
    table, name = quote(f"t{text}"), quote(text)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} ({name} STRUCT({name} INTEGER))")
    connection.execute(f"INSERT INTO {table} SELECT {{{literal(text)}: 7}}")
    assert only_value(connection, f"SELECT {name}.{name} FROM {table}") == 7
    connection.execute(f"DROP TABLE {table}")


def test_what_no_sql_can_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")
    with pytest.raises(ValueError, match="NUL"):
        literal("a\0b")
    with pytest.raises(TypeError, match="no SQL literal for set"):
        literal({1})
    with pytest.raises(TypeError, match="no SQL literal for bytes"):
        literal(b"abc")
