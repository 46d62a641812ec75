"""Avro's datums to columns, and rows to datums: the half of the format that reads and writes bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from mesh_pipelines.contract.model import Field
from mesh_pipelines.formats.avro.reader import WriterSchema
from mesh_pipelines.formats.codec import Refused, RowEncoder
from mesh_pipelines.formats.decoded import Reader
from mesh_pipelines.formats.event_names import to_events


def prepare() -> None:
    """Import the native file reader, which the portable reader imports when it is first used."""
    import_module("polars_avro")


def reader(fields: Sequence[Field], schema: str, *, native: bool) -> Reader:
    """The reader of one writer's schema.

    Raises:
        Refused: it is no Avro schema, cannot be read within bounds, or not as these fields.
    """
    writer = WriterSchema(schema, fields, native)
    if writer.refusal:
        raise Refused(writer.refusal)
    return writer


def encoder(fields: Sequence[Field], schema: str) -> RowEncoder:
    """Writes datums by this schema, one row at a time."""
    import fastavro

    parsed = fastavro.parse_schema(json.loads(schema))
    write, named = fastavro.schemaless_writer, to_events(fields)

    def encode(row: Mapping[str, Any]) -> bytes:
        buffer = io.BytesIO()
        write(buffer, parsed, named(row))
        return buffer.getvalue()

    return encode
