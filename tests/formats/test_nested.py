"""Objects, lists and maps inside one another: JSON and Avro, in C and without it, all give the rows that went out."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.codec import codec_of
from mesh_pipelines.formats.registered import FORMATS
from mesh_pipelines.native import extension

NATIVE = [False, True] if extension() else [False]
# A type, its values as Python has them, and the same values as Arrow gives them back.
Typed = tuple[FieldType, st.SearchStrategy[Any]]
LEAVES: list[Typed] = [
    (FieldType(Kind.LONG), st.integers(-(2**63), 2**63 - 1)),
    (FieldType(Kind.STRING), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
    (FieldType(Kind.BOOLEAN), st.booleans()),
    (FieldType(Kind.DECIMAL, 6, 2), st.decimals(-9999, 9999, places=2)),
    (FieldType(Kind.TIMESTAMP), st.datetimes(timezones=st.just(dt.UTC))),
    (FieldType(Kind.BYTES), st.binary(max_size=4)),
]
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)


def grown(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    """Collections of values of other types; nulls among them."""
    lists = inner.map(lambda one: (FieldType(Kind.LIST, items=one[0]), st.lists(st.none() | one[1], max_size=3)))
    maps = inner.map(
        lambda one: (FieldType(Kind.MAP, items=one[0]), st.dictionaries(KEYS, st.none() | one[1], max_size=3))
    )
    objects = st.lists(inner, min_size=1, max_size=3).map(_object)
    return lists | maps | objects


def _object(members: list[Typed]) -> Typed:
    fields = tuple(Field(f"f{number}", kind) for number, (kind, _) in enumerate(members))
    values = {f"f{number}": st.none() | values for number, (_, values) in enumerate(members)}
    return FieldType(Kind.STRUCT, fields=fields), st.fixed_dictionaries(values)


TYPES = st.recursive(st.sampled_from(LEAVES), grown, max_leaves=5)


def given_back(value: Any, kind: FieldType) -> Any:
    """A value as a column gives it: a map is the list of its entries."""
    if value is None:
        return None
    match kind.kind:
        case Kind.LIST:
            return [given_back(item, kind.items) for item in value]  # type: ignore[arg-type]
        case Kind.MAP:
            return [(key, given_back(item, kind.items)) for key, item in value.items()]  # type: ignore[arg-type]
        case Kind.STRUCT:
            return {field.name: given_back(value[field.name], field.type) for field in kind.fields}
        case _:
            return value


def decoded(name: str, fields: tuple[Field, ...], rows: list[dict[str, Any]], *, native: bool) -> list[Any]:
    """The rows after they went out and came in, as tuples; no event may have been refused."""
    chosen = FORMATS[name]
    schema = chosen.schemas.compile("things", "tests", fields) if chosen.schemas else ""
    codec = codec_of(chosen)
    encode = codec.encoder(fields, schema)
    values = pa.array([encode(row) for row in rows], pa.large_binary())
    found = codec.reader(fields, schema, native=native).decode(values)
    assert found.faults == {}
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


# What events may call a field: as Avro, JSON and Protobuf have names, and as people write them.
EVENT_NAMES = ("orderId", "_id", "ID", "class", "x9", "Größe", "order-id", "a b", "$ref", "0", "a.b", "名前", "{}")


def called(field: Field, data: st.DataObject, is_free: bool) -> Field:
    """The field, and those in it, under names that events may have; free ones only where no schema is made of them."""
    number = int(field.name[1:])
    names = EVENT_NAMES if is_free else EVENT_NAMES[:5]
    name = data.draw(st.sampled_from(["", *names]))
    return replace(field, physical_name=name and f"{name}{number or ''}", type=called_inside(field.type, data, is_free))


def called_inside(kind: FieldType, data: st.DataObject, is_free: bool) -> FieldType:
    items = kind.items and called_inside(kind.items, data, is_free)
    return replace(kind, items=items, fields=tuple(called(field, data, is_free) for field in kind.fields))


@settings(max_examples=150, deadline=None)
@given(typed=st.lists(TYPES, min_size=1, max_size=3), data=st.data())
@pytest.mark.parametrize("name", FORMATS)
def test_events_may_call_a_field_anything(name: str, typed: list[Typed], data: st.DataObject) -> None:
    plain = tuple(Field(f"c{number}", kind) for number, (kind, _) in enumerate(typed))
    fields = tuple(called(field, data, FORMATS[name].schemas is None) for field in plain)
    row = st.fixed_dictionaries({f"c{number}": st.none() | values for number, (_, values) in enumerate(typed)})
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    expected = [tuple(given_back(one[field.name], field.type) for field in fields) for one in rows]
    for native in NATIVE:
        assert decoded(name, fields, rows, native=native) == expected


AVRO_NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), min_size=1, max_size=9)


@settings(max_examples=100, deadline=None)
@given(names=st.lists(AVRO_NAMES, min_size=3, max_size=3, unique=True), value=st.integers(0, 50))
def test_avro_fields_and_types_have_whatever_names_a_producer_gave_them(names: list[str], value: int) -> None:
    outer, inner, record = names
    held = {"type": "record", "name": f"{record}$In-ner", "fields": [{"name": inner, "type": "long"}]}
    schema = {
        "type": "record",
        "name": f"{record}-Value",
        "namespace": "my-server.inventory$",
        "fields": [{"name": "skipped", "type": ["null", held]}, {"name": outer, "type": f"{record}$In-ner"}],
    }
    field = Field("a", FieldType(Kind.STRUCT, fields=(Field("b", FieldType(Kind.LONG), physical_name=inner),)))
    datum = pa.array([bytes([0, value * 2])], pa.large_binary())
    for native in NATIVE:
        codec = codec_of(FORMATS["avro"])
        reader = codec.reader([replace(field, physical_name=outer)], json.dumps(schema), native=native)
        found = reader.decode(datum)
        assert (found.faults, found.columns[0].to_pylist()) == ({}, [{"b": value}])


@settings(max_examples=150, deadline=None)
@given(typed=st.lists(TYPES, min_size=1, max_size=3), data=st.data())
@pytest.mark.parametrize("name", FORMATS)
def test_nested_values_come_back_as_they_went_out(name: str, typed: list[Typed], data: st.DataObject) -> None:
    fields = tuple(Field(f"c{number}", kind) for number, (kind, _) in enumerate(typed))
    row = st.fixed_dictionaries({f"c{number}": st.none() | values for number, (_, values) in enumerate(typed)})
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    expected = [tuple(given_back(one[field.name], field.type) for field in fields) for one in rows]
    for native in NATIVE:
        assert decoded(name, fields, rows, native=native) == expected


FARE = FieldType(
    Kind.STRUCT, fields=(Field("amount", FieldType(Kind.DECIMAL, 6, 2)), Field("at", FieldType(Kind.TIMESTAMP)))
)
INSTANT = dt.datetime(2013, 1, 31, 12, tzinfo=dt.UTC)
PAID = {"amount": Decimal("12.50"), "at": INSTANT}
HOLDERS: dict[str, tuple[FieldType, Any]] = {
    "objects": (FARE, PAID),
    "lists": (FieldType(Kind.LIST, items=FARE), [PAID, None]),
    "maps": (FieldType(Kind.MAP, items=FARE), {"a": PAID, "b": None}),
    "lists of maps": (FieldType(Kind.LIST, items=FieldType(Kind.MAP, items=FARE)), [{"a": PAID}, {}]),
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_map_of_anything_is_read(name: str, holder: str, native: bool) -> None:
    kind, value = HOLDERS[holder]
    field = Field("fares", FieldType(Kind.MAP, items=kind))
    rows = [{"fares": {"first": value, "second": None}}, {"fares": {}}, {"fares": None}]
    expected = [(given_back(row["fares"], field.type),) for row in rows]
    assert decoded(name, (field,), rows, native=native) == expected


def test_a_wrong_value_in_a_map_of_objects_is_a_fault_of_its_own_event_alone(native: bool) -> None:
    field = Field("fares", FieldType(Kind.MAP, items=FARE))
    events = [{"fares": {"a": {"amount": amount}}} for amount in ("1.50", "1.555", "2.50")]
    values = pa.array([json.dumps(event).encode() for event in events], pa.large_binary())
    found = codec_of(FORMATS["json"]).reader((field,), "", native=native).decode(values)
    assert list(found.faults) == [1]
    assert found.faults[1].startswith("field fares does not fit its type MAP(VARCHAR, STRUCT(")
    assert found.columns[0].to_pylist() == [
        [("a", {"amount": Decimal(amount), "at": None})] for amount in ("1.50", "2.50")
    ]
