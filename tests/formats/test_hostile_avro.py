"""Schemas and values meant to crash, stall or fill the decoder: each is refused at once, or costs what its bytes do."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.avro.bounds import walk
from mesh_pipelines.formats.avro.reader import WriterSchema
from mesh_pipelines.formats.avro.schema import read_schema

DAY_AND_AN_HOUR_MS = b"\x80\xaa\xea\x55"
ID = (Field("id", FieldType(Kind.STRING)),)
LONGS = FieldType(Kind.LIST, items=FieldType(Kind.LONG))


def record(*types: Any, name: str = "r", first: Any = "string") -> dict[str, Any]:
    fields = [{"name": f"f{number}", "type": one} for number, one in enumerate(types)]
    return {"type": "record", "name": name, "fields": [{"name": "id", "type": first}, *fields]}


def doubling(levels: int) -> dict[str, Any]:
    """Each record holds the one before it twice: as many types as two to the number of levels."""
    held: Any = {"type": "record", "name": "t0", "fields": [{"name": "a", "type": "int"}]}
    for level in range(1, levels):
        twice = [{"name": "a", "type": held}, {"name": "b", "type": f"t{level - 1}"}]
        held = {"type": "record", "name": f"t{level}", "fields": twice}
    return held


def chained(length: int) -> list[Any]:
    """Records that each hold the one before, flat in the text and deep in what they say."""
    first = {"type": "record", "name": "t0", "fields": [{"name": "a", "type": "int"}]}
    return [first] + [
        {"type": "record", "name": f"t{number}", "fields": [{"name": "a", "type": f"t{number - 1}"}]}
        for number in range(1, length)
    ]


def fixed(size: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": "f", "size": size}


REFUSED: dict[str, tuple[str, str]] = {
    "not JSON": ('syntax = "proto3"; message M {}', "is not an Avro schema in JSON"),
    "half": ('{"type": "record"', "is not an Avro schema in JSON"),
    "a number of 5,000 digits": ("9" * 5000, "is not an Avro schema in JSON"),
    "nested 100,000 times": ("[" * 100_000, "is not an Avro schema in JSON"),
    "two million characters": (json.dumps(record("int")) + " " * 2_000_000, "characters"),
    "a string": ('"string"', "not a record"),
    "a record without fields": ('{"type": "record", "name": "r"}', "without its"),
    "a field that is a number": ('{"type": "record", "name": "r", "fields": [5]}', "without its"),
    "an array of nulls": (json.dumps(record({"type": "array", "items": "null"})), "take no bytes"),
    "an array of empty records": (
        json.dumps(record({"type": "array", "items": {"type": "record", "name": "e", "fields": []}})),
        "take no bytes",
    ),
    "names that double": (json.dumps(record(doubling(60))), "more than 20,000 types"),
    "names in a chain": (json.dumps(record(*chained(5000))), "deeper than 64"),
    "lists in lists": (
        json.dumps(record("int")).replace('"int"', '{"type":"array","items":' * 90 + '"int"' + "}" * 90),
        "deeper",
    ),
    "30,000 fields": (json.dumps(record(*["int"] * 30_000)), "more than 20,000 types"),
    "a fixed type of no bytes": (json.dumps(record(fixed(0))), "without its size"),
    "a fixed type of a terabyte": (json.dumps(record(["null", fixed(2**40)])), "bytes per value"),
    "a fixed type of true": (json.dumps(record(fixed(True))), "without its size"),
    "a type defined twice": (json.dumps(record(fixed(2), fixed(3))), "twice"),
    "a name of a number": (json.dumps(record("int", name=7)), "without a name"),
    "a field twice": (
        '{"type":"record","name":"r","fields":[{"name":"id","type":"int"},{"name":"id","type":"int"}]}',
        "twice",
    ),
    "an unknown type": (json.dumps(record("text")), "unknown"),
    "a union in a union": (json.dumps(record([["null", "int"], "string"])), "union"),
    "a decimal of a million digits": (
        json.dumps(record(first={"type": "bytes", "logicalType": "decimal", "precision": 10**6})),
        "decimal",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_schemas_are_refused_at_once_with_a_reason(case: str, native: bool) -> None:
    text, reason = REFUSED[case]
    began = time.monotonic()
    refusal = WriterSchema(text, ID, native).refusal
    assert refusal is not None
    assert reason in refusal
    assert len(refusal) < 400
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "schema",
    [record(*["int"] * 10_000), record({"type": "enum", "name": "e", "symbols": [f"s{n}" for n in range(50_000)]})],
    ids=["10,000 fields", "50,000 symbols"],
)
def test_large_schemas_are_read(schema: dict[str, Any], native: bool) -> None:
    writer = WriterSchema(json.dumps(schema), ID, native)
    assert writer.refusal is None
    values = pa.array([b"\x02a" + b"\x00" * (len(schema["fields"]) - 1)] * 3 + [b"\x02a"], pa.large_binary())
    found = writer.decode(values)
    assert list(found.faults) == [3]
    assert found.columns[0].to_pylist() == ["a"] * 3


def decode(native: bool, schema: Any, field: Field, *datums: bytes) -> Any:
    return WriterSchema(json.dumps(schema), (field,), native).decode(pa.array(datums, pa.large_binary()))


def wrapped(schema: Any) -> dict[str, Any]:
    return {"type": "record", "name": "w", "fields": [{"name": "v", "type": schema}]}


@pytest.mark.parametrize("copies", [1, 100])
@pytest.mark.parametrize(
    "hostile",
    [
        # A count of the least integer, which has no absolute value.
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
        # An item, and no end of the list.
        b"\x02\x02",
        # A varint of 65 bits.
        b"\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x03\x00",
        b"\x80\x80\x80\x80\x80\x80\x80\x40\x00",
        b"\x01\x01\x02\x00",
        b"\x01\x04\x02\x00",
    ],
    ids=["least count", "no end", "65 bits", "more items than bytes", "a negative size", "another size"],
)
def test_lists_that_lie_are_refused_singly_and_together(hostile: bytes, copies: int, native: bool) -> None:
    good = b"\x02\x02\x00"
    found = decode(native, wrapped({"type": "array", "items": "long"}), Field("v", LONGS), *[good, hostile] * copies)
    assert list(found.faults) == list(range(1, 2 * copies, 2))
    assert found.columns[0].to_pylist() == [[1]] * copies


@pytest.mark.parametrize(
    ("schema", "kind", "good", "bad"),
    [
        ("int", Kind.INT, b"\x02", b"\x80\x80\x80\x80\x10"),
        ("string", Kind.STRING, b"\x02a", b"\x02\xff"),
        ({"type": "int", "logicalType": "time-millis"}, Kind.TIME, b"\x02", DAY_AND_AN_HOUR_MS),
        ({"type": "long", "logicalType": "time-micros"}, Kind.TIME, b"\x02", b"\x01"),
        ({"type": "int", "logicalType": "date"}, Kind.DATE, b"\x02", b"\xfe\xff\xff\xff\x0f"),
        ({"type": "long", "logicalType": "timestamp-millis"}, Kind.TIMESTAMP, b"\x02", b"\xfe" + b"\xff" * 8 + b"\x01"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 3}, Kind.DECIMAL, b"\x02\x05", b"\x04\x7f\xff"),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 3},
            Kind.DECIMAL,
            b"\x02\x05",
            b"\x22" + b"\x01" * 17,
        ),
        ({"type": "bytes", "logicalType": "decimal", "precision": 3}, Kind.DECIMAL, b"\x02\x05", b"\x00"),
    ],
)
def test_values_no_type_holds_are_refused_beside_good_ones(
    schema: Any, kind: Kind, good: bytes, bad: bytes, native: bool
) -> None:
    of = FieldType(kind, 3, 0) if kind is Kind.DECIMAL else FieldType(kind)
    found = decode(
        native, wrapped(["null", schema]), Field("v", of), *[b"\x02" + one for one in (good, bad, good, bad)], b"\x00"
    )
    assert list(found.faults) == [1, 3]
    [column] = found.columns
    assert column.null_count == 1
    assert column[0] == column[1]
    assert column[0].is_valid
    listed = wrapped({"type": "array", "items": schema})
    inside = decode(
        native,
        listed,
        Field("v", FieldType(Kind.LIST, items=of)),
        b"\x04" + good + bad + b"\x00",
        b"\x02" + good + b"\x00",
    )
    assert list(inside.faults) == [0]
    assert inside.columns[0].to_pylist() == [[column[0].as_py()]]


def test_nulls_of_wide_types_take_no_more_memory_than_an_event_may(native: bool) -> None:
    wide = {"type": "record", "name": "wide", "fields": [{"name": f"f{n}", "type": "long"} for n in range(1000)]}
    members = tuple(Field(f"f{number}", FieldType(Kind.LONG)) for number in range(1000))
    of = FieldType(Kind.LIST, items=FieldType(Kind.STRUCT, fields=members))
    schema = wrapped({"type": "array", "items": ["null", wide]})
    many = b"\x80\x89\x7a" + b"\x00" * 1_000_000 + b"\x00"
    found = decode(native, schema, Field("v", of), b"\x02\x00\x00", many, b"\x02\x00\x00")
    assert "bytes decoded" in found.faults[1]
    assert found.columns[0].to_pylist() == [[None], [None]]


def test_a_million_items_in_one_event_take_no_longer_than_their_bytes_are_worth() -> None:
    for schema, item in (("long", b"\x7e"), ("string", b"\x02a"), (record("int"), b"\x02a\x02")):
        count = 1_000_000 // len(item)
        datum = bytes(varint(count)) + item * count + b"\x00"
        node = read_schema(json.dumps(wrapped({"type": "array", "items": schema})))
        data = np.frombuffer(datum, np.uint8)
        began = time.monotonic()
        found = walk(data, np.array([0]), np.array([len(datum)]), node, [True])
        assert found.good.all()
        # One numpy step for each item takes half a minute.
        assert time.monotonic() - began < 8


def varint(number: int) -> bytes:
    out, rest = bytearray(), number << 1
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])
