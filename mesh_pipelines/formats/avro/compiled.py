"""Datums to the writer's columns in C (``mesh_pipelines/native/avro.c``): checked to the last byte while they are read.

The tree of types becomes a program; what comes back are Arrow's own buffers, which are given their types here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mesh_pipelines import native
from mesh_pipelines.formats.avro.schema import Node, Unreadable
from mesh_pipelines.formats.avro.single import MAP_KEY
from mesh_pipelines.formats.avro.wire import MAX_MEMORY_BYTES, NATIVE_LOGICAL, WireRows, not_whole, too_large
from mesh_pipelines.formats.decoded import buffers
from mesh_pipelines.native.columns import Built, binary, flat, listed, program, struct

_PLAIN = {"int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(), "boolean": pa.bool_()}


class NativeReader:
    """Reads the wanted fields of one record type."""

    def __init__(self, record: Node, wanted: Sequence[bool]) -> None:
        self._names = [name for name, keep in zip(record.names, wanted, strict=True) if keep]
        self._nodes = [child for child, keep in zip(record.children, wanted, strict=True) if keep]
        children = tuple(_program(child, keep) for child, keep in zip(record.children, wanted, strict=True))
        row_memory = sum(child.slot for child in self._nodes)
        self._decoder = native.avro_decoder(program("record", children=children), row_memory)

    def read(self, values: pa.LargeBinaryArray, header_bytes: int) -> Iterator[WireRows]:
        """The values' columns, in parts of bounded memory; a null value has a row of nulls."""
        data, bounds = buffers(values)
        present = values.is_valid().to_numpy(zero_copy_only=False)
        after = 0
        while True:
            first = after
            after, refused, built = self._decoder.decode(data, bounds, present, after, header_bytes, MAX_MEMORY_BYTES)
            faults = {index: not_whole() if memory < 0 else too_large(memory) for index, memory in refused}
            rows, *_, children = built
            columns = zip(self._names, map(_array, self._nodes, children), strict=True)
            given = None if present.all() else np.delete(present[first:after], [index - first for index in faults])
            yield WireRows(dict(columns), rows, faults, given)
            if after >= len(values):
                return


def _program(node: Node, keep: bool) -> Any:
    if node.kind == "union":
        return _union(node, keep)
    children = node.children if node.kind != "map" else (MAP_KEY, *node.children)
    return program(
        "bytes" if node.kind == "string" else node.kind,
        keep=keep,
        size=len(node.names) if node.kind == "enum" else node.size,
        slot=sum(child.slot for child in children) if node.kind in ("array", "map") else 0,
        children=(_program(child, keep) for child in children),
    )


def _union(node: Node, keep: bool) -> Any:
    kinds = [child.kind for child in node.children]
    if len(kinds) == 2 and "null" in kinds:
        null = kinds.index("null")
        return program("optional", keep=keep, size=null, children=[_program(node.children[1 - null], keep)])
    if keep:
        raise Unreadable("has a union of one type" if len(kinds) == 1 else "has a union of several types")
    return program("union", keep=False, children=(_program(child, False) for child in node.children))


def _array(node: Node, built: Built) -> pa.Array:
    length, nulls, validity, *_, children = built
    match node.kind:
        case "union":
            [child] = [child for child in node.children if child.kind != "null"]
            return _array(child, children[0])
        case "null":
            return pa.nulls(length)
        case "string" | "bytes":
            return binary(pa.large_binary(), built)
        case "fixed":
            return flat(pa.binary(node.size), built)
        case "enum":
            return pa.DictionaryArray.from_arrays(flat(pa.int32(), built), pa.array(node.names, pa.large_string()))
        case "record":
            return struct(node.names, list(map(_array, node.children, children)), length, nulls, validity)
        case "array":
            return listed(_array(node.children[0], children[0]), built)
        case "map":
            entries = [_array(MAP_KEY, children[0]), _array(node.children[0], children[1])]
            return listed(struct(("key", "value"), entries, len(entries[0])), built)
        case kind:
            return flat(NATIVE_LOGICAL.get((kind, node.logical), _PLAIN[kind]), built)
