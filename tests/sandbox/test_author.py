"""People's SQL in a process that may be lost: what it cannot do, and what its author and others are told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from mesh_pipelines.engine import View
from mesh_pipelines.sandbox import author as authors
from mesh_pipelines.sandbox import inside
from mesh_pipelines.sandbox.author import Allowance, Author
from mesh_pipelines.sql.quote import literal

ONE = View("SELECT 1 AS a UNION ALL SELECT 2", frozenset())
# Each takes memory or time in one call, in which the engine does not look up.
GREEDY = [
    "SELECT length(lpad('x', 2000000000, 'y'))",
    "SELECT length(repeat('x', 2000000000) || repeat('y', 2000000000))",
    "SELECT levenshtein(repeat('ab', 500000), repeat('ba', 500000))",
    "SELECT sum(levenshtein(repeat('ab', 40000), repeat('ba', 40000) || range)) FROM range(1000)",
    "SELECT length(list_aggregate(range(300000000), 'string_agg'))",
    "SELECT editdist3(repeat('ab', 400000), repeat('ba', 400000))",
    "SELECT jaro_similarity(repeat('ab', 2000000), repeat('ba', 2000000))",
    "SELECT md5(repeat(repeat('x', 1000000), 3000))",
]


class Invalid(Exception):
    pass


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with Author(Allowance(30, "200MB", tmp_path), {("shop", "orders"): ONE, ("rows",): ONE}, Invalid) as opened:
        yield opened


def test_it_gives_columns_rows_and_values(author: Author) -> None:
    assert author.columns("SELECT a AS b, 2 AS c FROM shop.orders", {"shop.orders"}) == ["b", "c"]
    assert author.values("SELECT sum(a) FROM rows", {"rows"}) == [(3,)]
    rows = author.rows("SELECT a FROM shop.orders ORDER BY a", {"shop.orders"}, "a + 1 AS b, 'x'::ENUM('x') AS e", 1)
    assert rows.schema.names == ["b", "e"]
    assert rows.read_all().to_pylist() == [{"b": 2, "e": "x"}, {"b": 3, "e": "x"}]


def test_many_rows_come_in_parts(author: Author) -> None:
    rows = author.rows("SELECT range AS a FROM range(500000)", (), "", 100_000)
    table = pa.Table.from_batches(list(rows))
    assert (table.num_rows, table["a"][-1].as_py()) == (500_000, 499_999)


def test_what_spills_takes_a_part_of_the_disk_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    monkeypatch.setattr(inside.shutil, "disk_usage", lambda _: SimpleNamespace(free=80_000_000))
    database = inside.database(inside.Terms((), "100MB", str(tmp_path)))
    with pytest.raises(duckdb.OutOfMemoryException, match="max_temp_directory_size"):
        database.execute("SELECT max(a) FROM (SELECT range AS a, random() AS b FROM range(30000000) ORDER BY b)")
    assert sum(file.stat().st_size for file in tmp_path.rglob("*")) < 25_000_000
    with pytest.raises(duckdb.InvalidInputException, match="locked"):
        database.execute("SET max_temp_directory_size = '1TB'")


def test_it_opens_the_files_of_its_views_and_no_others(tmp_path: Path) -> None:
    import duckdb

    given, other = tmp_path / "given.parquet", tmp_path / "other.parquet"
    for file in (given, other):
        duckdb.sql("SELECT 7 AS a").write_parquet(str(file))
    view = View(f"FROM read_parquet({literal(str(given))})", frozenset({str(given)}))
    beside = View(f"FROM read_parquet({literal(str(other))})", frozenset())
    with Author(Allowance(30, "200MB", tmp_path), {("given",): view}, Invalid) as author:
        assert author.values("SELECT a FROM given", {"given"}) == [(7,)]
    with (
        Author(Allowance(30, "200MB", tmp_path), {("given",): view, ("beside",): beside}, Invalid) as author,
        pytest.raises(Invalid, match="disabled by configuration"),
    ):
        author.values("SELECT a FROM beside", {"beside"})


def test_what_stands_behind_its_views_is_not_told(author: Author) -> None:
    for text in ("SELECT sql FROM duckdb_views", "SELECT stats(a) FROM shop.orders", "SELECT pg_get_viewdef('rows')"):
        with pytest.raises(Invalid, match="the SQL (reads|calls)"):
            author.values(text, {"shop.orders", "rows"})


@pytest.mark.parametrize("greedy", GREEDY)
def test_what_takes_too_much_in_one_call_is_stopped_to_the_second(greedy: str, tmp_path: Path) -> None:
    with Author(Allowance(1.5, "200MB", tmp_path), {}, Invalid) as author:
        author.columns("SELECT 1", ())
        started = time.monotonic()
        with suppress(Invalid):
            author.values(greedy, ())
        assert time.monotonic() - started < 4


CRASHING = "SELECT " + "(" * 40_000 + "1" + ")" * 40_000


@pytest.mark.parametrize(
    "text",
    [
        CRASHING,
        f"SELECT '{'[' * 200_000}{']' * 200_000}'::JSON::VARIANT",
        f"SELECT json_structure('{'[' * 200_000}{']' * 200_000}')",
        "SELECT " + "NOT " * 40_000 + "TRUE",
        "SELECT 1" + " + 1" * 40_000,
    ],
    ids=["brackets", "variant", "structure", "not", "plus"],
)
def test_what_breaks_the_engine_breaks_nothing_else(text: str, tmp_path: Path) -> None:
    with Author(Allowance(20, "200MB", tmp_path), {}, Invalid) as author, suppress(Invalid):
        author.values(text, ())
    with Author(Allowance(20, "200MB", tmp_path), {}, Invalid) as author:
        assert author.values("SELECT 1", ()) == [(1,)]


def test_a_lost_worker_costs_one_author_an_error(author: Author, tmp_path: Path) -> None:
    import signal

    author.columns("SELECT 1", ())
    with Author(Allowance(20, "200MB", tmp_path), {}, Invalid) as other:
        other.columns("SELECT 1", ())
        author._worker._process.send_signal(signal.SIGSEGV)
        with pytest.raises(Invalid, match="the SQL ended the process that it ran in, by SIGSEGV"):
            author.values("SELECT 1", ())
        assert other.values("SELECT 1", ()) == [(1,)]


def test_nothing_is_left_of_an_author(tmp_path: Path) -> None:
    with Author(Allowance(20, "50MB", tmp_path), {}, Invalid) as author:
        sql = "SELECT DISTINCT range::VARCHAR || repeat('x', 100) AS a FROM range(1000000)"
        assert len(author.rows(sql, (), "", 10_000).read_all()) == 1_000_000
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(Invalid), Author(Allowance(0.5, "50MB", tmp_path), {}, Invalid) as author:
        author.values("SELECT count(DISTINCT range::VARCHAR) FROM range(100000000)", ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "bytes_"), [("600MB", 900_000_000), ("1.5 GiB", int(1.5 * 1.5 * 2**30)), ("10%", None)]
)
def test_a_workers_memory_follows_the_engines(limit: str, bytes_: int | None) -> None:
    found = authors._worker_memory(limit) - authors._BESIDES
    assert found == bytes_ if bytes_ else found > 0
