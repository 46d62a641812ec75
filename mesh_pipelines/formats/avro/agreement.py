"""Whether an Avro schema that was fixed elsewhere says the same as the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import NoneType
from typing import Any, NoReturn

from mesh_pipelines.contract.misspelt import did_you_mean
from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.names import column_name
from mesh_pipelines.formats.avro.schema import Node, Unreadable, tree
from mesh_pipelines.formats.avro.to_fields import field_type
from mesh_pipelines.formats.avro.wanted import wanted
from mesh_pipelines.formats.format import Disagreement
from mesh_pipelines.formats.readable import OneOf, is_readable

# What a default of each type is in JSON.
_DEFAULTS: Mapping[str, tuple[type, ...]] = {
    "null": (NoneType,),
    "boolean": (bool,),
    **dict.fromkeys(("int", "long"), (int,)),
    **dict.fromkeys(("float", "double"), (int, float)),
    **dict.fromkeys(("string", "bytes", "fixed", "enum"), (str,)),
    "array": (list,),
    **dict.fromkeys(("map", "record"), (dict,)),
}
_SPECIFICATION = "write it as the Avro specification says"
_Difference = tuple[str, str, str]


def disagreements(text: str, fields: Sequence[Field]) -> list[Disagreement]:
    """Where a schema differs from the contract's fields; empty when they agree.

    They agree where every field of the contract can be read from events of the schema, which may have more fields.
    """
    try:
        schema = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=partial(_refuse, text))
    except json.JSONDecodeError as error:
        return [Disagreement("", error.lineno, f"is not JSON: {error.msg}", "fix the syntax")]
    except ValueError as error:
        return [Disagreement("", 0, str(error), "keep one of them")]
    except RecursionError:
        return [Disagreement("", 0, "nests too deeply", "flatten it")]
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return [Disagreement("", 1, "must be a record", "make the value a record with the contract's fields")]
    try:
        record = wanted(tree(schema), fields)
    except Unreadable as error:
        is_elsewhere = "unknown type" in error.problem
        fix = "define it where it is first named: the file has all its types" if is_elsewhere else _SPECIFICATION
        return [Disagreement(error.path, _line(text, error.path), error.problem, fix)]
    found = [Disagreement(path, _line(text, path), *rest) for path, *rest in _compare(record, fields, "")]
    return found or _malformed(schema)


def _malformed(schema: dict[str, Any]) -> list[Disagreement]:
    """What the registry would refuse although the types agree: defaults, aliases, sizes."""
    import fastavro
    from fastavro.schema import SchemaParseException

    problems = list(_bad_defaults(schema))
    try:
        fastavro.parse_schema(_plain(schema))
    except (SchemaParseException, TypeError, ValueError, KeyError, AttributeError) as error:
        problems.append(str(error).partition("\n")[0])
    return [Disagreement("", 0, f"is not an Avro schema: {problem[:160]}", _SPECIFICATION) for problem in problems]


def _plain(schema: Any) -> Any:
    """The schema without its logical types: those that are invalid are to be passed over."""
    match schema:
        case dict():
            return {key: _plain(value) for key, value in schema.items() if key not in ("logicalType", "default")}
        case list():
            return [_plain(one) for one in schema]
        case _:
            return schema


def _bad_defaults(schema: Any) -> Iterator[str]:
    """Defaults that are not of their type, or of none of its union's types: the order of those is free (Avro 1.12)."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _bad_defaults(branch)
    if not isinstance(schema, dict):
        return
    types = schema.get("type")
    types = types if isinstance(types, list) else [types]
    if "default" in schema and not any(_may_be(schema["default"], one) for one in types):
        yield f"the default of {schema.get('name')} must be of its type"
    for key in ("type", "fields", "items", "values"):
        yield from _bad_defaults(schema.get(key))


def _may_be(default: Any, branch: Any) -> bool:
    """Whether a default, as JSON has it, can be of this type; a name may be one of anything."""
    kind = branch.get("type") if isinstance(branch, dict) else branch
    known = _DEFAULTS.get(kind) if isinstance(kind, str) else None
    return known is None or (isinstance(default, known) and (isinstance(default, bool) == (kind == "boolean")))


def _refuse(text: str, constant: str) -> NoReturn:
    """Refuse what Python reads and JSON does not have: NaN and the infinities."""
    raise json.JSONDecodeError(f"{constant} is not a value", text, text.find(constant))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"has the key {key[:80]!r} twice in one object")
        values[key] = value
    return values


def _compare(record: Node, fields: Sequence[Field], path: str) -> Iterator[_Difference]:
    """What the contract has and the schema lacks or says otherwise; the schema may have more."""
    free = set(record.names) - {field.event_name for field in fields}
    for field in fields:
        at = f"{path}{field.event_name}"
        if field.event_name not in record.names:
            yield at, "is in the contract but not in the schema", _missing(field, free)
            continue
        node = record.children[record.names.index(field.event_name)]
        try:
            yield from _compare_type(node, field_type(node), field.type, at)
        except Unreadable as error:
            yield f"{at}.{error.path}" if error.path else at, error.problem, "use a type that a column can have"


def _missing(field: Field, free: set[str]) -> str:
    meant = next((name for name in sorted(free) if column_name(name) == field.name), None)
    if meant:
        return f"write physicalName: {meant}"
    return did_you_mean(field.event_name, free, "add it to the schema, or drop it from the contract")


def _compare_type(node: Node, found: FieldType, want: FieldType, path: str) -> Iterator[_Difference]:
    node = node.optional or node
    if found.kind is want.kind is Kind.DECIMAL and found.scale > want.scale:
        yield path, f"must be {_name(want)} as in the contract, got {_name(found)}", "make the scale the same"
    elif want.kind is Kind.STRUCT and node.kind == "record":
        yield from _compare(node, want.fields, f"{path}.")
    elif node.kind in ("array", "map") and found.kind is want.kind and found.items and want.items:
        yield from _compare_type(node.children[0], found.items, want.items, f"{path}[]")
    elif not is_readable(found, want):
        got = "got a union of which no type is read as that" if isinstance(found, OneOf) else f"got {_name(found)}"
        yield path, f"must be {_name(want)} as in the contract, {got}", "make them the same type"


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
