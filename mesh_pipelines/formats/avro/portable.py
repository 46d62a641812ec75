"""Datums to the writer's columns without the native extension: walked in numpy, read by a native file reader.

An Avro datum on a topic is a block of an Avro file without its header, so a batch of them is given one header and read
by a file reader, twelve times as fast as decoding one by one. That reader trusts what it is given, so it is given
nothing that it could fail on: only whole datums (``avro_bounds.walk``), only the fields that the contract has (the
bytes of the others are cut out), and those as the types of the wire. What it cannot be given so (a field inside another
that is passed over, a union of several types) is read value by value (``single``), which is slow.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import count, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.arrow_compute import pc
from mesh_pipelines.formats.avro.bounds import Bounds, walk
from mesh_pipelines.formats.avro.schema import Node
from mesh_pipelines.formats.avro.single import SingleRead, Value
from mesh_pipelines.formats.avro.wire import (
    MAX_MEMORY_BYTES,
    NATIVE_LOGICAL,
    PLAIN,
    WireRows,
    branches,
    not_whole,
    too_large,
)
from mesh_pipelines.formats.decoded import buffers, spread, without_header

_SYNC = os.urandom(16)


class PortableReader:
    """Reads what is wanted of one record type (``wanted``)."""

    def __init__(self, record: Node) -> None:
        whole = tuple(child if child.kind == "skip" else _whole(child) for child in record.children)
        self._singly = any(child.kind != "skip" and _is_for_single(child) for child in whole)
        # The file reader takes whole fields: what is not wanted inside them is read with them where it can be.
        self._record = record if self._singly else replace(record, children=whole)
        self._wanted = [self._singly or child.kind != "skip" for child in record.children]
        if not self._singly:
            # What the file reader makes of the schema is seen now, and not at the first event.
            self._read(b"", 0)

    @cached_property
    def _wire(self) -> Node:
        """The record without what is not wanted."""
        kept = self._record.kept
        return Node("record", tuple(child for _, child in kept), tuple(name for name, _ in kept))

    @cached_property
    def _header(self) -> bytes:
        metadata = {b"avro.schema": json.dumps(_on_the_wire(self._wire, count())).encode(), b"avro.codec": b"null"}
        entries = b"".join(_bytes(key) + _bytes(value) for key, value in metadata.items())
        return b"Obj\x01" + _long(len(metadata)) + entries + _long(0) + _SYNC

    def read(self, values: pa.LargeBinaryArray, header_bytes: int) -> Iterator[WireRows]:
        """The values' columns, in parts of bounded memory; a null value has a row of nulls.

        Raises:
            RuntimeError: the native reader failed on whole datums, which it never should.
        """
        given = values.is_valid().to_numpy(zero_copy_only=False)
        parts = self._datums(without_header(values.drop_null(), header_bytes))
        if given.all():
            yield from parts
        else:
            yield _spread(list(parts), given)

    def _datums(self, values: pa.LargeBinaryArray) -> Iterator[WireRows]:
        data, bounds_at = buffers(values)
        starts, ends = bounds_at[:-1], bounds_at[1:]
        bounds = walk(data, starts, ends, self._record, self._wanted)
        faults = dict.fromkeys(np.flatnonzero(~bounds.good).tolist(), not_whole())
        for index in np.flatnonzero(bounds.good & (bounds.memory > MAX_MEMORY_BYTES)).tolist():
            faults[index] = too_large(bounds.memory[index])
            bounds.good[index] = False
        body, sizes = _kept(data, starts, ends, bounds)
        for columns, rows in self._parts(body, sizes, bounds):
            yield WireRows(columns, rows, faults)
            faults = {}

    def _parts(
        self, body: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64], bounds: Bounds
    ) -> Iterator[tuple[dict[str, pa.Array], int]]:
        """The writer's columns and their rows, in parts of bounded memory; at least one."""
        ends = np.cumsum(sizes)
        batch = np.cumsum(bounds.memory[bounds.good]) // MAX_MEMORY_BYTES
        edges = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sizes)]
        for first, after in pairwise(edges):
            begin, end = (int(ends[at - 1]) if at else 0 for at in (first, after))
            part = body[begin:end].tobytes()
            if self._singly:
                yield self._read_singly(part, sizes[first:after].tolist()), after - first
            else:
                yield self._read(part, after - first), after - first

    def _read_singly(self, body: bytes, sizes: list[int]) -> dict[str, pa.Array]:
        reading, at, rows = SingleRead(memoryview(body)), 0, []
        for size in sizes:
            values, _ = reading.read(self._record, at, at + size)
            rows.append(values)
            at += size
        return {
            name: _column(child, [row[place] for row in rows]) for place, (name, child) in enumerate(self._record.kept)
        }

    def _read(self, body: bytes, rows: int) -> dict[str, pa.Array]:
        from polars.exceptions import PanicException
        from polars_avro import read_avro

        if not self._wire.children:
            return {}
        block = b"".join([_long(rows), _long(len(body)), body, _SYNC]) if rows else b""
        file = io.BytesIO(self._header + block)
        try:
            table = read_avro(file).to_arrow()
        # The native reader's errors share no base class, its panics not even Exception.
        except (Exception, PanicException) as error:
            raise RuntimeError(f"the native reader failed: {str(error).splitlines()[0][:200]}") from error
        if table.num_rows != rows:
            raise RuntimeError(f"the native reader gave {table.num_rows} rows of {rows} datums")
        columns = [_one(column) for column in table.columns]
        return dict(zip(self._wire.names, map(_named, columns, self._wire.children), strict=True))


