"""Where each Avro datum of a batch ends, for all of them at once, before anything decodes them.

A datum carries no length, so a decoder believes whatever its bytes say: fastavro accepts trailing bytes and negative
union branches, a five-byte array can claim a billion items, and a native block reader does not return when a block
holds bytes that its count does not. Walking the schema over all datums together, one numpy step per field, finds every
datum that does not end exactly where its message ends, and how much memory each of the others will take; what is left
decodes without surprises.

One numpy step costs as much as some sixteen values walked singly, so where fewer datums are left (one has a million
items, its neighbours ten) they are walked singly: the walk takes time in proportion to the bytes, whatever they say.

The encoding is that of the Avro 1.12 specification, "Binary encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mesh_pipelines.formats.avro.schema import Node
from mesh_pipelines.formats.avro.single import FIXED_SIZES, MAP_KEY, MAX_AGAIN, Broken, SingleWalk

Ints = npt.NDArray[np.int64]
_Skip = Callable[[SingleWalk, int, int], int]

# A varint of 64 bits takes ten bytes at most, and one bit of the last.
_LAST_SHIFT = 63
_PADDING = 64
_FEW = 16


@dataclass(frozen=True)
class Bounds:
    """What a walk found: which datums are one value and nothing more, and what each takes in memory (bytes).

    ``cuts`` are the places of fields that are not wanted, as starts and ends for every datum; those of the datums that
    are not good mean nothing.
    """

    good: npt.NDArray[np.bool_]
    memory: Ints
    cuts: list[tuple[Ints, Ints]] = field(default_factory=list[tuple[Ints, Ints]])


def walk(data: npt.NDArray[np.uint8], starts: Ints, ends: Ints, record: Node, wanted: Sequence[bool]) -> Bounds:
    """Walk the datums at ``data[start:end]`` each; ``wanted`` says of each field of the record whether it is kept."""
    walking = _Walk(data, ends)
    rows = np.arange(len(starts))
    cursor = starts.astype(np.int64, copy=True)
    walking.memory += sum(child.slot for child, keep in zip(record.children, wanted, strict=True) if keep)
    cuts: list[tuple[Ints, Ints]] = []
    cut_from: Ints | None = None
    for child, keep in zip(record.children, wanted, strict=True):
        if keep and cut_from is not None:
            cuts.append((cut_from, cursor.copy()))
            cut_from = None
        elif not keep and cut_from is None:
            cut_from = cursor.copy()
        walking.skip(child, rows, cursor)
    if cut_from is not None:
        cuts.append((cut_from, cursor.copy()))
    return Bounds(walking.good & (cursor == ends), walking.memory, cuts)


class _Walk:
    """Moves a cursor per datum over the schema; datums that break the encoding are marked and left where they are."""

    def __init__(self, data: npt.NDArray[np.uint8], ends: Ints) -> None:
        self._data = np.concatenate([data, np.zeros(_PADDING, np.uint8)])
        self._last = len(data)
        self._ends = ends
        self._inside = 0
        self.good = np.ones(len(ends), np.bool_)
        self.memory = np.zeros(len(ends), np.int64)

    def skip(self, node: Node, rows: Ints, cursor: Ints) -> None:
        """Move ``cursor[rows]`` past one value of the type."""
        match node.kind:
            case "long":
                self._varint(rows, cursor)
            case "int":
                value = self._varint(rows, cursor)
                self._require(rows, value == value.astype(np.int32))
            case "string" | "bytes":
                self._advance(rows, cursor, self._varint(rows, cursor))
            case "union":
                self._union(node, rows, cursor)
            case "boolean":
                self._require(rows, self._data[self._within(cursor[rows])] <= 1)
                cursor[rows] += 1
            case "enum":
                index = self._varint(rows, cursor)
                self._require(rows, (index >= 0) & (index < len(node.names)))
            case "record":
                for child in node.children:
                    self.skip(child, rows, cursor)
            case "array" | "map":
                self._blocks(node, rows, cursor)
            case "skip":
                self.skip(node.children[0], rows, cursor)
            case "again":
                self._again(node, rows, cursor)
            case "fixed":
                self._advance(rows, cursor, np.full(len(rows), node.size, np.int64))
            case kind:
                cursor[rows] += FIXED_SIZES[kind]

    def _union(self, node: Node, rows: Ints, cursor: Ints) -> None:
        chosen = self._varint(rows, cursor)
        self._require(rows, (chosen >= 0) & (chosen < len(node.children)))
        for number, branch in enumerate(node.children):
            if branch.kind != "null" and len(subset := rows[chosen == number]):
                self.skip(branch, subset, cursor)

    def _again(self, node: Node, rows: Ints, cursor: Ints) -> None:
        self._require(rows, (cursor[rows] < self._ends[rows]) & (self._inside < MAX_AGAIN))
        rows = rows[self.good[rows]]
        if len(rows) < _FEW:
            for row in rows:
                self._singly(row, cursor, lambda single, at, end: single.skip(node, at, end))
        else:
            self._inside += 1
            self.skip(node.whole, rows, cursor)
            self._inside -= 1

    def _blocks(self, node: Node, rows: Ints, cursor: Ints) -> None:
        [item] = node.children
        slot = item.slot + (MAP_KEY.slot if node.kind == "map" else 0)
        active = rows[self.good[rows]]
        while len(active) >= _FEW:
            count = self._varint(active, cursor)
            sized = active[count < 0]
            claimed = self._varint(sized, cursor) + cursor[sized]
            count = np.abs(count)
            # Every item takes a byte or more, so more items than bytes left is a lie, found before it costs anything.
            # The least integer stays negative.
            self._require(active, (count >= 0) & (count <= self._ends[active] - cursor[active]))
            more = (count > 0) & self.good[active]
            active, left = active[more], count[more]
            self.memory[active] += left * slot
            self._items(node, active, left, cursor)
            # The native reader goes by a block's size, so it may not be another than its items have.
            self._require(sized, cursor[sized] == claimed)
            active = active[self.good[active]]
        for row in active:
            self._singly(row, cursor, lambda single, at, end: single.skip(node, at, end))

    def _items(self, node: Node, rows: Ints, left: Ints, cursor: Ints) -> None:
        """Move past ``left`` items of a block each."""
        [item] = node.children
        while len(rows) >= _FEW:
            if node.kind == "map":
                self.skip(MAP_KEY, rows, cursor)
            self.skip(item, rows, cursor)
            left = left - 1
            keep = (left > 0) & self.good[rows] & (cursor[rows] <= self._ends[rows])
            rows, left = rows[keep], left[keep]
        for row, count in zip(rows, left.tolist(), strict=True):
            self._singly(row, cursor, lambda single, at, end, count=count: single.items(node, count, at, end))

    def _singly(self, row: np.int64, cursor: Ints, skip: _Skip) -> None:
        single = SingleWalk(self._data.data, self._inside)
        try:
            cursor[row] = skip(single, int(cursor[row]), int(self._ends[row]))
        except Broken:
            self.good[row] = False
        self.memory[row] += single.memory

    def _varint(self, rows: Ints, cursor: Ints) -> Ints:
        """Read a zigzag varint at ``cursor[rows]`` and move past it."""
        at = cursor[rows]
        byte = self._data[self._within(at)].astype(np.uint64)
        value = byte & 0x7F
        at += 1
        more = np.flatnonzero(byte >= 0x80)
        shift = 7
        while len(more):
            byte = self._data[self._within(at[more])].astype(np.uint64)
            if shift == _LAST_SHIFT:
                self._require(rows[more], byte <= 1)
            value[more] |= (byte & 0x7F) << np.uint64(shift)
            at[more] += 1
            more = more[byte >= 0x80] if shift < _LAST_SHIFT else more[:0]
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
