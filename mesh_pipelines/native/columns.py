"""What the extension's decoders build, as Arrow arrays: programs of types, and the types that their buffers get.

A program is a tree of tuples (kind, keep, size, slot, children), as ``columns.h`` has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

KINDS = (
    *("null", "boolean", "int", "long", "float", "double", "bytes", "fixed"),
    *("enum", "array", "map", "record", "optional", "union", "again"),
)
CODES = {kind: code for code, kind in enumerate(KINDS)}

# (length, nulls, validity, offsets, values, children), of a type and so on of its children.
Built = tuple[int, int, Any, Any, Any, tuple[Any, ...]]


def program(kind: str, *, keep: bool = True, size: int = 0, slot: int = 0, children: Iterable[Any] = ()) -> Any:
    """One type of a program: its kind, whether it is kept, and what else the kind has."""
    return CODES[kind], keep, size, slot, tuple(children)


def flat(kind: pa.DataType, built: Built) -> pa.Array:
    """A column of fixed width, or of booleans."""
    length, nulls, validity, _, values, _ = built
    return pa.Array.from_buffers(kind, length, [_buffer(validity), pa.py_buffer(values)], nulls)


def binary(kind: pa.DataType, built: Built) -> pa.Array:
    """A column of bytes or text of any length."""
    length, nulls, validity, offsets, values, _ = built
    return pa.Array.from_buffers(kind, length, [_buffer(validity), pa.py_buffer(offsets), pa.py_buffer(values)], nulls)


def listed(items: pa.Array, built: Built) -> pa.Array:
    """A column of lists of these items."""
    length, nulls, validity, offsets, *_ = built
    kind = pa.large_list(items.type)
    return pa.Array.from_buffers(kind, length, [_buffer(validity), pa.py_buffer(offsets)], nulls, children=[items])


def struct(
    names: Sequence[str], columns: Sequence[pa.Array], length: int, nulls: int = 0, validity: Any = None
) -> pa.Array:
    """A column of structs of these columns."""
    kind = pa.struct([pa.field(name, column.type) for name, column in zip(names, columns, strict=True)])
    return pa.Array.from_buffers(kind, length, [_buffer(validity)], nulls, children=list(columns))


def _buffer(held: Any) -> pa.Buffer | None:
    return None if held is None else pa.py_buffer(held)
