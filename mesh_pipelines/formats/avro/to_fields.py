"""An Avro schema to the columns that its events have, in the types of contracts.

A union with null is the type it may be null of; an unknown or invalid logical type is its plain type, as the
specification says. What Kafka Connect and Debezium say of plain numbers and text (``connect.name``) makes times of
them, where the contract wants times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh_pipelines.contract.model import MAX_TYPE_DEPTH, Field, FieldType, Kind
from mesh_pipelines.formats.avro.schema import Node, Unreadable
from mesh_pipelines.formats.readable import OneOf

_PRIMITIVE: Mapping[str, Kind] = {
    "boolean": Kind.BOOLEAN,
    "int": Kind.INT,
    "long": Kind.LONG,
    "float": Kind.FLOAT,
    "double": Kind.DOUBLE,
    "string": Kind.STRING,
    "bytes": Kind.BYTES,
    "fixed": Kind.BYTES,
    "enum": Kind.STRING,
}
_LOGICAL: Mapping[tuple[str, str], Kind] = {
    ("string", "uuid"): Kind.UUID,
    ("int", "date"): Kind.DATE,
    ("int", "time-millis"): Kind.TIME,
    ("long", "time-micros"): Kind.TIME,
    ("long", "timestamp-millis"): Kind.TIMESTAMP,
    ("long", "timestamp-micros"): Kind.TIMESTAMP,
    ("long", "local-timestamp-millis"): Kind.TIMESTAMP_LOCAL,
    ("long", "local-timestamp-micros"): Kind.TIMESTAMP_LOCAL,
    ("fixed", "uuid"): Kind.UUID,
}
# What plain numbers count, in the words of ``FieldType.epoch``.
_UNITS: Mapping[str, str] = {
    "timestamp-nanos": "ns",
    "local-timestamp-nanos": "ns",
    "io.debezium.time.Date": "d",
    "io.debezium.time.Time": "ms",
    "io.debezium.time.MicroTime": "us",
    "io.debezium.time.NanoTime": "ns",
    "io.debezium.time.Timestamp": "ms",
    "io.debezium.time.MicroTimestamp": "us",
    "io.debezium.time.NanoTimestamp": "ns",
    "org.apache.kafka.connect.data.Date": "d",
    "org.apache.kafka.connect.data.Time": "ms",
    "org.apache.kafka.connect.data.Timestamp": "ms",
}
_UUID_BYTES = 16


def field_type(node: Node) -> FieldType:
    """The type of the column that holds these values.

    Raises:
        Unreadable: no column does: a type inside itself, too deep, null and nothing else.
    """
    return _type(node, 0)


def member_type(record: Node, name: str) -> FieldType:
    """The type of one of a record's fields; what the others are does not matter.

    Raises:
        Unreadable: no column has it; the path begins with the field.
    """
    try:
        return _type(record.children[record.names.index(name)], 1)
    except Unreadable as error:
        raise error.within(name) from None


def _type(node: Node, depth: int) -> FieldType:
    # The record around the fields is one level more than a field may have.
    if depth > MAX_TYPE_DEPTH + 1:
        raise Unreadable(f"nests deeper than {MAX_TYPE_DEPTH} levels")
    match node.kind:
        case "union" if node.optional:
            return _type(node.optional, depth)
        case "union":
            return _several(node, depth)
        case "again":
            raise Unreadable(f"is recursive: {node.name[:80]} holds itself")
        case "array":
            return FieldType(Kind.LIST, items=_type(node.children[0], depth + 1))
        case "map":
            return FieldType(Kind.MAP, items=_type(node.children[0], depth + 1))
        case "record":
            return FieldType(Kind.STRUCT, fields=_fields(node, depth + 1))
        case "null":
            raise Unreadable("is null and nothing else")
        case _:
            return _plain(node)


def _several(union: Node, depth: int) -> FieldType:
    """A union of several types: an object of its branches where they have names, else any one of them."""
    branches = [(name, child) for name, child in union.kept if child.kind != "null"]
    if not any(child.kind != "null" for child in union.children):
        raise Unreadable("is null and nothing else")
    fields = tuple(Field(name, _type(child, depth + bool(union.names))) for name, child in branches)
    return FieldType(Kind.STRUCT, fields=fields) if union.names else OneOf(Kind.STRUCT, fields=fields)


def _fields(record: Node, depth: int) -> tuple[Field, ...]:
    fields: list[Field] = []
    for name, child in record.kept:
        try:
            fields.append(Field(name, _type(child, depth), required=not child.is_nullable))
        except Unreadable as error:
            raise error.within(name) from None
    return tuple(fields)


def _plain(node: Node) -> FieldType:
    if node.logical == "decimal" and node.kind in ("bytes", "fixed") and _are_digits(node.precision, node.scale):
        return FieldType(Kind.DECIMAL, node.precision, node.scale)
    if (node.kind, node.logical, node.size) == ("fixed", "uuid", _UUID_BYTES) or node.kind != "fixed":
        kind = _LOGICAL.get((node.kind, node.logical), _PRIMITIVE[node.kind])
    else:
        kind = Kind.BYTES
    unit = _UNITS.get(node.logical) or _UNITS.get(node.meaning, "")
    return FieldType(kind, epoch=unit if kind in (Kind.INT, Kind.LONG) else "")


def _are_digits(precision: Any, scale: Any) -> bool:
    """Whether they are a decimal's; those that are not leave plain bytes, as the specification says."""
    whole = all(isinstance(one, int) and not isinstance(one, bool) for one in (precision, scale))
    return whole and 0 <= scale <= precision and precision > 0
