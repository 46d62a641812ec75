"""Where each Avro datum of a batch ends, for all of them at once, before anything decodes them.

A datum carries no length, so a decoder believes whatever its bytes say: fastavro accepts trailing bytes and negative
union branches, a five-byte array can claim a billion items, and a native block reader does not return when a block
holds bytes that its count does not. Walking the schema over all datums together, one numpy step per field, finds every
datum that does not end exactly where its message ends; what is left decodes without surprises. Items that take no
bytes are refused, because their number is bounded by nothing.

The encoding is that of the Avro 1.11 specification, "Binary encoding".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# A varint of 64 bits takes ten bytes at most.
_VARINT_BYTES = 10
_PADDING = 64
_FIXED_SIZES = {"float": 4, "double": 8, "null": 0}


class Unwalkable(ValueError):
    """The schema cannot be walked: it is recursive, or its arrays hold items without bytes."""


def exact(data: npt.NDArray[np.uint8], starts: Ints, ends: Ints, schema: Any) -> npt.NDArray[np.bool_]:
    """Which datums, at ``data[start:end]`` each, are one value of the schema and nothing more.

    Raises:
        Unwalkable: the schema is recursive or has items without bytes.
    """
    walk = _Walk(data, ends)
    rows = np.arange(len(starts))
    cursor = starts.astype(np.int64, copy=True)
    walk.skip(schema, rows, cursor, {}, ())
    return walk.good & (cursor == ends)


class _Walk:
    """Moves a cursor per datum over the schema; datums that break the encoding are marked and left where they are."""

    def __init__(self, data: npt.NDArray[np.uint8], ends: Ints) -> None:
        self._data = np.concatenate([data, np.zeros(_PADDING, np.uint8)])
        self._last = len(data)
        self._ends = ends
        self.good = np.ones(len(ends), np.bool_)

    def skip(self, schema: Any, rows: Ints, cursor: Ints, named: dict[str, Any], inside: tuple[str, ...]) -> None:
        """Move ``cursor[rows]`` past one value of the schema."""
        if isinstance(schema, list):
            return self._union(schema, rows, cursor, named, inside)
        if isinstance(schema, str):
            return self._simple(schema, rows, cursor, named, inside)
        kind = schema["type"]
        match kind:
            case "record" | "error":
                self._remember(schema, named)
                for field in schema["fields"]:
                    self.skip(field["type"], rows, cursor, named, (*inside, str(schema["name"])))
            case "enum":
                self._remember(schema, named)
                index = self._varint(rows, cursor)
                self._require(rows, (index >= 0) & (index < len(schema["symbols"])))
            case "fixed":
                self._remember(schema, named)
                self._advance(rows, cursor, np.full(len(rows), int(schema["size"]), np.int64))
            case "array" | "map":
                self._blocks(schema, rows, cursor, named, inside)
            case _:
                self.skip(kind, rows, cursor, named, inside)
        return None

    def _simple(self, kind: str, rows: Ints, cursor: Ints, named: dict[str, Any], inside: tuple[str, ...]) -> None:
        if kind in ("int", "long"):
            self._varint(rows, cursor)
        elif kind in ("string", "bytes"):
            self._advance(rows, cursor, self._varint(rows, cursor))
        elif kind == "boolean":
            self._require(rows, self._data[self._within(cursor[rows])] <= 1)
            cursor[rows] += 1
        elif kind in _FIXED_SIZES:
            cursor[rows] += _FIXED_SIZES[kind]
        elif kind in inside:
            raise Unwalkable(f"type {kind} contains itself")
        elif kind in named:
            self.skip(named[kind], rows, cursor, named, inside)
        else:
            raise Unwalkable(f"type {kind} is unknown")

    def _union(
        self, branches: list[Any], rows: Ints, cursor: Ints, named: dict[str, Any], inside: tuple[str, ...]
    ) -> None:
        chosen = self._varint(rows, cursor)
        self._require(rows, (chosen >= 0) & (chosen < len(branches)))
        for number, branch in enumerate(branches):
            if branch != "null" and len(subset := rows[chosen == number]):
                self.skip(branch, subset, cursor, named, inside)

    def _blocks(
        self, schema: Mapping[str, Any], rows: Ints, cursor: Ints, named: dict[str, Any], inside: tuple[str, ...]
    ) -> None:
        is_map = schema["type"] == "map"
        item = schema["values"] if is_map else schema["items"]
        if not is_map and _may_be_empty(item, named):
            raise Unwalkable("its arrays hold items without bytes")
        active = rows
        while len(active):
            count = self._varint(active, cursor)
            negative = count < 0
            if negative.any():
                self._varint(active[negative], cursor)
                count = np.abs(count)
            # Every item takes a byte or more, so more items than bytes left is a lie, found before it costs anything.
            self._require(active, count <= self._ends[active] - cursor[active])
            more = (count > 0) & self.good[active]
            active, left = active[more], count[more]
            within = active
            while len(within):
                if is_map:
                    self._simple("string", within, cursor, named, inside)
                self.skip(item, within, cursor, named, inside)
                left = left - 1
                keep = (left > 0) & self.good[within] & (cursor[within] <= self._ends[within])
                within, left = within[keep], left[keep]
            active = active[self.good[active] & (cursor[active] < self._ends[active])]

    def _varint(self, rows: Ints, cursor: Ints) -> Ints:
        """Read a zigzag varint at ``cursor[rows]`` and move past it."""
        at = cursor[rows]
        byte = self._data[self._within(at)].astype(np.uint64)
        value = byte & 0x7F
        at += 1
        more = np.flatnonzero(byte >= 0x80)
        shift = 7
        while len(more):
            if shift >= 7 * _VARINT_BYTES:
                self.good[rows[more]] = False
                break
            byte = self._data[self._within(at[more])].astype(np.uint64)
            value[more] |= (byte & 0x7F) << np.uint64(shift)
            at[more] += 1
            more = more[byte >= 0x80]
            shift += 7
        cursor[rows] = at
        return (value >> np.uint64(1)).astype(np.int64) ^ -(value & np.uint64(1)).astype(np.int64)

    def _advance(self, rows: Ints, cursor: Ints, lengths: Ints) -> None:
        fits = (lengths >= 0) & (lengths <= self._ends[rows] - cursor[rows])
        self._require(rows, fits)
        cursor[rows] += np.where(fits, lengths, 0)

    def _require(self, rows: Ints, holds: npt.NDArray[np.bool_]) -> None:
        if not holds.all():
            self.good[rows[~holds]] = False

    def _within(self, at: Ints) -> Ints:
        return np.minimum(at, self._last)

    @staticmethod
    def _remember(schema: Mapping[str, Any], named: dict[str, Any]) -> None:
        named[str(schema["name"])] = schema


def _may_be_empty(schema: Any, named: dict[str, Any]) -> bool:
    if schema == "null":
        return True
    if isinstance(schema, str):
        return schema in named and _may_be_empty(named[schema], named)
    if isinstance(schema, list):
        return False
    match schema["type"]:
        case "record" | "error":
            return all(_may_be_empty(field["type"], named) for field in schema["fields"])
        case "fixed":
            return int(schema["size"]) == 0
        case "enum" | "array" | "map":
            return False
        case inner:
            return _may_be_empty(inner, named)
