"""What a wire format is to the rest of the mesh: one Protocol, which each format's folder implements.

It has two halves. This one is pure and light: contracts are read with it, so it reaches no decoder. The other one turns
bytes into columns and back (``codec.Codec``); a format names the module it is in, and ``codec`` loads it when the first
event is read or written. One class with both was ruled out: whoever reads a contract would import polars, the native
extension and the Kafka client's library with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
        """The file beside a contract that holds a schema which was fixed elsewhere."""
        ...

    def takes(self, name: str) -> bool:
        """Whether a field can have this name in a schema."""
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
        """Its schemas, if each event begins with the id of one in the registry; None where events stand alone."""
        ...

    @property
    def codec(self) -> str:
        """The full name of the module that is its ``Codec``."""
        ...

    def snippet(self, registry_url: str) -> str:
        """Python code that defines ``decode(message)`` for a consumer who has only the usual libraries."""
        ...


class UnknownSchema(KeyError):
    """The registry answers, and has no schema of this id."""


class SchemasById(Protocol):
    """Where a decoder gets the schemas of writers: the registry, or anything that answers like it."""

    def schema(self, schema_id: int) -> str:
        """The schema's text.

        Raises:
            UnknownSchema: no schema has this id.
        """
        ...


class SchemaIds(Protocol):
    """Where an encoder gets the id of the schema that it writes by."""

    def registered_id(self, subject: str, schema: str, schema_type: str) -> int | None:
        """The id of this schema under the subject; None where it is not registered there."""
        ...
