"""An Avro schema as a tree: names resolved, and no more than decoding can afford. The one reader of Avro schemas.

A schema comes from whoever may write to the registry, so it is as hostile as any event. Named types used twice in each
other double with every step, a fixed type may be a terabyte, items of no bytes may be a billion. All of that is found
here, once per schema; after it, walking and decoding cost what the bytes of an event are worth. A type that is used
inside itself is a node of the kind ``again`` there, so that the tree is finite whatever follows it.

What a schema is read for is asked of the tree: how its events are decoded (``reader``), what columns they become
(``to_fields``), whether it says what a contract does (``agreement``), whether it may follow another (``compatible``).

The rules are those of the Avro 1.12 specification, "Schema Declaration" and "Names". A library's parser (fastavro's)
resolves names too, but leaves the types as it found them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

# A schema of the Confluent kind is some kilobytes; this is the largest that is read at all.
MAX_TEXT_BYTES = 1 << 20
# Each node costs a batch some 20 microseconds, so the largest schema costs it less than half a second.
MAX_NODES = 20_000
MAX_DEPTH = 64
# The memory of one null, which costs one byte on the wire: what a small event can be blown up by.
MAX_SLOT_BYTES = 1 << 20

PRIMITIVES: Mapping[str, tuple[int, int]] = {
    # Fewest bytes on the wire, bytes of a slot in memory.
    "null": (0, 0),
    "boolean": (1, 1),
    "int": (1, 4),
    "long": (1, 8),
    "float": (4, 4),
    "double": (8, 8),
    "bytes": (1, 16),
    "string": (1, 16),
}
# How much of a name from a schema is put into a message.
_SHOWN = 120
# A name as the specification has it; what others write is read, too.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unreadable(ValueError):
    """A schema that is no Avro schema, cannot be decoded within bounds, or has a type that no column has.

    ``path`` is the dotted path of the field where it is so, "" for the schema as a whole; ``problem`` says what is.
    """

    def __init__(self, problem: str, path: str = "") -> None:
        self.problem = problem
        self.path = path
        super().__init__(f"field {path[:_SHOWN]} {problem}" if path else problem)

    def within(self, name: str) -> Unreadable:
        """The same, seen from the record whose field of this name it is in."""
        return Unreadable(self.problem, f"{name}.{self.path}" if self.path else name)


@dataclass(frozen=True)
class Member:
    """What a record says of one field beside its name and type."""

    aliases: tuple[str, ...] = ()
    has_default: bool = False


@dataclass(frozen=True, eq=False)
class Node:
    """One type: a primitive, ``fixed``, ``enum``, ``array``, ``map``, ``union``, ``record``, ``again`` or ``skip``.

    ``names`` are a record's fields, in the order of ``children`` and ``members``, or an enum's symbols; ``size`` is of
    a fixed type, ``name`` the full name of a named one, ``precision`` and ``scale`` as a decimal has them, valid or
    not. ``meaning`` is what Kafka Connect or Debezium say of a value that Avro has no logical type for. A type used in
    several places is one node; ``again`` is a record inside itself, ``skip`` a type that is passed over. ``origin`` is
    the node of the whole schema that a node of what is wanted stands for.
    """

    kind: str
    children: tuple[Node, ...] = ()
    names: tuple[str, ...] = ()
    size: int = 0
    logical: str = ""
    name: str = ""
    aliases: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    precision: Any = None
    scale: Any = 0
    has_default: bool = False
    meaning: str = ""
    target: list[Node] = field(default_factory=list["Node"])
    origin: Node | None = None

    @property
    def whole(self) -> Node:
        """The type as the schema has it, without regard to what is wanted of it."""
        return self.target[0] if self.kind == "again" else self.origin or self

    @property
    def is_nullable(self) -> bool:
        """Whether it is a union with null."""
        return self.kind == "union" and any(child.kind == "null" for child in self.children)

    @property
    def optional(self) -> Node | None:
        """The type that a union of null and one other is of; None for unions of several, and whatever is no union."""
        if self.kind != "union" or len(self.children) != 2 or not self.is_nullable:
            return None
        return next(child for child in self.children if child.kind != "null")

    @property
    def named(self) -> list[tuple[str, Node]]:
        """The children of a record or union by their names; branches without names are numbered."""
        names = self.names or tuple(map(str, range(len(self.children))))
        return list(zip(names, self.children, strict=True))

    @property
    def kept(self) -> list[tuple[str, Node]]:
        """Those that are wanted."""
        return [(name, child) for name, child in self.named if child.kind != "skip"]

    @cached_property
    def nodes(self) -> int:
        """How many types a walk meets."""
        return 1 + sum(child.nodes for child in self.children)

    @cached_property
    def depth(self) -> int:
        """How deep types nest in it."""
        return 1 + max((child.depth for child in self.children), default=0)

    @cached_property
    def least(self) -> int:
        """The fewest bytes that a value takes on the wire; a type inside itself takes some, or it would never end."""
        if self.kind in PRIMITIVES:
            return PRIMITIVES[self.kind][0]
        return sum(child.least for child in self.children) if self.kind in ("record", "skip") else self.size or 1

    @cached_property
    def slot(self) -> int:
        """The bytes that a value takes in memory even where it is null; at least one."""
        if self.kind in PRIMITIVES:
            return max(1, PRIMITIVES[self.kind][1])
        if self.kind == "skip":
            return 0
        if self.kind in ("record", "union"):
            return 1 + sum(child.slot for child in self.children)
        return self.size or 8


def read_schema(text: str) -> Node:
    """The tree of a schema's JSON text.

    Raises:
        Unreadable: it is no Avro schema, or larger than the limits of this module.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise Unreadable(f"must have at most {MAX_TEXT_BYTES:,} characters, got {len(text):,}")
    try:
        parsed = json.loads(text)
    # JSON's own errors, integers of thousands of digits, and nesting beyond the parser.
    except (ValueError, RecursionError) as error:
        raise Unreadable("is not an Avro schema in JSON") from error
    return tree(parsed)


