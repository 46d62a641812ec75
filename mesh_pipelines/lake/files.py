"""An Iceberg table's data files as a DuckDB relation, read natively by field id.

DuckDB matches each file's columns by Iceberg field id, so a file written before a column was renamed, widened or
added reads right, row groups are pruned, and nothing passes through Arrow. Files with deletes are refused: no writer
of the mesh makes any.

What fills a column in the files from before it was added is kept with the table, under the column's id, and never
changes again: a contract's default may, and earlier versions must not change with it. Iceberg's own place for it,
``initial-default``, was ruled out while tables are of format 2, whose readers need not accept it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from mesh_pipelines.contract.model import Field
from mesh_pipelines.errors import EnvironmentFault
from mesh_pipelines.local_path import local_path
from mesh_pipelines.sql.quote import literal, quote

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.types import IcebergType, NestedField

_DEFAULT = "mesh.default."

_WITH_PLACES = ", filename = true, file_row_number = true"
# Each file read on its own costs its own part of a plan.
_ONE_BY_ONE = 64
# Enough for what one step asks of one product.
_PLANS = 16
_planned: dict[tuple[str, int | None], list[DataFile]] = {}


def relation(table: Table, *, snapshot_id: int | None = None) -> str:
    """The table's rows as SQL text to stand after FROM, with all its columns under their current names."""
    return relation_of(table, files_of(table, snapshot_id))


def files_of(table: Table, snapshot_id: int | None) -> list[DataFile]:
    """The table's data files at a snapshot (None: now).

    They are the same for the same metadata, so those asked for last are remembered. Who needs few of them chooses by
    ``bounds``: a filter given to the library is evaluated again for each question, at twice the cost of all files.
    """
    key = table.metadata_location, snapshot_id
    if key not in _planned:
        while len(_planned) >= _PLANS:
            _planned.pop(next(iter(_planned)), None)
        _planned[key] = _plan(table, snapshot_id)
    return list(_planned[key])


def _plan(table: Table, snapshot_id: int | None) -> list[DataFile]:
    tasks = list(table.scan(snapshot_id=snapshot_id).plan_files())
    if any(task.delete_files for task in tasks):
        raise EnvironmentFault(
            f"{'.'.join(table.name())}: another engine left delete files, which native reads do not apply",
            next_step="rewrite the table's data files with that engine",
        )
    return [task.file for task in tasks]


def relation_of(table: Table, files: Sequence[DataFile], *, row_numbers: bool = False) -> str:
    """The rows of these data files of the table, committed or not, as ``relation`` gives them.

    ``row_numbers`` adds where each row lies: the columns ``filename`` (a path) and ``file_row_number``.
    """
    if not files:
        return _empty(table, ["NULL::VARCHAR AS filename", "NULL::BIGINT AS file_row_number"] if row_numbers else [])
    return _read(files, _options(table, row_numbers))


def each_of(table: Table, files: Sequence[DataFile], *, row_numbers: bool = False) -> list[str]:
    """The rows of these data files as relations to be read one after the other, of a file each while they are few.

    DuckDB uses a file's statistics (no nulls, lowest, highest) where it reads that file alone.
    """
    if not 0 < len(files) <= _ONE_BY_ONE:
        return [relation_of(table, files, row_numbers=row_numbers)]
    return relations_of(table, files, row_numbers=row_numbers)


def relations_of(table: Table, files: Sequence[DataFile], *, row_numbers: bool = False) -> list[str]:
    """The rows of each of these data files as a relation of its own."""
    options = _options(table, row_numbers)
    return [_read([file], options) for file in files]


def by_name(table: Table, files: Sequence[DataFile]) -> str:
    """The rows of data files and where they lie, as ``relation_of`` with row numbers, with columns by their names.

    For the platform's own columns, which are never renamed. Given a schema, DuckDB does not know how many rows there
    are, and takes a table of millions for the smaller side of a join.
    """
    if not files:
        return relation_of(table, files, row_numbers=True)
    return _read(files, _WITH_PLACES)


