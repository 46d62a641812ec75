"""JSON events that are not the contract's: no rows of nulls, and deletions that are no null values."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest

from mesh_pipelines.contract.envelope import Fate, Op
from mesh_pipelines.contract.model import DataProduct, Field, FieldType, Kind
from mesh_pipelines.formats.codec import codec_of
from mesh_pipelines.formats.decode import Decoder
from mesh_pipelines.formats.format import SchemasById
from mesh_pipelines.formats.registered import FORMATS
from mesh_pipelines.kafka.source import SCHEMA
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

ID = Field("id", FieldType(Kind.LONG))
NAME = Field("name", FieldType(Kind.STRING), physical_name="fullName", aliases=("label",))
SIZE = Field("size", FieldType(Kind.LONG), default=7, has_default=True)
NESTED = Field("tags", FieldType(Kind.LIST, items=FieldType(Kind.STRING)))
SHAPES = {
    "plain": (ID, NAME),
    "with a default": (ID, NAME, SIZE),
    "with defaults only": (SIZE,),
    "nested": (ID, NAME, NESTED),
}
NONE = "has none of the contract's fields"


def keys(count: int) -> bytes:
    return b"{%s}" % b",".join(b'"k%d": 1' % number for number in range(count))


STRANGERS = {
    b"{}": f"{NONE}: it is an empty object",
    b'\xef\xbb\xbf { "other" : null } ': f"{NONE}, but other",
    b'{"schema": {"type": "struct"}, "payload": {"id": 1}}': (
        f"{NONE}, but schema, payload; set schemas.enable=false in Kafka Connect's JsonConverter, which wraps the event"
    ),
    b'{"before": null, "after": {"id": 1}, "source": {}, "op": "c", "ts_ms": 1}': (
        f"{NONE}, but before, after, source, op, ts_ms; set ExtractNewRecordState in Debezium, which wraps the row"
    ),
    b'{"specversion": "1.0", "data": {"id": 1}}': f"{NONE}, but specversion, data; a CloudEvent wraps its data",
    b'{"a\\nb": 1}': f"{NONE}, but 'a\\nb'",
    b'{"\\u202e": 1}': f"{NONE}, but '\\u202e'",
    b'{"%s": 1}' % (b"x" * 1000): f"{NONE}, but {'x' * 40}",
    keys(5000): f"{NONE}, but k0, k1, k2, k3, k4, k5, k6, k7, 4992 other keys",
    keys(9): f"{NONE}, but k0, k1, k2, k3, k4, k5, k6, k7, another key",
    b'{"\xff": 1}': f"{NONE}, and a key that is not text",
}


def read(fields: tuple[Field, ...], events: list[bytes], native: bool) -> Any:
    return codec_of(FORMATS["json"]).reader(fields, "", native=native).decode(pa.array(events, pa.large_binary()))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_event_without_any_of_the_fields_is_no_row_of_nulls(shape: str, native: bool) -> None:
    good = b'{"id": null, "size": 7}'
    found = read(SHAPES[shape], [good, *STRANGERS, good], native)
    assert found.count == len(STRANGERS) + 2
    assert len(found.columns[0]) == 2
    assert list(found.faults.values()) == list(STRANGERS.values())


def test_one_field_under_any_of_its_names_is_enough(native: bool) -> None:
    found = read((ID, NAME), [b'{"id": null}', b'{"fullName": "a"}', b'{"label": null, "x": 1}'], native)
    assert found.faults == {}
    found = read((ID, NAME), [b'{"ID": 1}', b'{"full_name": "a", "x": 1}', b'{"name": 1}'], native)
    assert list(found.faults.values()) == [
        f"{NONE}, but ID; for id set physicalName: ID",
        f"{NONE}, but full_name, x; for name set physicalName: full_name",
        f"{NONE}, but name; for name set physicalName: name",
    ]


@pytest.mark.parametrize("event", [b"[]", b'[{"id": 1}]', b"1", b'"text"', b"true"])
def test_what_is_no_object_is_refused_with_what_it_is(event: bytes, native: bool) -> None:
    found = read((ID, NAME), [event], native)
    assert found.faults[0].startswith("is not the contract's JSON: Expected `object`, got `")


def test_keys_may_be_values_so_they_are_told_where_all_fields_are_public(native: bool) -> None:
    private = (ID, dataclasses.replace(NAME, classification="personal"))
    events = [b'{"ann@example.org": 1, "bob": 2}', b'{"payload": 1, "bob": 2}', b'{"I-D": 1}']
    assert list(read(private, events, native).faults.values()) == [
        f"{NONE}, but 2 other keys",
        f"{NONE}, but payload, another key",
        f"{NONE}, but I-D; for id set physicalName: I-D",
    ]
    assert "ann@example.org, bob" in read((ID, NAME), events, native).faults[0]


def product(settings: Settings, name: str) -> DataProduct:
    return Platform.open(settings).product(name)


def landed(product: DataProduct, values: list[bytes | None], native: bool) -> list[dict[str, Any]]:
    """The rows of the log that these values become."""
    columns = [
        pa.array([0] * len(values), pa.int32()),
        pa.array(range(len(values)), pa.int64()),
        pa.nulls(len(values), SCHEMA.field("timestamp").type),
        pa.array([b"JFK"] * len(values), pa.large_binary()),
        pa.array(values, pa.large_binary()),
    ]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    registry: SchemasById = None  # type: ignore[assignment]
    return Decoder(product, registry, max_event_bytes=10_000, native=native).decode(table, 0).to_pylist()


FIELDS = """
- {name: code, logicalType: string, primaryKey: true}
- {name: city, logicalType: string}
"""
JSON = "- {property: mesh.wireFormat, value: json}"
DELETIONS: list[bytes | None] = [
    None,
    b"null",
    b" null\n",
    b"\xef\xbb\xbfnull",
    b"\0\0\0\0\x05null",
    b'{"schema":null,"payload":null}',
    b'{"payload": null, "schema": {"type": "struct"}}',
]
GOOD = b'{"code": "JFK", "city": "New York"}'
EMPTY = "the value has 0 bytes: a deletion is a null value, and this is none"
BLANK = "is not the contract's JSON: it is empty, and a deletion is a null value"


def test_a_state_s_null_in_words_deletes_and_an_empty_value_says_that_it_does_not(
    local_settings: Settings, contract: Any, native: bool
) -> None:
    state = product(local_settings, contract("places", FIELDS, more=JSON))
    rows = landed(state, [GOOD, *DELETIONS, b"", b" ", b"\0\0\0\0\x05", GOOD], native)
    assert [row["_op"] for row in rows] == [Op.UPSERT, *[Op.DELETE] * len(DELETIONS), *[Op.UPSERT] * 4]
    assert [row["_reason"] for row in rows] == [None] * (len(DELETIONS) + 1) + [EMPTY, BLANK, BLANK, None]
    assert {row["city"] for row in rows[1:-1]} == {None}
    few = landed(state, [GOOD] * 20 + [b"null"], native)
    assert few[-1]["_op"] == Op.DELETE


def test_other_events_must_have_a_value(local_settings: Settings, contract: Any, native: bool) -> None:
    facts = product(local_settings, contract("readings", FIELDS, kind="measurement", more=JSON))
    rows = landed(facts, [GOOD, *DELETIONS, b"", b" ", GOOD], native)
    missing = "a measurement event must have a value"
    assert [row["_reason"] for row in rows] == [None, *[missing] * len(DELETIONS), missing, BLANK, None]
    assert {row["_fate"] for row in rows[1:-1]} == {Fate.UNDECODABLE}


def test_an_empty_value_of_avro_says_that_it_is_no_deletion(
    local_settings: Settings, contract: Any, native: bool
) -> None:
    state = product(local_settings, contract("places", FIELDS))
    [row] = landed(state, [b""], native)
    assert (row["_op"], row["_reason"]) == (Op.UPSERT, EMPTY)
