"""The wire formats there are, by the name that contracts use. A new format is one more line here, and its folder."""

from __future__ import annotations

from mesh_pipelines.contract.model import TopicSettings
from mesh_pipelines.formats.avro.format import AvroFormat
from mesh_pipelines.formats.avro.plain import AvroPlainFormat
from mesh_pipelines.formats.format import Format
from mesh_pipelines.formats.json.format import JsonFormat
from mesh_pipelines.formats.json.registered import JsonSchemaFormat

FORMATS: dict[str, Format] = {
    "avro": AvroFormat(),
    "avro-plain": AvroPlainFormat(),
    "json": JsonFormat(),
    "json-schema": JsonSchemaFormat(),
}


def format_of(topic: TopicSettings) -> Format:
    """The format of a topic's values."""
    return FORMATS[topic.wire_format]


def schema_files() -> dict[str, Format]:
    """The names of files beside a contract that hold a value schema, and the first format each is of."""
    files: dict[str, Format] = {}
    for each in FORMATS.values():
        if each.schemas and each.schemas.file:
            files.setdefault(each.schemas.file, each)
    return files
