"""Rows by the names of columns to rows by the names that events have, objects inside them included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mesh_pipelines.contract.model import Field, FieldType, Kind, all_fields, objects

Renamed = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def to_events(fields: Sequence[Field]) -> Renamed:
    """Gives a row with the names that events have; a row as it stands where they are the columns'."""
    return (lambda row: _renamed(row, fields)) if _differ(fields) else (lambda row: row)


def _differ(fields: Sequence[Field]) -> bool:
    return any(field.physical_name for _, field in all_fields(fields))


def _renamed(row: Mapping[str, Any], fields: Sequence[Field]) -> dict[str, Any]:
    return {field.event_name: _value(row[field.name], field.type) for field in fields if field.name in row}


def _value(value: Any, field_type: FieldType) -> Any:
    if value is None or not _differ(objects(field_type)):
        return value
    match field_type.kind:
        case Kind.STRUCT:
            return _renamed(value, field_type.fields)
        case Kind.LIST:
            assert field_type.items is not None
            return [_value(item, field_type.items) for item in value]
        case _:
            assert field_type.items is not None
            return {key: _value(item, field_type.items) for key, item in value.items()}
