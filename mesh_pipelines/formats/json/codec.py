"""JSON objects to columns, and rows to JSON objects: the half of the format that reads and writes bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mesh_pipelines.arrow_compute import pc
from mesh_pipelines.contract.model import Field
from mesh_pipelines.formats.codec import RowEncoder
from mesh_pipelines.formats.decoded import FRAME_BYTES, Decoded, Reader
from mesh_pipelines.formats.event_names import to_events
from mesh_pipelines.formats.json.compiled import NativeJsonReader, is_plain
from mesh_pipelines.formats.json.plain import plain
from mesh_pipelines.formats.json.portable import JsonReader

# How the framings of registries begin, and how many bytes each has: Apicurio's with 8 bytes of a number, Confluent's
# with 4, and that of AWS Glue. Of two that begin alike the longer comes last.
_FRAMES = ((b"\0", FRAME_BYTES), (bytes(FRAME_BYTES), 9), (b"\3\0", 18))


@dataclass(frozen=True)
class Unframed:
    """Reads JSON by another reader, without the registry's header that some producers put in front."""

    reader: Reader

    @property
    def fields(self) -> Sequence[Field]:
        """The contract's fields."""
        return self.reader.fields

    def decode(self, values: pa.LargeBinaryArray, header_bytes: int = 0) -> Decoded:
        """The contract's columns of the values that can be decoded."""
        return self.reader.decode(_unframed(values), header_bytes)


def prepare() -> None:
    """Nothing is left to import."""


def reader(fields: Sequence[Field], schema: str, *, native: bool) -> Reader:  # noqa: ARG001
    """The reader of a contract's JSON, in C where it can."""
    return Unframed(NativeJsonReader(fields) if native and is_plain(fields) else JsonReader(fields))


def encoder(fields: Sequence[Field], schema: str) -> RowEncoder:  # noqa: ARG001
    """Writes JSON objects without spaces."""
    named = to_events(fields)

    def encode(row: Mapping[str, Any]) -> bytes:
        values = {name: plain(value) for name, value in named(row).items()}
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()

    return encode


def _unframed(values: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """JSON without the header of a registry (no JSON text begins with a zero byte, or one of 3)."""
    first = pc.fill_null(pc.binary_slice(values, 0, 1), b"")
    framed = pc.is_in(first, value_set=pa.array([b"\0", b"\3"], first.type))
    if not pc.any(framed).as_py():
        return values
    unframed = values
    for front, size in _FRAMES:
        begins = pc.fill_null(pc.starts_with(values, pattern=front), False)
        unframed = pc.if_else(begins, pc.binary_replace_slice(values, 0, size, b""), unframed)
    return unframed
