"""Whether an Avro schema that was fixed elsewhere says the same as the contract."""

from __future__ import annotations

import json
from typing import Any

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.types import from_avro

Problem = tuple[str, str, str]

# An Avro writer may use the narrower of two types; both read as the contract's.
_WIDENS = {(Kind.INT, Kind.LONG), (Kind.FLOAT, Kind.DOUBLE), (Kind.STRING, Kind.UUID), (Kind.UUID, Kind.STRING)}


def agreement(text: str, fields: tuple[Field, ...]) -> list[Problem]:
    """Where a schema differs from the contract's fields: (field, problem, fix) each; empty when they agree."""
    try:
        schema = json.loads(text)
    except ValueError as error:
        return [("", f"is not JSON: {error}", "mend the syntax")]
    except RecursionError:
        return [("", "nests too deep", "flatten it")]
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return [("", "is no record", "make the value a record")]
    return _record(schema, fields, "")


def _record(schema: dict[str, Any], fields: tuple[Field, ...], path: str) -> list[Problem]:
    written = {str(field.get("name")): field for field in schema.get("fields", []) if isinstance(field, dict)}
    problems: list[Problem] = []
    for field in fields:
        where = f"{path}{field.name}"
        if field.name not in written:
            problems.append(
                (where, "is in the contract and not in the schema", "add it to one or drop it from the other")
            )
            continue
        problems += _field(written[field.name].get("type"), field, where)
    for name in sorted(written.keys() - {field.name for field in fields}):
        problems.append((f"{path}{name}", "is in the schema and not in the contract", "declare it in the contract"))
    return problems


def _field(schema: Any, field: Field, where: str) -> list[Problem]:
    try:
        found = from_avro(schema)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return [(where, f"cannot be a column: {error}", "use a type that Avro, Arrow and Iceberg share")]
    problems: list[Problem] = []
    if not _same(found, field.type):
        problems.append((where, f"is {found.kind}, in the contract {field.type.kind}", "make them the same type"))
    nullable = schema == "null" or (isinstance(schema, list) and "null" in schema)
    if nullable and field.required:
        problems.append((where, "may be null, in the contract it is required", "make both required or both optional"))
    return problems


def _same(found: FieldType, wanted: FieldType) -> bool:
    if (found.kind, wanted.kind) in _WIDENS:
        return True
    if found.kind is not wanted.kind:
        return False
    match wanted.kind:
        case Kind.DECIMAL:
            return (found.precision, found.scale) == (wanted.precision, wanted.scale)
        case Kind.LIST | Kind.MAP:
            return bool(found.items and wanted.items and _same(found.items, wanted.items))
        case Kind.STRUCT:
            inner = {field.name: field.type for field in found.fields}
            return inner.keys() == {f.name for f in wanted.fields} and all(
                _same(inner[f.name], f.type) for f in wanted.fields
            )
        case _:
            return True
