"""Fields to an Avro schema and back, as the Avro 1.12 specification has it.

A library's parser (fastavro's) resolves names too, but leaves the types as it found them and accepts recursion, which
has no column type and, deep enough, ends a decoder's process. It is used beside this to check a schema's form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.values import avro_default

# How deep a field's type may nest; the record around the fields is one level more.
MAX_DEPTH = 8

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
_PRIMITIVE: Mapping[str, Kind] = {
    "boolean": Kind.BOOLEAN,
    "int": Kind.INT,
    "long": Kind.LONG,
    "float": Kind.FLOAT,
    "double": Kind.DOUBLE,
    "string": Kind.STRING,
    "bytes": Kind.BYTES,
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


def from_avro(schema: Any) -> FieldType:
    """The field type of an Avro schema (parsed JSON); a union with null is the type it may be null of.

    A record becomes a struct whose fields are ``required`` where they are not such a union. An unknown logical type is
    its plain type, as the specification says.

    Raises:
        ValueError: it is no Avro schema, or has no counterpart: unions of several types, recursion, depth.
    """
    return _AvroReader().read(schema, "", 0)


def record_fields(schema: Mapping[str, Any]) -> dict[str, FieldType | str]:
    """The type of each field of a record schema (parsed JSON), or why it has none; one does not spoil the others.

    Raises:
        ValueError: it has no name, or a field of it has none.
    """
    return _AvroReader().each_field(schema)


def _record(name: str, fields: Sequence[Field]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [_field(field, name) for field in fields]}


def _field(field: Field, around: str) -> dict[str, Any]:
    field_type = _type(field.type, around + field.name[0].upper() + field.name[1:])
    written: dict[str, Any] = {"name": field.name}
    if field.required:
        written["type"] = field_type
    elif field.default is None:
        written |= {"type": ["null", field_type], "default": None}
    else:
        # A default is of the union's first type (Avro 1.11 and before), so null comes second here.
        written["type"] = [field_type, "null"]
    if field.default is not None:
        written["default"] = avro_default(field)
    if field.aliases:
        written["aliases"] = list(field.aliases)
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


class _AvroReader:
    """Reads one schema; remembers named types, by full name, for where they are referred to."""

    def __init__(self) -> None:
        self._named: dict[str, FieldType | None] = {}

    def read(self, schema: Any, namespace: str, depth: int) -> FieldType:
        if depth > MAX_DEPTH + 1:
            raise ValueError(f"nests deeper than {MAX_DEPTH} levels")
        match schema:
            case list():
                return self._union(schema, namespace, depth)
            case str():
                return self._name(schema, namespace)
            case {"type": "record" | "enum" | "fixed" as kind}:
                return self._definition(kind, schema, namespace, depth)
            case {"type": "array", "items": items}:
                return FieldType(Kind.LIST, items=self.read(items, namespace, depth + 1))
            case {"type": "map", "values": values}:
                return FieldType(Kind.MAP, items=self.read(values, namespace, depth + 1))
            case {"type": str(plain)} if plain in _PRIMITIVE:
                return _with_logical_type(plain, schema)
            case {"type": str(name)}:
                return self._name(name, namespace)
            case {"type": dict() | list() as inner}:
                return self.read(inner, namespace, depth + 1)
            case _:
                raise ValueError("has no Avro type")

    def each_field(self, schema: Mapping[str, Any]) -> dict[str, FieldType | str]:
        """The fields of a record, each on its own, named types of earlier ones known to later ones."""
        name, given = schema.get("name"), schema.get("namespace")
        if not isinstance(name, str):
            raise ValueError("is a record without a name")
        full = _full_name(name, given if isinstance(given, str) else "")
        self._named[full] = None
        found: dict[str, FieldType | str] = {}
        for field in schema["fields"]:
            try:
                read = self._record_field(field, full.rpartition(".")[0], 0)
            except AvroFieldError as error:
                found[error.path.partition(".")[0]] = str(error)
            else:
                found[read.name] = read.type
        return found

    def _union(self, branches: list[Any], namespace: str, depth: int) -> FieldType:
        types = [branch for branch in branches if branch not in ("null", {"type": "null"})]
        if len(types) != 1:
            raise ValueError("is a union of several types" if types else "is null and nothing else")
        return self.read(types[0], namespace, depth)

    def _name(self, name: str, namespace: str) -> FieldType:
        if name in _PRIMITIVE:
            return FieldType(_PRIMITIVE[name])
        full = _full_name(name, namespace)
        if full not in self._named:
            raise ValueError(f"has the unknown type {name[:80]!r}")
        found = self._named[full]
        if found is None:
            raise ValueError(f"is recursive: {name[:80]} holds itself")
        return found

    def _definition(self, kind: str, schema: dict[str, Any], namespace: str, depth: int) -> FieldType:
        name = schema.get("name")
        if not isinstance(name, str):
            raise ValueError(f"is a {kind} without a name")
        given = schema.get("namespace")
        full = _full_name(name, given if isinstance(given, str) else namespace)
        if full in self._named:
            raise ValueError(f"defines {full[:80]} twice")
        self._named[full] = None
        found = self._defined(kind, schema, full.rpartition(".")[0], depth)
        self._named[full] = found
        return found

    def _defined(self, kind: str, schema: dict[str, Any], namespace: str, depth: int) -> FieldType:
        if kind == "record":
            return FieldType(Kind.STRUCT, fields=self._fields(schema.get("fields"), namespace, depth))
        if kind == "enum":
            return FieldType(Kind.STRING)
        if schema.get("logicalType") == "uuid":
            raise ValueError("is a UUID of 16 bytes; write UUIDs as strings")
        return _with_logical_type("bytes", schema)

    def _fields(self, fields: Any, namespace: str, depth: int) -> tuple[Field, ...]:
        if not isinstance(fields, list):
            raise ValueError("is a record without fields")
        return tuple(self._record_field(field, namespace, depth) for field in fields)

    def _record_field(self, field: Any, namespace: str, depth: int) -> Field:
        if not isinstance(field, dict) or not isinstance(field.get("name"), str) or "type" not in field:
            raise ValueError("has a field without name or type")
        name, schema = field["name"], field["type"]
        try:
            field_type = self.read(schema, namespace, depth + 1)
        except ValueError as error:
            raise AvroFieldError(name, error) from None
        nullable = isinstance(schema, list) and any(branch in ("null", {"type": "null"}) for branch in schema)
        aliases = field.get("aliases")
        former = tuple(str(alias) for alias in aliases) if isinstance(aliases, list) else ()
        return Field(name, field_type, required=not nullable, aliases=former)


class AvroFieldError(ValueError):
    """A field, by its dotted ``path``, has no column type; ``problem`` says why."""

    def __init__(self, name: str, cause: ValueError) -> None:
        inner = cause if isinstance(cause, AvroFieldError) else None
        self.path = f"{name}.{inner.path}" if inner else name
        self.problem: str = inner.problem if inner else str(cause)
        super().__init__(f"field {self.path} {self.problem}")


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _with_logical_type(plain: str, schema: Mapping[str, Any]) -> FieldType:
    logical = schema.get("logicalType")
    if logical == "decimal" and plain == "bytes":
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision <= 38:
            raise ValueError("is no decimal of up to 38 digits")
        return FieldType(Kind.DECIMAL, precision, scale)
    return FieldType(_LOGICAL.get((plain, str(logical)), _PRIMITIVE[plain]))
