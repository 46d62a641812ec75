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
from functools import cached_property
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
_NO_PLACES = ("NULL::VARCHAR AS filename", "NULL::BIGINT AS file_row_number")
# Each file read on its own costs its own part of a plan.
_ONE_BY_ONE = 64
# Enough for what one step asks of one product.
_PLANS = 16
_planned: dict[tuple[str, int | None], list[DataFile]] = {}


class DataFiles:
    """The data files of a table as it was loaded, committed or not, and their rows as SQL text to stand after FROM.

    Rows have all the table's columns under their current names. The paths of the files that SQL was given for are added
    to ``read``.
    """

    def __init__(self, table: Table, read: set[str] | None = None) -> None:
        self.table = table
        self._read: set[str] = set() if read is None else read

    def at(self, snapshot_id: int | None) -> list[DataFile]:
        """The files of a snapshot (None: of the current one).

        They are the same for the same metadata, so those asked for last are remembered. Who needs few of them chooses
        by ``bounds``: a filter given to the library is evaluated again for each question, at twice the cost of all
        files.
        """
        key = self.table.metadata_location, snapshot_id
        if key not in _planned:
            while len(_planned) >= _PLANS:
                _planned.pop(next(iter(_planned)), None)
            _planned[key] = self._plan(snapshot_id)
        return list(_planned[key])

    def _plan(self, snapshot_id: int | None) -> list[DataFile]:
        tasks = list(self.table.scan(snapshot_id=snapshot_id).plan_files())
        if any(task.delete_files for task in tasks):
            raise EnvironmentFault(
                f"{'.'.join(self.table.name())}: another engine left delete files, which native reads do not apply",
                next_step="rewrite the table's data files with that engine",
            )
        return [task.file for task in tasks]

    def rows_at(self, snapshot_id: int | None) -> str:
        """The rows of a snapshot (None: of the current one)."""
        return self.rows(self.at(snapshot_id))

    def rows(self, files: Sequence[DataFile], *, row_numbers: bool = False) -> str:
        """The rows of these files.

        ``row_numbers`` adds where each row lies: the columns ``filename`` (a path) and ``file_row_number``.
        """
        if not files:
            return self._no_rows(_NO_PLACES if row_numbers else ())
        return self._sql(files, self._options(row_numbers))

    def each(self, files: Sequence[DataFile], *, row_numbers: bool = False) -> list[str]:
        """The rows of these files as relations to be read one after the other, of a file each while they are few.

        DuckDB uses a file's statistics (no nulls, lowest, highest) if it reads that file alone.
        """
        if not 0 < len(files) <= _ONE_BY_ONE:
            return [self.rows(files, row_numbers=row_numbers)]
        return self.each_alone(files, row_numbers=row_numbers)

    def each_alone(self, files: Sequence[DataFile], *, row_numbers: bool = False) -> list[str]:
        """The rows of each of these files as a relation of its own."""
        options = self._options(row_numbers)
        return [self._sql([file], options) for file in files]

    def by_name(self, files: Sequence[DataFile]) -> str:
        """The rows of files and where they lie, as ``rows`` with row numbers, with columns matched by their names.

        For the platform's own columns, which are never renamed. Given a schema, DuckDB does not know how many rows
        there are, and takes a table of millions for the smaller side of a join.
        """
        return self._sql(files, _WITH_PLACES) if files else self.rows(files, row_numbers=True)

    def has(self, column: str) -> bool:
        """Whether the table has a column of this name."""
        return column in self.table.schema().column_names

    def bounds(self, file: DataFile, column: str) -> tuple[Any, Any] | None:
        """The lowest and the highest value in a column of a file, if its statistics have both.

        They are exact for numbers, and for texts of up to 16 characters, as the platform's own are.
        """
        from pyiceberg.conversions import from_bytes
        from pyiceberg.types import PrimitiveType

        known = self.table.schema().find_field(column)
        lowest, highest = (file.lower_bounds or {}).get(known.field_id), (file.upper_bounds or {}).get(known.field_id)
        if lowest is None or highest is None:
            return None
        assert isinstance(known.field_type, PrimitiveType)
        return from_bytes(known.field_type, lowest), from_bytes(known.field_type, highest)

    def is_null(self, file: DataFile, column: str) -> bool:
        """Whether a column of a file holds nothing but nulls, as far as its statistics tell."""
        number = self.table.schema().find_field(column).field_id
        return (file.null_value_counts or {}).get(number) == file.record_count

    def filled_schema(self) -> Schema:
        """The table's schema, for pyiceberg to read its files with: it fills columns as ``rows`` does."""
        import duckdb
        from pyiceberg.schema import Schema

        def filled(field: NestedField) -> NestedField:
            text = self._default_text(field)
            if text is None:
                return field
            [(value,)] = engine.execute(f"SELECT CAST({literal(text)} AS {_type(field.field_type)})").fetchall()
            return field.model_copy(update={"initial_default": value})

        now = self.table.schema()
        with closing(duckdb.connect()) as engine:
            return Schema(*map(filled, now.fields), schema_id=now.schema_id)

    def _sql(self, files: Sequence[DataFile], options: str) -> str:
        paths = [local_path(file.file_path) for file in files]
        self._read.update(paths)
        return f"read_parquet([{', '.join(map(literal, paths))}], hive_partitioning = false{options})"

    def _options(self, row_numbers: bool) -> str:
        return self._schema_option + (_WITH_PLACES if row_numbers else "")

    @cached_property
    def _schema_option(self) -> str:
        if self._never_evolved():
            return ""
        entries = (
            f"{field.field_id}: {{name: {literal(field.name)}, type: {literal(_type(field.field_type))}, "
            f"default_value: {self._default(field)}}}"
            for field in self.table.schema().fields
        )
        return f", schema = MAP {{{', '.join(entries)}}}"

    def _never_evolved(self) -> bool:
        """Whether every file has the table's columns under their current names, so that it can be read by name."""
        from pyiceberg.schema import sanitize_column_names

        now = self.table.schema()
        return sanitize_column_names(now).fields == now.fields and all(
            one.fields == now.fields for one in self.table.schemas().values()
        )

    def _default(self, field: NestedField) -> str:
        text = self._default_text(field)
        return "NULL::VARCHAR" if text is None else literal(text)

    def _default_text(self, field: NestedField) -> str | None:
        return self.table.properties.get(f"{_DEFAULT}{field.field_id}")

    def _no_rows(self, more: Sequence[str]) -> str:
        columns = [f"NULL::{_type(field.field_type)} AS {quote(field.name)}" for field in self.table.schema().fields]
        return f"(SELECT {', '.join([*columns, *more])} WHERE FALSE)"


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


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


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
