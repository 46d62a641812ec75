"""Avro decoding against fastavro: what is taken for a value, and what it is read as."""

from __future__ import annotations

import datetime as dt
import io
import json
import time
from decimal import Decimal
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.avro.bounds import walk
from mesh_pipelines.formats.avro.reader import WriterSchema
from mesh_pipelines.formats.avro.schema import Unreadable, read_schema

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "r",
    "fields": [
        {"name": "a", "type": "long"},
        {"name": "s", "type": ["null", "string"]},
        {"name": "d", "type": "double"},
        {"name": "b", "type": "boolean"},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["x", "y"]}},
        {"name": "l", "type": {"type": "array", "items": "long"}},
        {"name": "m", "type": {"type": "map", "values": "string"}},
        {"name": "n", "type": {"type": "record", "name": "n", "fields": [{"name": "i", "type": "int"}]}},
    ],
}
ROWS = st.fixed_dictionaries(
    {
        "a": st.integers(-(2**63), 2**63 - 1),
        "s": st.none() | st.text(max_size=20),
        "d": st.floats(allow_nan=False),
        "b": st.booleans(),
        "e": st.sampled_from("xy"),
        "l": st.lists(st.integers(-(2**40), 2**40), max_size=4),
        "m": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
        "n": st.fixed_dictionaries({"i": st.integers(-(2**31), 2**31 - 1)}),
    }
)


def encode(schema: Any, row: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(json.loads(json.dumps(schema))), row)
    return buffer.getvalue()


def accepted(schema: Any, datums: list[bytes]) -> list[bool]:
    ends = np.cumsum([len(datum) for datum in datums]).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    record = read_schema(json.dumps(schema))
    wanted = [True] * len(record.children)
    return walk(np.frombuffer(b"".join(datums), np.uint8), starts, ends, record, wanted).good.tolist()


def consumes_all(schema: Any, datum: bytes) -> bool:
    buffer = io.BytesIO(datum)
    try:
        fastavro.schemaless_reader(buffer, fastavro.parse_schema(json.loads(json.dumps(schema))), None)
    except Exception:  # whatever fastavro makes of it, it is no value
        return False
    return buffer.tell() == len(datum)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=6), data=st.data())
