"""Raw messages to rows of the log: every message becomes exactly one row, whatever is in it.

A batch is split by what its bytes claim to be and each part decoded as a whole; a message that cannot be decoded
becomes a row with its fate, the reason and its raw bytes, in its own place. Only the registry's silence stops a batch:
that says nothing about the events and passes. Values that are large, or that a reader failed on, are decoded in a
process that may be lost (``guarded``).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from mesh_pipelines.arrow_compute import pc
from mesh_pipelines.contract import envelope
from mesh_pipelines.contract.envelope import Fate, Op
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import arrow_schema, log_schema
from mesh_pipelines.formats.codec import Refused, codec_of
from mesh_pipelines.formats.decoded import Decoded, Reader, without_header
from mesh_pipelines.formats.format import BrokenReferences, SchemaId, Schemas, SchemasById, UnknownSchema, kind_of
from mesh_pipelines.formats.framing import Framing, Indices, Mask
from mesh_pipelines.formats.guarded import LARGE_BYTES, Guarded
from mesh_pipelines.formats.registered import format_of
from mesh_pipelines.settings import Settings

VALUE = "__value"
_EMPTY = "the value has 0 bytes: a deletion is a null value, and this is none"


@dataclass(frozen=True)
class _Part:
    """Messages of a batch decoded together: their indices, what became of them, and which of all are of this part."""

    indices: Indices
    decoded: Decoded
    wanted: Mask

    @property
    def good(self) -> Indices:
        """The indices of those that have a row."""
        return self.indices[self.decoded.good]


class Decoder:
    """Decodes one product's messages, in one landing; schemas are kept by id between batches.

    An id that the registry does not know stays unknown: whatever is landed was there when the landing began, and its
    schema before it. ``max_event_bytes`` is the largest value that is decoded at all; ``native`` says whether the
    native extension decodes.
    """

    def __init__(
        self, product: DataProduct, registry: SchemasById, *, max_event_bytes: int, native: bool = False
    ) -> None:
        if product.topic is None:
            raise ValueError(f"{product.fqn} has no stream")
        self._product = product
        self._registry = registry
        self._max_event_bytes = max_event_bytes
        self._native = native
        self._guarded = Guarded()
        self._format = format_of(product.topic)
        self._codec = codec_of(self._format)
        self._writers: dict[SchemaId, Reader | str] = {}

    @classmethod
    def of(cls, product: DataProduct, registry: SchemasById, settings: Settings) -> Decoder:
        """The decoder that these settings ask for.

        Raises:
            EnvironmentFault: they insist on the native extension, and it is not there.
        """
        return cls(product, registry, max_event_bytes=settings.max_event_bytes, native=settings.uses_native())

    @cached_property
    def _reader(self) -> Reader | str:
        """The one reader of a format whose events do not say their writer's schema, or why there is none."""
        try:
            return self._codec.reader(self._product.fields, self._product.value_schema, native=self._native)
        except Refused as refused:
            return str(refused)

    def decode(self, table: pa.Table, generation: int) -> pa.Table:
        """Messages (``kafka.source.SCHEMA``) as rows of ``log_schema``, in order, with a last column ``__value``.

        ``generation`` is that of the stream they were read from, ``__value`` has their raw values.

        Raises:
            RegistryUnreachable: a schema is needed that the registry could not be asked for; transient.
        """
        messages = table.combine_chunks()
        rows = messages.num_rows
        values = _column(messages, "value")
        reasons, tombstones = self._out_of_place(messages)
        pending = ~tombstones
        pending[list(reasons)] = False
        schema_ids = np.full(rows, -1, np.int64)
        parts = self._parts(values, pending, schema_ids, reasons)
        for part in parts:
            reasons.update((int(part.indices[index]), reason) for index, reason in part.decoded.faults.items())
            nothing = part.indices[list(part.decoded.nothing)]
            if self._product.event_type.folds_by_key:
                tombstones[nothing] = True
            else:
                reasons.update(dict.fromkeys(nothing.tolist(), self._without_value))
        envelope = self._envelope(messages, generation, tombstones, reasons, schema_ids)
        table = pa.Table.from_arrays([*envelope, *self._in_order(parts, rows)], schema=log_schema(self._product))
        return table.append_column(pa.field(VALUE, pa.large_binary()), values)

    def _out_of_place(self, messages: pa.Table) -> tuple[dict[int, str], Mask]:
        """Reasons against messages by their shape alone, and which are tombstones."""
        values = _column(messages, "value")
        null_value = values.is_null().to_numpy(zero_copy_only=False)
        sizes = pc.fill_null(pc.binary_length(values), 0).to_numpy()
        reasons = {
            int(index): f"must be at most {self._max_event_bytes:,} bytes (MESH_MAX_EVENT_BYTES), got {sizes[index]:,}"
            for index in np.flatnonzero(sizes > self._max_event_bytes)
        }
        empty = np.flatnonzero((sizes == 0) & ~null_value).tolist()
        if not self._product.event_type.folds_by_key:
            reasons.update(dict.fromkeys([*empty, *np.flatnonzero(null_value).tolist()], self._without_value))
            return reasons, np.zeros(messages.num_rows, np.bool_)
        reasons.update(dict.fromkeys(empty, _EMPTY))
        null_key = _column(messages, "key").is_null().to_numpy(zero_copy_only=False)
        reasons.update(dict.fromkeys(np.flatnonzero(null_key).tolist(), "a state event must have a key"))
        return reasons, null_value & ~null_key

    @property
    def _without_value(self) -> str:
        return f"a {self._product.event_type} event must have a value"

    def _parts(
        self, values: pa.LargeBinaryArray, pending: Mask, schema_ids: Indices, reasons: dict[int, str]
    ) -> list[_Part]:
        """What the pending values decode to, by writer; ``schema_ids`` and ``reasons`` are filled in."""
        if not pending.any():
            return []
        schemas = self._format.schemas
        if schemas is None or not self._format.by_writer:
            if isinstance(self._reader, str):
                reasons.update(dict.fromkeys(np.flatnonzero(pending).tolist(), self._reader))
                return []
            return [self._part(self._reader, values, pending, 0)]
        framing = Framing(values, pending)
        schema_ids[:] = framing.numbers
        parts: list[_Part] = []
        for framed in framing.parts():
            writer = self._writer(framed.id, schemas)
            if isinstance(writer, str):
                reasons.update(dict.fromkeys(np.flatnonzero(framed.wanted).tolist(), writer))
            else:
                parts.append(self._part(writer, values, framed.wanted, framed.header_bytes))
        reasons.update(framing.reasons())
        return parts

    def _part(self, reader: Reader, values: pa.LargeBinaryArray, wanted: Mask, header_bytes: int) -> _Part:
        """The wanted values decoded; the others have rows of nulls where that is cheaper than leaving them out."""
        if 2 * np.count_nonzero(wanted) > len(values):
            indices, chosen = np.arange(len(values)), _only(values, wanted)
        else:
            indices = np.flatnonzero(wanted)
            chosen = values.take(pa.array(indices))
        decoded = self._read(reader, chosen, header_bytes)
        return _Part(indices, decoded, wanted)

    def _read(self, reader: Reader, values: pa.LargeBinaryArray, header_bytes: int) -> Decoded:
        large = pc.fill_null(pc.greater(pc.binary_length(values), LARGE_BYTES), False).to_numpy(zero_copy_only=False)
        if not large.any():
            return self._read_here(reader, values, header_bytes)
        edges = [0, *(np.flatnonzero(np.diff(large)) + 1).tolist(), len(values)]
        pieces = [(bool(large[at]), values.take(pa.array(np.arange(at, to)))) for at, to in itertools.pairwise(edges)]
        return Decoded.join(
            [
                self._guarded.decode(reader, without_header(piece, header_bytes))
                if is_large
                else self._read_here(reader, piece, header_bytes)
                for is_large, piece in pieces
            ]
        )

    def _read_here(self, reader: Reader, values: pa.LargeBinaryArray, header_bytes: int) -> Decoded:
        try:
            return reader.decode(values, header_bytes)
        except Exception:  # nothing is known that raises one; which event it was is found where it can do no harm
            return self._guarded.decode(reader, without_header(values, header_bytes))

    def _writer(self, schema_id: SchemaId, schemas: Schemas) -> Reader | str:
        """The reader of a writer's schema by its id, or why its events cannot be taken over."""
        if schema_id not in self._writers:
            try:
                self._writers[schema_id] = self._reader_of(schema_id, schemas)
            except UnknownSchema:
                self._writers[schema_id] = f"the registry does not know schema id {schema_id}"
            except (Refused, BrokenReferences) as refused:
                self._writers[schema_id] = f"schema {schema_id}: {refused}"
        return self._writers[schema_id]

    def _reader_of(self, schema_id: SchemaId, schemas: Schemas) -> Reader | str:
        found = self._registry.schema(schema_id)
        if found.type != schemas.type:
            return f"schema {schema_id} is {kind_of(found)}; the contract says {self._format.name}"
        return self._codec.reader(self._product.fields, schemas.whole(found), native=self._native)

    def _in_order(self, parts: list[_Part], rows: int) -> list[pa.Array]:
        """The parts' columns put back in the batch's order, with nulls where nothing was decoded."""
        if len(parts) == 1 and len(parts[0].good) == rows:
            return parts[0].decoded.columns
        place = np.full(rows, -1, np.int64)
        start = 0
        for part in parts:
            good = part.good
            own = part.wanted[good]
            place[good[own]] = start + np.flatnonzero(own)
            start += len(good)
        order = pa.array(place, mask=place < 0)
        gathered = [
            pa.concat_arrays([part.decoded.columns[number] for part in parts]) if parts else pa.nulls(0, column.type)
            for number, column in enumerate(arrow_schema(self._product))
        ]
        return [column.take(order) for column in gathered]

    def _envelope(
        self,
        messages: pa.Table,
        generation: int,
        tombstones: Mask,
        reasons: dict[int, str],
        schema_ids: Indices,
    ) -> list[pa.Array]:
        rows = messages.num_rows
        live = Op.UPSERT if self._product.event_type.folds_by_key else Op.APPEND
        raw = _column(messages, "value")
        failed = np.zeros(rows, np.bool_)
        failed[list(reasons)] = True
        columns = {
            envelope.GENERATION: pa.repeat(pa.scalar(generation, pa.int32()), rows),
            envelope.PARTITION: _column(messages, "partition"),
            envelope.OFFSET: _column(messages, "offset"),
            envelope.TIMESTAMP: _column(messages, "timestamp"),
            envelope.KEY: _column(messages, "key"),
            envelope.OP: _choose(tombstones, str(Op.DELETE), str(live)),
            envelope.SCHEMA_ID: pa.array(schema_ids.astype(np.int32), mask=schema_ids < 0),
            envelope.FATE: _choose(failed, str(Fate.UNDECODABLE), str(Fate.OK)),
            envelope.RULE: pa.nulls(rows, pa.string()),
            envelope.REASON: _sparse(reasons, rows),
            # Taken by place: choosing between two columns keeps the bytes of both.
            envelope.RAW: raw.take(pa.array(np.arange(rows), mask=~failed)) if reasons else pa.nulls(rows, raw.type),
            envelope.REDRIVE: pa.nulls(rows, pa.int32()),
        }
        return [columns[name] for name in envelope.ENVELOPE.names]


def _only(values: pa.LargeBinaryArray, wanted: Mask) -> pa.LargeBinaryArray:
    """The same values, null where they are not wanted; their bytes are shared."""
    _, offsets, data = values.buffers()
    validity = pa.py_buffer(np.packbits(wanted, bitorder="little").tobytes())
    return pa.Array.from_buffers(values.type, len(values), [validity, offsets.slice(values.offset * 8), data])


def _sparse(texts: Mapping[int, str], rows: int) -> pa.Array:
    """A text column that is null but at a few places."""
    place = np.full(rows, -1, np.int64)
    place[list(texts)] = np.arange(len(texts))
    return pa.array(list(texts.values()), pa.string()).take(pa.array(place, mask=place < 0))


def _choose(mask: Mask, chosen: str, otherwise: str) -> pa.Array:
    """A text column of two values, by way of a dictionary: building it from two scalars is many times slower."""
    return pa.DictionaryArray.from_arrays(pa.array(mask.astype(np.int8)), [otherwise, chosen]).cast(pa.string())


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
