"""Nothing that a person writes as SQL reads, writes or finds out what it was not given: each attempt, each way in.

Three layers stand behind each other, and the first two are tried alone: the check of the text, DuckDB's own reading of
it, and an engine that could not reach the thing if it ran.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from mesh_pipelines.audit.audit import Context, audit
from mesh_pipelines.engine import check
from mesh_pipelines.errors import TransformInvalid, UsageError
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.rules.compile import Uncompilable
from mesh_pipelines.rules.queries import parse_query
from mesh_pipelines.rules.results import State
from mesh_pipelines.sandbox.author import Allowance
from mesh_pipelines.serve.query import query
from mesh_pipelines.sql.select import NotReadable, read_select
from tests.attacks.collected import lines

ATTEMPTS = [one.said for one in lines("sql.txt")]
Mesh = Any
GOOD = "SELECT count(*) AS shop_orders_rows FROM shop.orders"
# A variable of this process, which the engine would find by the name of a table.
leaked = pa.table({"id": ["the-secret-nobody-may-read"]})


def text_of(attack: str, mesh: Mesh) -> str:
    """The attack with its paths, and with the characters that a line cannot hold."""
    paths = {"secret": mesh.secret, "data": mesh.data, "catalog": mesh.home / "catalog.db"}
    paths |= {"out": mesh.out, "home": mesh.home}
    for name, path in paths.items():
        attack = attack.replace(f"{{{name}}}", str(path).replace("'", "''"))
    return re.sub(r"\\(n|r|u[0-9a-f]{4})", lambda found: found[0].encode().decode("unicode_escape"), attack)


class Through:
    """Attempts by one way in, one after the other; at its end nothing was written, and all that got by are told."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.got_by: list[str] = []
        self._before = mesh.files()

    def __enter__(self) -> Through:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            assert self.got_by == []
            assert self.mesh.files() == self._before

    def refused(self, attempt: str, way: Callable[[str], object], by: type[Exception]) -> str:
        """What an attempt is refused with."""
        said = ""
        try:
            way(text_of(attempt, self.mesh))
            self.got_by.append(attempt)
        except by as error:
            said = str(error)
        except Exception as error:
            self.got_by.append(f"{attempt}: {error!r}")
        self.note(attempt, said)
        return said

    def note(self, attempt: str, said: str) -> None:
        """Look for what must not be said and must not be there, once this was tried."""
        if self.mesh.password in said or self.mesh.out.exists():
            self.got_by.append(f"{attempt}: {said}")

    def engine(self, before: duckdb.DuckDBPyConnection | None) -> duckdb.DuckDBPyConnection:
        """The engine of the attempt before, if it is as sound as a new one."""
        if before is not None:
            try:
                if before.execute(GOOD).fetchall() == [(2,)]:
                    return before
            except duckdb.Error:
                pass
            before.close()
        return self.mesh.engine()


def test_the_good_one_runs(mesh: Mesh) -> None:
    settings, products, catalog = mesh.platform.settings, mesh.platform.products, mesh.platform.catalog
    assert query(settings, products, catalog, GOOD).read_all().to_pylist() == [{"shop_orders_rows": 2}]
    assert mesh.transformed(GOOD).to_pylist() == [{"shop_orders_rows": 2}]
    assert parse_query(GOOD, mesh.totals).bound("candidate", {}) == (
        'SELECT count(*) AS shop_orders_rows FROM "shop"."orders" AS "orders"'
    )


def test_no_query_gets_by(mesh: Mesh) -> None:
    platform = mesh.platform
    with Through(mesh) as tried:
        for attempt in ATTEMPTS:
            tried.refused(
                attempt,
                lambda text: query(platform.settings, platform.products, platform.catalog, text).read_all(),
                UsageError,
            )


def test_no_transform_gets_by(mesh: Mesh) -> None:
    with Through(mesh) as tried:
        for attempt in ATTEMPTS:
            # Not for what it gave: it gave nothing.
            assert "its result" not in tried.refused(attempt, mesh.transformed, TransformInvalid), attempt


def test_no_rule_gets_by(mesh: Mesh) -> None:
    with Through(mesh) as tried:
        for attempt in ATTEMPTS:
            tried.refused(attempt, lambda text: parse_query(text, mesh.totals), Uncompilable)


def test_the_engines_own_parser_refuses_alone(mesh: Mesh) -> None:
    """What it does let pass is to DuckDB another text than it looks, and gives but the rows that may be read."""
    engine: duckdb.DuckDBPyConnection | None = None
    with Through(mesh) as tried:
        for attempt in ATTEMPTS:
            text, engine = text_of(attempt, mesh), tried.engine(engine)
            try:
                check(engine, text, {"shop.orders"})
                rows = engine.sql(text).fetchall()
            except (NotReadable, duckdb.Error):
                continue
            if sorted(rows) != [("a",), ("b",)]:
                tried.got_by.append(f"{attempt}: {rows}")


