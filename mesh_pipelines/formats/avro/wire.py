"""What reading datums gives, whichever reader does it: a writer's columns as the types that bytes have on the wire.

Text, decimals and times are the bytes and integers that they are on the wire; what these mean, and whether they mean
anything, ``resolve`` says in Arrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.formats.avro.schema import Node

# One event may take this much memory, and one read: nulls of wide types take a byte on the wire and a kilobyte in
# memory, and a message has a million bytes.
MAX_MEMORY_BYTES = 64 << 20
PLAIN: Mapping[str, pa.DataType] = {
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
}
# Logical types that are read as such, since no value of theirs can be wrong; the others are read as their plain type.
NATIVE_LOGICAL: Mapping[tuple[str, str], pa.DataType] = {
    ("int", "date"): pa.date32(),
    ("long", "timestamp-millis"): pa.timestamp("ms", tz="UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", tz="UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
}


@dataclass(frozen=True)
class WireRows:
    """Some of a batch's datums: ``rows`` of them as columns by the writer's names, in order.

    ``faults`` says of datums by their index in the batch why they have no row; a datum of the batch that is in the
    faults of none of its parts has one. ``given`` says which rows are of a datum, and not of a null; None for all.
    """

    columns: Mapping[str, pa.Array]
    rows: int
    faults: Mapping[int, str] = field(default_factory=dict[int, str])
    given: npt.NDArray[np.bool_] | None = None


class WireReader(Protocol):
    """Reads the datums of one writer's schema."""

    def read(self, values: pa.LargeBinaryArray, header_bytes: int) -> Iterator[WireRows]:
        """The values' columns, in parts of bounded memory, at least one; a null value has a row of nulls.

        ``header_bytes`` of each value stand in front of its datum.
        """
        ...


def branches(
    union: Node, chosen: npt.NDArray[np.int32], place: npt.NDArray[np.int64], columns: Mapping[str, pa.Array]
) -> pa.Array:
    """The column of a union of several types, as ``resolve.OneOf`` has it.

    ``chosen`` is the number of each value's branch, -1 for a null, ``place`` where it is among the values of that
    branch; ``columns`` are those of the branches that are wanted, by their names.
    """
    null = [at for at, child in enumerate(union.children) if child.kind == "null"]
    is_null = (chosen < 0) | np.isin(chosen, null)
    numbers = {name: at for at, (name, _) in enumerate(union.named)}
    names, held = [""], [pa.array(chosen, mask=is_null)]
    for name, column in columns.items():
        if union.children[numbers[name]].kind != "null":
            names.append(name)
            held.append(column.take(pa.array(place, mask=chosen != numbers[name])))
    return pa.StructArray.from_arrays(held, names, mask=pa.array(is_null))


def not_whole() -> str:
    """Why a datum that breaks the encoding, or goes on behind its end, has no row."""
    return "the bytes do not fit the writer's schema"


def too_large(memory: int) -> str:
    """Why a datum that would take this much memory has no row."""
    return f"must take at most {MAX_MEMORY_BYTES:,} bytes decoded, got {memory:,}"
