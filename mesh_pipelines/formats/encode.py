"""Rows to messages, by the contract: keys as text, values in the topic's wire format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import EnvironmentFault
from mesh_pipelines.formats.codec import RowEncoder, codec_of
from mesh_pipelines.formats.format import SchemaIds
from mesh_pipelines.formats.json.plain import plain
from mesh_pipelines.formats.registered import format_of


class Encoder:
    """Encodes rows (field name to Python value) of one product; values by the contract's own schema."""

    def __init__(self, product: DataProduct, registry: SchemaIds) -> None:
        if product.topic is None:
            raise ValueError(f"{product.fqn} has no topic")
        self._product = product
        self._registry = registry
        self._subject = product.topic.subject
        self._format = format_of(product.topic)
        self._key = [field.name for field in product.key]

    def key(self, row: Mapping[str, Any]) -> bytes | None:
        """The key's text: of one field its own, of several a JSON array; None where the product has no key."""
        if not self._key:
            return None
        parts = [plain(row[name]) for name in self._key]
        text = str(parts[0]) if len(parts) == 1 else json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
        return text.encode()

    def value(self, row: Mapping[str, Any]) -> bytes:
        """The value's bytes.

        Raises:
            EnvironmentFault: the product's schema is not registered.
        """
        return self._header + self._encode(row)

    @cached_property
    def _encode(self) -> RowEncoder:
        return codec_of(self._format).encoder(self._product.fields, self._product.value_schema)

    @cached_property
    def _header(self) -> bytes:
        """What stands in front of each value: a zero byte and the schema's id; nothing if there is no schema."""
        if self._format.schemas is None or not self._format.registered:
            return b""
        number = self._registry.registered_id(self._subject, self._product.value_schema, self._format.schemas.type)
        if number is None:
            raise EnvironmentFault(
                f"{self._product.fqn}: subject {self._subject} does not have the contract's schema",
                next_step="mesh apply",
            )
        return b"\0" + number.to_bytes(4, "big")