def test_whole_values_are_accepted_and_damaged_ones_only_where_fastavro_reads_them_whole(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    datums = [encode(SCHEMA, row) for row in rows]
    assert all(accepted(SCHEMA, datums))
    which = data.draw(st.integers(0, len(datums) - 1))
    victim = bytearray(datums[which])
    match data.draw(st.sampled_from(["cut", "grow", "flip"])):
        case "cut":
            victim = victim[: data.draw(st.integers(0, len(victim) - 1))]
        case "grow":
            victim += data.draw(st.binary(min_size=1, max_size=3))
        case _:
            victim[data.draw(st.integers(0, len(victim) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = [*datums[:which], bytes(victim), *datums[which + 1 :]]
    found = accepted(SCHEMA, damaged)
    assert all(found[:which] + found[which + 1 :])
    if found[which]:
        # Text that is no longer UTF-8 has the right length; the decoder refuses it later.
        try:
            bytes(victim).decode()
        except UnicodeDecodeError:
            return
        assert consumes_all(SCHEMA, bytes(victim))


@pytest.mark.parametrize(
    ("schema", "datum"),
    [
        ({"type": "array", "items": "long"}, b"\x80\x80\x80\x80\x80\x80\x80\x40\x00"),
        ("string", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("bytes", b"\x01"),
        (["null", "string"], b"\x01"),
        (["null", "string"], b"\x08"),
        ("long", b"\xff" * 11),
        ("long", b""),
        ("long", b"\x00\x00"),
        ("boolean", b"\x02"),
    ],
)
def test_hostile_bytes_are_refused_at_once(schema: Any, datum: bytes) -> None:
    wrapped = {"type": "record", "name": "w", "fields": [{"name": "v", "type": schema}]}
    began = time.monotonic()
    assert accepted(wrapped, [datum]) == [False]
    assert time.monotonic() - began < 5


def test_schemas_that_bound_nothing_are_refused() -> None:
    nulls = {"type": "record", "name": "w", "fields": [{"name": "v", "type": {"type": "array", "items": "null"}}]}
    with pytest.raises(Unreadable):
        accepted(nulls, [b"\x02\x00"])


def test_decoding_equals_fastavro_with_the_contracts_schema_as_reader(native: bool) -> None:
    writer = {
        "type": "record",
        "name": "w",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "old_name", "type": ["null", "int"]},
            {"name": "ratio", "type": "float"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["p", "q"]}},
            {"name": "dropped", "type": "long"},
            {"name": "inner", "type": {"type": "record", "name": "I", "fields": [{"name": "x", "type": "int"}]}},
        ],
    }
    fields = (
        Field("id", FieldType(Kind.STRING), required=True),
        Field("new_name", FieldType(Kind.LONG), aliases=("old_name",)),
        Field("ratio", FieldType(Kind.DOUBLE)),
        Field("at", FieldType(Kind.TIMESTAMP)),
        Field("price", FieldType(Kind.DECIMAL, 8, 2)),
        Field("tags", FieldType(Kind.LIST, items=FieldType(Kind.STRING))),
        Field("kind", FieldType(Kind.STRING)),
        Field("added", FieldType(Kind.STRING), default="none", has_default=True),
        Field(
            "inner",
            FieldType(Kind.STRUCT, fields=(Field("x", FieldType(Kind.LONG)), Field("y", FieldType(Kind.STRING)))),
        ),
    )
    rows = [
        {
            "id": f"k{number}",
            "old_name": None if number % 3 else number,
            "ratio": number / 4,
            "at": dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=number),
            "price": Decimal(number) / 100,
            "tags": [f"t{n}" for n in range(number % 4)],
            "kind": "pq"[number % 2],
            "dropped": number,
            "inner": {"x": number},
        }
        for number in range(100)
    ]
    datums = [encode(writer, row) for row in rows]
    datums[17] = datums[17][:-1]
    schema = WriterSchema(json.dumps(writer), fields, native)
    assert schema.refusal is None
    found = schema.decode(pa.array(datums, pa.large_binary()))
    assert list(found.faults) == [17]
    got = pa.table(found.columns, names=[field.name for field in fields]).to_pylist()
    expected = [
        {
            "id": row["id"],
            "new_name": row["old_name"],
            "ratio": row["ratio"],
            "at": row["at"],
            "price": row["price"],
            "tags": row["tags"],
            "kind": row["kind"],
            "added": "none",
            "inner": {"x": row["inner"]["x"], "y": None},
        }
        for number, row in enumerate(rows)
        if number != 17
    ]
    assert got == expected


def test_a_type_named_in_one_field_reads_in_a_later_one_whatever_other_fields_hold(native: bool) -> None:
    place = {"type": "record", "name": "Place", "fields": [{"name": "code", "type": "string"}]}
    writer = {
        "type": "record",
        "name": "w",
        "namespace": "n",
        "fields": [
            {"name": "origin", "type": place},
            {"name": "target", "type": ["null", "n.Place"]},
            {"name": "mixed", "type": ["int", "string"]},
        ],
    }
    at = FieldType(Kind.STRUCT, fields=(Field("code", FieldType(Kind.STRING)),))
    schema = WriterSchema(json.dumps(writer), (Field("origin", at), Field("target", at)), native)
    assert schema.refusal is None
    row = {"origin": {"code": "JFK"}, "target": {"code": "LAX"}, "mixed": 5}
    found = schema.decode(pa.array([encode(writer, row)], pa.large_binary()))
    assert not found.faults
    assert [column.to_pylist() for column in found.columns] == [[{"code": "JFK"}], [{"code": "LAX"}]]


@pytest.mark.parametrize(
    ("kind", "default", "value"),
    [
        (Kind.TIME, "13:45:00", dt.time(13, 45)),
        (Kind.DATE, "2013-01-31", dt.date(2013, 1, 31)),
        (Kind.TIMESTAMP, "2013-01-31T00:00:00Z", dt.datetime(2013, 1, 31, tzinfo=dt.UTC)),
        (Kind.LONG, 7, 7),
    ],
)
def test_a_field_the_writer_lacks_takes_its_default(kind: Kind, default: Any, value: Any, native: bool) -> None:
    field = Field("added", FieldType(kind), default=default, has_default=True)
    writer = {"type": "record", "name": "w", "fields": [{"name": "id", "type": "string"}]}
    found = WriterSchema(json.dumps(writer), (field,), native).decode(pa.array([b"\x02a"], pa.large_binary()))
    assert not found.faults
    assert found.columns[0].to_pylist() == [value]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ([{"name": "other", "type": "string"}], "required"),
        ([{"name": "id", "type": "long"}], "long"),
        ([{"name": "id", "type": ["null", {"type": "array", "items": "w"}]}], "recursive"),
    ],
)
def test_schemas_that_cannot_be_brought_to_the_contract_say_why(written: list[Any], reason: str, native: bool) -> None:
    text = json.dumps({"type": "record", "name": "w", "fields": written})
    refusal = WriterSchema(text, (Field("id", FieldType(Kind.STRING), required=True),), native).refusal
    assert refusal is not None
    assert reason in refusal
