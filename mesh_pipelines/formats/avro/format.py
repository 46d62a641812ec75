"""Avro in the registry's framing: the pure half of the format. Events carry the id of their writer's schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh_pipelines.contract.model import Field
from mesh_pipelines.formats.avro.agreement import disagreements
from mesh_pipelines.formats.avro.compatible import incompatibilities
from mesh_pipelines.formats.avro.from_fields import avro_schema
from mesh_pipelines.formats.avro.references import record_name, whole
from mesh_pipelines.formats.avro.schema import NAME
from mesh_pipelines.formats.format import Disagreement, RegisteredSchema


@dataclass(frozen=True)
class AvroSchemas:
    """Avro record schemas."""

    type: str = "AVRO"
    file: str = "schema.avsc"

    def takes(self, name: str) -> bool:
        """Whether it is a name as the specification has them."""
        return bool(NAME.fullmatch(name))

    def whole(self, schema: RegisteredSchema) -> str:
        """The schema with the definitions of the types that it names from its references."""
        return whole(schema)

    def record_name(self, text: str) -> str:
        """The record's full name."""
        return record_name(text)

    def compile(self, name: str, namespace: str, fields: Sequence[Field], doc: str = "") -> str:
        """The record schema of these fields."""
        return avro_schema(name, namespace, fields, doc)

    def disagreements(self, text: str, fields: Sequence[Field]) -> list[Disagreement]:
        """Where ``schema.avsc`` differs from the contract's fields."""
        return disagreements(text, fields)

    def incompatibilities(self, ours: str, registered: str, *, backward: bool) -> list[str]:
        """Why events of one schema cannot be read by the other, by Avro's rules of schema resolution."""
        return incompatibilities(ours, registered, backward=backward)


SCHEMAS = AvroSchemas()


@dataclass(frozen=True)
class AvroFormat:
    """The format ``avro``."""

    name: str = "avro"
    title: str = "Avro"
    schemas: AvroSchemas = SCHEMAS
    registered: bool = True
    by_writer: bool = True
    codec: str = "mesh_pipelines.formats.avro.codec"

    def snippet(self, registry_url: str) -> str:
        """``decode`` by the registry client's deserializer."""
        return f"""from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

deserializer = AvroDeserializer(SchemaRegistryClient({{"url": {registry_url!r}}}))


def decode(message):
    return deserializer(message.value(), SerializationContext(message.topic(), MessageField.VALUE, message.headers()))

"""
