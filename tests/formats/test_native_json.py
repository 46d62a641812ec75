"""JSON in C against the strict reader: the two never differ, whatever the bytes."""

from __future__ import annotations

import itertools
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
    *(Field(f"at_{unit}", FieldType(Kind.TIMESTAMP, epoch=unit)) for unit in ("s", "ms", "us", "ns")),
    Field("local_ms", FieldType(Kind.TIMESTAMP_LOCAL, epoch="ms")),
    Field("day_s", FieldType(Kind.DATE, epoch="s")),
    Field("day_d", FieldType(Kind.DATE, epoch="d")),
)
DIGITS = st.text("0123456789", min_size=1, max_size=3)
CLOCKS = st.from_regex(r"([01][0-9]|2[0-5]):[0-6][0-9](:[0-6][0-9]([.,][0-9]{0,9})?)?", fullmatch=True)
DAYS = st.from_regex(r"([0-9]{4}|000[0-2]|999[7-9])-(0[0-9]|1[0-3])-[0-3][0-9]", fullmatch=True)
ZONES = st.sampled_from(
    ("Z", "z", "+00:00", "-00:00", "+05:30", "-23:59", "+24:00", "", "+0100", "+02", "-9", "+010", " Z", " +02:00")
)
TIMES = st.tuples(DAYS, st.sampled_from("Tt _"), CLOCKS, ZONES).map("".join)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20}|\.0{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
# Numbers of the size of instants in each of the units.
EPOCHS = st.tuples(st.from_regex(r"-?[1-9][0-9]{3}|-62135[0-9]{6}|25340[0-9]{7}", fullmatch=True), NUMBERS).map(
    lambda parts: parts[0] + parts[1].lstrip("-")
)
TEXTS = st.text(max_size=8).map(json.dumps) | st.text(max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False))
SCALARS = st.one_of(
    NUMBERS,
    EPOCHS,
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
    mark = draw(st.sampled_from(("", "", "", "\ufeff")))
    text = bytearray((mark + "{" + ",".join(members) + "}" + draw(SPACES)).encode("utf-8", "surrogatepass"))
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
    "local": "9999-12-31 00:00:00",
}
# As producers of other languages write the same.
ALSO_GOOD = {
    "id": "1",
    "small": 7.0,
    "large": 1700000000000.000,
    "clock": "23:59",
    "at": "9999-12-31T23:59:59.9999999Z",
    "local": "0001-01-01 00:00:00,000",
    "at_s": 1700000000.5,
    "at_ms": 1700000000000,
    "at_us": "2024-01-01t10:15z",
    "at_ns": 1700000000123456789,
    "local_ms": 1700000000123.9,
    "day_s": -1,
    "day_d": 19000,
}
ZONED = [f"2024-01-31 10:15:30.123456789{zone}" for zone in ("Z", "z", "+02", "+0200", "+02:00", " +02:00", "-00:00")]


def rows(decoded: Any) -> list[tuple[Any, ...]]:
    """The rows, with NaN as itself and zero with its sign."""
    lists = [column.to_pylist() for column in decoded.columns]
    return [
        tuple((value, math.copysign(1, value)) if isinstance(value, float) else value for value in row)
        for row in zip(*lists, strict=True)
    ]


@settings(max_examples=400, deadline=None)
@given(values=st.lists(objects() | st.none(), min_size=1, max_size=8), header=st.sampled_from((0, 5)))
@example(
    values=[b'{"at_ns": -1, "at_ms": -0.5, "at_s": -0.0000001, "day_d": -0.5, "day_s": 1e3, "small": 1e3}'], header=0
)
@example(values=[b"null", b"", b'{"schema":null,"payload":null}', b'{"ID": 1}', b"[]", b"\xef\xbb\xbf{}"], header=0)
@example(values=[json.dumps(GOOD).encode(), None, b"{}", b'{"former":"2020-01-01T00:00:00Z","large":null}'], header=0)
def test_the_reader_in_c_reads_what_the_strict_one_reads(values: list[bytes | None], header: int) -> None:
    framed = [value if value is None else b"\0\0\0\0\1"[:header] + value for value in values]
    given_values = pa.array(framed, pa.large_binary())
    fast, strict = (
        NativeJsonReader(FIELDS).decode(given_values, header),
        JsonReader(FIELDS).decode(given_values, header),
    )
    assert dict(fast.faults) == dict(strict.faults)
    assert fast.nothing == strict.nothing
    assert [column.type for column in fast.columns] == [column.type for column in strict.columns]
    assert rows(fast) == rows(strict)


def test_plain_objects_are_read_in_c() -> None:
    reader = NativeJsonReader(FIELDS)
    events = [GOOD, ALSO_GOOD, *({"at": text, "large": 1} for text in ZONED)]
    texts = [json.dumps(event, ensure_ascii=False).encode() for event in events]
    bounds = [0, *itertools.accumulate(map(len, texts))]
    after, refused, (count, *_) = reader._decoder.decode(
        b"".join(texts), memoryview(pa.array(bounds).buffers()[1]), b"\1" * len(texts), 0, 0, 1 << 30
    )
    assert (after, refused, count) == (len(texts), [], len(texts))


def test_contracts_with_nested_fields_are_for_the_strict_reader() -> None:
    assert is_plain(FIELDS)
    assert not is_plain((*FIELDS, Field("tags", FieldType(Kind.LIST, items=FieldType(Kind.STRING)))))
