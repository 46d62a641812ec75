"""Redrives of a log that has a history: written before redrives were known, evolved since, or written to meanwhile."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from mesh_pipelines.contract.envelope import REDRIVE
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import log_schema
from mesh_pipelines.errors import ConcurrentWriter, TableOutdated
from mesh_pipelines.lake import commit
from mesh_pipelines.lake.catalog import open_catalog, table_name
from mesh_pipelines.lake.evolve import evolve, plan_evolution
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.properties import TableProperties
from mesh_pipelines.lake.versions import LAST
from mesh_pipelines.positions import PartitionOffset, Position, Version
from mesh_pipelines.serve.bi_file import write_serving_file
from mesh_pipelines.settings import Settings
from tests.building import (
    contract_text,
    land_rows,
    log_row,
    log_table,
    next_offset,
    publish_version,
    version_of,
    written,
)

START = Position("cluster", "shop.orders", "topic")


def product_of(folder: Path, *fields: str, name: str = "orders") -> DataProduct:
    properties = "".join(f"\n- {{name: {field}, logicalType: string}}" for field in fields)
    return written(
        folder, contract_text(f"shop.{name}", "- {name: id, logicalType: string, primaryKey: true}" + properties)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def events(product: DataProduct, first: int, fates: list[str]) -> pa.Table:
    rows = [
        log_row(
            at,
            {"_reason": None if fate == "ok" else "unreadable", "id": f"k{at}"},
            key=f"k{at}".encode(),
            fate=fate,
        )
        for at, fate in enumerate(fates, first)
    ]
    return log_table(product, rows)


def land(tables: ProductTables, fates: list[str]) -> Position:
    return land_rows(tables, events(tables.product, next_offset(tables), fates).to_pylist())


def publish(tables: ProductTables, number: int) -> None:
    publish_version(tables, version_of(tables.product, number, START))


def all_pass(product: DataProduct) -> Any:
    """What a decoder gives under today's contract: every event is well, in the contract's columns."""

    def mend(rows: pa.Table) -> pa.Table:
        ok = pa.array(["ok"] * rows.num_rows)
        nothing = pa.nulls(rows.num_rows, pa.string())
        known = {**{name: rows[name] for name in rows.column_names}, "_fate": ok, "_reason": nothing}
        schema = log_schema(product)
        return pa.table([known[name] for name in schema.names], schema=schema)

    return mend


def stored(catalog: Any, product: DataProduct) -> list[dict[str, Any]]:
    return ProductTables(catalog, product).load("log").scan().to_arrow().sort_by("_offset").to_pylist()


def test_a_column_added_between_others_is_no_hindrance(folder: Path) -> None:
    product = product_of(folder, "size")
    catalog = open_catalog(Settings(home=folder))
    ProductTables(catalog, product).create()
    land(ProductTables(catalog, product), ["ok", "undecodable", "ok"])
    wider = product_of(folder, "colour", "size")
    evolve(ProductTables(catalog, wider))
    log = ProductTables(catalog, wider).log
    assert log.quarantined_at(0, 0, 1)["_reason"].to_pylist() == ["unreadable"]
    assert log.redrive(all_pass(wider)) == 1
    assert [(row["_offset"], row["_fate"], row[REDRIVE]) for row in stored(catalog, wider)] == [
        (0, "ok", None),
        (1, "ok", 1),
        (2, "ok", None),
    ]


def test_a_log_written_before_redrives_were_known_gets_their_column(folder: Path) -> None:
    product = product_of(folder)
    catalog = open_catalog(Settings(home=folder))
    ProductTables(catalog, product).create()
    catalog.drop_table(table_name(product, "log"))
    schema = log_schema(product)
    older = schema.remove(schema.get_field_index(REDRIVE))
    catalog.create_table(table_name(product, "log"), schema=older, properties=dict(commit.TABLE_PROPERTIES))
    position = START.advance({0: PartitionOffset(2)})
    raw = json.loads(position.to_json())
    del raw["redrives"]
    commit.append(
        ProductTables(catalog, product).load("log"),
        events(product, 0, ["ok", "undecodable"]).drop_columns([REDRIVE]),
        {"mesh.position": json.dumps(raw), "mesh.fates.ok": "1", "mesh.fates.undecodable": "1"},
    )
    log = ProductTables(catalog, product).log
    assert log.position() == position
    for touch in (lambda: land(ProductTables(catalog, product), ["ok"]), lambda: log.redrive(all_pass(product))):
        with pytest.raises(TableOutdated, match=REDRIVE):
            touch()
    with pytest.raises(TableOutdated, match=REDRIVE):
        ProductTables(catalog, product).state.sql(Version(product.fqn, 1, "c", "1", "h", "now", 0, position=position))
    assert plan_evolution(ProductTables(catalog, product)) == [f"log: add column {REDRIVE}"]
    evolve(ProductTables(catalog, product))
    assert plan_evolution(ProductTables(catalog, product)) == []
    land(ProductTables(catalog, product), ["ok"])
    assert log.redrive(all_pass(product)) == 1
    assert [row[REDRIVE] for row in stored(catalog, product)] == [None, 1, None]
    assert log.fates() == {"ok": 3, "undecodable": 0}
    assert log.position() == replace(position.advance({0: PartitionOffset(3)}), redrives=1)


def test_numbers_go_on_where_the_last_one_used_was_not_kept(folder: Path) -> None:
    product = product_of(folder)
    catalog = open_catalog(Settings(home=folder))
    ProductTables(catalog, product).create()
    versions = ProductTables(catalog, product).versions
    for number in (1, 2):
        publish(ProductTables(catalog, product), number)
    with ProductTables(catalog, product).load("versions").transaction() as opened:
        opened.remove_properties(LAST)
    assert versions.next_number() == 3


def test_what_waits_for_apply_does_not_keep_others_out_of_the_serving_file(folder: Path) -> None:
    orders, returns = product_of(folder), product_of(folder, name="returns")
    catalog = open_catalog(Settings(home=folder))
    for product in (orders, returns):
        ProductTables(catalog, product).create()
        publish(ProductTables(catalog, product), 1)
    wider = product_of(folder, "colour")
    for products, views in (([wider, returns], {"returns"}), ([orders, returns], {"orders", "returns"})):
        serving = write_serving_file(Settings(home=folder), products, TableProperties(catalog))
        with duckdb.connect(str(serving), read_only=True) as connection:
            found = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        assert {name for (name,) in found} == views


def test_only_files_that_hold_quarantined_events_are_read(folder: Path) -> None:
    product = product_of(folder)
    catalog = open_catalog(Settings(home=folder))
    ProductTables(catalog, product).create()
    log = ProductTables(catalog, product).log
    for fates in (["ok", "ok"], ["ok", "diverted"], ["ok"], ["undecodable"]):
        land(ProductTables(catalog, product), fates)
    before = {task.file.file_path for task in ProductTables(catalog, product).load("log").scan().plan_files()}
    seen: list[tuple[int, int]] = []
    assert log.redrive(all_pass(product), lambda at, files: seen.append((at, files))) == 2
    assert seen == [(1, 2), (2, 2)]
    after = {task.file.file_path for task in ProductTables(catalog, product).load("log").scan().plan_files()}
    assert len(before & after) == 3


def test_a_landing_during_a_redrive_wins_and_nothing_is_lost(folder: Path) -> None:
    product = product_of(folder)
    catalog = open_catalog(Settings(home=folder))
    ProductTables(catalog, product).create()
    log = ProductTables(catalog, product).log
    land(ProductTables(catalog, product), ["ok", "undecodable"])

    def land_meanwhile(rows: pa.Table) -> pa.Table:
        land(ProductTables(catalog, product), ["ok", "ok"])
        return all_pass(product)(rows)

    with pytest.raises(ConcurrentWriter):
        log.redrive(land_meanwhile)
    assert log.fates() == {"ok": 3, "undecodable": 1}
    assert [row["_fate"] for row in stored(catalog, product)] == ["ok", "undecodable", "ok", "ok"]
    assert log.redrive(all_pass(product)) == 1
    assert log.fates() == {"ok": 4, "undecodable": 0}


def test_a_redrive_during_a_landing_wins_and_nothing_is_lost(folder: Path) -> None:
    product = product_of(folder)
    catalog = open_catalog(Settings(home=folder))
    ProductTables(catalog, product).create()
    log = ProductTables(catalog, product).log
    stood = land(ProductTables(catalog, product), ["ok", "undecodable"])
    log.redrive(all_pass(product))
    with pytest.raises(ConcurrentWriter):
        log.append(events(product, 2, ["ok"]), stood, stood.advance({0: PartitionOffset(3)}))
    land(ProductTables(catalog, product), ["ok"])
    assert [row["_offset"] for row in stored(catalog, product)] == [0, 1, 2]
    assert log.fates() == {"ok": 3, "undecodable": 0}
    position = log.position()
    assert position
    assert position.redrives == 1
