"""The wire formats there are, by the name that contracts use. A new format is one more line here, and its folder."""

from __future__ import annotations

from mesh_pipelines.contract.model import TopicSettings
from mesh_pipelines.formats.avro.format import AvroFormat
from mesh_pipelines.formats.format import Format
from mesh_pipelines.formats.json.format import JsonFormat

FORMATS: dict[str, Format] = {
    "avro": AvroFormat(),
    "json": JsonFormat(),
}


def format_of(topic: TopicSettings) -> Format:
    """The format of a topic's values."""
    return FORMATS[topic.wire_format]


def schema_files() -> dict[str, Format]:
    """The names of files beside a contract that hold a value schema, and the format each is of."""
    return {each.schemas.file: each for each in FORMATS.values() if each.schemas}
