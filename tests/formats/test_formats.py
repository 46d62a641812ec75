"""The registry of wire formats: what a format has to bring, and that bringing it is all there is to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from mesh_pipelines import read
from mesh_pipelines.contract.model import DataProduct, Field
from mesh_pipelines.formats.codec import Refused, RowEncoder, codec_of
from mesh_pipelines.formats.decode import VALUE, Decoder
from mesh_pipelines.formats.decoded import Decoded, without_header
from mesh_pipelines.formats.encode import Encoder
from mesh_pipelines.formats.format import Disagreement, RegisteredSchema, SchemaId, UnknownSchema
from mesh_pipelines.formats.registered import FORMATS
from mesh_pipelines.kafka.source import SCHEMA
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.plan.draft import plan
from mesh_pipelines.platform import Platform
from mesh_pipelines.portal.snippets import snippets
from mesh_pipelines.settings import Settings

PLACES = """
- {name: code, logicalType: string, primaryKey: true}
- {name: city, logicalType: string}
"""
PIPED = "- {property: mesh.wireFormat, value: piped}"
ROWS = [{"code": "JFK", "city": "New York"}, {"code": "ORD", "city": "Chicago"}]


@dataclass(frozen=True)
class PipedSchemas:
    """The names of the columns, as the properties of a JSON Schema, which registries know."""

    type: str = "JSON"
    file: str = "schema.piped"

    def takes(self, name: str) -> bool:
        return "|" not in name

    def record_name(self, text: str) -> str:
        return str(json.loads(text).get("title", ""))

    def whole(self, schema: RegisteredSchema) -> str:
        return schema.text

    def compile(self, name: str, namespace: str, fields: Sequence[Field], doc: str = "") -> str:
        return json.dumps({"type": "object", "title": name, "properties": {field.name: {} for field in fields}})

    def disagreements(self, text: str, fields: Sequence[Field]) -> list[Disagreement]:
        missing = [field.name for field in fields if field.name not in text]
        return [Disagreement(name, 0, "is not in the schema", "add it") for name in missing]

    def incompatibilities(self, ours: str, registered: str, *, backward: bool) -> list[str]:
        return []


@dataclass(frozen=True)
class Piped:
    """A format of this test: text columns with bars between them. This module is its codec."""

    name: str = "piped"
    title: str = "Piped"
    schemas: PipedSchemas = PipedSchemas()
    registered: bool = True
    by_writer: bool = True
    codec: str = __name__

    def snippet(self, registry_url: str) -> str:
        return "def decode(message):\n    return message.value()[5:].decode().split('|')\n"


@dataclass(frozen=True)
class PipedReader:
    fields: Sequence[Field]

    def decode(self, values: pa.LargeBinaryArray, header_bytes: int = 0) -> Decoded:
        given = without_header(values, header_bytes).to_pylist()
        split = [[None] * len(self.fields) if value is None else value.decode().split("|") for value in given]
        faults = {at: "has another number of bars" for at, row in enumerate(split) if len(row) != len(self.fields)}
        good = [row for at, row in enumerate(split) if at not in faults]
        columns = [pa.array([row[place] for row in good], pa.large_string()) for place in range(len(self.fields))]
        return Decoded(len(given), columns, faults)


def prepare() -> None:
    pass


def reader(fields: Sequence[Field], schema: str, *, native: bool) -> PipedReader:
    if list(json.loads(schema)["properties"]) != [field.name for field in fields]:
        raise Refused("has other columns")
    return PipedReader(fields)


def encoder(fields: Sequence[Field], schema: str) -> RowEncoder:
    def encode(row: Mapping[str, Any]) -> bytes:
        return "|".join(row[field.name] for field in fields).encode()

    return encode


class Shelf:
    """Schemas by id, from 1, for a test without a registry."""

    def __init__(self, *texts: str, kind: str = "AVRO") -> None:
        self._texts = texts
        self._kind = kind

    def schema(self, schema_id: SchemaId) -> RegisteredSchema:
        if not isinstance(schema_id, int) or not 1 <= schema_id <= len(self._texts):
            raise UnknownSchema(schema_id)
        return RegisteredSchema(self._texts[schema_id - 1], self._kind)

    def registered_id(self, subject: str, schema: str, schema_type: str) -> int | None:
        return self._texts.index(schema) + 1 if schema in self._texts else None


@pytest.fixture(autouse=True)
def _piped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "piped", Piped())


def opened(settings: Settings, name: str) -> DataProduct:
    return Platform.open(settings).product(name)


def messages(*values: bytes | None) -> pa.Table:
    count = len(values)
    columns = [
        pa.array([0] * count, pa.int32()),
        pa.array(range(count), pa.int64()),
        pa.nulls(count, SCHEMA.field("timestamp").type),
        pa.array([f"k{number}".encode() for number in range(count)], pa.large_binary()),
        pa.array(values, pa.large_binary()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def test_a_format_is_known_to_contracts_by_its_registration(local_settings: Settings, contract: Any) -> None:
    name = contract("places", PLACES, more=PIPED)
    product = Platform.open(local_settings).product(name)
    assert product.topic is not None
    assert (product.topic.wire_format, list(json.loads(product.value_schema)["properties"])) == (
        "piped",
        ["code", "city"],
    )
    code = next(one.code for one in snippets(product, local_settings) if one.port == "stream")
    assert "split('|')" in code
    compile(code, "snippet", "exec")


def test_a_format_s_schema_file_is_held_against_the_contract(local_settings: Settings, contract: Any) -> None:
    name = contract("places", PLACES, more=PIPED)
    folder = local_settings.assets / name.replace(".", "/")
    fixed = '{"type": "object", "properties": {"code": {}}}'
    (folder / "schema.piped").write_text(fixed)
    [fault] = Platform.open(local_settings).broken[name].faults
    assert str(fault).endswith("schema.piped: city: is not in the schema (add it)")
    (folder / "schema.piped").write_text(fixed.replace('"code": {}', '"code": {}, "city": {}'))
    assert "city" in Platform.open(local_settings).product(name).value_schema
    contract("places", PLACES)
    [fault] = Platform.open(local_settings).broken[name].faults
    assert "is only for products with Piped events" in str(fault)


def test_rows_of_a_registered_format_go_out_and_come_in(local_settings: Settings, contract: Any) -> None:
    product = opened(local_settings, contract("places", PLACES, more=PIPED))
    shelf = Shelf('{"properties": {"other": {}}}', product.value_schema, kind="JSON")
    encode = Encoder(product, shelf)
    values = [encode.value(row) for row in ROWS]
    assert values[0] == b"\0\0\0\0\x02JFK|New York"
    odd = [b"\0\0\0\0\x02JFK", b"\0\0\0\0\x01JFK", b"\0\0\0\0\x07JFK", b"JFK|New York"]
    found = Decoder(product, shelf, max_event_bytes=1000).decode(messages(*values, *odd, None), 3)
    assert found.select(["code", "city"]).to_pylist()[:2] == ROWS
    assert found["_generation"].to_pylist() == [3] * 7
    assert found[VALUE].to_pylist() == [*values, *odd, None]
    assert found["_reason"].to_pylist() == [
        None,
        None,
        "has another number of bars",
        "schema 1: has other columns",
        "the registry does not know schema id 7",
        "no schema id: the value must begin with a zero byte and the four bytes of the id, or a header "
        "__value_schema_id must hold it (for Avro without a registry, set mesh.wireFormat to avro-plain)",
        None,
    ]


@pytest.mark.services
def test_a_stream_of_a_registered_format_is_applied_landed_and_published(settings: Settings, contract: Any) -> None:
    name = contract("places", PLACES, more=PIPED)
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    assert plan(platform, platform.in_order) == ()
    encode = Encoder(platform.product(name), platform.registry)
    producer = Producer({"bootstrap.servers": settings.brokers})
    for row in ROWS:
        producer.produce(name, key=encode.key(row), value=encode.value(row))
    producer.flush()
    [done] = run(platform)
    assert done.error is None
    assert sorted(read(name, settings=settings).arrow().to_pylist(), key=lambda row: row["code"]) == ROWS


def test_an_encoder_without_its_schema_says_what_to_do(local_settings: Settings, contract: Any) -> None:
    product = opened(local_settings, contract("places", PLACES))
    with pytest.raises(Exception, match="does not have the contract's schema") as raised:
        Encoder(product, Shelf('"string"')).value(ROWS[0])
    assert raised.value.next_step == "mesh apply"  # type: ignore[attr-defined]


def test_avro_rows_come_back_as_they_went_out(local_settings: Settings, contract: Any, native: bool) -> None:
    product = opened(local_settings, contract("places", PLACES))
    shelf = Shelf(product.value_schema)
    values = [Encoder(product, shelf).value(row) for row in ROWS]
    found = Decoder(product, shelf, max_event_bytes=1000, native=native).decode(messages(*values), 0)
    assert found.select(["code", "city"]).to_pylist() == ROWS
    assert found["_schema_id"].to_pylist() == [1, 1]


def test_json_is_read_with_a_registry_s_header_and_without(
    local_settings: Settings, contract: Any, native: bool
) -> None:
    more = "- {property: mesh.wireFormat, value: json}"
    product = opened(local_settings, contract("places", PLACES, more=more))
    bare = [Encoder(product, Shelf()).value(row) for row in ROWS]
    twice = b"\0\0\0\0\x05" * 2 + bare[0]
    table = messages(bare[0], b"\0\0\0\0\x05" + bare[1], twice)
    found = Decoder(product, Shelf(), max_event_bytes=1000, native=native).decode(table, 0)
    assert found.select(["code", "city"]).to_pylist()[:2] == ROWS
    assert [reason is None for reason in found["_reason"].to_pylist()] == [True, True, False]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_brings_what_is_asked_of_it(name: str) -> None:
    chosen = FORMATS[name]
    assert chosen.name == name
    code = codec_of(chosen)
    code.prepare()
    assert callable(code.reader)
    assert callable(code.encoder)
    scope: dict[str, Any] = {}
    exec(compile(chosen.snippet("http://registry"), "snippet", "exec"), scope)
    assert callable(scope["decode"])


def test_reading_contracts_loads_no_decoder() -> None:
    heavy = ["numpy", "pyarrow", "polars", "polars_avro", "fastavro", "confluent_kafka", "mesh_pipelines.formats.codec"]
    code = (
        "import sys, mesh_pipelines.contract.read.load, mesh_pipelines.contract.read.build\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
