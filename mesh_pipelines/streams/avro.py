"""Avro datums of one writer's schema to Arrow columns, all at once.

An Avro datum on a topic is a block of an Avro file without its header, so a batch of them is given one header and read
by a native file reader, twelve times as fast as decoding one by one. The native reader trusts what it is given, so it
is given nothing that it could fail on: only whole datums (``avro_bounds.walk``), only the fields that the contract has
(the bytes of the others are cut out), and those as the types of the wire: text, decimals and times as the bytes and
integers they are. What these mean, and whether they mean anything, ``resolve`` says in Arrow.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.contract.model import Field
from mesh_pipelines.streams.avro_bounds import Bounds, walk
from mesh_pipelines.streams.avro_schema import Node, Unreadable, read_schema
from mesh_pipelines.streams.decoded import Decoded
from mesh_pipelines.streams.resolve import Irreconcilable, check, find, project

_SYNC = os.urandom(16)
# Logical types that the native reader takes without a look at the value. The others are read as their plain type.
_NATIVE_LOGICAL = {
    ("int", "date"),
    *(("long", f"{zone}timestamp-{unit}") for zone in ("", "local-") for unit in ("millis", "micros")),
}
# One event may take this much memory, and one read: nulls of wide types take a byte on the wire and a kilobyte in
# memory, and a message has a million bytes.
MAX_MEMORY_BYTES = 64 << 20


@dataclass
class WriterSchema:
    """One writer's schema, and whether and how its events become the contract's columns."""

    text: str
    fields: Sequence[Field]

    @cached_property
    def refusal(self) -> str | None:
        """Why no event of this schema can be taken over; None where they can."""
        try:
            if self._record.kind != "record":
                return "the writer's schema is no record"
            check(json.loads(self.text), self.fields)
            self._read(b"", 0)
        except Unreadable as error:
            return f"the writer's schema {error}"
        except Irreconcilable as error:
            return str(error)
        return None

    def __reduce__(self) -> tuple[type[WriterSchema], tuple[str, Sequence[Field]]]:
        return WriterSchema, (self.text, self.fields)

    @cached_property
    def _record(self) -> Node:
        return read_schema(self.text)

    @cached_property
    def _wanted(self) -> list[bool]:
        found = {find(self._record.names, field) for field in self.fields}
        return [name in found for name in self._record.names]

    @cached_property
    def _header(self) -> bytes:
        record = self._record
        kept = [index for index, keep in enumerate(self._wanted) if keep]
        wire = Node("record", tuple(record.children[index] for index in kept), tuple(record.names[i] for i in kept))
        metadata = {b"avro.schema": json.dumps(_on_the_wire(wire, count())).encode(), b"avro.codec": b"null"}
        entries = b"".join(_bytes(key) + _bytes(value) for key, value in metadata.items())
        return b"Obj\x01" + _long(len(metadata)) + entries + _long(0) + _SYNC

    def decode(self, values: pa.LargeBinaryArray) -> Decoded:
        """The contract's columns of the datums that can be decoded.

        Raises:
            RuntimeError: the native reader failed on whole datums, which it never should.
        """
        data, starts, ends = _buffers(values)
        bounds = walk(data, starts, ends, self._record, self._wanted)
        faults = dict.fromkeys(np.flatnonzero(~bounds.good).tolist(), "the bytes do not fit the writer's schema")
        for index in np.flatnonzero(bounds.good & (bounds.memory > MAX_MEMORY_BYTES)).tolist():
            faults[index] = f"would take {bounds.memory[index]:,} bytes decoded, {MAX_MEMORY_BYTES:,} are allowed"
            bounds.good[index] = False
        body, sizes = _kept(data, starts, ends, bounds)
        read = Decoded.join([project(*part, self.fields) for part in self._parts(body, sizes, bounds)])
        return read.within(len(values), np.flatnonzero(bounds.good), faults)

    def _parts(
        self, body: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64], bounds: Bounds
    ) -> Iterator[tuple[dict[str, pa.Array], int]]:
        """The writer's columns and their rows, in parts of bounded memory; at least one."""
        ends = np.cumsum(sizes)
        batch = np.cumsum(bounds.memory[bounds.good]) // MAX_MEMORY_BYTES
        edges = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sizes)]
        for first, after in pairwise(edges):
            begin, end = (int(ends[at - 1]) if at else 0 for at in (first, after))
            yield self._read(body[begin:end].tobytes(), after - first), after - first

    def _read(self, body: bytes, rows: int) -> dict[str, pa.Array]:
        from polars.exceptions import PanicException
        from polars_avro import read_avro

        if not any(self._wanted):
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
        return {name: _one(table[name]) for name in table.column_names}


def _on_the_wire(node: Node, numbers: Iterator[int]) -> Any:
    """The Avro schema of what the native reader gets: another reading of the same bytes."""
    match node.kind:
        case "string":
            return "bytes"
        case "record":
            fields = [
                {"name": name, "type": _on_the_wire(child, numbers)}
                for name, child in zip(node.names, node.children, strict=True)
            ]
            return {"type": "record", "name": f"r{next(numbers)}", "fields": fields}
        case "map":
            # A block of entries reads as a block of records; keys of a map would have to be UTF-8.
            [value] = node.children
            return _on_the_wire(Node("array", (Node("record", (Node("bytes"), value), ("key", "value")),)), numbers)
        case "array":
            return {"type": "array", "items": _on_the_wire(node.children[0], numbers)}
        case "union":
            if len(node.children) == 1:
                raise Unreadable("has a union of one type")
            return [_on_the_wire(child, numbers) for child in node.children]
        case "enum":
            return {"type": "enum", "name": f"e{next(numbers)}", "symbols": list(node.names)}
        case "fixed":
            return {"type": "fixed", "name": f"f{next(numbers)}", "size": node.size}
        case kind:
            # A union is only known for a nullable type where its null is written as a plain name.
            return {"type": kind, "logicalType": node.logical} if (kind, node.logical) in _NATIVE_LOGICAL else kind


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


def _buffers(array: pa.LargeBinaryArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The bytes of a binary array without nulls, and where each value starts and ends in them."""
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return content, bounds[:-1], bounds[1:]


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
