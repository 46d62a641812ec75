"""Whether an Avro schema that was fixed elsewhere says the same as the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mesh_pipelines.contract.misspelt import did_you_mean
from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.names import column_name
from mesh_pipelines.formats.avro.schema import Unreadable, tree
from mesh_pipelines.formats.avro.to_fields import record_fields
from mesh_pipelines.formats.format import Disagreement

_NARROWER = {(Kind.INT, Kind.LONG), (Kind.FLOAT, Kind.DOUBLE), (Kind.STRING, Kind.UUID), (Kind.UUID, Kind.STRING)}
_SPECIFICATION = "write it as the Avro specification says"
_Difference = tuple[str, str, str]


def disagreements(text: str, fields: Sequence[Field]) -> list[Disagreement]:
    """Where a schema differs from the contract's fields; empty when they agree.

    The schema may be narrower where Avro widens on reading (int for long, float for double).
    """
    try:
        schema = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        return [Disagreement("", error.lineno, f"is not JSON: {error.msg}", "fix the syntax")]
    except ValueError as error:
        return [Disagreement("", 0, str(error), "keep one of them")]
    except RecursionError:
        return [Disagreement("", 0, "nests too deeply", "flatten it")]
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return [Disagreement("", 1, "must be a record", "make the value a record with the contract's fields")]
    try:
        written = record_fields(tree(schema))
    except Unreadable as error:
        fix = "use a type that a column can have" if error.path else _SPECIFICATION
        if "unknown type" in error.problem:
            fix = "define it where it is first named: the file has all its types"
        return [Disagreement(error.path, _line(text, error.path), error.problem, fix)]
    found = [Disagreement(path, _line(text, path), *rest) for path, *rest in _compare(written, fields, "")]
    return found or _malformed(schema)


def _malformed(schema: dict[str, Any]) -> list[Disagreement]:
    """What the registry would refuse although the types agree: defaults, aliases, sizes."""
    import fastavro
    from fastavro.schema import SchemaParseException

    problems = list(_bad_defaults(schema))
    try:
        fastavro.parse_schema(schema)
    except (SchemaParseException, TypeError, ValueError, KeyError, AttributeError) as error:
        problems.append(str(error).partition("\n")[0])
    return [Disagreement("", 0, f"is not an Avro schema: {problem[:160]}", _SPECIFICATION) for problem in problems]


def _bad_defaults(schema: Any) -> Iterator[str]:
    """What the library lets pass: a default that is not of its union's first type."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _bad_defaults(branch)
    if not isinstance(schema, dict):
        return
    union = schema.get("type")
    if isinstance(union, list) and union[0] == "null" and schema.get("default") is not None:
        yield f"the default of {schema['name']} must be of the first type of its union"
    for key in ("type", "fields", "items", "values"):
        yield from _bad_defaults(schema.get(key))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"has the key {key[:80]!r} twice in one object")
        values[key] = value
    return values


def _compare(written: Sequence[Field], fields: Sequence[Field], path: str) -> Iterator[_Difference]:
    """What the contract has and the schema lacks or says otherwise; the schema may have more."""
    known = {field.name: field for field in written}
    free = known.keys() - {field.event_name for field in fields}
    for field in fields:
        if field.event_name in known:
            yield from _compare_field(known[field.event_name], field, f"{path}{field.event_name}")
        else:
            fix = did_you_mean(field.event_name, free, "add it to the schema, or drop it from the contract")
            meant = next((name for name in sorted(free) if column_name(name) == field.name), None)
            if meant:
                fix = f"write physicalName: {meant}"
            yield f"{path}{field.event_name}", "is in the contract but not in the schema", fix


def _compare_field(found: Field, wanted: Field, path: str) -> Iterator[_Difference]:
    if wanted.required and not found.required:
        role = "is a key field" if wanted.key_position else "is required"
        yield path, f"may be null, but in the contract it {role}", "take null out of its union"
    elif found.required and not wanted.required:
        yield path, "is never null, but in the contract it may be", "set required: true, or make it a union with null"
    yield from _compare_type(found.type, wanted.type, path)


def _compare_type(found: FieldType, wanted: FieldType, path: str) -> Iterator[_Difference]:
    if wanted.is_counted_by(found.kind):
        return
    if found.kind is not wanted.kind and (found.kind, wanted.kind) not in _NARROWER:
        yield path, f"must be {_name(wanted)} as in the contract, got {_name(found)}", "make them the same type"
    elif wanted.kind is Kind.DECIMAL and found != wanted:
        yield (
            path,
            f"must be {_name(wanted)} as in the contract, got {_name(found)}",
            "make precision and scale the same",
        )
    elif wanted.kind is Kind.STRUCT:
        yield from _compare(found.fields, wanted.fields, f"{path}.")
    elif found.items and wanted.items:
        yield from _compare_type(found.items, wanted.items, f"{path}[]")


def _name(field_type: FieldType) -> str:
    if field_type.kind is Kind.DECIMAL:
        return f"decimal({field_type.precision}, {field_type.scale})"
    return str(field_type.kind)


def _line(text: str, path: str) -> int:
    """The line where the field's name is first given; 0 when it is not in the file."""
    if not path:
        return 0
    name = re.escape(path.rstrip("[]").rpartition(".")[2])
    found = re.search(rf'"name"\s*:\s*"{name}"', text)
    return text.count("\n", 0, found.start()) + 1 if found else 0
