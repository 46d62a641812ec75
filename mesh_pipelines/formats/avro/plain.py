"""Avro without a registry: each value is a datum and nothing else, of the schema that lies beside the contract."""

from __future__ import annotations

from dataclasses import dataclass

from mesh_pipelines.formats.avro.format import SCHEMAS, AvroSchemas


@dataclass(frozen=True)
class AvroPlainFormat:
    """The format ``avro-plain``."""

    name: str = "avro-plain"
    title: str = "Avro"
    schemas: AvroSchemas = SCHEMAS
    registered: bool = False
    by_writer: bool = False
    codec: str = "mesh_pipelines.formats.avro.codec"

    def snippet(self, registry_url: str) -> str:  # noqa: ARG002
        """``decode`` by a library of Avro and the schema's file."""
        return """import io

import fastavro


def decode(message, file="schema.avsc"):         # the one beside the product's contract
    schema = fastavro.schema.load_schema(file)
    return None if message.value() is None else fastavro.schemaless_reader(io.BytesIO(message.value()), schema)

"""