def test_the_engine_reaches_nothing_even_unchecked(mesh: Mesh) -> None:
    """Run as it is: no file but those of the inputs is read, none is written, and no setting changes."""
    engine: duckdb.DuckDBPyConnection | None = None
    with Through(mesh) as tried:
        for attempt in ATTEMPTS:
            if "sleep" in attempt:
                continue
            engine = tried.engine(engine)
            try:
                found = engine.execute(text_of(attempt, mesh)).fetchall()
            except (duckdb.Error, ValueError, RuntimeError):
                found = []
            tried.note(attempt, str(found))
            with suppress(duckdb.Error):
                engine.rollback()
            [settings] = engine.execute(
                "SELECT current_setting('enable_external_access'), current_setting('lock_configuration')"
            ).fetchall()
            assert settings == (False, True), attempt


def test_a_connection_of_someone_else_is_confined_before_it_is_used(mesh: Mesh) -> None:
    """Dagster's, for instance."""
    mesh.platform.tables_of(mesh.totals).create()
    with closing(duckdb.connect()) as theirs:
        assert snapshot(mesh.platform, mesh.totals, connection=theirs).candidate
        with pytest.raises(duckdb.PermissionException):
            theirs.execute("FROM read_text($1)", [str(mesh.secret)]).fetchall()
        with pytest.raises(duckdb.InvalidInputException, match="locked"):
            theirs.execute("SET threads = 1")


ENDLESS = [
    "SELECT count(*) AS shop_orders_rows FROM range(1000000000000)",
    "SELECT i AS shop_orders_rows FROM range(1000000000000) t(i) WHERE i < 0",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) AS shop_orders_rows FROM n",
    "SELECT count(*) AS shop_orders_rows FROM range(10000000) a, range(10000000) b WHERE a.range + b.range < 0",
    "SELECT sum(random())::BIGINT AS shop_orders_rows FROM generate_series(1, 1000000000000)",
]


@pytest.mark.parametrize("endless", ENDLESS)
def test_what_does_not_end_is_stopped(mesh: Mesh, endless: str) -> None:
    settings = mesh.platform.settings.model_copy(update={"sql_timeout_s": 0.5})
    with pytest.raises(UsageError, match="longer than MESH_SQL_TIMEOUT_S"):
        query(settings, mesh.platform.products, mesh.platform.catalog, endless).read_all()
    with pytest.raises(TransformInvalid, match="longer than MESH_SQL_TIMEOUT_S"):
        mesh.transformed(endless, seconds=0.5)


@pytest.mark.parametrize("endless", ENDLESS)
def test_a_rule_that_does_not_end_is_an_error_of_its_own(mesh: Mesh, endless: str) -> None:
    [rule] = [one for one in mesh.totals.rules if one.check == "rowCount"]
    sql = replace(rule, id="endless", kind="sql", check="sql", arguments={"query": endless})
    product = replace(mesh.totals, rules=(sql, rule))
    with closing(duckdb.connect()) as engine:
        engine.execute("CREATE VIEW candidate AS SELECT 2 AS shop_orders_rows")
        done = audit(engine, "candidate", product, candidate_id="c", context=Context(allowance=Allowance(seconds=0.5)))
    assert [result.state for result in done.results] == [State.ERROR, State.PASS]
    assert not done.verdict.passed


def test_reading_rows_slowly_costs_a_query_none_of_its_time(mesh: Mesh) -> None:
    import time

    settings = mesh.platform.settings.model_copy(update={"sql_timeout_s": 1.0})
    sql = "SELECT range AS id FROM range(300000)"
    rows = 0
    for batch in query(settings, mesh.platform.products, mesh.platform.catalog, sql):
        rows += batch.num_rows
        time.sleep(0.3)
    assert rows == 300_000


def test_a_failure_among_streamed_rows_is_the_authors(mesh: Mesh) -> None:
    sql = "SELECT CASE WHEN range > 200000 THEN 'x' ELSE '1' END::INTEGER AS shop_orders_rows FROM range(1000000)"
    reader = query(mesh.platform.settings, mesh.platform.products, mesh.platform.catalog, sql)
    with pytest.raises(UsageError, match="Could not convert string 'x'"):
        reader.read_all()
    with pytest.raises(TransformInvalid, match="Could not convert string 'x'"):
        mesh.transformed(sql)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT * FROM " + "(SELECT * FROM " * 3000 + "shop.orders" + ")" * 3000,
        "SELECT " + "NOT " * 20_000 + "true",
        "SELECT " + "[" * 5000 + "]" * 5000,
        "SELECT " + "CASE WHEN true THEN " * 3000 + "1" + " END" * 3000,
        "SELECT '" + "x" * 100_000 + "'",
        "SELECT '\0'",
        "SELECT '\ud800'",
        "SELECT \ufffe FROM \u202e",
        "",
        " ;; ",
        "-- nothing",
        "SELECT 'open",
        'SELECT "open',
        "SELECT $x$ open",
        "SELECT /* open",
    ],
)
def test_text_out_of_measure_is_refused(mesh: Mesh, text: str) -> None:
    with pytest.raises(NotReadable):
        read_select(text)
    with pytest.raises(UsageError):
        query(mesh.platform.settings, mesh.platform.products, mesh.platform.catalog, text).read_all()
