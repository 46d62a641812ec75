"""Data files: encoded by what their columns hold, and read back as they were written."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table

from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.commit import TABLE_PROPERTIES, append, current_files, rows_of
from mesh_pipelines.lake.files import DataFiles
from mesh_pipelines.lake.parquet import write_file
from mesh_pipelines.local_path import local_path
from mesh_pipelines.settings import Settings

ROWS = 5_000
EPOCH = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def rows() -> pa.Table:
    return pa.table(
        {
            "id": pa.array([f"order-{number:09}" for number in range(ROWS)], pa.large_string()),
            "status": pa.array([("placed", "paid")[number % 2] for number in range(ROWS)], pa.large_string()),
            "cents": pa.array([number * 7 for number in range(ROWS)], pa.int64()),
            "at": pa.array([EPOCH + dt.timedelta(seconds=number) for number in range(ROWS)], pa.timestamp("us", "UTC")),
            "nothing": pa.nulls(ROWS, pa.int32()),
            "price": pa.array([Decimal(number) / 100 for number in range(ROWS)], pa.decimal128(9, 2)),
            "digest": pa.array([uuid.UUID(int=number).bytes for number in range(ROWS)], pa.uuid()),
            "tags": pa.array([["a", "b"][: number % 3] if number % 5 else None for number in range(ROWS)]),
        }
    )


@pytest.fixture
def table(local_settings: Settings, rows: pa.Table) -> Table:
    catalog = open_catalog(local_settings)
    catalog.create_namespace("shop")
    return catalog.create_table("shop.orders", schema=rows.schema, properties=dict(TABLE_PROPERTIES))


def test_what_is_written_is_read(table: Table, rows: pa.Table) -> None:
    append(table, rows, {})
    found = rows_of(table, current_files(table)).read_all()
    assert found.to_pylist() == rows.to_pylist()


def test_parts_are_files_of_one_commit_in_their_order(table: Table, rows: pa.Table) -> None:
    append(table, [rows.slice(0, 1_000), rows.slice(1_000, 3_500), rows.slice(4_500)], {})
    files = current_files(table)
    assert sorted(file.record_count for file in files) == [500, 1_000, 3_500]
    assert len(table.metadata.snapshots) == 1
    assert rows_of(table, files).read_all().sort_by("id").to_pylist() == rows.to_pylist()


def test_columns_that_repeat_have_dictionaries_and_ordered_ones_differences(table: Table, rows: pa.Table) -> None:
    file = write_file(table, rows)
    group = pq.read_metadata(local_path(file.file_path)).row_group(0)
    encodings = {group.column(at).path_in_schema: group.column(at).encodings for at in range(group.num_columns)}
    has_dictionary = {name for name, used in encodings.items() if "RLE_DICTIONARY" in used}
    assert has_dictionary == {"status", "nothing", "tags.list.element"}
    assert {name for name, used in encodings.items() if "DELTA_BINARY_PACKED" in used} == {"cents", "at"}
    packed = {group.column(at).path_in_schema for at in range(8) if group.column(at).compression == "UNCOMPRESSED"}
    assert packed == {"cents", "at", "digest"}
    assert file.record_count == ROWS


def test_a_table_is_read_by_name_until_it_evolves(table: Table, rows: pa.Table) -> None:
    append(table, rows, {})
    by_name = DataFiles(table).rows(current_files(table))
    with table.update_schema() as update:
        update.rename_column("cents", "amount")
    by_id = DataFiles(table).rows(current_files(table))
    assert ("schema" in by_name, "schema" in by_id) == (False, True)
    with duckdb.connect() as engine:
        renamed = engine.sql(f"SELECT * RENAME (cents AS amount) FROM {by_name}")
        assert renamed.types == engine.sql(f"FROM {by_id}").types
        assert renamed.except_(engine.sql(f"FROM {by_id}")).fetchall() == []


def test_columns_that_the_rows_lack_are_null(table: Table, rows: pa.Table) -> None:
    append(table, rows.select(["status", "id"]), {})
    found = rows_of(table, current_files(table)).read_all()
    assert found["id"].to_pylist() == rows["id"].to_pylist()
    assert found["cents"].null_count == ROWS
