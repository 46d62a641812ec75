"""An Avro schema to the columns that its events have, in the types of contracts.

A union with null is the type it may be null of; an unknown logical type is its plain type, as the specification says.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh_pipelines.contract.model import MAX_TYPE_DEPTH, Field, FieldType, Kind
from mesh_pipelines.formats.avro.schema import Node, Unreadable

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
}


def record_fields(record: Node) -> tuple[Field, ...]:
    """A record's fields, ``required`` if they are not a union with null.

    Raises:
        Unreadable: a field has a type that no column has; its path says which.
    """
    return field_type(record).fields


def field_type(node: Node) -> FieldType:
    """The type of the column that holds these values.

    Raises:
        Unreadable: no column does: a union of several types, a decimal of 39 digits, too deep.
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
        case "union":
            return _type(_only(node), depth)
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


def _only(union: Node) -> Node:
    """The type that a union may be null of."""
    types = [child for child in union.children if child.kind != "null"]
    if len(types) != 1:
        raise Unreadable("is a union of several types" if types else "is null and nothing else")
    return types[0]


def _fields(record: Node, depth: int) -> tuple[Field, ...]:
    fields: list[Field] = []
    for name, child, member in zip(record.names, record.children, record.members, strict=True):
        try:
            of = _type(child, depth)
        except Unreadable as error:
            raise error.within(name) from None
        fields.append(Field(name, of, required=not child.is_nullable, aliases=member.aliases))
    return tuple(fields)


def _plain(node: Node) -> FieldType:
    if node.logical == "decimal" and node.kind in ("bytes", "fixed"):
        precision, scale = node.precision, node.scale
        if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision <= 38:
            raise Unreadable("is not a decimal of up to 38 digits")
        return FieldType(Kind.DECIMAL, precision, scale)
    if node.kind == "fixed" and node.logical == "uuid":
        raise Unreadable("is a UUID of 16 bytes; write UUIDs as strings")
    return FieldType(_LOGICAL.get((node.kind, node.logical), _PRIMITIVE[node.kind]))
