"""The hot path in C, where it could be built: Kafka's messages, Avro's datums and JSON to columns, no objects between.

It is an optional part: without a compiler at installation, or switched off, the same work is done through the Kafka
client's Python objects and a native Avro file reader, and the same tests run over both. What it does, it does through
the public C API of the librdkafka that the Kafka client has loaded, so it ships no copy of it and links to nothing.

A library of its own kind was looked for; those that give Arrow from Kafka neither start at given offsets nor say where
they end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


@cache
def extension() -> ModuleType | None:
    """The compiled module; None where it was not built or the platform cannot load it."""
    try:
        return import_module("mesh_pipelines.native._native")
    except ImportError:
        return None


@cache
def kafka_library() -> str | None:
    """The path of the librdkafka that the Kafka client brought along; None where it did not bring one."""
    import confluent_kafka

    package = Path(confluent_kafka.__file__).parent
    places = [package.with_name("confluent_kafka.libs"), package / ".dylibs"]
    found = sorted(file for place in places for file in place.glob("librdkafka*"))
    return str(found[0]) if found else None


def in_use(choice: str) -> tuple[bool, str]:
    """Whether the native path is used under this setting (``auto``, ``on``, ``off``), and why, or why not."""
    return (False, "switched off") if choice == "off" else _usable()


@cache
def _usable() -> tuple[bool, str]:
    module, library = extension(), kafka_library()
    if module is None:
        return False, "not built: there was no C compiler when this was installed"
    if library is None:
        return False, "unusable: the Kafka client came without its own librdkafka"
    try:
        module.check_library(library)
    except ImportError as error:
        return False, f"unusable: {error}"
    return True, "in use"


def consumer(topic: str, config: dict[str, str], id_headers: Sequence[tuple[str, bytes, int]]) -> Any:
    """A consumer of the extension's, with librdkafka's configuration.

    The first of ``id_headers`` (name, what stands for its first bytes, how many these are) that a message has is put in
    front of its value.

    Raises:
        ImportError: the extension or the library is not there, or the library is too old.
        ValueError: the library refuses the configuration.
    """
    return _there().Consumer(kafka_library() or "", topic, config, tuple(id_headers))


def avro_decoder(program: tuple[Any, ...], row_memory: int) -> Any:
    """An Avro decoder of the extension's, for one schema.

    Raises:
        ImportError: the extension is not there.
        ValueError: the program is not valid.
    """
    return _there().AvroDecoder(program, row_memory)


def json_decoder(program: tuple[Any, ...], fields: tuple[tuple[Any, ...], ...], row_memory: int) -> Any:
    """A JSON decoder of the extension's, for one contract: each field's name, its form, whether it must be there, and
    what a number that stands for its value counts, where one may.

    Raises:
        ImportError: the extension is not there.
        ValueError: the program is not valid.
    """
    return _there().JsonDecoder(program, fields, row_memory)


def _there() -> ModuleType:
    module = extension()
    if module is None:
        raise ImportError("the native extension is not built")
    return module
