"""Avro datums of one writer's schema to the contract's columns, all at once.

Only the fields that the contract has are read, and as the types of the wire (``avro_wire``), by the native extension
where it is used, else by a native file reader. Neither is given anything that it could fail on: a datum that is not
whole, or that takes too much memory, has no row. ``resolve`` brings the columns to the contract's types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from mesh_pipelines.contract.model import Field, FieldType
from mesh_pipelines.formats.avro.compiled import NativeReader
from mesh_pipelines.formats.avro.portable import PortableReader
from mesh_pipelines.formats.avro.schema import Node, Unreadable, read_schema
from mesh_pipelines.formats.avro.to_fields import member_type
from mesh_pipelines.formats.avro.wanted import wanted
from mesh_pipelines.formats.avro.wire import WireReader
from mesh_pipelines.formats.decoded import Decoded
from mesh_pipelines.formats.readable import Irreconcilable, check
from mesh_pipelines.formats.resolve import project


@dataclass
class WriterSchema:
    """One writer's schema, and whether and how its events become the contract's columns; ``native``: in C."""

    text: str
    fields: Sequence[Field]
    native: bool = False

    @cached_property
    def refusal(self) -> str | None:
        """Why no event of this schema can be taken over; None where they can."""
        try:
            if self._record.kind != "record":
                return "the writer's schema is not a record"
            check(self._record.names, self._type, self.fields)
            assert self._wire
        except Unreadable as error:
            return f"the writer's schema {error}" if not error.path else f"in the writer's schema, {error}"
        except Irreconcilable as error:
            return str(error)
        return None

    def __reduce__(self) -> tuple[type[WriterSchema], tuple[str, Sequence[Field], bool]]:
        return WriterSchema, (self.text, self.fields, self.native)

    @cached_property
    def _record(self) -> Node:
        return wanted(read_schema(self.text), self.fields)

    def _type(self, name: str) -> FieldType:
        return member_type(self._record, name)

    @cached_property
    def _types(self) -> dict[str, FieldType]:
        return {name: self._type(name) for name, _ in self._record.kept}

    @cached_property
    def _wire(self) -> WireReader:
        return NativeReader(self._record) if self.native else PortableReader(self._record)

    def decode(self, values: pa.LargeBinaryArray, header_bytes: int = 0) -> Decoded:
        """The contract's columns of the datums that can be decoded; ``header_bytes`` stand in front of each.

        Raises:
            RuntimeError: the reader failed on whole datums, which it never should.
        """
        faults: dict[int, str] = {}
        parts: list[Decoded] = []
        for part in self._wire.read(values, header_bytes):
            faults.update(part.faults)
            parts.append(project(part.columns, part.rows, self.fields, part.given, self._types))
        good = np.ones(len(values), np.bool_)
        good[list(faults)] = False
        return Decoded.join(parts).within(len(values), np.flatnonzero(good), faults)
