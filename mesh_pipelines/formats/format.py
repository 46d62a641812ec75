"""What a wire format is to the rest of the mesh: one Protocol, which each format's folder implements.

It has two halves. This one is pure and light: contracts are read with it, so it reaches no decoder. The other one turns
bytes into columns and back (``codec.Codec``); a format names the module it is in, and ``codec`` loads it when the first
event is read or written. One class with both was ruled out: whoever reads a contract would import polars, the native
extension and the Kafka client's library with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from uuid import UUID

from mesh_pipelines.contract.model import Field


@dataclass(frozen=True, order=True)
class Disagreement:
    """Where a schema file differs from its contract: the field's dotted path, the line (0: unknown), how, and a fix."""

    path: str
    line: int
    problem: str
    fix: str


class Schemas(Protocol):
    """The schemas of a format whose events are read by one: how a contract and the registry get theirs."""

    @property
    def type(self) -> str:
        """The registry's name of this kind of schema, such as ``AVRO``."""
        ...

    @property
    def file(self) -> str:
        """The file beside a contract that holds a schema which was fixed elsewhere; "" if there can be none."""
        ...

    def record_name(self, text: str) -> str:
        """The full name of what a schema describes, by which a subject may be named; "" where it has none."""
        ...

    def takes(self, name: str) -> bool:
        """Whether a field can have this name in a schema."""
        ...

    def whole(self, schema: RegisteredSchema) -> str:
        """One text of a schema and those that it refers to.

        Raises:
            BrokenReferences: they do not fit together.
        """
        ...

    def compile(self, name: str, namespace: str, fields: Sequence[Field], doc: str = "") -> str:
        """The schema's text of these fields, of a product ``name`` in the domain ``namespace``."""
        ...

    def disagreements(self, text: str, fields: Sequence[Field]) -> list[Disagreement]:
        """Where a schema from ``file`` differs from the contract's fields; empty where they agree."""
        ...

    def incompatibilities(self, ours: str, registered: str, *, backward: bool) -> list[str]:
        """Why events of one schema cannot be read by the other, one sentence a field; empty where they can.

        ``backward``: events of the registered schema are read by ours; else events of ours by the registered one.
        """
        ...


class Format(Protocol):
    """A wire format. Its registration is its place in ``registered.FORMATS``."""

    @property
    def name(self) -> str:
        """The value of ``mesh.wireFormat``."""
        ...

    @property
    def title(self) -> str:
        """The name for people."""
        ...

    @property
    def schemas(self) -> Schemas | None:
        """Its schemas; None where events have none."""
        ...

    @property
    def registered(self) -> bool:
        """Whether the registry has its schemas, each under a subject."""
        ...

    @property
    def by_writer(self) -> bool:
        """Whether each event begins with the id of its writer's schema, by which it is read; else the contract says."""
        ...

    @property
    def codec(self) -> str:
        """The full name of the module that is its ``Codec``."""
        ...

    def snippet(self, registry_url: str) -> str:
        """Python code that defines ``decode(message)`` for a consumer who has only the usual libraries."""
        ...


@dataclass(frozen=True)
class RegisteredSchema:
    """A schema as a registry has it: its text, and the registry's name of its kind, such as ``AVRO``.

    ``references`` are the schemas whose types it names, those of these included: the name that each is referred to by
    and its text, each before what refers to it.
    """

    text: str
    type: str = "AVRO"
    references: tuple[tuple[str, str], ...] = ()


def kind_of(schema: RegisteredSchema) -> str:
    """The kind of a schema in the words of people."""
    return {"AVRO": "Avro", "JSON": "JSON Schema", "PROTOBUF": "Protobuf"}.get(schema.type, schema.type[:40])


@dataclass(frozen=True)
class IdHeader:
    """A header that holds the id of the value's schema: ``front`` stands for its first ``skipped`` bytes."""

    name: str
    front: bytes = b""
    skipped: int = 0


# In the order in which they count. Apicurio's number of a schema's content is the one that its Confluent API knows it
# by; it has eight bytes, of which four are more than any registry has used. The other is of an artifact's version.
ID_HEADERS = (
    IdHeader("__value_schema_id"),
    IdHeader("apicurio.value.contentId", b"\0", 4),
    IdHeader("apicurio.value.globalId", b"\0"),
)


class UnknownSchema(KeyError):
    """The registry answers, and has no schema of this id."""


class BrokenReferences(ValueError):
    """A schema whose references cannot be followed; the message says which one, and why."""


# The number of a schema in its registry, or the GUID that it has in every registry.
SchemaId: TypeAlias = int | UUID


class SchemasById(Protocol):
    """Where a decoder gets the schemas of writers: the registry, or anything that answers like it."""

    def schema(self, schema_id: SchemaId) -> RegisteredSchema:
        """The schema of this id.

        Raises:
            UnknownSchema: no schema has this id.
            BrokenReferences: it cannot be put together.
        """
        ...


class SchemaIds(Protocol):
    """Where an encoder gets the id of the schema that it writes by."""

    def registered_id(self, subject: str, schema: str, schema_type: str) -> int | None:
        """The id of this schema under the subject; None where it is not registered there."""
        ...
