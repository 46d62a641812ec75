"""A contract's properties as typed fields: the standard's logical types, sharpened by ``physicalType``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mesh_pipelines.contract.document import Document, Where
from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.errors import Fault

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DECIMAL = re.compile(r"(?:decimal|numeric)\((\d{1,2})(?:\s*,\s*(\d{1,2}))?\)", re.IGNORECASE)
_MAX_DEPTH = 8
_PROPERTY_SETTINGS = ("mesh.aliases", "mesh.default", "mesh.onFailure")

_PHYSICAL: Mapping[tuple[str, str], Kind] = {
    ("integer", "int"): Kind.INT,
    ("integer", "integer"): Kind.INT,
    ("integer", "int32"): Kind.INT,
    ("integer", "long"): Kind.LONG,
    ("integer", "bigint"): Kind.LONG,
    ("integer", "int64"): Kind.LONG,
    ("number", "float"): Kind.FLOAT,
    ("number", "float32"): Kind.FLOAT,
    ("number", "double"): Kind.DOUBLE,
    ("number", "float64"): Kind.DOUBLE,
    ("string", "bytes"): Kind.BYTES,
    ("string", "binary"): Kind.BYTES,
    ("string", "uuid"): Kind.UUID,
    ("timestamp", "local-timestamp-micros"): Kind.TIMESTAMP_LOCAL,
}
_LOGICAL: Mapping[str, Kind] = {
    "string": Kind.STRING,
    "integer": Kind.LONG,
    "number": Kind.DOUBLE,
    "boolean": Kind.BOOLEAN,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "timestamp": Kind.TIMESTAMP,
}
_INT_FORMATS = {"i8", "i16", "i32", "u8", "u16"}
_LONG_FORMATS = {"i64", "u32"}


class FieldReader:
    """Reads the properties of one document; faults are collected in ``faults``."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults: list[Fault] = []

    def read(self, properties: list[Mapping[str, Any]], where: Where, depth: int = 0) -> tuple[Field, ...]:
        """The fields of a list of properties, in order."""
        if not properties:
            self._fault(where, "lists no properties", "add at least one property")
        fields: list[Field] = []
        for index, raw in enumerate(properties):
            field = self._field(raw, (*where, index), depth)
            if field is None:
                continue
            if field.name in {known.name for known in fields}:
                self._fault((*where, index, "name"), f"{field.name} is there twice", "rename one of them")
                continue
            fields.append(field)
        return tuple(fields)

    def _field(self, raw: Mapping[str, Any], where: Where, depth: int) -> Field | None:
        name = raw.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            self._fault(
                (*where, "name"), f"{name!r} is no field name", "use lower-case letters, digits and underscores"
            )
            return None
        custom = self._custom(raw, where)
        if raw.get("relationships"):
            self._fault((*where, "relationships"), "is not checked", "state it as a rule of type sql, or remove it")
        if depth and raw.get("quality"):
            self._fault((*where, "quality"), "on a nested property is not checked", "state it as a rule of type sql")
        if depth and not isinstance(raw.get("logicalTypeOptions") or {}, dict):
            return None
        field_type = self._type(raw, where, depth)
        if field_type is None:
            return None
        is_key = bool(raw.get("primaryKey"))
        position = int(raw.get("primaryKeyPosition", -1))
        return Field(
            name=name,
            type=field_type,
            required=bool(raw.get("required")) or is_key,
            key_position=(position if position > 0 else 1) if is_key else 0,
            unique=bool(raw.get("unique")),
            description=str(raw.get("description", "")).strip(),
            aliases=tuple(str(alias) for alias in custom.get("mesh.aliases") or ()),
            default=custom.get("mesh.default"),
            has_default="mesh.default" in custom,
            classification=str(raw.get("classification", "public")),
            tags=tuple(str(tag) for tag in raw.get("tags", ())),
        )

    def _custom(self, raw: Mapping[str, Any], where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for index, entry in enumerate(raw.get("customProperties", [])):
            name, value = str(entry.get("property", "")), entry.get("value")
            if not name.startswith("mesh."):
                continue
            at = (*where, "customProperties", index)
            if name not in _PROPERTY_SETTINGS:
                self._fault(at, f"{name} is no setting of a property", f"use {', '.join(_PROPERTY_SETTINGS)}")
            elif name == "mesh.aliases" and not _are_names(value):
                self._fault(at, "mesh.aliases is no list of names", "write the former names as a list")
            else:
                found[name] = value
        return found

    def _type(self, raw: Mapping[str, Any], where: Where, depth: int) -> FieldType | None:
        if depth > _MAX_DEPTH:
            self._fault(where, f"nests deeper than {_MAX_DEPTH} levels", "flatten it")
            return None
        logical = raw.get("logicalType")
        match logical:
            case "object":
                fields = self.read(raw.get("properties") or [], (*where, "properties"), depth + 1)
                return FieldType(Kind.STRUCT, fields=fields) if fields else None
            case "array":
                return self._collection(Kind.LIST, raw.get("items"), (*where, "items"), depth)
            case "map":
                return self._map(raw, where, depth)
            case "number" if match := _DECIMAL.fullmatch(str(raw.get("physicalType", "")).strip()):
                return self._decimal(int(match[1]), int(match[2] or 0), where)
            case str() if logical in _LOGICAL:
                return self._scalar(logical, raw, where)
            case _:
                self._fault(
                    (*where, "logicalType"), f"{logical!r} has no column type", f"use one of {', '.join(_LOGICAL)}"
                )
                return None

    def _collection(self, kind: Kind, items: Any, where: Where, depth: int) -> FieldType | None:
        if not isinstance(items, dict):
            self._fault(where, "is missing", "say what the collection holds")
            return None
        inner = self._type(items, where, depth + 1)
        return FieldType(kind, items=inner) if inner else None

    def _map(self, raw: Mapping[str, Any], where: Where, depth: int) -> FieldType | None:
        entry = raw.get("map") or {}
        if (entry.get("key") or {}).get("logicalType") != "string":
            self._fault((*where, "map", "key"), "is not of type string", "use string keys; Avro has no others")
            return None
        return self._collection(Kind.MAP, entry.get("value"), (*where, "map", "value"), depth)

    def _decimal(self, precision: int, scale: int, where: Where) -> FieldType | None:
        if not 1 <= precision <= 38 or scale > precision:
            self._fault((*where, "physicalType"), "is no decimal of up to 38 digits", "use decimal(precision, scale)")
            return None
        return FieldType(Kind.DECIMAL, precision=precision, scale=scale)

    def _scalar(self, logical: str, raw: Mapping[str, Any], where: Where) -> FieldType | None:
        physical = str(raw.get("physicalType", "")).strip().lower()
        options: Mapping[str, Any] = raw.get("logicalTypeOptions") or {}
        form = options.get("format")
        if (logical, physical) in _PHYSICAL:
            return FieldType(_PHYSICAL[logical, physical])
        if logical == "integer" and form is not None:
            return self._integer(str(form), where)
        if logical == "number" and form == "f32":
            return FieldType(Kind.FLOAT)
        if logical == "timestamp" and options.get("timezone") is False:
            return FieldType(Kind.TIMESTAMP_LOCAL)
        return FieldType(_LOGICAL[logical])

    def _integer(self, form: str, where: Where) -> FieldType | None:
        if form in _INT_FORMATS:
            return FieldType(Kind.INT)
        if form in _LONG_FORMATS:
            return FieldType(Kind.LONG)
        self._fault((*where, "logicalTypeOptions", "format"), f"{form} has no column type", "use decimal(38, 0)")
        return None

    def _fault(self, where: Where, problem: str, fix: str) -> None:
        self.faults.append(self.document.fault(where, problem, fix))


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and NAME.fullmatch(name) for name in value)