def tree(schema: Any) -> Node:
    """The tree of a schema, given as parsed JSON.

    Raises:
        Unreadable: it is no Avro schema, or larger than the limits of this module.
    """
    return _Reader().read(schema, "", 0)


class _Reader:
    """Reads one schema; remembers named types by full name, and what stands for them while they are being read."""

    def __init__(self) -> None:
        self._named: dict[str, Node] = {}

    def read(self, schema: Any, namespace: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise Unreadable(f"nests deeper than {MAX_DEPTH} levels")
        match schema:
            case str():
                return self._referred(schema, namespace)
            case list():
                return self._union(schema, namespace, depth)
            case {"type": "record" | "error" | "enum" | "fixed" as kind, "name": str(name)}:
                return self._definition(kind, name, schema, namespace, depth)
            case {"type": "record" | "error" | "enum" | "fixed" as kind}:
                raise Unreadable(f"has the type {kind} without a name")
            case {"type": "array", "items": items}:
                return self._repeated("array", items, namespace, depth)
            case {"type": "map", "values": values}:
                return self._repeated("map", values, namespace, depth)
            case {"type": str(name)} if name in PRIMITIVES:
                return Node(name, logical=_logical(schema), meaning=_meaning(schema), **_digits(schema))
            case {"type": inner}:
                return self.read(inner, namespace, depth + 1)
            case _:
                raise Unreadable(f"has {str(schema)[:80]!r} in place of an Avro type")

    def _referred(self, name: str, namespace: str) -> Node:
        if name in PRIMITIVES:
            return Node(name)
        full = _full_name(name, namespace)
        if full not in self._named:
            raise Unreadable(f"has the unknown type {name[:80]!r}")
        return self._named[full]

    def _union(self, branches: list[Any], namespace: str, depth: int) -> Node:
        children = tuple(self.read(branch, namespace, depth + 1) for branch in branches)
        kinds = [child.kind for child in children]
        if not kinds or "union" in kinds or kinds.count("null") > 1:
            raise Unreadable("has a union that is empty, contains a union, or contains null twice")
        return _bounded(Node("union", children))

    def _repeated(self, kind: str, items: Any, namespace: str, depth: int) -> Node:
        item = self.read(items, namespace, depth + 1)
        if kind == "array" and item.least == 0:
            raise Unreadable("has an array whose items take no bytes, so its length has no limit")
        return _bounded(Node(kind, (item,)))

    def _definition(self, kind: str, name: str, schema: Mapping[str, Any], namespace: str, depth: int) -> Node:
        given = schema.get("namespace")
        full = _full_name(name, given if isinstance(given, str) else namespace)
        if full in self._named:
            raise Unreadable(f"defines {full[:80]} twice")
        inside = Node("again", name=full)
        self._named[full] = inside
        found = self._defined(kind, full, schema, depth)
        inside.target.append(found)
        self._named[full] = found
        return found

    def _defined(self, kind: str, full: str, schema: Mapping[str, Any], depth: int) -> Node:
        match kind, schema:
            case "fixed", {"size": int(size)} if size > 0 and not isinstance(size, bool):
                named = Node("fixed", size=size, logical=_logical(schema), name=full, **_digits(schema))
                return _bounded(named)
            case "enum", {"symbols": list(symbols)}:
                return Node("enum", names=_names(symbols, full), name=full, has_default="default" in schema)
            case "record" | "error", {"fields": list(fields)} if all(map(_is_field, fields)):
                names = _names([field["name"] for field in fields], full)
                namespace = full.rpartition(".")[0]
                children = tuple(self._field(field, namespace, depth + 1) for field in fields)
                members = tuple(Member(_aliases(field), "default" in field) for field in fields)
                return _bounded(Node("record", children, names, name=full, aliases=_aliases(schema), members=members))
            case _:
                missing = {"fixed": "size", "enum": "symbols"}.get(kind, "fields")
                raise Unreadable(f"defines the {kind} {full[:80]} without its {missing}")

    def _field(self, field: Mapping[str, Any], namespace: str, depth: int) -> Node:
        try:
            return self.read(field["type"], namespace, depth)
        except Unreadable as error:
            raise error.within(field["name"]) from None


def _is_field(field: Any) -> bool:
    return isinstance(field, dict) and "name" in field and "type" in field


def _names(names: list[Any], full: str) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str) or not name:
            raise Unreadable(f"has {str(name)[:80]!r} in place of a name in {full[:80]}")
    if len(set(names)) < len(names):
        [(twice, _)] = Counter(names).most_common(1)
        raise Unreadable(f"has the name {twice[:80]!r} twice in {full[:80]}")
    return tuple(names)


def _aliases(schema: Mapping[str, Any]) -> tuple[str, ...]:
    aliases = schema.get("aliases")
    return tuple(map(str, aliases)) if isinstance(aliases, list) else ()


def _digits(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"precision": schema.get("precision"), "scale": schema.get("scale", 0)}


def _bounded(node: Node) -> Node:
    # Children are bounded already, so none of these sums can have taken long.
    if node.depth > MAX_DEPTH:
        raise Unreadable(f"nests deeper than {MAX_DEPTH} levels")
    if node.nodes > MAX_NODES:
        raise Unreadable(f"has more than {MAX_NODES:,} types, counting each use of a type")
    if node.slot > MAX_SLOT_BYTES:
        raise Unreadable(f"has a type that takes more than {MAX_SLOT_BYTES:,} bytes per value, even for null")
    return node


def _logical(schema: Mapping[str, Any]) -> str:
    logical = schema.get("logicalType")
    return logical if isinstance(logical, str) else ""


def _meaning(schema: Mapping[str, Any]) -> str:
    named = schema.get("connect.name", schema.get("connect.type"))
    return named if isinstance(named, str) else ""


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
