"""A contract's fields to an Avro record schema, as the Avro 1.12 specification has it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.values import default_value
from mesh_pipelines.formats.avro.schema import NAME

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
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


def avro_schema(name: str, namespace: str, fields: Sequence[Field], doc: str = "") -> str:
    """The Avro record schema of these fields as JSON text; an optional field is a union with null, null by default.

    Records within are named after their path, each step beginning with a capital (``ordersAddressPoint``): names of
    products and fields have none, so no two paths give one name. A namespace for each record was ruled out, since it
    would be named like the record around it, which Java's generated classes cannot be.
    """
    record = _record(name, fields)
    described = {"doc": doc} if doc else {}
    schema = {"type": "record", "name": name, "namespace": namespace, **described, "fields": record["fields"]}
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False)


def _record(name: str, fields: Sequence[Field]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [_field(field, name) for field in fields]}


def _field(field: Field, around: str) -> dict[str, Any]:
    field_type = _type(field.type, around + field.name[0].upper() + field.name[1:])
    written: dict[str, Any] = {"name": field.event_name}
    if field.required:
        written["type"] = field_type
    elif field.default is None:
        written |= {"type": ["null", field_type], "default": None}
    else:
        # A default is of the union's first type (Avro 1.11 and before), so null comes second here.
        written["type"] = [field_type, "null"]
    if field.default is not None:
        written["default"] = _default(field)
    if former := [name for name in field.event_names[1:] if NAME.fullmatch(name)]:
        written["aliases"] = former
    if field.description:
        written["doc"] = field.description
    return written


def _type(field_type: FieldType, name: str) -> Any:
    match field_type.kind:
        case Kind.DECIMAL:
            digits = {"precision": field_type.precision, "scale": field_type.scale}
            return {"type": "bytes", "logicalType": "decimal", **digits}
        case Kind.LIST:
            return {"type": "array", "items": ["null", _inner(field_type, f"{name}Item")]}
        case Kind.MAP:
            return {"type": "map", "values": ["null", _inner(field_type, f"{name}Value")]}
        case Kind.STRUCT:
            return _record(name, field_type.fields)
        case kind:
            return _AVRO[kind]


def _inner(field_type: FieldType, name: str) -> Any:
    assert field_type.items is not None, f"{field_type.kind} without an item type"
    return _type(field_type.items, name)


def _default(field: Field) -> Any:
    """The field's default in Avro's JSON encoding: numbers of days and microseconds, decimals as byte text."""
    value = default_value(field)
    match value:
        case dt.datetime():
            return (value.replace(tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(microseconds=1)
        case dt.date():
            return (value - _EPOCH.date()).days
        case dt.time():
            return (value.hour * 3600 + value.minute * 60 + value.second) * 1_000_000 + value.microsecond
        case Decimal():
            return _decimal_bytes(value, field.type.scale).decode("latin-1")
        case _:
            return value


def _decimal_bytes(value: Decimal, scale: int) -> bytes:
    unscaled = int(value.scaleb(scale, Context(prec=60)))
    return unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)
