"""JSON objects of plain fields in C (``mesh_pipelines/native/json.c``); what is not plain goes to the strict reader.

The two never differ: the one in C takes only what every reader reads the same, and whatever it does not take is read,
or refused with a reason, by ``json_values``. A contract with nested fields, decimals or bytes is read by that alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from mesh_pipelines import native
from mesh_pipelines.contract.model import Field, Kind
from mesh_pipelines.contract.types import arrow_type
from mesh_pipelines.formats.decoded import Decoded, buffers
from mesh_pipelines.formats.json.portable import JsonReader
from mesh_pipelines.native.columns import binary, flat, program

# The forms of json.c in their order, and the columns that their values go to.
_FORMS: Mapping[Kind, tuple[int, str]] = {
    Kind.STRING: (0, "bytes"),
    Kind.UUID: (0, "bytes"),
    Kind.INT: (1, "int"),
    Kind.LONG: (1, "long"),
    Kind.DOUBLE: (2, "double"),
    Kind.FLOAT: (3, "float"),
    Kind.BOOLEAN: (4, "boolean"),
    Kind.DATE: (5, "int"),
    Kind.TIME: (6, "long"),
    Kind.TIMESTAMP: (7, "long"),
    Kind.TIMESTAMP_LOCAL: (8, "long"),
}
_EPOCHS = {"s": 1, "ms": 2, "us": 3, "ns": 4, "d": 5}
# Text takes no more memory than its bytes on the wire, so this only bounds the rows of nulls.
_ROW_BYTES = 16
_LIMIT_BYTES = 1 << 40


def is_plain(fields: Sequence[Field]) -> bool:
    """Whether all fields are of kinds that are read in C."""
    return all(field.type.kind in _FORMS for field in fields)


class NativeJsonReader:
    """Reads JSON objects as the plain fields of one contract."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = fields
        self._strict = JsonReader(fields)

    def __reduce__(self) -> tuple[type[NativeJsonReader], tuple[Sequence[Field]]]:
        return NativeJsonReader, (self.fields,)

    @cached_property
    def _decoder(self) -> Any:
        columns = program("record", children=(program(_FORMS[field.type.kind][1]) for field in self.fields))
        return native.json_decoder(columns, tuple(map(_known, self.fields)), _ROW_BYTES * len(self.fields))

    def decode(self, values: pa.LargeBinaryArray, header_bytes: int = 0) -> Decoded:
        """The contract's columns of the values that can be decoded."""
        data, bounds = buffers(values)
        present = values.is_valid().to_numpy(zero_copy_only=False)
        _, refused, (rows, *_, built) = self._decoder.decode(data, bounds, present, 0, header_bytes, _LIMIT_BYTES)
        columns = [_array(field, column) for field, column in zip(self.fields, built, strict=True)]
        if not refused:
            return Decoded(rows, columns, {})
        left = np.array([index for index, _ in refused])
        return self._merged(len(values), columns, left, self._strict.decode(values.take(pa.array(left)), header_bytes))

    def _merged(self, count: int, columns: list[pa.Array], left: Any, strict: Decoded) -> Decoded:
        """The columns with the strict reader's rows in their places; ``left`` are the indices that it was given."""
        faults = {int(left[index]): reason for index, reason in strict.faults.items()}
        nothing = frozenset(int(left[index]) for index in strict.nothing)
        own = np.delete(np.arange(count), left)
        order = np.argsort(np.concatenate([own, left[strict.good]]), kind="stable")
        whole = [pa.concat_arrays(pair).take(pa.array(order)) for pair in zip(columns, strict.columns, strict=True)]
        return Decoded(count, whole, faults, nothing)


def _known(field: Field) -> tuple[Any, ...]:
    """A field as json.c knows it."""
    # What stands for a field that is not there, its default or a former name of it, is for the strict reader.
    known = field.event_name, _FORMS[field.type.kind][0], field.has_default or bool(field.aliases)
    return (*known, _EPOCHS[field.type.epoch]) if field.type.epoch else known


def _array(field: Field, built: Any) -> pa.Array:
    kind = arrow_type(field.type)
    return binary(kind, built) if pa.types.is_large_string(kind) else flat(kind, built)
