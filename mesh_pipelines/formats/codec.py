"""The half of a format that turns bytes into columns and rows into bytes, loaded when it is first needed.

Contracts are read without it, and import-linter holds them to that: a format only names its codec's module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from mesh_pipelines.contract.model import Field
from mesh_pipelines.formats.decoded import Reader
from mesh_pipelines.formats.format import Format

RowEncoder = Callable[[Mapping[str, Any]], bytes]


class Refused(ValueError):
    """No event of this writer's schema can be brought to the contract; the message says why."""


class Codec(Protocol):
    """A format's module of this name, ``codec``."""

    def prepare(self) -> None:
        """Import what the readers import when they first read: for a process whose memory will be limited."""
        ...

    def reader(self, fields: Sequence[Field], schema: str, *, native: bool) -> Reader:
        """Reads events of a writer's schema (its text, "" for a format without schemas) as the contract's fields.

        ``native`` says whether the extension in C may be used.

        Raises:
            Refused: no event of this schema can be read as these fields.
        """
        ...

    def encoder(self, fields: Sequence[Field], schema: str) -> RowEncoder:
        """Writes rows (field name to Python value) as values, without the registry's framing."""
        ...


def codec_of(chosen: Format) -> Codec:
    """The format's codec."""
    return _loaded(chosen.codec)


@cache
def _loaded(module: str) -> Codec:
    return cast("Codec", import_module(module))
