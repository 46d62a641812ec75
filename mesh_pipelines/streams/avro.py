"""Avro datums of one writer's schema to Arrow columns, all at once.

An Avro datum on a topic is a block of an Avro file without its header, so a batch of them is given one header and read
by a native file reader, twelve times as fast as decoding one by one. Which datums may go in is decided beforehand by
``avro_bounds.exact``: the native reader trusts what it is given. Schemas that it cannot read (unions of several types,
the likes of duration) are decoded one by one by fastavro, under the same bounds.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.contract.model import Field
from mesh_pipelines.streams.avro_bounds import Unwalkable, exact
from mesh_pipelines.streams.resolve import Irreconcilable, check, project

_SYNC = os.urandom(16)
# Logical types whose native form would lose their meaning on the way: their plain type is read instead.
_READ_PLAIN = {"uuid", "duration", "timestamp-nanos", "local-timestamp-nanos"}


@dataclass
class WriterSchema:
    """One writer's schema, and whether and how its events become the contract's columns."""

    text: str
    fields: Sequence[Field]

    @cached_property
    def parsed(self) -> Any:
        """The schema as parsed JSON."""
        return json.loads(self.text)

    @cached_property
    def refusal(self) -> str | None:
        """Why no event of this schema can be taken over; None where they can."""
        from fastavro.schema import SchemaParseException, UnknownType

        try:
            check(self.parsed, self.fields)
            exact(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), self._full_names)
        except (Irreconcilable, Unwalkable, SchemaParseException, UnknownType) as error:
            return str(error)
        except RecursionError:
            return "the writer's schema nests too deep"
        return None

    @cached_property
    def _full_names(self) -> Any:
        """The schema with every type under its full name, so that a reference finds it from any namespace."""
        import fastavro

        return fastavro.parse_schema(json.loads(self.text))

    @cached_property
    def _native(self) -> Any:
        return _plain(self.parsed)

    @cached_property
    def _is_native(self) -> bool:
        return not _has_wide_union(self.parsed)

    @cached_property
    def _fastavro(self) -> Any:
        import fastavro

        return fastavro.parse_schema(json.loads(json.dumps(self._native)))

    @cached_property
    def _header(self) -> bytes:
        metadata = {b"avro.schema": json.dumps(self._native).encode(), b"avro.codec": b"null"}
        entries = b"".join(_bytes(key) + _bytes(value) for key, value in metadata.items())
        return b"Obj\x01" + _long(len(metadata)) + entries + _long(0) + _SYNC

    def decode(self, datums: pa.LargeBinaryArray) -> tuple[npt.NDArray[np.bool_], list[pa.Array], list[str]]:
        """The contract's columns of the datums that can be decoded.

        Gives which datums those are, their columns, and a reason for each of the others (in order).
        """
        from polars.exceptions import PanicException

        data, starts, ends = _buffers(datums)
        good = exact(data, starts, ends, self._full_names)
        kept = datums if good.all() else datums.filter(pa.array(good))
        reasons = ["the bytes do not fit the writer's schema"] * int((~good).sum())
        if not len(kept):
            return good, project({}, 0, self.fields), reasons
        if not self._is_native:
            return self._decode_singly(datums, good)
        try:
            return good, self._decode_native(kept), reasons
        # The native reader's errors share no base class, its panics not even Exception; each datum then gets its own
        # verdict.
        except (Exception, PanicException):
            return self._decode_singly(datums, good)

    def _decode_native(self, datums: pa.LargeBinaryArray) -> list[pa.Array]:
        from polars_avro import read_avro

        data, starts, ends = _buffers(datums)
        body = data[int(starts[0]) : int(ends[-1])].tobytes()
        block = b"".join([self._header, _long(len(datums)), _long(len(body)), body, _SYNC])
        table = read_avro(io.BytesIO(block)).to_arrow()
        if table.num_rows != len(datums):
            raise ValueError(f"{table.num_rows} rows of {len(datums)} datums")
        columns = {name: _one(table[name]) for name in table.column_names}
        return project(columns, table.num_rows, self.fields)

    def _decode_singly(
        self, datums: pa.LargeBinaryArray, good: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.bool_], list[pa.Array], list[str]]:
        import fastavro

        reasons: list[str] = []
        pieces: list[list[pa.Array]] = []
        kept = good.copy()
        for index, datum in enumerate(datums.to_pylist()):
            if not good[index]:
                reasons.append("the bytes do not fit the writer's schema")
                continue
            try:
                value: Any = fastavro.schemaless_reader(io.BytesIO(datum), self._fastavro, None)
                columns = {name: pa.array([item]) for name, item in value.items()}
                pieces.append(project(columns, 1, self.fields))
            except Exception as error:  # fastavro raises a dozen kinds; each means the same of this one event
                kept[index] = False
                reasons.append(f"cannot be decoded: {_first_line(error)}")
        if not pieces:
            return kept, project({}, 0, self.fields), reasons
        return kept, [pa.concat_arrays(list(column)) for column in zip(*pieces, strict=True)], reasons


def _plain(schema: Any) -> Any:
    """The schema without logical types that are read as their plain type."""
    if isinstance(schema, list):
        return [_plain(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key not in ("default", "aliases", "doc")}
    if kept.get("logicalType") in _READ_PLAIN:
        del kept["logicalType"]
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = _plain(kept[key])
    if "fields" in kept:
        kept["fields"] = [{"name": field["name"], "type": _plain(field["type"])} for field in kept["fields"]]
    return kept


def _has_wide_union(schema: Any) -> bool:
    """Whether a union of several types besides null is anywhere in the schema; the native reader has none."""
    match schema:
        case list():
            return sum(branch != "null" for branch in schema) > 1 or any(map(_has_wide_union, schema))
        case dict():
            return any(_has_wide_union(schema[key]) for key in ("type", "items", "values") if key in schema) or any(
                _has_wide_union(field["type"]) for field in schema.get("fields", ())
            )
        case _:
            return False


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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
