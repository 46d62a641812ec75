"""JSON objects: the pure half of the format. Every event says the names of its fields, so there is no schema."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JsonFormat:
    """The format ``json``."""

    name: str = "json"
    title: str = "JSON"
    schemas: None = None
    registered: bool = False
    by_writer: bool = False
    codec: str = "mesh_pipelines.formats.json.codec"

    def snippet(self, registry_url: str) -> str:  # noqa: ARG002
        """``decode`` by the standard library."""
        return """import json


def decode(message):
    return None if message.value() is None else json.loads(message.value())

"""
