"""An overlay's bits against plain sets of what was replaced, in Python, in its file and in SQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.contract.scaffold import scaffold
from mesh_pipelines.lake import overlay
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.overlay import Overlay
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.settings import Settings

SIZES = {"a.parquet": 3, "b.parquet": 8, "c.parquet": 21}
# Where the tail of each partition begins.
FIRST = {0: 0, 1: 5, 2: 1000}


@dataclass
class Reference:
    """What an overlay should know: the replaced rows by file, and by partition the offsets reached and the current."""

    base: dict[str, set[int]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    current: dict[int, set[int]] = field(default_factory=dict)


def numbers(values: set[int]) -> Any:
    return np.array(sorted(values), np.int64)


@st.composite
def grown(draw: st.DrawFn) -> tuple[Overlay, Reference]:
    """An overlay made step by step, and the sets that it stands for."""
    found, known = Overlay(), Reference()
    for _ in range(draw(st.integers(0, 8))):
        if draw(st.booleans()):
            file = draw(st.sampled_from(sorted(SIZES)))
            rows = draw(st.sets(st.integers(0, SIZES[file] - 1)))
            found = found.with_base(file, SIZES[file], numbers(rows))
            known.base[file] = known.base.get(file, set()) | rows
            continue
        partition = draw(st.sampled_from(sorted(FIRST)))
        first = FIRST[partition]
        before = known.ends.get(partition, first)
        end = before + draw(st.integers(0, 20))
        former = known.current.get(partition, set())
        came = draw(st.sets(st.sampled_from(range(before, end)))) if end > before else set[int]()
        gone = draw(st.sets(st.sampled_from(sorted(former)))) if former else set[int]()
        found = found.with_tail(partition, first, end - first, numbers(came), numbers(gone))
        known.ends[partition], known.current[partition] = end, former - gone | came
    return found, known


def replaced_rows(found: Overlay, file: str) -> set[int]:
    return set(np.flatnonzero(found.replaced(file, np.arange(SIZES[file]))).tolist())


def current_events(found: Overlay, source: str, tables: duckdb.DuckDBPyConnection) -> set[tuple[int, int]]:
    """The events that SQL over the overlay's rows takes for current, of all within and around the tails."""
    part = f"SELECT _partition, _offset, {found.tail_bit()} AS bit FROM events"
    sql = found.current_sql([part], "_partition, _offset", source)
    return set(tables.execute(sql).fetchall())


@settings(deadline=None, max_examples=60)
@given(grown())
def test_bits_are_the_sets_that_they_stand_for(made: tuple[Overlay, Reference]) -> None:
    found, known = made
    assert {file: replaced_rows(found, file) for file in SIZES} == {f: known.base.get(f, set()) for f in SIZES}
    assert {file: found.dead(file) for file in SIZES} == {f: len(known.base.get(f, set())) for f in SIZES}
    assert {number: (one.first, one.first + one.size) for number, one in found.tail.items()} == {
        number: (FIRST[number], end) for number, end in known.ends.items()
    }
    part = found.of(["a.parquet", "another.parquet"])
    assert (replaced_rows(part, "a.parquet"), part.dead("b.parquet"), part.tail) == (
        *(known.base.get("a.parquet", set()), 0),
        {},
    )


@settings(deadline=None, max_examples=40)
@given(grown())
def test_sql_gives_what_was_not_replaced(made: tuple[Overlay, Reference]) -> None:
    found, known = made
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE events AS SELECT n AS _partition, first + o - 2 AS _offset "
            "FROM (VALUES (0, 0), (1, 5), (2, 1000), (3, 0)) AS parts(n, first), range(180) AS r(o)"
        )
        connection.register("bits", found.to_arrow())
        current = {(number, offset) for number, offsets in known.current.items() for offset in offsets}
        assert current_events(found, "bits", connection) == current


def test_an_event_behind_a_whole_number_of_bytes_is_not_the_next_partitions_first() -> None:
    found = Overlay().with_tail(0, 0, 8, numbers({1}), numbers(set())).with_tail(1, 5, 3, numbers({5}), numbers(set()))
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE events AS SELECT p AS _partition, o AS _offset FROM range(3) AS a(p), range(20) AS b(o)"
        )
        connection.register("bits", found.to_arrow())
        assert current_events(found, "bits", connection) == {(0, 1), (1, 5)}


@settings(deadline=None, max_examples=40)
@given(grown(), st.data())
def test_growing_does_not_change_what_was_there(made: tuple[Overlay, Reference], data: st.DataObject) -> None:
    """Versions of before are read by the overlay of before, which shares its bits with the next."""
    found, known = made
    before = found.to_arrow()
    for file, size in SIZES.items():
        found.with_base(file, size, numbers(data.draw(st.sets(st.integers(0, size - 1)))))
    for number, end in known.ends.items():
        gone = numbers(known.current[number])
        found.with_tail(number, FIRST[number], end - FIRST[number] + 9, numbers({end, end + 8}), gone)
    assert found.to_arrow() == before


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home: Path = tmp_path_factory.mktemp("home")
    scaffold(home / "assets", "shop/orders")
    tables = ProductTables(open_catalog(Settings(home=home)), load_product(home / "assets" / "shop" / "orders"))
    tables.create()
    return tables.load("base")


@settings(deadline=None, max_examples=30)
@given(made=grown())
def test_its_file_is_read_as_it_was_written(table: Any, made: tuple[Overlay, Reference]) -> None:
    found, _ = made
    address = overlay.write(table, found)
    read = overlay.read(table.io, address)
    assert read is not None
    assert read.to_arrow() == found.to_arrow()
    assert duckdb.sql(f"FROM {overlay.source_of(address)}").to_arrow_table().num_rows == found.to_arrow().num_rows


def test_a_file_that_is_gone_or_in_the_form_of_before_is_none(table: Any) -> None:
    found = Overlay().with_base("a.parquet", 3, numbers({1}))
    address = overlay.write(table, found)
    file = Path(address.removeprefix("file://"))
    rows = pq.read_table(file)
    # The form of before had bits in the row of each file.
    pq.write_table(rows.slice(rows.num_rows - 1).cast(rows.schema).take([0, 0]), file)
    assert overlay.read(table.io, address) is None
    file.unlink()
    assert overlay.read(table.io, address) is None
