"""Raw messages to rows of the log: every message becomes exactly one row, whatever is in it.

A batch is split by what its bytes claim to be and each part decoded as a whole; a message that cannot be decoded
becomes a row with its fate, the reason and its raw bytes, in its own place. Only the registry's silence stops a batch:
that says nothing about the events and passes. Values that are large, or that a reader failed on, are decoded in a
process that may be lost (``guarded``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mesh_pipelines.contract import log
from mesh_pipelines.contract.log import Fate, Op
from mesh_pipelines.contract.model import DataProduct, WireFormat
from mesh_pipelines.contract.types import arrow_schema, log_schema
from mesh_pipelines.streams.avro import WriterSchema
from mesh_pipelines.streams.decoded import Decoded, Reader
from mesh_pipelines.streams.drain import RawBatch
from mesh_pipelines.streams.guarded import LARGE_BYTES, Guarded
from mesh_pipelines.streams.json_values import JsonReader
from mesh_pipelines.streams.registry import Registry, UnknownSchema

VALUE = "__value"
_HEADER_BYTES = 5
_MAGIC = 0
_UNFRAMED = "no schema id: the value does not begin with a zero byte and four more"

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Part:
    """Messages of a batch that were decoded together: their indices, and what became of them."""

    indices: Indices
    decoded: Decoded

    @property
    def good(self) -> Indices:
        """The indices of those that have a row."""
        return self.indices[self.decoded.good]


class Decoder:
    """Decodes one product's messages, in one landing; schemas are kept by id between batches.

    An id that the registry does not know stays unknown: whatever is landed was there when the landing began, and its
    schema before it. ``max_event_bytes`` is the largest value that is decoded at all.
    """

    def __init__(self, product: DataProduct, registry: Registry, *, max_event_bytes: int) -> None:
        if product.stream is None:
            raise ValueError(f"{product.fqn} has no stream")
        self._product = product
        self._registry = registry
        self._max_event_bytes = max_event_bytes
        self._guarded = Guarded()
        self._wire = product.stream.wire_format
        self._writers: dict[int, WriterSchema | str] = {}

    @cached_property
    def _json(self) -> JsonReader:
        return JsonReader(self._product.fields)

    def decode(self, batch: RawBatch) -> pa.Table:
        """The batch as rows of ``log_schema``, in order, with the raw values as a last column ``__value``.

        Raises:
            RegistryUnreachable: a schema is needed that the registry could not be asked for; transient.
        """
        messages = batch.table.combine_chunks()
        rows = messages.num_rows
        values = _column(messages, "value")
        reasons, tombstones = self._out_of_place(messages)
        schema_ids = np.full(rows, -1, np.int64)
        pending = np.flatnonzero(~tombstones & np.array([reason is None for reason in reasons]))
        parts = list(self._parts(values, pending, schema_ids))
        for part in parts:
            for index, reason in part.decoded.faults.items():
                reasons[int(part.indices[index])] = reason
        failed = np.array([reason is not None for reason in reasons], np.bool_)
        envelope = self._envelope(messages, batch.position.generation, tombstones, failed, reasons, schema_ids)
        table = pa.Table.from_arrays([*envelope, *self._in_order(parts, rows)], schema=log_schema(self._product))
        return table.append_column(pa.field(VALUE, pa.large_binary()), values)

    def _out_of_place(self, messages: pa.Table) -> tuple[list[str | None], npt.NDArray[np.bool_]]:
        """Reasons against messages by their shape alone, and which are tombstones."""
        values = _column(messages, "value")
        null_value = values.is_null().to_numpy(zero_copy_only=False)
        reasons: list[str | None] = [None] * messages.num_rows
        sizes = pc.fill_null(pc.binary_length(values), 0).to_numpy()
        for index in np.flatnonzero(sizes > self._max_event_bytes):
            reasons[index] = f"has {sizes[index]:,} bytes; MESH_MAX_EVENT_BYTES is {self._max_event_bytes:,}"
        if not self._product.event_type.folds_by_key:
            for index in np.flatnonzero(null_value):
                reasons[index] = f"a {self._product.event_type} event without a value"
            return reasons, np.zeros(messages.num_rows, np.bool_)
        null_key = _column(messages, "key").is_null().to_numpy(zero_copy_only=False)
        for index in np.flatnonzero(null_key):
            reasons[index] = "a state event without a key"
        return reasons, null_value & ~null_key

    def _parts(self, values: pa.LargeBinaryArray, pending: Indices, schema_ids: Indices) -> Iterator[_Part]:
        if not len(pending):
            return
        chosen = values.take(pa.array(pending))
        if self._wire is WireFormat.JSON:
            yield self._json_part(chosen, pending)
            return
        headers = pc.binary_slice(chosen, 0, _HEADER_BYTES).dictionary_encode()
        codes = headers.indices.to_numpy()
        # Sorted once: garbage has as many headers as messages.
        members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
        refused: dict[int, str] = {}
        for header, group in zip(headers.dictionary.to_pylist(), members, strict=True):
            indices = pending[group]
            if len(header) < _HEADER_BYTES or header[0] != _MAGIC:
                refused.update(dict.fromkeys(indices.tolist(), _UNFRAMED))
                continue
            schema_id = int.from_bytes(header[1:], "big")
            schema_ids[indices] = schema_id
            writer = self._writer(schema_id)
            if isinstance(writer, str):
                refused.update(dict.fromkeys(indices.tolist(), writer))
            else:
                framed = chosen if len(group) == len(chosen) else chosen.take(pa.array(group))
                yield _Part(indices, self._read(writer, _unframed(framed)))
        if refused:
            none = [pa.nulls(0, column.type) for column in arrow_schema(self._product)]
            faults = dict(enumerate(refused.values()))
            yield _Part(np.fromiter(refused, np.int64), Decoded(len(refused), none, faults))

    def _json_part(self, chosen: pa.LargeBinaryArray, pending: Indices) -> _Part:
        """JSON, with or without a registry's five-byte header in front (no JSON text begins with a zero byte)."""
        first = pc.binary_slice(chosen, 0, 1)
        framed = pc.equal(first, pa.scalar(b"\0", first.type)).to_numpy(zero_copy_only=False)
        if framed.any():
            chosen = pc.if_else(pa.array(framed), pc.binary_replace_slice(chosen, 0, _HEADER_BYTES, b""), chosen)
        return _Part(pending, self._read(self._json, chosen))

    def _read(self, reader: Reader, values: pa.LargeBinaryArray) -> Decoded:
        large = pc.greater(pc.binary_length(values), LARGE_BYTES).to_numpy(zero_copy_only=False)
        if not large.any():
            return self._read_here(reader, values)
        edges = [0, *(np.flatnonzero(np.diff(large)) + 1).tolist(), len(values)]
        return Decoded.join(
            [
                (self._guarded.decode if large[first] else self._read_here)(
                    reader, values.take(pa.array(np.arange(first, after)))
                )
                for first, after in itertools.pairwise(edges)
            ]
        )

    def _read_here(self, reader: Reader, values: pa.LargeBinaryArray) -> Decoded:
        try:
            return reader.decode(values)
        except Exception:  # nothing is known that raises one; which event it was is found where it can do no harm
            return self._guarded.decode(reader, values)

    def _writer(self, schema_id: int) -> WriterSchema | str:
        """The writer's schema of an id, or why its events cannot be taken over."""
        if schema_id not in self._writers:
            try:
                writer = WriterSchema(self._registry.schema(schema_id), self._product.fields)
            except UnknownSchema:
                self._writers[schema_id] = f"schema id {schema_id} is unknown to the registry"
            else:
                refusal = writer.refusal
                self._writers[schema_id] = f"schema {schema_id}: {refusal}" if refusal else writer
        return self._writers[schema_id]

    def _in_order(self, parts: list[_Part], rows: int) -> list[pa.Array]:
        """The parts' columns put back in the batch's order, with nulls where nothing was decoded."""
        schema = arrow_schema(self._product)
        if len(parts) == 1 and len(parts[0].good) == rows:
            return parts[0].decoded.columns
        place = np.full(rows, -1, np.int64)
        start = 0
        for part in parts:
            place[part.good] = np.arange(start, start + len(part.good))
            start += len(part.good)
        order = pa.array(place, mask=place < 0)
        gathered = [
            pa.concat_arrays([part.decoded.columns[number] for part in parts]) if parts else pa.nulls(0, column.type)
            for number, column in enumerate(schema)
        ]
        return [column.take(order) for column in gathered]

    def _envelope(
        self,
        messages: pa.Table,
        generation: int,
        tombstones: npt.NDArray[np.bool_],
        failed: npt.NDArray[np.bool_],
        reasons: list[str | None],
        schema_ids: Indices,
    ) -> list[pa.Array]:
        rows = messages.num_rows
        live = Op.UPSERT if self._product.event_type.folds_by_key else Op.APPEND
        raw = _column(messages, "value")
        columns = {
            log.GENERATION: pa.repeat(pa.scalar(generation, pa.int32()), rows),
            log.PARTITION: _column(messages, "partition"),
            log.OFFSET: _column(messages, "offset"),
            log.TIMESTAMP: _column(messages, "timestamp"),
            log.KEY: _column(messages, "key"),
            log.OP: _choose(tombstones, str(Op.DELETE), str(live)),
            log.SCHEMA_ID: pa.array(schema_ids.astype(np.int32), mask=schema_ids < 0),
            log.FATE: _choose(failed, str(Fate.UNDECODABLE), str(Fate.OK)),
            log.RULE: pa.nulls(rows, pa.string()),
            log.REASON: pa.array(reasons, pa.string()) if failed.any() else pa.nulls(rows, pa.string()),
            # Taken by place: choosing between two columns keeps the bytes of both.
            log.RAW: raw.take(pa.array(np.arange(rows), mask=~failed)) if failed.any() else _no_raw(rows),
            log.REDRIVE: pa.nulls(rows, pa.int32()),
        }
        return [columns[name] for name in log.ENVELOPE.names]


def _unframed(framed: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    # Slicing with an open end fails on large arrays; replacing the header by nothing does the same.
    return pc.binary_replace_slice(framed, 0, _HEADER_BYTES, b"")


def _choose(mask: npt.NDArray[np.bool_], chosen: str, otherwise: str) -> pa.Array:
    """A text column of two values, by way of a dictionary: building it from two scalars is many times slower."""
    return pa.DictionaryArray.from_arrays(pa.array(mask.astype(np.int8)), [otherwise, chosen]).cast(pa.string())


def _no_raw(rows: int) -> pa.Array:
    return pa.nulls(rows, pa.large_binary())


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
