"""One Avro schema of several: each type that is named where it is not defined gets its definition there.

Registries keep a type that many schemas share under a subject of its own. Everything that reads a schema here takes one
text, so the parts are put together once, before it: the definition goes where the type is first named, as it would
stand in a schema without references. Handing a table of known types to every reader was ruled out, since the libraries
that read schemas take none, or take it each in its own form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mesh_pipelines.formats.avro.schema import MAX_DEPTH, PRIMITIVES
from mesh_pipelines.formats.format import BrokenReferences, RegisteredSchema

_NAMED = ("record", "error", "enum", "fixed")
_SHOWN = 80


def whole(schema: RegisteredSchema) -> str:
    """The schema with the definitions of the types that it names from its references; its own text if it has none.

    Raises:
        BrokenReferences: a part is no JSON, nests too deeply, or two parts define a type differently.
    """
    if not schema.references:
        return schema.text
    definitions: dict[str, tuple[Any, str]] = {}
    for name, text in schema.references:
        for full, defined, namespace in _definitions(_parsed(text, f"its reference {name[:_SHOWN]}"), "", 0):
            before = definitions.setdefault(full, (defined, namespace))
            if before[0] != defined:
                raise BrokenReferences(f"its references define {full[:_SHOWN]} in different ways")
    return json.dumps(_Joining(definitions).joined(_parsed(schema.text, "it"), "", 0), separators=(",", ":"))


def record_name(text: str) -> str:
    """The full name of a schema's record; "" where it has none, or is no schema."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return _full_name(schema, "") if isinstance(schema, dict) and isinstance(schema.get("name"), str) else ""


class _Joining:
    """Puts definitions where types are first named; ``definitions`` are those of the references, by full name."""

    def __init__(self, definitions: dict[str, tuple[Any, str]]) -> None:
        self._definitions = definitions
        self._defined: set[str] = set()

    def joined(self, schema: Any, namespace: str, depth: int) -> Any:
        """The schema, read within a namespace, with all types that it names defined at or before their first use."""
        _check_depth(depth)
        match schema:
            case str():
                return self._named(schema, namespace, depth)
            case list():
                return [self.joined(branch, namespace, depth + 1) for branch in schema]
            case {"type": kind} if kind in _NAMED:
                return self._definition(schema, namespace, depth)
            case {"type": "array"}:
                return {**schema, "items": self.joined(schema.get("items"), namespace, depth + 1)}
            case {"type": "map"}:
                return {**schema, "values": self.joined(schema.get("values"), namespace, depth + 1)}
            case {"type": inner}:
                return {**schema, "type": self.joined(inner, namespace, depth + 1)}
            case _:
                return schema

    def _named(self, name: str, namespace: str, depth: int) -> Any:
        if name in PRIMITIVES:
            return name
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full in self._defined or full not in self._definitions:
            return name
        defined, around = self._definitions[full]
        return self._definition(defined, around, depth + 1)

    def _definition(self, schema: dict[str, Any], namespace: str, depth: int) -> Any:
        full = _full_name(schema, namespace)
        known = self._definitions.get(full)
        if known and known[0] != schema:
            raise BrokenReferences(f"it defines {full[:_SHOWN]} in another way than its references")
        if known and full in self._defined:
            return full
        self._defined.add(full)
        own = full.rpartition(".")[0]
        # Where it stands now may be in another namespace.
        placed = {**schema, "name": full.rpartition(".")[2], "namespace": own}
        if isinstance(fields := schema.get("fields"), list):
            placed["fields"] = [
                {**field, "type": self.joined(field["type"], own, depth + 1)}
                if isinstance(field, dict) and "type" in field
                else field
                for field in fields
            ]
        return placed


def _definitions(schema: Any, namespace: str, depth: int) -> Iterator[tuple[str, Any, str]]:
    """Each type that a schema defines: its full name, its definition, and the namespace around it."""
    _check_depth(depth)
    match schema:
        case list():
            for branch in schema:
                yield from _definitions(branch, namespace, depth + 1)
        case {"type": kind} if kind in _NAMED:
            full = _full_name(schema, namespace)
            yield full, schema, namespace
            fields = schema.get("fields")
            for field in fields if isinstance(fields, list) else ():
                if isinstance(field, dict):
                    yield from _definitions(field.get("type"), full.rpartition(".")[0], depth + 1)
        case dict():
            for key in ("type", "items", "values"):
                yield from _definitions(schema.get(key), namespace, depth + 1)
        case _:
            pass


def _full_name(schema: dict[str, Any], namespace: str) -> str:
    name, given = str(schema.get("name")), schema.get("namespace")
    around = given if isinstance(given, str) else namespace
    return name if "." in name or not around else f"{around}.{name}"


def _parsed(text: str, whose: str) -> Any:
    try:
        return json.loads(text)
    # JSON's own errors, integers of thousands of digits, and nesting beyond the parser.
    except (ValueError, RecursionError) as error:
        raise BrokenReferences(f"{whose} is not an Avro schema in JSON") from error


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BrokenReferences(f"it nests deeper than {MAX_DEPTH} levels with its references")
