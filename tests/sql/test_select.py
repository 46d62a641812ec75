"""Reading one SELECT: which tables it names and where, by the scope of its names, without an engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.sql.functions import REFUSED
from mesh_pipelines.sql.select import MAX_CHARACTERS, SERIES, NotReadable, read_select


def tables(text: str) -> list[str]:
    return sorted(place.name for place in read_select(text).tables)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SELECT 1", []),
        ("FROM shop.orders", ["shop.orders"]),
        ("SELECT * FROM orders", ["orders"]),
        ("SELECT * FROM shop.orders JOIN shop.lines USING (id)", ["shop.lines", "shop.orders"]),
        ("SELECT * FROM shop.orders, shop.lines", ["shop.lines", "shop.orders"]),
        ("SELECT * FROM shop.orders AS a JOIN shop.orders AS b ON a.id = b.before", ["shop.orders", "shop.orders"]),
        ('SELECT * FROM "shop"."orders"', ["shop.orders"]),
        ("(SELECT * FROM a.b) UNION ALL (SELECT * FROM c.d)", ["a.b", "c.d"]),
        ("SELECT (SELECT max(x) FROM a.b) FROM c.d", ["a.b", "c.d"]),
        ("SELECT * FROM a.b WHERE id IN (SELECT id FROM c.d)", ["a.b", "c.d"]),
        ("SELECT * FROM a.b, LATERAL (SELECT * FROM c.d WHERE c.d.id = a.b.id)", ["a.b", "c.d"]),
        ("SELECT * FROM range(3), generate_series(1, 2), unnest([1])", []),
        ("SELECT * FROM (VALUES (1), (2)) AS t(x)", []),
    ],
)
def test_every_table_is_found(text: str, names: list[str]) -> None:
    assert tables(text) == names
    assert read_select(text).names == frozenset(names)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("WITH x AS (SELECT * FROM a.b) SELECT * FROM x", ["a.b"]),
        ("WITH x AS (SELECT 1), y AS (SELECT * FROM x) SELECT * FROM y", []),
        # A later expression does not stand for a table in an earlier one.
        ("WITH y AS (SELECT * FROM x), x AS (SELECT 1) SELECT * FROM y", ["x"]),
        ("WITH x AS (SELECT * FROM x) SELECT * FROM x", ["x"]),
        ("WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x WHERE n < 3) SELECT * FROM x", []),
        # In its own scope only.
        ("SELECT (WITH x AS (SELECT 1) SELECT count(*) FROM x) + (SELECT count(*) FROM x)", ["x"]),
        ("WITH X AS (SELECT 1) SELECT * FROM x", []),
        ("WITH x AS (SELECT 1) SELECT * FROM (SELECT * FROM x)", []),
        # With a domain it is a product, whatever expressions there are.
        ("WITH orders AS (SELECT 1) SELECT * FROM shop.orders", ["shop.orders"]),
    ],
)
def test_a_name_stands_for_an_expression_in_its_scope_only(text: str, names: list[str]) -> None:
    assert tables(text) == names


def test_the_names_of_expressions_are_told_in_lower_case() -> None:
    assert read_select("WITH Big AS (SELECT 1), small AS (SELECT 2) SELECT 1").expressions == {"big", "small"}


def test_a_place_is_where_the_name_stands_in_the_text() -> None:
    text = 'SELECT o.id, shop.orders.n FROM shop.orders AS o JOIN "shop" . "lines" ON TRUE'
    found = read_select(text)
    assert {text[one.start : one.end] for one in found.tables} == {"shop.orders", '"shop" . "lines"'}
    assert {one.name: one.aliased for one in found.tables} == {"shop.orders": True, "shop.lines": False}
    assert {text[one.start : one.end] for one in found.qualifiers} == {"o", "shop.orders"}


@given(
    st.text(" \n\t", max_size=3),
    st.sampled_from(["shop.orders", '"shop"."orders"', "orders", "/* a.b */ shop.orders"]),
    st.sampled_from(["", " AS é", " WHERE 'FROM x.y' <> ''", " -- FROM x.y"]),
)
def test_a_place_holds_whatever_stands_around_it(space: str, name: str, after: str) -> None:
    text = f"{space}SELECT 'é😀' AS a FROM{space or ' '}{name}{after}"
    [place] = read_select(text).tables
    assert text[place.start : place.end] == name.removeprefix("/* a.b */ ")


@pytest.mark.parametrize("text", ["SELECT 1;", "SELECT 1 ; ;;", "SELECT 1;-- more"])
def test_closing_semicolons_are_left_out(text: str) -> None:
    assert read_select(text).text.strip() == "SELECT 1"


@pytest.mark.parametrize("text", ["SELECT ';'", "SELECT 1 -- ;", "SELECT 1 /* ; */"])
def test_a_semicolon_in_a_text_or_comment_closes_nothing(text: str) -> None:
    assert read_select(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ";", "-- nothing", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE t", "DROP TABLE t", "DESCRIBE t"),
        *("INSERT INTO t VALUES (1)", "UPDATE t SET a = 1", "DELETE FROM t", "CREATE TABLE t AS SELECT 1"),
        *("COPY t TO 'x.csv'", "ATTACH 'x.db'", "PRAGMA version", "SET threads = 1", "CALL x()", "SHOW TABLES"),
        *("EXPLAIN SELECT 1", "LOAD httpfs", "INSTALL httpfs", "VALUES (1)", "SUMMARIZE t"),
        *("SELECT * FROM (DESCRIBE t)", "SELECT * FROM (SUMMARIZE t)"),
    ],
)
def test_what_is_not_one_select_is_refused(text: str) -> None:
    with pytest.raises(NotReadable):
        read_select(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("SELECT * FROM 'x.csv'", "reads"),
        ('SELECT * FROM "x.csv"', "reads"),
        ('SELECT * FROM "/etc/passwd"', "reads"),
        ("SELECT * FROM read_csv('x.csv')", "reads READ_CSV"),
        ("SELECT * FROM a.b.c", "reads a.b.c"),
        ("SELECT * FROM duckdb_settings()", "reads DUCKDB_SETTINGS"),
        ("SELECT * FROM query('SELECT 1')", "reads QUERY"),
    ],
)
def test_what_is_no_product_is_refused_and_named(text: str, what: str) -> None:
    with pytest.raises(NotReadable, match=what):
        read_select(text)


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.parametrize("form", ["SELECT {}('x')", "SELECT 1 WHERE {} ('x') > 0", 'SELECT "{}"(1)', "SELECT 'x'.{}()"])
def test_functions_that_are_not_about_rows_are_refused_by_any_form(name: str, form: str) -> None:
    with pytest.raises(NotReadable):
        read_select(form.format(name))
    with pytest.raises(NotReadable):
        read_select(form.format(name.upper()))


@pytest.mark.parametrize("name", ["stats", "currval"])
def test_their_names_may_be_names_of_columns(name: str) -> None:
    assert tables(f"SELECT {name} FROM a.b") == ["a.b"]


def test_a_text_has_a_length_that_is_read() -> None:
    assert read_select("SELECT 1".ljust(MAX_CHARACTERS)).tables == ()
    with pytest.raises(NotReadable, match="must have at most 100,000 characters, got 100,001"):
        read_select("SELECT 1".ljust(MAX_CHARACTERS + 1))


@pytest.mark.parametrize("text", ["SELECT '\0'", "SELECT '\ud800'"])
def test_characters_that_the_engine_cannot_take_are_refused(text: str) -> None:
    with pytest.raises(NotReadable, match="NUL character"):
        read_select(text)


@pytest.mark.parametrize("depth", [5_000, 40_000])
def test_a_text_that_nests_too_deeply_is_refused_and_ends_nothing(depth: int) -> None:
    with pytest.raises(NotReadable):
        read_select("SELECT " + "(" * depth + "1" + ")" * depth)


def test_a_message_of_the_parser_has_no_escapes_of_a_terminal() -> None:
    with pytest.raises(NotReadable) as caught:
        read_select("SELECT 1 FROM a.b WHERE (")
    said = str(caught.value).removeprefix("does not parse: ")
    assert "Expecting" in said or "Required" in said
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read_select(text)
    except NotReadable:
        return
    assert all(text[one.start : one.end] for one in found.tables)


@given(st.lists(st.sampled_from(["SELECT", "FROM", "a.b", "(", ")", "WITH x AS", ",", "x", "1", "JOIN", "'f.csv'"])))
def test_any_words_are_read_or_refused_and_no_file_is_read(words: list[str]) -> None:
    try:
        found = read_select(" ".join(words))
    except NotReadable:
        return
    assert found.names <= {"a.b", "x"}


@pytest.mark.parametrize("name", sorted(SERIES))
def test_series_are_functions_and_no_tables(name: str) -> None:
    assert tables(f"SELECT * FROM {name}({'[1]' if name == 'unnest' else '2'}), a.b") == ["a.b"]
