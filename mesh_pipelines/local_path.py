"""Where a table's file lies on this machine."""

from __future__ import annotations

from urllib.parse import urlparse


def local_path(uri: str) -> str:
    """The path of a ``file:`` address, taken literally as pyiceberg does; any other address as it is."""
    parsed = urlparse(uri)
    return parsed.path if parsed.scheme == "file" else uri
