"""Datums to the writer's columns in C (``mesh_pipelines/native/avro.c``): checked to the last byte while they are read.

The tree of types becomes a program; what comes back are Arrow's own buffers, which are given their types here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mesh_pipelines import native
from mesh_pipelines.formats.avro.schema import Node
from mesh_pipelines.formats.avro.single import MAP_KEY
from mesh_pipelines.formats.avro.wire import (
    MAX_MEMORY_BYTES,
    NATIVE_LOGICAL,
    PLAIN,
    WireRows,
    branches,
    not_whole,
    too_large,
)
from mesh_pipelines.formats.decoded import buffers
from mesh_pipelines.native.columns import Built, binary, flat, listed, program, struct


class NativeReader:
    """Reads what is wanted of one record type (``wanted``)."""

    def __init__(self, record: Node) -> None:
        self._names = [name for name, _ in record.kept]
        self._nodes = [child for _, child in record.kept]
        self._decoder = native.avro_decoder(_program(record, True, ()), sum(child.slot for child in self._nodes))

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


def _program(node: Node, keep: bool, above: tuple[Node, ...]) -> Any:
    """A type as a program; ``above`` are the types around it in the program, the outermost first."""
    if node.kind == "skip":
        return _program(node.children[0], False, above)
    if node.kind == "again" and node.whole in above:
        return program("again", keep=False, size=above[::-1].index(node.whole) + 1)
    if node.kind == "again":
        return _program(node.whole, keep, above)
    if node.optional:
        null = next(at for at, child in enumerate(node.children) if child.kind == "null")
        return program("optional", keep=keep, size=null, children=[_program(node.optional, keep, (*above, node))])
    children = node.children if node.kind != "map" else (MAP_KEY, *node.children)
    around = (*above, node.whole)
    return program(
        "bytes" if node.kind == "string" else node.kind,
        keep=keep,
        size=len(node.names) if node.kind == "enum" else node.size,
        slot=sum(child.slot for child in children) if node.kind in ("array", "map") else 0,
        children=(_program(child, keep and child.kind != "skip", around) for child in children),
    )


def _array(node: Node, built: Built) -> pa.Array:
    length, nulls, validity, *_, children = built
    match node.kind:
        case "union" if node.optional:
            return _array(node.optional, children[0])
        case "union":
            return _union(node, built)
        case "null":
            return pa.nulls(length)
        case "string" | "bytes":
            return binary(pa.large_binary(), built)
        case "fixed":
            return flat(pa.binary(node.size), built)
        case "enum":
            return pa.DictionaryArray.from_arrays(flat(pa.int32(), built), pa.array(node.names, pa.large_string()))
        case "record":
            names, columns = _kept(node, children)
            return struct(names, columns, length, nulls, validity)
        case "array":
            return listed(_array(node.children[0], children[0]), built)
        case "map":
            entries = [_array(MAP_KEY, children[0]), _array(node.children[0], children[1])]
            return listed(struct(("key", "value"), entries, len(entries[0])), built)
        case kind:
            return flat(NATIVE_LOGICAL.get((kind, node.logical), PLAIN[kind]), built)


def _kept(node: Node, children: Sequence[Built]) -> tuple[list[str], list[pa.Array]]:
    """The wanted children of a record or union: their names and columns."""
    return [name for name, _ in node.kept], [
        _array(child, built) for (_, child), built in zip(node.kept, children, strict=True)
    ]


def _union(node: Node, built: Built) -> pa.Array:
    """A struct of the wanted branches, each null where the value is of another, and the number of the branch."""
    length, _, _, offsets, values, children = built
    chosen = pa.Array.from_buffers(pa.int32(), length, [None, pa.py_buffer(values)]).to_numpy()
    place = pa.Array.from_buffers(pa.int64(), length, [None, pa.py_buffer(offsets)]).to_numpy()
    return branches(node, chosen, place, dict(zip(*_kept(node, children), strict=True)))
