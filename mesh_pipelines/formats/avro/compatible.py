"""Whether events written by one Avro schema can be read by another, and where not, which field stands in the way.

A registry says yes or no, and many say nothing more. The rules are those of the Avro 1.12 specification, "Schema
Resolution"; names are compared without their namespace, as Avro's Java library does, which registries ask.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesh_pipelines.formats.avro.schema import Node, Unreadable, read_schema

_PROMOTIONS = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}
_Pair = tuple[int, int]
# So many symbols of an enum are named.
_NAMED = 5


def incompatibilities(ours: str, registered: str, *, backward: bool) -> list[str]:
    """Why events of one schema cannot be read by the other, one sentence a field; empty where they can.

    ``backward``: events of the registered schema are read by ours; else events of ours by the registered one.
    """
    trees: list[Node] = []
    for text, whose in ((ours, "the contract's"), (registered, "the registered")):
        try:
            trees.append(read_schema(text))
        except Unreadable as error:
            return [f"{whose} schema cannot be compared: it {error}"]
    reader, writer = trees if backward else reversed(trees)
    return list(dict.fromkeys(_Comparison(backward).differences(reader, writer, "")))


class _Comparison:
    """Walks a reader's and a writer's types together; ``backward`` says which of the two is the contract's."""

    def __init__(self, backward: bool, readable: dict[_Pair, bool] | None = None) -> None:
        self._backward = backward
        # Types may be used in many places, and each pair is compared once; so is a pair of types in unions, for which
        # it is first asked whether one reads the other at all.
        self._seen: set[_Pair] = set()
        self._readable = {} if readable is None else readable

    def differences(self, reader: Node, writer: Node, path: str) -> Iterator[str]:
        """What keeps the reader from reading the writer's values; the path is that of both, dotted."""
        reader, writer = reader.whole, writer.whole
        pair = (id(reader), id(writer))
        if pair in self._seen:
            return
        self._seen.add(pair)
        if reader.kind == "union" or writer.kind == "union":
            yield from self._unions(reader, writer, path)
        elif reader.kind != writer.kind:
            if reader.kind not in _PROMOTIONS.get(writer.kind, ()):
                yield self._changed(_named(reader), _named(writer), path)
        elif reader.kind in ("array", "map"):
            yield from self.differences(reader.children[0], writer.children[0], f"{path}[]")
        elif reader.kind in ("record", "enum", "fixed"):
            yield from self._definitions(reader, writer, path)

    def _definitions(self, reader: Node, writer: Node, path: str) -> Iterator[str]:
        if not _same_name(reader, writer):
            yield self._renamed(reader, writer, path)
        if reader.kind == "record":
            yield from self._fields(reader, writer, path)
        elif reader.kind == "enum":
            yield from self._symbols(reader, writer, path)
        elif reader.size != writer.size:
            yield self._changed(_named(reader), _named(writer), path)

    def _fields(self, reader: Node, writer: Node, path: str) -> Iterator[str]:
        places = {name: place for place, name in enumerate(writer.names)}
        for name, child, member in zip(reader.names, reader.children, reader.members, strict=True):
            at = f"{path}.{name}" if path else name
            found = next((places[known] for known in (name, *member.aliases) if known in places), None)
            if found is not None:
                yield from self.differences(child, writer.children[found], at)
            elif not member.has_default:
                yield f"field {at}: " + (
                    "is new and has no default" if self._backward else "was removed and had no default"
                )

    def _symbols(self, reader: Node, writer: Node, path: str) -> Iterator[str]:
        unknown = [symbol for symbol in writer.names if symbol not in set(reader.names)]
        if unknown and not reader.has_default:
            listed = ", ".join(unknown[:_NAMED]) + ", ..." * (len(unknown) > _NAMED)
            yield f"{_at(path)}: " + (f"lost the symbols {listed}" if self._backward else f"has new symbols {listed}")

    def _unions(self, reader: Node, writer: Node, path: str) -> Iterator[str]:
        """Every type that the writer may write has to be one of the reader's."""
        for written in _branches(writer):
            readable = _branches(reader)
            if any(self._reads(one, written) for one in readable):
                continue
            alike = [one for one in readable if one.kind == written.kind]
            if len(alike) == 1:
                yield from self.differences(alike[0], written, path)
            else:
                yield self._changed(_named(reader), _named(writer), path)

    def _reads(self, reader: Node, writer: Node) -> bool:
        reader, writer = reader.whole, writer.whole
        pair = (id(reader), id(writer))
        if pair not in self._readable:
            # Types inside themselves can be read unless something else in them cannot.
            self._readable[pair] = True
            walk = _Comparison(self._backward, self._readable).differences(reader, writer, "")
            self._readable[pair] = next(walk, None) is None
        return self._readable[pair]

    def _changed(self, reader: str, writer: str, path: str) -> str:
        before, now = (writer, reader) if self._backward else (reader, writer)
        return f"{_at(path)}: was {before}, is now {now}"

    def _renamed(self, reader: Node, writer: Node, path: str) -> str:
        ours, registered = (reader, writer) if self._backward else (writer, reader)
        if path:
            return f"{_at(path)}: its {ours.kind} was called {registered.name}, is now called {ours.name}"
        return (
            f"the registered record is called {registered.name}, this one {ours.name}: "
            "put the producer's schema beside the contract as schema.avsc"
        )


def _branches(node: Node) -> tuple[Node, ...]:
    return tuple(child.whole for child in node.children) if node.kind == "union" else (node.whole,)


def _same_name(reader: Node, writer: Node) -> bool:
    name = writer.name.rpartition(".")[2]
    return name in {known.rpartition(".")[2] for known in (reader.name, *reader.aliases)}


def _named(node: Node) -> str:
    """A type in the words of a schema: ``long``, ``null or string``, ``fixed of 16 bytes``."""
    match node.kind:
        case "union":
            return " or ".join(map(_named, node.children[:_NAMED]))
        case "fixed":
            return f"fixed of {node.size} bytes"
        case "record" | "enum":
            return f"{node.kind} {node.name}"
        case kind:
            return kind


def _at(path: str) -> str:
    return f"field {path}" if path else "the value"
