"""Whether an Avro schema that was fixed elsewhere says the same as the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mesh_pipelines.contract.avro import AvroFieldError, from_avro
from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.read.document import printable
from mesh_pipelines.contract.read.faults import did_you_mean
from mesh_pipelines.errors import Fault

_NARROWER = {(Kind.INT, Kind.LONG), (Kind.FLOAT, Kind.DOUBLE), (Kind.STRING, Kind.UUID), (Kind.UUID, Kind.STRING)}
_AVRO_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_Difference = tuple[str, str, str]


def disagreements(file: Path, text: str, fields: tuple[Field, ...]) -> list[Fault]:
    """Where a schema differs from the contract's fields; empty when they agree.

    The schema may be narrower where Avro widens on reading (int for long, float for double).
    """
    try:
        schema = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        return [Fault(file, error.lineno, "", f"is not JSON: {error.msg}", "mend the syntax")]
    except ValueError as error:
        return [Fault(file, 0, "", str(error), "keep one of them")]
    except RecursionError:
        return [Fault(file, 0, "", "nests too deep", "flatten it")]
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return [Fault(file, 1, "", "is no record", "make the value a record with the contract's fields")]
    try:
        written = from_avro(schema).fields
    except AvroFieldError as error:
        line = _line(text, error.path)
        return [Fault(file, line, printable(error.path), error.problem, "use a type that a column can have")]
    except ValueError as error:
        return [Fault(file, 0, "", str(error), "use types that columns can have")]
    faults = [Fault(file, _line(text, path), printable(path), *rest) for path, *rest in _compare(written, fields, "")]
    return faults or _malformed(file, schema)


def _malformed(file: Path, schema: dict[str, Any]) -> list[Fault]:
    """What the registry would refuse although the types agree: names, symbols, defaults."""
    import fastavro
    from fastavro.schema import SchemaParseException

    problems = list(_bad_names(schema))
    try:
        fastavro.parse_schema(schema)
    except (SchemaParseException, TypeError, ValueError, KeyError, AttributeError) as error:
        problems.append(str(error).partition("\n")[0])
    fix = "mend it by the Avro specification"
    return [Fault(file, 0, "", f"is no Avro schema: {printable(problem, 160)}", fix) for problem in problems]


def _bad_names(schema: Any) -> Iterator[str]:
    """What the library lets pass: names of other characters, and a default that is not of its union's first type."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _bad_names(branch)
    if not isinstance(schema, dict):
        return
    for key in ("name", "namespace"):
        if not _AVRO_NAME.fullmatch(str(schema.get(key, "x"))):
            yield f"{schema[key]!r} is no name"
    union = schema.get("type")
    if isinstance(union, list) and union[0] == "null" and schema.get("default") is not None:
        yield f"the default of {schema['name']} is not of the first type of its union"
    for key in ("type", "fields", "items", "values"):
        yield from _bad_names(schema.get(key))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"has the key {key[:80]!r} twice in one object")
        values[key] = value
    return values


def _compare(written: tuple[Field, ...], fields: tuple[Field, ...], path: str) -> Iterator[_Difference]:
    known = {field.name: field for field in written}
    wanted = {field.name for field in fields}
    if len(known) < len(written):
        yield path.rstrip("."), "has a field twice", "keep one of them"
    for field in fields:
        if field.name in known:
            yield from _compare_field(known[field.name], field, f"{path}{field.name}")
        else:
            fix = "add it to the schema, or drop it from the contract"
            yield f"{path}{field.name}", "is in the contract and not in the schema", fix
    for name in sorted(known.keys() - wanted):
        fix = did_you_mean(name, wanted - known.keys(), "declare it in the contract")
        yield f"{path}{name}", "is in the schema and not in the contract", fix


def _compare_field(found: Field, wanted: Field, path: str) -> Iterator[_Difference]:
    if wanted.required and not found.required:
        role = "is a key field" if wanted.key_position else "is required"
        yield path, f"may be null, in the contract it {role}", "take null out of its union"
    elif found.required and not wanted.required:
        yield path, "is never null, in the contract it may be", "set required: true, or make it a union with null"
    yield from _compare_type(found.type, wanted.type, path)


def _compare_type(found: FieldType, wanted: FieldType, path: str) -> Iterator[_Difference]:
    if found.kind is not wanted.kind and (found.kind, wanted.kind) not in _NARROWER:
        yield path, f"is {_name(found)}, in the contract {_name(wanted)}", "make them the same type"
    elif wanted.kind is Kind.DECIMAL and found != wanted:
        yield path, f"is {_name(found)}, in the contract {_name(wanted)}", "make precision and scale the same"
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
    name = re.escape(path.rstrip("[]").rpartition(".")[2])
    found = re.search(rf'"name"\s*:\s*"{name}"', text)
    return text.count("\n", 0, found.start()) + 1 if found else 0
