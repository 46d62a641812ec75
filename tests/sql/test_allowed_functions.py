"""Every function that the engine has is judged, and what is not judged is refused."""

from __future__ import annotations

from contextlib import closing

import duckdb
import pytest

from mesh_pipelines.engine import check
from mesh_pipelines.sql.functions import ALLOWED, REFUSED, is_allowed
from mesh_pipelines.sql.select import NotReadable


def of_the_engine() -> set[str]:
    """The functions that can be called in an expression, as this version of DuckDB has them."""
    with closing(duckdb.connect()) as engine:
        found = engine.execute(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
            "WHERE function_type NOT IN ('table', 'table_macro', 'pragma')"
        ).fetchall()
    return {name for (name,) in found}


def test_every_function_of_the_engine_is_judged() -> None:
    """A new version with a function that nobody looked at fails here: judge it, and add it to functions.txt."""
    assert {name for name in of_the_engine() if not is_allowed(name)} - REFUSED == set()


def test_no_function_is_judged_twice_or_for_nothing() -> None:
    assert not ALLOWED & REFUSED
    assert (ALLOWED | REFUSED) - of_the_engine() == {"getenv"}


def test_no_function_that_is_not_about_its_arguments_is_allowed_unseen() -> None:
    """These give another value at each call, or fail on purpose; they reach nothing."""
    known = {
        *("random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "error"),
        *("now", "today", "current_date", "transaction_timestamp", "get_current_time", "get_current_timestamp"),
        *("current_localtime", "current_localtimestamp"),
    }
    with closing(duckdb.connect()) as engine:
        found = engine.execute(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
            "WHERE function_type IN ('scalar', 'aggregate') AND (stability <> 'CONSISTENT' OR has_side_effects)"
        ).fetchall()
    assert {name for (name,) in found if is_allowed(name)} <= known


@pytest.mark.parametrize("name", ["+", "||", "->>", "~~*", "IS DISTINCT FROM", "collate_de", "SUM", "List_Transform"])
def test_operators_orders_and_any_case_are_allowed(name: str) -> None:
    assert is_allowed(name)


@pytest.mark.parametrize("name", ["json_serialize_plan", "STATS", "pg_get_viewdef", "finalize"])
def test_the_engines_parser_refuses_what_is_not_allowed_in_any_place(name: str) -> None:
    forms = ("SELECT {}(1)", "SELECT 1 ORDER BY {}(1)", "SELECT 'x'.{}()", "SELECT main.{}(1)", 'SELECT "{}"(1)')
    forms += ("SELECT sum({}(1)) OVER ()", "SELECT [{}(x) for x in [1]]", "SELECT 1 WHERE 1 IN (SELECT {}(1))")
    forms += ("SELECT {}(1) OVER ()", "WITH a AS (SELECT {}(1)) FROM a", "SELECT list_transform([1], x -> {}(x))")
    with closing(duckdb.connect()) as engine:
        for form in forms:
            with pytest.raises(NotReadable, match="calls"):
                check(engine, form.format(name), {"a"})


def test_a_function_that_nobody_judged_is_refused() -> None:
    with closing(duckdb.connect()) as engine:
        engine.execute("CREATE MACRO of_tomorrow(a) AS a")
        with pytest.raises(NotReadable, match="calls of_tomorrow, which is not about rows"):
            check(engine, "SELECT of_tomorrow(1)", ())


def test_of_a_function_that_there_is_not_the_engine_says_where_it_stands() -> None:
    with closing(duckdb.connect()) as engine:
        check(engine, "SELECT reguxp_matches('a', 'b')", ())
        with pytest.raises(duckdb.CatalogException, match="reguxp_matches does not exist"):
            engine.execute("SELECT reguxp_matches('a', 'b')")
