"""An Iceberg table's data files as relations: by field id, with defaults for what was added, pruned by statistics."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyiceberg import types
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.lake import files
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.commit import TABLE_PROPERTIES, append, current_files
from mesh_pipelines.lake.files import DataFiles
from mesh_pipelines.lake.filters import all_of, at_least, equal, none_of, one_of
from mesh_pipelines.settings import Settings

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.large_string()), ("nothing", pa.int32())])


@pytest.fixture
def table(local_settings: Settings) -> Table:
    catalog = open_catalog(local_settings)
    catalog.create_namespace("shop")
    return catalog.create_table("shop.orders", schema=SCHEMA, properties=dict(TABLE_PROPERTIES))


def add(table: Table, *rows: tuple[int, str]) -> None:
    values = [{"id": number, "name": name, "nothing": None} for number, name in rows]
    append(table, pa.Table.from_pylist(values, schema=SCHEMA), {})


def read(relation: str) -> list[dict[str, Any]]:
    with duckdb.connect() as engine:
        return engine.sql(f"FROM {relation}").to_arrow_table().to_pylist()


def test_an_empty_table_has_its_columns_and_no_rows(table: Table) -> None:
    with duckdb.connect() as engine:
        found = engine.execute(f"FROM {DataFiles(table).rows_at(None)}")
        assert [(one[0], str(one[1])) for one in found.description] == [
            ("id", "BIGINT"),
            ("name", "VARCHAR"),
            ("nothing", "INTEGER"),
        ]
        assert found.fetchall() == []
        placed = engine.execute(f"FROM {DataFiles(table).rows([], row_numbers=True)}").description
        assert [one[0] for one in placed][-2:] == ["filename", "file_row_number"]


def test_a_snapshot_is_read_as_it_was(table: Table) -> None:
    add(table, (1, "a"))
    first = table.current_snapshot()
    assert first
    add(table, (2, "b"))
    assert [row["id"] for row in read(DataFiles(table).rows_at(first.snapshot_id))] == [1]
    assert sorted(row["id"] for row in read(DataFiles(table).rows_at(None))) == [1, 2]


def test_files_are_remembered_as_long_as_the_table_is_the_same(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[int | None] = []
    plan = DataFiles._plan

    def counted(of: DataFiles, snapshot_id: int | None) -> Any:
        planned.append(snapshot_id)
        return plan(of, snapshot_id)

    monkeypatch.setattr(DataFiles, "_plan", counted)
    add(table, (1, "a"))
    for _ in range(3):
        assert len(DataFiles(table).at(None)) == 1
    assert planned == [None]
    add(table, (2, "b"))
    assert len(DataFiles(table).at(None)) == 2
    assert len(planned) == 2


def test_who_changes_the_list_of_files_changes_nobody_elses(table: Table) -> None:
    add(table, (1, "a"))
    DataFiles(table).at(None).clear()
    assert len(DataFiles(table).at(None)) == 1


def test_only_so_many_plans_are_remembered(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_planned", {})
    monkeypatch.setattr(files, "_PLANS", 2)
    for number in range(4):
        add(table, (number, "a"))
        DataFiles(table).at(None)
    assert len(files._planned) == 2
    assert (table.metadata_location, None) in files._planned


def test_each_file_is_a_relation_of_its_own_while_they_are_few(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        add(table, (number, "a"))
    found = current_files(table)
    assert [len(read(one)) for one in DataFiles(table).each(found)] == [1, 1, 1]
    monkeypatch.setattr(files, "_ONE_BY_ONE", 2)
    [together] = DataFiles(table).each(found)
    assert len(read(together)) == 3
    [empty] = DataFiles(table).each([])
    assert read(empty) == []


def test_rows_say_where_they_lie(table: Table) -> None:
    add(table, (1, "a"), (2, "b"))
    [file] = current_files(table)
    for relation in (DataFiles(table).rows([file], row_numbers=True), DataFiles(table).by_name([file])):
        rows = read(relation)
        assert {row["file_row_number"] for row in rows} == {0, 1}
        assert {row["filename"] for row in rows} == {file.file_path.removeprefix("file://")}
    assert read(DataFiles(table).by_name([])) == []


def test_statistics_tell_bounds_and_nulls(table: Table) -> None:
    add(table, (3, "b"), (-7, "a"), (5, "sixteen letters!"))
    [file] = current_files(table)
    assert DataFiles(table).bounds(file, "id") == (-7, 5)
    assert DataFiles(table).bounds(file, "name") == ("a", "sixteen letters!")
    assert DataFiles(table).bounds(file, "nothing") is None
    assert DataFiles(table).is_null(file, "nothing")
    assert not DataFiles(table).is_null(file, "id")


def test_columns_are_found_by_their_id_after_they_were_renamed_and_widened(table: Table) -> None:
    add(table, (1, "a"))
    with table.update_schema() as change:
        change.rename_column("name", "label")
    with table.update_schema() as change:
        change.add_column("name", types.StringType())
    assert read(DataFiles(table).rows_at(None)) == [{"id": 1, "label": "a", "nothing": None, "name": None}]


def added(table: Table, field: Field, of: types.IcebergType) -> None:
    with table.update_schema() as change:
        change.add_column(field.name, of)
    with table.transaction() as opened:
        opened.set_properties(files.default_properties(table.schema(), [field]))


DECIMAL = FieldType(Kind.DECIMAL, precision=5, scale=2)


@pytest.mark.parametrize(
    ("of", "iceberg", "default", "value"),
    [
        (FieldType(Kind.STRING), types.StringType(), "it's", "it's"),
        (FieldType(Kind.INT), types.IntegerType(), 7, 7),
        (FieldType(Kind.BOOLEAN), types.BooleanType(), True, True),
        (FieldType(Kind.DOUBLE), types.DoubleType(), 0.1, 0.1),
        (DECIMAL, types.DecimalType(5, 2), "1.50", Decimal("1.50")),
        (FieldType(Kind.DATE), types.DateType(), "2013-01-31", dt.date(2013, 1, 31)),
        (FieldType(Kind.TIME), types.TimeType(), "13:45:00", dt.time(13, 45)),
    ],
)
def test_a_column_that_was_added_is_filled_with_what_it_was_added_with(
    table: Table, of: FieldType, iceberg: types.IcebergType, default: Any, value: Any
) -> None:
    add(table, (1, "a"))
    added(table, Field("more", of, default=default), iceberg)
    assert [row["more"] for row in read(DataFiles(table).rows_at(None))] == [value]
    filled = DataFiles(table).filled_schema().find_field("more")
    assert filled.initial_default == value


def test_a_column_without_a_default_is_null(table: Table) -> None:
    add(table, (1, "a"))
    added(table, Field("more", FieldType(Kind.INT)), types.IntegerType())
    assert [row["more"] for row in read(DataFiles(table).rows_at(None))] == [None]
    assert DataFiles(table).filled_schema().find_field("more").initial_default is None


def test_defaults_are_kept_under_the_columns_id() -> None:
    schema = Schema(types.NestedField(7, "a", types.StringType()), types.NestedField(9, "b", types.IntegerType()))
    fields = [Field("a", FieldType(Kind.STRING), default="x"), Field("b", FieldType(Kind.INT), default=3)]
    assert files.default_properties(schema, fields) == {"mesh.default.7": "x", "mesh.default.9": "3"}
    assert files.default_properties(schema, [Field("a", FieldType(Kind.STRING))]) == {}
    flag = Field("b", FieldType(Kind.BOOLEAN), default=False)
    assert files.default_properties(schema, [flag]) == {"mesh.default.9": "false"}


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (types.DecimalType(9, 2), "DECIMAL(9, 2)"),
        (types.ListType(3, types.LongType()), "BIGINT[]"),
        (types.MapType(3, types.StringType(), 4, types.DoubleType()), "MAP(VARCHAR, DOUBLE)"),
        (types.StructType(types.NestedField(3, 'a"b', types.DateType())), 'STRUCT("a""b" DATE)'),
        (types.FixedType(16), "BLOB"),
        (types.TimestamptzType(), "TIMESTAMPTZ"),
        (types.ListType(3, types.StructType(types.NestedField(4, "x", types.UUIDType()))), 'STRUCT("x" UUID)[]'),
    ],
)
def test_types_of_iceberg_as_those_of_the_engine(of: types.IcebergType, text: str) -> None:
    assert files._type(of) == text
    with duckdb.connect() as engine:
        assert engine.execute(f"SELECT NULL::{text}").fetchall() == [(None,)]


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        (equal("id", 2), [2]),
        (at_least("id", 2), [2, 3]),
        (one_of("name", ["a", "c", "z"]), [1, 3]),
        (none_of("name", ["a"]), [2, 3]),
        (all_of(at_least("id", 2), none_of("name", ["c"])), [2]),
        (all_of(at_least("id", 1), at_least("id", 2), equal("name", "c")), [3]),
    ],
)
def test_filters_of_scans(table: Table, rows: Any, chosen: list[int]) -> None:
    add(table, (1, "a"), (2, "b"), (3, "c"))
    assert table.scan(row_filter=rows).to_arrow()["id"].to_pylist() == chosen
