"""One Avro datum walked by itself, against fastavro: it ends where the value ends, and nothing shorter is a value."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.formats.avro.schema import Node, tree
from mesh_pipelines.formats.avro.single import Broken, SingleWalk

INTS = st.integers(-(2**31), 2**31 - 1)
LONGS = st.integers(-(2**63), 2**63 - 1)
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("null", st.none()),
    ("boolean", st.booleans()),
    ("int", INTS),
    ("long", LONGS),
    ("float", st.floats(width=32, allow_nan=False)),
    ("double", st.floats(allow_nan=False)),
    ("string", st.text(max_size=8)),
    ("bytes", st.binary(max_size=8)),
]
Typed = tuple[Any, st.SearchStrategy[Any]]


def grown(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    """Types made of others, each with its values."""
    filled = inner.filter(lambda one: one[0] != "null")
    arrays = filled.map(lambda one: ({"type": "array", "items": one[0]}, st.lists(one[1], max_size=4)))
    maps = filled.map(
        lambda one: ({"type": "map", "values": one[0]}, st.dictionaries(st.text(max_size=3), one[1], max_size=3))
    )
    unions = filled.filter(lambda one: not isinstance(one[0], list)).map(
        lambda one: (["null", one[0]], st.none() | one[1])
    )
    return arrays | maps | unions


TYPES = st.recursive(st.sampled_from(LEAVES), grown, max_leaves=4)


def encoded(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def end_of(node: Node, data: bytes) -> int:
    return SingleWalk(memoryview(data)).skip(node, 0, len(data))


@given(TYPES, st.data())
def test_a_value_ends_where_its_bytes_end(typed: Typed, data: st.DataObject) -> None:
    schema, values = typed
    written = encoded(schema, data.draw(values))
    assert end_of(tree(schema), written) == len(written)
    # Whatever follows is not a part of it.
    assert end_of(tree(schema), written + b"\x01\x02\x03") == len(written)


@given(TYPES, st.data())
def test_a_part_of_a_value_is_none(typed: Typed, data: st.DataObject) -> None:
    schema, values = typed
    written = encoded(schema, data.draw(values))
    if not written:
        return
    cut = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(Broken):
        end_of(tree(schema), written[:cut])


@given(st.binary(max_size=24), TYPES)
def test_any_bytes_end_within_themselves_or_are_broken(data: bytes, typed: Typed) -> None:
    try:
        end = end_of(tree(typed[0]), data)
    except Broken:
        return
    assert 0 <= end <= len(data)


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ("int", b"\x80\x80\x80\x80\x10"),  # 2 to the 31
        ("long", b"\xff" * 9 + b"\x02"),  # beyond 64 bits
        ("long", b"\x80" * 11),
        ("boolean", b"\x02"),
        ("string", b"\x01"),  # a negative length
        ("bytes", b"\x08abc"),
        (["null", "int"], b"\x04"),
        (["null", "int"], b"\x01"),
        ({"type": "enum", "name": "e", "symbols": ["A", "B"]}, b"\x04"),
        ({"type": "enum", "name": "e", "symbols": ["A", "B"]}, b"\x01"),
        ({"type": "fixed", "name": "f", "size": 3}, b"ab"),
        ({"type": "array", "items": "int"}, b"\x80\x80\x80\x80\x20\x02"),  # more items than bytes
        ({"type": "array", "items": "int"}, b"\x01\x06\x02\x00"),  # a block of another size than it says
        ({"type": "array", "items": "int"}, b"\x02\x02"),  # no end
    ],
)
def test_bytes_that_are_no_value(schema: Any, data: bytes) -> None:
    with pytest.raises(Broken):
        end_of(tree(schema), data)


def test_a_block_may_say_its_size() -> None:
    ints = tree({"type": "array", "items": "int"})
    assert end_of(ints, b"\x01\x02\x02\x00") == 4


@pytest.mark.parametrize("count", [1, 63, 64, 65, 500])
@pytest.mark.parametrize("kind", ["int", "long", "double", "boolean"])
def test_many_items_are_passed_together_as_singly(count: int, kind: str) -> None:
    values = {"int": -7, "long": 2**62, "double": 0.5, "boolean": True}
    written = encoded({"type": "array", "items": kind}, [values[kind]] * count)
    assert end_of(tree({"type": "array", "items": kind}), written) == len(written)


def test_among_many_items_one_beyond_its_type_is_found() -> None:
    items = [1] * 100
    written = bytearray(encoded({"type": "array", "items": "long"}, [*items, 2**40]))
    with pytest.raises(Broken):
        end_of(tree({"type": "array", "items": "int"}), bytes(written))


def test_items_take_memory_even_where_they_are_null() -> None:
    schema = {"type": "array", "items": ["null", "double"]}
    written = encoded(schema, [None] * 10)
    walk = SingleWalk(memoryview(written))
    walk.skip(tree(schema), 0, len(written))
    assert walk.memory == 10 * tree(["null", "double"]).slot
    words = encoded({"type": "map", "values": "int"}, {"a": 1, "b": 2})
    walk = SingleWalk(memoryview(words))
    walk.skip(tree({"type": "map", "values": "int"}), 0, len(words))
    assert walk.memory == 2 * (tree("int").slot + tree("string").slot)
