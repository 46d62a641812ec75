"""A field's type in each system: Arrow, DuckDB and Avro. Iceberg's follows from Arrow's.

Values are kept as wide as the narrowest of the four allows: instants and times in microseconds, decimals to 38 digits,
UUIDs as their text (Iceberg's and Avro's binary forms lose their type on the way through Arrow).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from mesh_pipelines.contract.envelope import ENVELOPE
from mesh_pipelines.contract.model import DataProduct, FieldType, Kind
from mesh_pipelines.sql.quote import quote

__all__ = ["arrow_schema", "arrow_type", "duckdb_type", "log_schema"]

_ARROW: Mapping[Kind, pa.DataType] = {
    Kind.BOOLEAN: pa.bool_(),
    Kind.INT: pa.int32(),
    Kind.LONG: pa.int64(),
    Kind.FLOAT: pa.float32(),
    Kind.DOUBLE: pa.float64(),
    Kind.STRING: pa.large_string(),
    Kind.UUID: pa.large_string(),
    Kind.BYTES: pa.large_binary(),
    Kind.DATE: pa.date32(),
    Kind.TIME: pa.time64("us"),
    Kind.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    Kind.TIMESTAMP_LOCAL: pa.timestamp("us"),
}
_DUCKDB: Mapping[Kind, str] = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.INT: "INTEGER",
    Kind.LONG: "BIGINT",
    Kind.FLOAT: "FLOAT",
    Kind.DOUBLE: "DOUBLE",
    Kind.STRING: "VARCHAR",
    Kind.UUID: "VARCHAR",
    Kind.BYTES: "BLOB",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMPTZ",
    Kind.TIMESTAMP_LOCAL: "TIMESTAMP",
}


def arrow_type(field_type: FieldType) -> pa.DataType:
    """The Arrow type values of this field have in memory and in tables."""
    match field_type.kind:
        case Kind.DECIMAL:
            return pa.decimal128(field_type.precision, field_type.scale)
        case Kind.LIST:
            return pa.large_list(arrow_type(_items(field_type)))
        case Kind.MAP:
            return pa.map_(pa.large_string(), arrow_type(_items(field_type)))
        case Kind.STRUCT:
            return pa.struct([pa.field(field.name, arrow_type(field.type)) for field in field_type.fields])
        case kind:
            return _ARROW[kind]


def duckdb_type(field_type: FieldType) -> str:
    """The DuckDB type of this field, as SQL text."""
    match field_type.kind:
        case Kind.DECIMAL:
            return f"DECIMAL({field_type.precision}, {field_type.scale})"
        case Kind.LIST:
            return f"{duckdb_type(_items(field_type))}[]"
        case Kind.MAP:
            return f"MAP(VARCHAR, {duckdb_type(_items(field_type))})"
        case Kind.STRUCT:
            return "STRUCT(" + ", ".join(f"{quote(f.name)} {duckdb_type(f.type)}" for f in field_type.fields) + ")"
        case kind:
            return _DUCKDB[kind]


def arrow_schema(product: DataProduct) -> pa.Schema:
    """The contract's columns, in order; all nullable, since ``required`` is audited and no reason to crash."""
    return pa.schema([pa.field(field.name, arrow_type(field.type)) for field in product.fields])


def log_schema(product: DataProduct) -> pa.Schema:
    """The log's columns: coordinates and fate, then the contract's columns."""
    return pa.schema([*ENVELOPE, *arrow_schema(product)])


def _items(field_type: FieldType) -> FieldType:
    assert field_type.items is not None, f"{field_type.kind} without an item type"
    return field_type.items