def bounds(table: Table, file: DataFile, column: str) -> tuple[Any, Any] | None:
    """The lowest and the highest value in a column of a data file, where its statistics have both.

    They are exact for numbers, and for texts of up to 16 characters, as the platform's own are.
    """
    from pyiceberg.conversions import from_bytes
    from pyiceberg.types import PrimitiveType

    known = table.schema().find_field(column)
    lowest, highest = (file.lower_bounds or {}).get(known.field_id), (file.upper_bounds or {}).get(known.field_id)
    if lowest is None or highest is None:
        return None
    assert isinstance(known.field_type, PrimitiveType)
    return from_bytes(known.field_type, lowest), from_bytes(known.field_type, highest)


def is_null(table: Table, file: DataFile, column: str) -> bool:
    """Whether a column of a data file holds nothing but nulls, as far as its statistics tell."""
    number = table.schema().find_field(column).field_id
    return (file.null_value_counts or {}).get(number) == file.record_count


def damage() -> tuple[type[Exception], ...]:
    """What reading a data file that is missing or cannot be read raises."""
    import duckdb

    return duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException


def default_properties(schema: Schema, added: Iterable[Field]) -> dict[str, str]:
    """The properties that keep what columns added now are filled with in earlier files."""
    return {
        f"{_DEFAULT}{schema.find_field(field.name).field_id}": _text(field.default)
        for field in added
        if field.default is not None
    }


def filled_schema(table: Table) -> Schema:
    """The table's schema, for pyiceberg to read its files with: it fills columns as ``relation`` does."""
    import duckdb
    from pyiceberg.schema import Schema

    def filled(field: NestedField) -> NestedField:
        text = table.properties.get(f"{_DEFAULT}{field.field_id}")
        if text is None:
            return field
        [(value,)] = engine.execute(f"SELECT CAST({literal(text)} AS {_type(field.field_type)})").fetchall()
        return field.model_copy(update={"initial_default": value})

    with closing(duckdb.connect()) as engine:
        return Schema(*map(filled, table.schema().fields), schema_id=table.schema().schema_id)


def _read(files: Sequence[DataFile], options: str) -> str:
    paths = ", ".join(literal(local_path(file.file_path)) for file in files)
    return f"read_parquet([{paths}], hive_partitioning = false{options})"


def _options(table: Table, row_numbers: bool) -> str:
    schema = "" if _never_evolved(table) else f", schema = {_schema(table)}"
    return schema + (_WITH_PLACES if row_numbers else "")


def _never_evolved(table: Table) -> bool:
    """Whether every file has the table's columns under their current names, so that it can be read by name."""
    from pyiceberg.schema import sanitize_column_names

    now = table.schema()
    return sanitize_column_names(now).fields == now.fields and all(
        one.fields == now.fields for one in table.schemas().values()
    )


def _schema(table: Table) -> str:
    entries = (
        f"{field.field_id}: {{name: {literal(field.name)}, type: {literal(_type(field.field_type))}, "
        f"default_value: {_default(table, field.field_id)}}}"
        for field in table.schema().fields
    )
    return "MAP {" + ", ".join(entries) + "}"


def _default(table: Table, field_id: int) -> str:
    text = table.properties.get(f"{_DEFAULT}{field_id}")
    return "NULL::VARCHAR" if text is None else literal(text)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _empty(table: Table, more: Sequence[str]) -> str:
    columns = [f"NULL::{_type(field.field_type)} AS {quote(field.name)}" for field in table.schema().fields]
    return f"(SELECT {', '.join([*columns, *more])} WHERE FALSE)"


def _type(iceberg: IcebergType) -> str:
    from pyiceberg import types

    match iceberg:
        case types.DecimalType():
            return f"DECIMAL({iceberg.precision}, {iceberg.scale})"
        case types.ListType():
            return f"{_type(iceberg.element_type)}[]"
        case types.MapType():
            return f"MAP({_type(iceberg.key_type)}, {_type(iceberg.value_type)})"
        case types.StructType():
            return "STRUCT(" + ", ".join(f"{quote(f.name)} {_type(f.field_type)}" for f in iceberg.fields) + ")"
        case types.FixedType():
            return "BLOB"
        case _:
            return _PRIMITIVES[str(iceberg)]


_PRIMITIVES = {
    "boolean": "BOOLEAN",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "uuid": "UUID",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
}
