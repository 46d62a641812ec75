"""A JSON Schema as one function that says yes or no, compiled once.

Validating a contract of 20 columns by walking the schema takes ten milliseconds, most of them to build validators for
parts that then find nothing: ten seconds for a mesh of a thousand products. What is compiled here decides only whether
there is anything wrong; ``standard.py`` walks the schema to say what. Both read the schema in the same way, which is
not quite the specification's, and a test holds the two to the same answer. A keyword that is not known here is an
error when the schema is compiled, never passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

# The objects already seen, by the reference that led to them.
Visited = set[tuple[str, int]]
Accept = Callable[[Any, Visited], bool]
Keys = Callable[[Mapping[str, Any], Visited], set[str]]
Schema = Mapping[str, Any]
T = TypeVar("T")

_SAYS_NOTHING = frozenset(
    {"$schema", "$defs", "title", "description", "examples", "default", "deprecated", "format", "then"}
)


def compiled(schema: Schema, once: Collection[str]) -> Callable[[Any], bool]:
    """Whether a value keeps to the schema; ``once`` are references that are followed once for each object.

    Raises:
        NotImplementedError: the schema says something in a way that is not known here.
    """
    accept = _Compiler(schema, once).compile(schema)
    return lambda value: accept(value, set())


def speaks_of_type(condition: Any) -> bool:
    """Whether a condition is about the logical type of a property, and so about no property without one."""
    return "logicalType" in str(condition)


class _Compiler:
    """Makes a function of each schema object; a method per keyword, named as the keyword is."""

    def __init__(self, root: Schema, once: Collection[str]) -> None:
        self._root = root
        self._once = once
        self._known: dict[int, Accept] = {}

    def compile(self, schema: Schema) -> Accept:
        """The function of one schema; one that is met within itself is looked up when it is called."""
        if id(schema) in self._known:
            return lambda value, visited: self._known[id(schema)](value, visited)
        self._known[id(schema)] = _never
        self._known[id(schema)] = found = _every(
            [self._keyword(keyword, schema) for keyword in schema if keyword not in _SAYS_NOTHING]
        )
        return found

    def _keyword(self, keyword: str, schema: Schema) -> Accept:
        make = getattr(self, f"_on_{keyword.removeprefix('$')}", None)
        if make is None:
            raise NotImplementedError(f"the JSON Schema keyword {keyword}")
        return make(schema[keyword], schema)

    def _on_ref(self, reference: str, _: Schema) -> Accept:
        accept = self.compile(self._definition(reference))
        if reference not in self._once:
            return accept

        def first(value: Any, visited: Visited) -> bool:
            visit = (reference, id(value))
            if not isinstance(value, dict) or visit not in visited:
                visited.add(visit)
                return accept(value, visited)
            return True

        return first

    def _on_type(self, kinds: str | list[str], _: Schema) -> Accept:
        checks = [_TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)]
        return lambda value, _: any(check(value) for check in checks)

    def _on_properties(self, properties: Mapping[str, Schema], _: Schema) -> Accept:
        accepts = {name: self.compile(schema) for name, schema in properties.items()}

        def each(value: Any, visited: Visited) -> bool:
            if isinstance(value, dict):
                for name, item in value.items():
                    accept = accepts.get(name)
                    if accept and not accept(item, visited):
                        return False
            return True

        return each

    def _on_required(self, names: list[str], _: Schema) -> Accept:
        return lambda value, _: not isinstance(value, dict) or all(name in value for name in names)

    def _on_items(self, schema: Schema, _: Schema) -> Accept:
        accept = self.compile(schema)
        return lambda value, visited: not isinstance(value, list) or all(accept(item, visited) for item in value)

    def _on_allOf(self, schemas: list[Schema], _: Schema) -> Accept:  # noqa: N802 (the keyword)
        return _every([self.compile(schema) for schema in schemas])

    def _on_anyOf(self, schemas: list[Schema], _: Schema) -> Accept:  # noqa: N802
        accepts = [self.compile(schema) for schema in schemas]
        return lambda value, visited: any(accept(value, visited) for accept in accepts)

    def _on_oneOf(self, schemas: list[Schema], _: Schema) -> Accept:  # noqa: N802
        accepts = [self.compile(schema) for schema in schemas]
        return lambda value, visited: sum(accept(value, visited) for accept in accepts) == 1

    def _on_not(self, schema: Schema, _: Schema) -> Accept:
        accept = self.compile(schema)
        return lambda value, visited: not accept(value, visited)

    def _on_if(self, condition: Schema, schema: Schema) -> Accept:
        applies, then = self._condition(condition), self.compile(schema["then"])
        return lambda value, visited: not applies(value, visited) or then(value, visited)

    def _condition(self, condition: Schema) -> Accept:
        accept = self.compile(condition)
        if not speaks_of_type(condition):
            return accept
        return lambda value, visited: (
            not (isinstance(value, dict) and "logicalType" not in value) and accept(value, visited)
        )

    def _on_const(self, wanted: Any, _: Schema) -> Accept:
        return self._on_enum([wanted], _)

    def _on_enum(self, choices: list[Any], _: Schema) -> Accept:
        if not all(isinstance(choice, str) for choice in choices):
            raise NotImplementedError("a choice that is no text")
        return lambda value, _: isinstance(value, str) and value in choices

    def _on_minimum(self, least: float, _: Schema) -> Accept:
        return lambda value, _: not _is_number(value) or value >= least

    def _on_exclusiveMinimum(self, bound: float, _: Schema) -> Accept:  # noqa: N802
        return lambda value, _: not _is_number(value) or value > bound

    def _on_minItems(self, least: int, _: Schema) -> Accept:  # noqa: N802
        return lambda value, _: not isinstance(value, list) or len(value) >= least

    def _on_maxItems(self, most: int, _: Schema) -> Accept:  # noqa: N802
        return lambda value, _: not isinstance(value, list) or len(value) <= most

    def _on_uniqueItems(self, unique: bool, _: Schema) -> Accept:  # noqa: N802
        return lambda value, _: not unique or not isinstance(value, list) or all_differ(value)

    def _on_pattern(self, pattern: str, _: Schema) -> Accept:
        search = re.compile(pattern).search
        return lambda value, _: not isinstance(value, str) or search(value) is not None

    def _on_additionalProperties(self, allowed: bool, schema: Schema) -> Accept:  # noqa: N802
        known = _forbidding(allowed, schema.get("properties", {}).keys())
        return lambda value, _: not isinstance(value, dict) or value.keys() <= known

    def _on_unevaluatedProperties(self, allowed: bool, schema: Schema) -> Accept:  # noqa: N802
        always, keys = self._always_allowed(schema), _forbidding(allowed, self._keys(schema))
        return lambda value, visited: (
            not isinstance(value, dict) or value.keys() <= always or value.keys() <= keys(value, visited)
        )

    def _always_allowed(self, schema: Schema) -> set[str]:
        parts = [*schema.get("allOf", []), *([self._definition(schema["$ref"])] if "$ref" in schema else [])]
        return set(schema.get("properties", {})).union(*(self._always_allowed(part) for part in parts))

    def _keys(self, schema: Schema) -> Keys:
        """The keys that a schema allows a value, by itself and by those of its parts that apply to the value."""
        names = set(schema.get("properties", {}))
        parts: list[tuple[Accept, Keys]] = [(_always, self._keys(part)) for part in schema.get("allOf", [])]
        if "$ref" in schema:
            parts.append((_always, self._keys(self._definition(schema["$ref"]))))
        if "if" in schema:
            parts.append((self._condition(schema["if"]), self._keys(schema["then"])))
        parts += [(self.compile(part), self._keys(part)) for part in schema.get("oneOf", [])]

        def allowed(value: Mapping[str, Any], visited: Visited) -> set[str]:
            return names.union(*(keys(value, visited) for applies, keys in parts if applies(value, visited)))

        return allowed

    def _definition(self, reference: str) -> Schema:
        found: Any = self._root
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        return found


def all_differ(items: list[Any]) -> bool:
    """Whether no item is there twice, by its text: comparing each with each takes minutes for a long list."""
    return len({json.dumps(item, sort_keys=True) for item in items}) == len(items)


def _forbidding(allowed: bool, keys: T) -> T:
    if allowed is not False:
        raise NotImplementedError("further keys that are allowed or have a schema")
    return keys


def _every(accepts: list[Accept]) -> Accept:
    if len(accepts) == 1:
        return accepts[0]

    def every(value: Any, visited: Visited) -> bool:
        return all(accept(value, visited) for accept in accepts)

    return every


def _always(_: Any, __: Visited) -> bool:
    return True


def _never(_: Any, __: Visited) -> bool:
    return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
}
