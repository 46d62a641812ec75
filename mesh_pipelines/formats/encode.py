"""Rows to messages, by the contract: keys as text, values as Confluent-framed Avro or JSON."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import io
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mesh_pipelines.contract.model import DataProduct, WireFormat
from mesh_pipelines.errors import EnvironmentFault
from mesh_pipelines.kafka.registry import Registry


class Encoder:
    """Encodes rows (field name to Python value) of one product."""

    def __init__(self, product: DataProduct, registry: Registry) -> None:
        if product.topic is None:
            raise ValueError(f"{product.fqn} lands no topic")
        self._product = product
        self._registry = registry
        self._subject = product.topic.subject
        self._is_json = product.topic.wire_format is WireFormat.JSON
        self._key = [field.name for field in product.key]

    def key(self, row: Mapping[str, Any]) -> bytes | None:
        """The key's text: of one field its own, of several a JSON array; None where the product has no key."""
        if not self._key:
            return None
        parts = [_plain(row[name]) for name in self._key]
        text = str(parts[0]) if len(parts) == 1 else json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
        return text.encode()

    def value(self, row: Mapping[str, Any]) -> bytes:
        """The value's bytes.

        Raises:
            EnvironmentFault: the product's schema is not registered.
        """
        if self._is_json:
            return json.dumps(
                {name: _plain(value) for name, value in row.items()}, separators=(",", ":"), ensure_ascii=False
            ).encode()
        schema, header = self._avro
        buffer = io.BytesIO()
        buffer.write(header)
        self._write(buffer, schema, row)
        return buffer.getvalue()

    @cached_property
    def _write(self) -> Any:
        import fastavro

        return fastavro.schemaless_writer

    @cached_property
    def _avro(self) -> tuple[Any, bytes]:
        import fastavro

        latest = self._registry.latest(self._subject)
        if latest is None:
            raise EnvironmentFault(
                f"{self._product.fqn}: subject {self._subject} has no schema", next_step="mesh apply"
            )
        schema_id, text = latest
        return fastavro.parse_schema(json.loads(text)), b"\0" + schema_id.to_bytes(4, "big")


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    match value:
        case dt.datetime():
            text = value.isoformat()
            return text.replace("+00:00", "Z")
        case dt.date() | dt.time():
            return value.isoformat()
        case decimal.Decimal():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case _:
            return value