def _spread(parts: list[WireRows], given: npt.NDArray[np.bool_]) -> WireRows:
    """The parts as one, with rows of nulls for the values that were not given."""
    places = np.flatnonzero(given)
    faults = {int(places[index]): reason for part in parts for index, reason in part.faults.items()}
    has_row = np.ones(len(given), np.bool_)
    has_row[list(faults)] = False
    names = list(parts[0].columns)
    columns = [_one(pa.chunked_array([part.columns[name] for part in parts])) for name in names]
    rows = given[has_row]
    return WireRows(dict(zip(names, spread(columns, rows), strict=True)), len(rows), faults, rows)


def _on_the_wire(node: Node, numbers: Iterator[int]) -> Any:
    """The Avro schema of what the native reader gets: another reading of the same bytes."""
    match node.kind:
        case "string":
            return "bytes"
        case "record":
            fields = [
                {"name": f"f{place}", "type": _on_the_wire(child, numbers)} for place, child in enumerate(node.children)
            ]
            return {"type": "record", "name": f"r{next(numbers)}", "fields": fields}
        case "map":
            # A block of entries reads as a block of records; keys of a map would have to be UTF-8.
            [value] = node.children
            return _on_the_wire(Node("array", (Node("record", (Node("bytes"), value), ("key", "value")),)), numbers)
        case "array":
            return {"type": "array", "items": _on_the_wire(node.children[0], numbers)}
        case "union":
            return [_on_the_wire(child, numbers) for child in node.children]
        case "enum":
            return {"type": "enum", "name": f"e{next(numbers)}", "symbols": list(node.names)}
        case "fixed":
            return {"type": "fixed", "name": f"f{next(numbers)}", "size": node.size}
        case kind:
            # A union is only known for a nullable type where its null is written as a plain name.
            return {"type": kind, "logicalType": node.logical} if (kind, node.logical) in NATIVE_LOGICAL else kind


def _named(array: pa.Array, node: Node) -> pa.Array:
    """The column with the names of its schema: on the wire fields are numbered, since names may be any text."""
    mask = pc.is_null(array) if array.null_count else None
    match node.kind:
        case "union":
            assert node.optional is not None
            return _named(array, node.optional)
        case "record":
            children = list(map(_named, array.flatten(), node.children))
            return pa.StructArray.from_arrays(children, node.names, mask=mask)
        case "array" if _is_renamed(node):
            return pa.LargeListArray.from_arrays(array.offsets, _named(array.values, node.children[0]), mask=mask)
        case "map":
            entries = Node("record", (Node("bytes"), *node.children), ("key", "value"))
            return pa.LargeListArray.from_arrays(array.offsets, _named(array.values, entries), mask=mask)
        case "fixed":
            return array.cast(pa.binary(node.size))
        case _:
            return array


