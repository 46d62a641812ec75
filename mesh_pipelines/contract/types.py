"""A field's type in each system: Arrow, DuckDB and Avro. Iceberg's follows from Arrow's.

Values are kept as wide as the narrowest of the four allows: instants and times in microseconds, decimals to 38 digits,
UUIDs as their text (Iceberg's and Avro's binary forms lose their type on the way through Arrow).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mesh_pipelines.contract.log import ENVELOPE
from mesh_pipelines.contract.model import DataProduct, Field, FieldType, Kind
from mesh_pipelines.contract.sql import quote

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
_AVRO: Mapping[Kind, Any] = {
    Kind.BOOLEAN: "boolean",
    Kind.INT: "int",
    Kind.LONG: "long",
    Kind.FLOAT: "float",
    Kind.DOUBLE: "double",
    Kind.STRING: "string",
    Kind.UUID: {"type": "string", "logicalType": "uuid"},
    Kind.BYTES: "bytes",
    Kind.DATE: {"type": "int", "logicalType": "date"},
    Kind.TIME: {"type": "long", "logicalType": "time-micros"},
    Kind.TIMESTAMP: {"type": "long", "logicalType": "timestamp-micros"},
    Kind.TIMESTAMP_LOCAL: {"type": "long", "logicalType": "local-timestamp-micros"},
}
_FROM_AVRO: Mapping[str, Kind] = {
    "boolean": Kind.BOOLEAN,
    "int": Kind.INT,
    "long": Kind.LONG,
    "float": Kind.FLOAT,
    "double": Kind.DOUBLE,
    "string": Kind.STRING,
    "enum": Kind.STRING,
    "bytes": Kind.BYTES,
    "fixed": Kind.BYTES,
}
_FROM_LOGICAL: Mapping[str, Kind] = {
    "uuid": Kind.UUID,
    "date": Kind.DATE,
    "time-millis": Kind.TIME,
    "time-micros": Kind.TIME,
    "timestamp-millis": Kind.TIMESTAMP,
    "timestamp-micros": Kind.TIMESTAMP,
    "local-timestamp-millis": Kind.TIMESTAMP_LOCAL,
    "local-timestamp-micros": Kind.TIMESTAMP_LOCAL,
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


def avro_schema(name: str, namespace: str, fields: Sequence[Field], doc: str = "") -> str:
    """The Avro record schema of these fields as JSON text; an optional field is a union with null, null by default."""
    record = _avro_record(name, fields, doc)
    return json.dumps({**record, "namespace": namespace}, separators=(",", ":"), ensure_ascii=False)


def _avro_record(name: str, fields: Sequence[Field], doc: str = "") -> dict[str, Any]:
    record: dict[str, Any] = {"type": "record", "name": name}
    if doc:
        record["doc"] = doc
    record["fields"] = [_avro_field(field, name) for field in fields]
    return record


def _avro_field(field: Field, path: str) -> dict[str, Any]:
    field_type = _avro_type(field.type, f"{path}_{field.name}")
    written: dict[str, Any] = {"name": field.name}
    if field.required:
        written["type"] = field_type
        if field.has_default and field.default is not None:
            written["default"] = field.default
    elif field.has_default and field.default is not None:
        written |= {"type": [field_type, "null"], "default": field.default}
    else:
        written |= {"type": ["null", field_type], "default": None}
    if field.aliases:
        written["aliases"] = list(field.aliases)
    if field.description:
        written["doc"] = field.description
    return written


def _avro_type(field_type: FieldType, name: str) -> Any:
    match field_type.kind:
        case Kind.DECIMAL:
            return {
                "type": "bytes",
                "logicalType": "decimal",
                "precision": field_type.precision,
                "scale": field_type.scale,
            }
        case Kind.LIST:
            return {"type": "array", "items": ["null", _avro_type(_items(field_type), f"{name}_item")]}
        case Kind.MAP:
            return {"type": "map", "values": ["null", _avro_type(_items(field_type), f"{name}_value")]}
        case Kind.STRUCT:
            return _avro_record(name, field_type.fields)
        case kind:
            return _AVRO[kind]


def from_avro(schema: Any, named: Mapping[str, Any] | None = None) -> FieldType:
    """The field type of an Avro schema (parsed JSON); a union with null is the type it may be null of.

    Raises:
        ValueError: the schema has no counterpart: unions of several types, recursion, an unknown logical type.
    """
    named = named or {}
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        if len(branches) != 1:
            raise ValueError("a union of several types has no column type")
        return from_avro(branches[0], named)
    if isinstance(schema, str):
        if schema in _FROM_AVRO:
            return FieldType(_FROM_AVRO[schema])
        raise ValueError(f"type {schema} is recursive or unknown")
    return _from_complex(schema, named)


def _from_complex(schema: Mapping[str, Any], named: Mapping[str, Any]) -> FieldType:
    logical = str(schema.get("logicalType", ""))
    if logical == "decimal":
        return FieldType(Kind.DECIMAL, int(schema["precision"]), int(schema.get("scale", 0)))
    if logical in _FROM_LOGICAL:
        return FieldType(_FROM_LOGICAL[logical])
    match schema["type"]:
        case "array":
            return FieldType(Kind.LIST, items=from_avro(schema["items"], named))
        case "map":
            return FieldType(Kind.MAP, items=from_avro(schema["values"], named))
        case "record":
            return FieldType(
                Kind.STRUCT,
                fields=tuple(
                    Field(
                        field["name"],
                        from_avro(field["type"], named),
                        required=not (isinstance(field["type"], list) and "null" in field["type"]),
                        aliases=tuple(field.get("aliases", ())),
                    )
                    for field in schema["fields"]
                ),
            )
        case inner:
            return from_avro(inner, named)


def _items(field_type: FieldType) -> FieldType:
    assert field_type.items is not None, f"{field_type.kind} without an item type"
    return field_type.items
