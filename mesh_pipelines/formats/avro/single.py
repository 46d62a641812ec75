"""One Avro datum walked by itself: the same rules as ``avro_bounds``, for what is too uneven to walk together."""

from __future__ import annotations

import struct
from typing import Any, NoReturn

import numpy as np

from mesh_pipelines.formats.avro.schema import Node

FIXED_SIZES = {"float": 4, "double": 8, "null": 0}
MAP_KEY = Node("string")
# So often a type may be used inside itself, in what is passed over.
MAX_AGAIN = 64
_VARINT_BYTES = 10
# As many items as make the vector search for their ends worth its fixed cost.
_MANY = 64


class Broken(ValueError):
    """The bytes are not a value of the type."""


# What is read of a value: numbers and bytes as they are on the wire, a tuple of a record's wanted fields, pairs of a
# map's keys and values, and of a union of several types the number of the branch with its value.
Value = Any


class SingleWalk:
    """Moves over values in ``data``; adds up in ``memory`` what the items of arrays and maps take (bytes).

    ``inside`` is how often a type around them is used inside itself already. All methods give the place after what they
    moved over, which is at most ``end``, and raise Broken.
    """

    def __init__(self, data: memoryview, inside: int = 0) -> None:
        self._data = data
        self._inside = inside
        self.memory = 0

    def skip(self, node: Node, at: int, end: int) -> int:
        """Move past one value of the type."""
        match node.kind:
            case "int" | "long" | "enum":
                value, at = self._varint(at, end)
                if node.kind == "int" and not -(2**31) <= value < 2**31:
                    raise Broken
                if node.kind == "enum" and not 0 <= value < len(node.names):
                    raise Broken
                return at
            case "string" | "bytes":
                length, at = self._varint(at, end)
                return _within(at + length, end) if length >= 0 else _broken()
            case "union":
                chosen, at = self._varint(at, end)
                return self.skip(node.children[chosen], at, end) if 0 <= chosen < len(node.children) else _broken()
            case "record":
                for child in node.children:
                    at = self.skip(child, at, end)
                return at
            case "array" | "map":
                return self._blocks(node, at, end)
            case "boolean":
                return at + 1 if at < end and self._data[at] <= 1 else _broken()
            case "fixed":
                return _within(at + node.size, end)
            case "skip":
                return self.skip(node.children[0], at, end)
            case "again":
                return self._again(node, at, end)
            case kind:
                return _within(at + FIXED_SIZES[kind], end)

    def items(self, node: Node, count: int, at: int, end: int) -> int:
        """Move past ``count`` items of an array or map."""
        [item] = node.children
        if node.kind == "map":
            for _ in range(count):
                at = self.skip(item, self.skip(MAP_KEY, at, end), end)
            return at
        if size := item.size or FIXED_SIZES.get(item.kind):
            return _within(at + count * size, end)
        if item.kind in ("int", "long") and count >= _MANY:
            found = self._short_varints(count, 4 if item.kind == "int" else 9, at, end)
            if found:
                return found
        for _ in range(count):
            at = self.skip(item, at, end)
        return at

    def _again(self, node: Node, at: int, end: int) -> int:
        if self._inside == MAX_AGAIN:
            raise Broken
        self._inside += 1
        try:
            return self.skip(node.whole, at, end)
        finally:
            self._inside -= 1

    def _blocks(self, node: Node, at: int, end: int) -> int:
        [item] = node.children
        slot = item.slot + (MAP_KEY.slot if node.kind == "map" else 0)
        while True:
            count, at = self._varint(at, end)
            if count == 0:
                return at
            size = None
            if count < 0:
                size, at = self._varint(at, end)
                count = -count
            if count > end - at:
                raise Broken
            self.memory += count * slot
            begin = at
            at = self.items(node, count, at, end)
            if size is not None and at != begin + size:
                raise Broken

    def _short_varints(self, count: int, longest: int, at: int, end: int) -> int | None:
        """The place after ``count`` varints; None where one has more bytes than can be passed without a look at it."""
        window = np.frombuffer(self._data[at : min(end, at + count * _VARINT_BYTES)], np.uint8)
        last = np.flatnonzero(window < 0x80)[:count]
        if len(last) < count:
            return _broken()
        return at + int(last[-1]) + 1 if np.diff(last, prepend=-1).max() <= longest else None

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        data, value, shift = self._data, 0, 0
        while at < end:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return ((value >> 1) ^ -(value & 1), at) if value < 2**64 else _broken()
            shift += 7
            if shift == 7 * _VARINT_BYTES:
                break
        raise Broken


class SingleRead(SingleWalk):
    """Reads values as well as moving over them; for types that no library reads the way they are wanted."""

    def read(self, node: Node, at: int, end: int) -> tuple[Value, int]:
        """One value of the type, and the place after it."""
        match node.kind:
            case "int" | "long" | "enum":
                return self._varint(at, end)
            case "float" | "double":
                after = self.skip(node, at, end)
                return struct.unpack_from("<f" if node.kind == "float" else "<d", self._data, at)[0], after
            case "boolean":
                return self._data[at] == 1, self.skip(node, at, end)
            case "string" | "bytes":
                length, begin = self._varint(at, end)
                after = _within(begin + length, end) if length >= 0 else _broken()
                return bytes(self._data[begin:after]), after
            case "fixed":
                after = _within(at + node.size, end)
                return bytes(self._data[at:after]), after
            case "record":
                return self._members(node, at, end)
            case "union":
                chosen, at = self._varint(at, end)
                if not 0 <= chosen < len(node.children):
                    raise Broken
                value, at = self.read(node.children[chosen], at, end)
                is_null = node.children[chosen].kind == "null"
                return value if node.optional else None if is_null else (chosen, value), at
            case "array" | "map":
                return self._entries(node, at, end)
            case _:
                return None, self.skip(node, at, end)

    def _members(self, record: Node, at: int, end: int) -> tuple[Value, int]:
        values: list[Value] = []
        for child in record.children:
            if child.kind == "skip":
                at = self.skip(child, at, end)
            else:
                value, at = self.read(child, at, end)
                values.append(value)
        return tuple(values), at

    def _entries(self, node: Node, at: int, end: int) -> tuple[Value, int]:
        entries: list[Value] = []
        while True:
            count, at = self._varint(at, end)
            if count == 0:
                return entries, at
            if count < 0:
                _, at = self._varint(at, end)
            for _ in range(abs(count)):
                key = None
                if node.kind == "map":
                    key, at = self.read(MAP_KEY, at, end)
                value, at = self.read(node.children[0], at, end)
                entries.append((key, value) if node.kind == "map" else value)


def _within(at: int, end: int) -> int:
    return at if at <= end else _broken()


def _broken() -> NoReturn:
    raise Broken
