"""JSON whose schemas the registry has: JSON Schemas, made from the contract.

A JSON event says the names of its fields, so it is read as any JSON is, with the id in front or without, whatever
schema it was written by. The schema is for producers and for other consumers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.format import Disagreement, RegisteredSchema

_DRAFT = "http://json-schema.org/draft-07/schema#"
_FORMS: Mapping[Kind, dict[str, Any]] = {
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.INT: {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    Kind.LONG: {"type": "integer"},
    Kind.FLOAT: {"type": "number"},
    Kind.DOUBLE: {"type": "number"},
    # Numbers lose digits in most readers of JSON, so text is taken as well.
    Kind.DECIMAL: {"type": ["number", "string"]},
    Kind.STRING: {"type": "string"},
    Kind.UUID: {"type": "string", "format": "uuid"},
    Kind.BYTES: {"type": "string", "contentEncoding": "base64"},
    Kind.DATE: {"type": "string", "format": "date"},
    Kind.TIME: {"type": "string", "format": "time"},
    Kind.TIMESTAMP: {"type": "string", "format": "date-time"},
    # Without a zone it is no date-time of the specification's.
    Kind.TIMESTAMP_LOCAL: {"type": "string"},
}


@dataclass(frozen=True)
class JsonSchemas:
    """JSON Schemas, draft 7. They allow further fields, as events do."""

    type: str = "JSON"
    file: str = ""

    def takes(self, name: str) -> bool:  # noqa: ARG002
        """Any name can be a property's."""
        return True

    def whole(self, schema: RegisteredSchema) -> str:
        """The schema's own text: no event is read by it, so what it refers to plays no part."""
        return schema.text

    def record_name(self, text: str) -> str:
        """The schema's title, which serializers take for the record's name."""
        return str(json.loads(text).get("title", ""))

    def compile(self, name: str, namespace: str, fields: Sequence[Field], doc: str = "") -> str:
        """The schema of an object with these fields."""
        described = {"description": doc} if doc else {}
        schema = {"$schema": _DRAFT, "title": f"{namespace}.{name}", **described, **_object(fields)}
        return json.dumps(schema, separators=(",", ":"), ensure_ascii=False)

    def disagreements(self, text: str, fields: Sequence[Field]) -> list[Disagreement]:  # noqa: ARG002
        """None: there is no file to compare."""
        return []

    def incompatibilities(self, ours: str, registered: str, *, backward: bool) -> list[str]:  # noqa: ARG002
        """None that is known here: what a mode allows is the registry's to say."""
        return []


@dataclass(frozen=True)
class JsonSchemaFormat:
    """The format ``json-schema``."""

    name: str = "json-schema"
    title: str = "JSON Schema"
    schemas: JsonSchemas = JsonSchemas()
    registered: bool = True
    by_writer: bool = False
    codec: str = "mesh_pipelines.formats.json.codec"

    def snippet(self, registry_url: str) -> str:  # noqa: ARG002
        """``decode`` by the standard library: a zero byte and the schema's id may stand in front."""
        return """import json


def decode(message):
    value = message.value()
    return None if value is None else json.loads(value[5:] if value[:1] == b"\\0" else value)

"""


def _object(fields: Sequence[Field]) -> dict[str, Any]:
    required = [field.event_name for field in fields if field.required]
    properties = {field.event_name: _property(field) for field in fields}
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _property(field: Field) -> dict[str, Any]:
    described = {"description": field.description} if field.description else {}
    form = _form(field.type)
    return {**described, **(form if field.required else _or_null(form))}


def _form(of: FieldType) -> dict[str, Any]:
    match of.kind:
        case Kind.LIST:
            return {"type": "array", "items": _or_null(_item(of))}
        case Kind.MAP:
            return {"type": "object", "additionalProperties": _or_null(_item(of))}
        case Kind.STRUCT:
            return _object(of.fields)
        case kind:
            return dict(_FORMS[kind])


def _item(of: FieldType) -> dict[str, Any]:
    assert of.items is not None, f"{of.kind} without an item type"
    return _form(of.items)


def _or_null(form: dict[str, Any]) -> dict[str, Any]:
    types = form["type"] if isinstance(form["type"], list) else [form["type"]]
    return {**form, "type": [*types, "null"]}