def _whole(node: Node) -> Node:
    """The type with all that it holds, wanted or not."""
    inside = node.children[0] if node.kind == "skip" else node
    return replace(inside, children=tuple(map(_whole, inside.children)))


def _is_for_single(node: Node) -> bool:
    """Whether there is something in it that the file reader would not read as it is wanted."""
    if node.optional:
        return _is_for_single(node.optional)
    return node.kind in ("skip", "again", "union", "null") or any(map(_is_for_single, node.children))


def _column(node: Node, values: list[Value]) -> pa.Array:
    """What ``SingleRead`` gives of one type as a column, the same as that of the native reader."""
    match node.kind:
        case "union" if node.optional:
            return _column(node.optional, values)
        case "union":
            return _union_column(node, values)
        case "record":
            mask = [value is None for value in values]
            kept = [
                _column(child, [value and value[place] for value in values])
                for place, (_, child) in enumerate(node.kept)
            ]
            if not kept:
                return pa.array([None if is_null else {} for is_null in mask], pa.struct([]))
            return pa.StructArray.from_arrays(kept, [name for name, _ in node.kept], mask=pa.array(mask, pa.bool_()))
        case "array" | "map":
            flat = [item for value in values for item in value or ()]
            offsets = np.cumsum([0, *(len(value or ()) for value in values)])
            return pa.LargeListArray.from_arrays(
                pa.array(offsets, pa.int64()),
                _column(node.children[0], flat) if node.kind == "array" else _entries(node, flat),
                mask=pa.array([value is None for value in values], pa.bool_()),
            )
        case "enum":
            symbols = pa.array(node.names, pa.large_string())
            return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32()), symbols)
        case "null":
            return pa.nulls(len(values))
        case kind:
            of = PLAIN.get(kind) or (pa.binary(node.size) if kind == "fixed" else pa.large_binary())
            return pa.array(values, NATIVE_LOGICAL.get((kind, node.logical), of))


def _entries(node: Node, pairs: list[Value]) -> pa.Array:
    keys = pa.array([key for key, _ in pairs], pa.large_binary())
    return pa.StructArray.from_arrays(
        [keys, _column(node.children[0], [value for _, value in pairs])], ["key", "value"]
    )


def _union_column(node: Node, values: list[Value]) -> pa.Array:
    held: list[list[Value]] = [[] for _ in node.children]
    chosen, place = np.full(len(values), -1, np.int32), np.zeros(len(values), np.int64)
    for row, value in enumerate(values):
        if value is not None:
            chosen[row], place[row] = value[0], len(held[value[0]])
            held[value[0]].append(value[1])
    columns = {name: _column(child, held[at]) for at, (name, child) in enumerate(node.named) if child.kind != "skip"}
    return branches(node, chosen, place, columns)


def _is_renamed(node: Node) -> bool:
    return node.kind in ("record", "map", "fixed") or any(map(_is_renamed, node.children))


def _kept(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], bounds: Bounds
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes of the good datums without those cut out, and how many each has."""
    good = bounds.good
    if not len(good):
        return data[:0], starts
    # From edge to edge, bytes are kept and cut in turn; all of a datum that is not good lies in the last cut.
    inner = [np.where(good, edge, starts) for cut in bounds.cuts for edge in cut]
    lengths = np.diff(np.stack([starts, *inner, np.where(good, ends, starts), ends]), axis=0)
    content = data[int(starts[0]) : int(ends[-1])]
    if good.all() and not bounds.cuts:
        return content, lengths[0]
    keep = np.repeat(np.tile([True, False], lengths.size // 2), lengths.T.ravel())
    return content[keep], lengths[::2].sum(axis=0)[good]


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _long(number: int) -> bytes:
    zigzag = (number << 1) ^ (number >> 63)
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _bytes(value: bytes) -> bytes:
    return _long(len(value)) + value
