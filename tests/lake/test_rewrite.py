"""A log held against what was read again from its topic: what differs, what would be lost, and the swap of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mesh_pipelines.errors import ConcurrentWriter
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.commit import current_files
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.rewrite import Differences, Rewrite
from mesh_pipelines.settings import Settings
from tests.building import contract_text, land_rows, log_row, log_table, written

PROPERTIES = """
- {name: id, logicalType: string, primaryKey: true}
- {name: amount, logicalType: integer}
"""


@pytest.fixture
def tables(local_settings: Settings) -> ProductTables:
    product = written(local_settings.assets, contract_text("shop.orders", PROPERTIES))
    found = ProductTables(open_catalog(local_settings), product)
    found.create()
    return found


@pytest.fixture
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def event(offset: int, amount: int = 0, fate: str = "ok", **more: Any) -> Mapping[str, Any]:
    return log_row(offset, {"id": f"k{offset}", "amount": amount}, key=f"k{offset}".encode(), fate=fate, **more)


def read_again(tables: ProductTables, engine: duckdb.DuckDBPyConnection, *events: Mapping[str, Any]) -> Rewrite:
    rewrite = Rewrite(tables, engine)
    rewrite.add(log_table(tables.product, events))
    return rewrite


def stored(tables: ProductTables) -> list[tuple[int, int]]:
    rows = tables.load("log").scan().to_arrow().to_pylist()
    return sorted((row["_offset"], row["amount"]) for row in rows)


def test_a_log_that_says_what_the_topic_says_does_not_differ(tables: ProductTables, engine: Any) -> None:
    land_rows(tables, [event(0), event(1, fate="undecodable")])
    rewrite = read_again(tables, engine, event(1, fate="undecodable"), event(0))
    found = rewrite.compare()
    assert found == Differences(0, 0, 0, 0)
    assert (found.none, found.only_damaged) == (True, False)
    assert rewrite.lost(5) == []
    assert rewrite.events() == 2


@pytest.mark.parametrize(
    ("again", "differences"),
    [
        ([event(0), event(1), event(2)], Differences(1, 0, 0, 0)),
        ([event(0)], Differences(0, 0, 1, 0)),
        ([event(0), event(1, amount=7)], Differences(0, 1, 0, 0)),
        ([event(0), event(1, op="delete")], Differences(0, 1, 0, 0)),
        ([event(0, generation=1), event(1)], Differences(1, 0, 1, 0)),
        ([event(0, partition=1), event(1)], Differences(1, 0, 1, 0)),
        ([], Differences(0, 0, 2, 0)),
    ],
)
def test_every_difference_is_counted_once(tables: ProductTables, engine: Any, again: Any, differences: Any) -> None:
    land_rows(tables, [event(0), event(1)])
    assert read_again(tables, engine, *again).compare() == differences


def test_an_event_that_is_there_twice_is_changed(tables: ProductTables, engine: Any) -> None:
    land_rows(tables, [event(0), event(0)])
    assert read_again(tables, engine, event(0)).compare() == Differences(0, 1, 0, 0)


def test_what_would_be_lost_is_named_in_order_and_not_all_of_it(tables: ProductTables, engine: Any) -> None:
    land_rows(tables, [event(offset) for offset in range(5)])
    rewrite = read_again(tables, engine, event(3))
    assert rewrite.compare().lost == 4
    assert rewrite.lost(3) == [(0, 0), (0, 1), (0, 2)]


def test_nothing_changes_before_the_swap(tables: ProductTables, engine: Any) -> None:
    land_rows(tables, [event(0)])
    before = tables.load("log").metadata_location
    read_again(tables, engine, event(0, amount=9)).compare()
    assert tables.load("log").metadata_location == before


def test_a_swap_replaces_the_log_under_a_count_of_its_own(tables: ProductTables, engine: Any) -> None:
    stood = land_rows(tables, [event(0), event(1, fate="diverted")])
    rewrite = read_again(tables, engine, event(0, amount=9), event(1), event(2))
    rewrite.swap(rewrite.compare())
    assert stored(tables) == [(0, 9), (1, 0), (2, 0)]
    position = tables.log.position()
    assert position
    assert (position.rebuilds, position.partitions) == (1, stood.partitions)
    # Counts are those of what was read again, fates that are gone included.
    assert {fate: count for fate, count in tables.log.fates().items() if count} == {"ok": 3}
    assert tables.log.quarantined() == 0


def test_the_log_of_before_is_kept_for_the_versions_of_then(tables: ProductTables, engine: Any) -> None:
    stood = land_rows(tables, [event(0)])
    rewrite = read_again(tables, engine, event(0, amount=9))
    rewrite.swap(rewrite.compare())
    table = tables.load("log")
    from mesh_pipelines.lake.log import snapshot_of

    former = snapshot_of(table, stood)
    assert former is not None
    assert table.scan(snapshot_id=former).to_arrow()["amount"].to_pylist() == [0]


def test_a_landing_meanwhile_wins(tables: ProductTables, engine: Any) -> None:
    land_rows(tables, [event(0)])
    rewrite = read_again(tables, engine, event(0, amount=9))
    differences = rewrite.compare()
    land_rows(tables, [event(1)])
    with pytest.raises(ConcurrentWriter):
        rewrite.swap(differences)
    assert stored(tables) == [(0, 0), (1, 0)]
    position = rewrite.reload()
    assert position == tables.log.position()


def damage(tables: ProductTables, number: int) -> Path:
    files = sorted(current_files(tables.load("log")), key=lambda one: one.file_path)
    file = Path(files[number].file_path.removeprefix("file://"))
    file.write_bytes(file.read_bytes()[:50])
    return file


def test_only_a_damaged_file_is_filled_in_and_the_count_stays(tables: ProductTables, engine: Any) -> None:
    land_rows(tables, [event(0, amount=1)])
    land_rows(tables, [event(1, amount=2)])
    damage(tables, 0)
    rewrite = read_again(tables, engine, event(0, amount=1), event(1, amount=2))
    found = rewrite.compare()
    assert (found.damaged, found.lacking, found.only_damaged) == (1, 1, True)
    assert rewrite.first_offsets() == {}
    rewrite.swap(found)
    assert stored(tables) == [(0, 1), (1, 2)]
    position = tables.log.position()
    assert position
    assert position.rebuilds == 0
    assert tables.log.rows() == 2


def test_the_first_offsets_of_a_log(tables: ProductTables, engine: Any) -> None:
    land_rows(tables, [event(4), event(7), event(2, partition=1)])
    assert Rewrite(tables, engine).first_offsets() == {0: 4, 1: 2}
