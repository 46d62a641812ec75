"""The one reader of Avro schemas: what a schema's types are as columns, and why some have none."""

from typing import Any

import pytest

from mesh_pipelines.contract.model import MAX_TYPE_DEPTH, FieldType, Kind
from mesh_pipelines.formats.avro.schema import Unreadable, tree
from mesh_pipelines.formats.avro.to_fields import field_type, member_type


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ("string", Kind.STRING),
        (["null", "long"], Kind.LONG),
        (["long", "null"], Kind.LONG),
        ({"type": {"type": "int", "logicalType": "date"}}, Kind.DATE),
        ({"type": "long", "logicalType": "timestamp-millis"}, Kind.TIMESTAMP),
        ({"type": "int", "logicalType": "time-millis"}, Kind.TIME),
        ({"type": "long", "logicalType": "unheard-of"}, Kind.LONG),
        ({"type": "string", "logicalType": "date"}, Kind.STRING),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, Kind.STRING),
        ({"type": "fixed", "name": "F", "size": 3}, Kind.BYTES),
        ({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, Kind.UUID),
        ({"type": "fixed", "name": "U", "size": 15, "logicalType": "uuid"}, Kind.BYTES),
        ({"type": "bytes", "logicalType": "decimal"}, Kind.BYTES),
        ({"type": "bytes", "logicalType": "decimal", "precision": 64, "scale": 127}, Kind.BYTES),
        ({"type": "bytes", "logicalType": "decimal", "precision": True, "scale": 0}, Kind.BYTES),
    ],
)
def test_types_of_columns(schema: Any, kind: Kind) -> None:
    assert field_type(tree(schema)) == FieldType(kind)


def test_named_types_are_found_again_by_short_and_full_name() -> None:
    point = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "double"}]}
    schema = {
        "type": "record",
        "name": "Line",
        "namespace": "org.example",
        "fields": [
            {"name": "a", "type": point},
            {"name": "b", "type": ["null", "Point"]},
            {"name": "c", "type": "org.example.Point"},
        ],
    }
    a, b, c = field_type(tree(schema)).fields
    assert a.type == b.type == c.type
    assert [field.required for field in (a, b, c)] == [True, False, True]


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (["null"], "is null and nothing else"),
        ("text", "has the unknown type 'text'"),
        ({"type": "record", "name": "R"}, "defines the record R without its fields"),
        ({"type": "enum"}, "has the type enum without a name"),
        ({}, "in place of an Avro type"),
        (None, "in place of an Avro type"),
    ],
)
def test_types_that_no_column_has_say_why(schema: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        field_type(tree(schema))


def test_recursion_and_depth_are_refused_with_the_field() -> None:
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    schema = {"type": "record", "name": "R", "fields": [{"name": "first", "type": node}]}
    with pytest.raises(Unreadable, match=r"field first\.next is recursive"):
        field_type(tree(schema))
    deep: Any = "int"
    for _ in range(MAX_TYPE_DEPTH + 2):
        deep = {"type": "array", "items": deep}
    with pytest.raises(ValueError, match="nests deeper"):
        field_type(tree(deep))


def test_a_field_reads_whatever_the_other_fields_are() -> None:
    fields = [{"name": "again", "type": ["null", "R"]}, {"name": "id", "type": "long"}]
    record = tree({"type": "record", "name": "R", "fields": fields})
    assert member_type(record, "id") == FieldType(Kind.LONG)
    with pytest.raises(Unreadable, match="field again is recursive: R holds itself"):
        member_type(record, "again")
