"""JSON in C against the strict reader: the two never differ, whatever the bytes."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.json.compiled import NativeJsonReader, is_plain
from mesh_pipelines.formats.json.portable import JsonReader
from mesh_pipelines.native import extension

if extension() is None:
    pytest.skip("there was no C compiler when this was installed", allow_module_level=True)

FIELDS = (
    Field("id", FieldType(Kind.STRING)),
    Field("uuid", FieldType(Kind.UUID)),
    Field("small", FieldType(Kind.INT)),
    Field("large", FieldType(Kind.LONG), default=7, has_default=True),
    Field("ratio", FieldType(Kind.DOUBLE)),
    Field("short", FieldType(Kind.FLOAT)),
    Field("is_so", FieldType(Kind.BOOLEAN)),
    Field("day", FieldType(Kind.DATE)),
    Field("clock", FieldType(Kind.TIME)),
    Field("at", FieldType(Kind.TIMESTAMP), aliases=("former",)),
    Field("local", FieldType(Kind.TIMESTAMP_LOCAL)),
)
DIGITS = st.text("0123456789", min_size=1, max_size=3)
CLOCKS = st.from_regex(r"([01][0-9]|2[0-5]):[0-6][0-9]:[0-6][0-9](\.[0-9]{1,8})?", fullmatch=True)
DAYS = st.from_regex(r"([0-9]{4}|000[0-2]|999[7-9])-(0[0-9]|1[0-3])-[0-3][0-9]", fullmatch=True)
ZONES = st.sampled_from(("Z", "z", "+00:00", "-00:00", "+05:30", "-23:59", "+24:00", "", "+0100", " Z"))
TIMES = st.tuples(DAYS, st.sampled_from("Tt "), CLOCKS, ZONES).map("".join)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
TEXTS = st.text(max_size=8).map(json.dumps) | st.text(max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False))
SCALARS = st.one_of(
    NUMBERS,
    TEXTS,
    st.sampled_from(("null", "true", "false", "NaN", "Infinity", "-0", "-0.0", "01", "1.", ".5", "+1", "1e400", "nul")),
    st.one_of(DAYS, CLOCKS, TIMES).map(json.dumps),
    st.sampled_from(('"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x"', '"\\u12"', '"a\tb"', '"\\/"')),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]")
        | st.lists(st.tuples(TEXTS, inner).map(":".join), max_size=3).map(lambda items: "{" + ",".join(items) + "}")
    ),
    max_leaves=6,
)
NAMES = st.sampled_from([*(field.name for field in FIELDS), "former", "unknown", "i\\u0064", ""])
SPACES = st.sampled_from(("", "", " ", "\n\t ", "\v"))


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    members = [
        f'{draw(SPACES)}"{draw(NAMES)}"{draw(SPACES)}:{draw(SPACES)}{draw(VALUES)}{draw(SPACES)}'
        for _ in range(draw(st.integers(0, 4)))
    ]
    text = bytearray(("{" + ",".join(members) + "}" + draw(SPACES)).encode("utf-8", "surrogatepass"))
    if draw(st.booleans()) and draw(st.booleans()):
        at = draw(st.integers(0, len(text) - 1))
        match draw(st.sampled_from(["flip", "cut", "grow"])):
            case "flip":
                text[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del text[at:]
            case _:
                text[at:at] = draw(st.binary(min_size=1, max_size=2))
    return bytes(text)


GOOD = {
    "id": "Straße \U0001f6eb",
    "uuid": "7d444840-9dc0-11d1-b245-5ffdce74fad2",
    "small": -(2**31),
    "large": 10**17,
    "ratio": 0.1,
    "short": 0.5,
    "is_so": True,
    "day": "2012-02-29",
    "clock": "23:59:59.999999",
    "at": "1969-12-31T23:59:59.5+05:30",
    "local": "9998-12-31T00:00:00",
}


def rows(decoded: Any) -> list[tuple[Any, ...]]:
    """The rows, with NaN as itself and zero with its sign."""
    lists = [column.to_pylist() for column in decoded.columns]
    return [
        tuple((value, math.copysign(1, value)) if isinstance(value, float) else value for value in row)
        for row in zip(*lists, strict=True)
    ]


@settings(max_examples=400, deadline=None)
@given(values=st.lists(objects() | st.none(), min_size=1, max_size=8), header=st.sampled_from((0, 5)))
@example(values=[json.dumps(GOOD).encode(), None, b"{}", b'{"former":"2020-01-01T00:00:00Z","large":null}'], header=0)
def test_the_reader_in_c_reads_what_the_strict_one_reads(values: list[bytes | None], header: int) -> None:
    framed = [value if value is None else b"\0\0\0\0\1"[:header] + value for value in values]
    given_values = pa.array(framed, pa.large_binary())
    fast, strict = (
        NativeJsonReader(FIELDS).decode(given_values, header),
        JsonReader(FIELDS).decode(given_values, header),
    )
    assert dict(fast.faults) == dict(strict.faults)
    assert [column.type for column in fast.columns] == [column.type for column in strict.columns]
    assert rows(fast) == rows(strict)


def test_plain_objects_are_read_in_c() -> None:
    reader = NativeJsonReader(FIELDS)
    value = json.dumps(GOOD, ensure_ascii=False).encode()
    data, bounds, present = value * 3, [0, len(value), 2 * len(value), 3 * len(value)], b"\1\1\1"
    after, refused, (count, *_) = reader._decoder.decode(
        data, memoryview(pa.array(bounds).buffers()[1]), present, 0, 0, 1 << 30
    )
    assert (after, refused, count) == (3, [], 3)


def test_contracts_with_nested_fields_are_for_the_strict_reader() -> None:
    assert is_plain(FIELDS)
    assert not is_plain((*FIELDS, Field("tags", FieldType(Kind.LIST, items=FieldType(Kind.STRING)))))
