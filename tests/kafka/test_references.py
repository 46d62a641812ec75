"""Schemas that refer to others: followed within limits, and put together as one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.avro.format import AvroSchemas
from mesh_pipelines.formats.avro.references import whole
from mesh_pipelines.formats.avro.schema import read_schema
from mesh_pipelines.formats.format import BrokenReferences, RegisteredSchema
from mesh_pipelines.kafka.references import MAX_BYTES, MAX_DEPTH, MAX_REFERENCES, follow


@dataclass(frozen=True)
class Reference:
    name: str
    subject: str
    version: int = 1


@dataclass(frozen=True)
class Found:
    """A schema as the registry's client gives it."""

    schema_str: Any
    references: tuple[Reference, ...] = ()


def chain(length: int) -> dict[str, Found]:
    return {f"s{at}": Found("{}", (Reference("n", f"s{at + 1}"),)) for at in range(length)} | {
        f"s{length}": Found("{}")
    }


def test_each_reference_comes_before_what_refers_to_it_and_once() -> None:
    subjects = {
        "a": Found("A", (Reference("b", "b"), Reference("c", "c"))),
        "b": Found("B", (Reference("c", "c"),)),
        "c": Found("C"),
    }
    asked: list[str] = []

    def ask(subject: str, version: int) -> Found:
        asked.append(f"{subject}:{version}")
        return subjects[subject]

    top = Found("top", (Reference("a", "a", -1), Reference("b", "b")))
    assert follow(top, ask) == (
        ("c", "C"),
        ("b", "B"),
        ("a", "A"),
    )
    assert sorted(asked) == ["a:-1", "b:1", "c:1"]
    assert follow(Found("alone"), ask) == ()


@pytest.mark.parametrize(
    ("subjects", "said"),
    [
        ({}, "refers to subject s0, version 1, which the registry does not have"),
        ({"s0": Found(None)}, "refers to subject s0, version 1, which the registry does not have"),
        ({"s0": Found("{}", (Reference("n", "s0"),))}, "in a circle: subject s0, version 1 -> subject s0, version 1"),
        (
            {"s0": Found("{}", (Reference("n", "s1", -1),)), "s1": Found("{}", (Reference("n", "s0"),))},
            "subject s0, version 1 -> subject s1, latest version -> subject s0, version 1",
        ),
        (chain(MAX_DEPTH), f"go deeper than {MAX_DEPTH} levels, at subject s{MAX_DEPTH}, version 1"),
        ({"s0": Found("x" * (MAX_BYTES + 1))}, f"at most {MAX_BYTES:,} characters"),
        (
            {"s0": Found("{}", tuple(Reference("n", "m", at) for at in range(MAX_REFERENCES + 1))), "m": Found("{}")},
            f"at most {MAX_REFERENCES} references",
        ),
    ],
)  # fmt: skip
def test_references_that_cannot_be_followed_are_named(subjects: dict[str, Found], said: str) -> None:
    with pytest.raises(BrokenReferences) as raised:
        follow(Found("top", (Reference("n", "s0"),)), lambda subject, _version: subjects.get(subject))
    assert said in str(raised.value)
    assert len(follow(Found("top", (Reference("n", "s1"),)), lambda s, _: chain(MAX_DEPTH).get(s))) == MAX_DEPTH


def record(name: str, *types: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": f"f{at}", "type": of} for at, of in enumerate(types)],
        **more,
    }


def put_together(schema: Any, *references: Any) -> Any:
    registered = RegisteredSchema(json.dumps(schema), "AVRO", tuple(("n", json.dumps(one)) for one in references))
    text = whole(registered)
    read_schema(text)
    return json.loads(text)


def test_a_definition_goes_where_its_type_is_first_named() -> None:
    money = {"type": "fixed", "name": "Money", "size": 8}
    line = record("Line", "com.acme.Money", "Money", namespace="com.acme")
    order = record(
        "com.shop.Order", {"type": "array", "items": "com.acme.Line"}, ["null", "com.acme.Money"], "com.acme.Line"
    )
    found = put_together(order, {**money, "namespace": "com.acme"}, line)
    [lines, money_again, line_again] = [one["type"] for one in found["fields"]]
    assert lines["items"]["fields"][0]["type"] == {**money, "namespace": "com.acme"}
    assert lines["items"]["fields"][1]["type"] == "Money"
    assert (money_again, line_again) == (["null", "com.acme.Money"], "com.acme.Line")


def test_a_type_without_a_namespace_keeps_having_none() -> None:
    found = put_together(
        record("Order", "Line", record("com.shop.Note", "string")), record("Line", "Unit"), record("Unit")
    )
    assert found["fields"][0]["type"]["namespace"] == ""
    assert found["fields"][0]["type"]["fields"][0]["type"]["namespace"] == ""


def test_a_type_within_a_reference_is_known_too() -> None:
    address = record("c.Address", {"type": "enum", "name": "Kind", "symbols": ["HOME"]})
    found = put_together(record("s.Order", "c.Kind", {"type": "map", "values": "c.Address"}), address)
    assert found["fields"][0]["type"]["symbols"] == ["HOME"]
    assert found["fields"][1]["type"]["values"]["fields"][0]["type"] == "c.Kind"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([record("Order", "A"), record("A", "int"), record("A", "long")], "its references define A in different ways"),
        (
            [record("O", "A", record("A", "int")), record("A", "long")],
            "it defines A in another way than its references",
        ),
    ],
)
def test_parts_that_do_not_fit_together_are_named(parts: list[Any], said: str) -> None:
    with pytest.raises(BrokenReferences, match=said):
        put_together(*parts)
    with pytest.raises(BrokenReferences, match="its reference n is not an Avro schema in JSON"):
        whole(RegisteredSchema(json.dumps(parts[0]), "AVRO", (("n", "["),)))


def test_a_schema_without_references_stays_as_it_is_written() -> None:
    text = '{ "type" : "record", "name": "r", "fields": [] }'
    assert whole(RegisteredSchema(text)) is text


def deep(levels: int) -> Any:
    return {"type": "array", "items": deep(levels - 1)} if levels else "A"


def test_parts_that_nest_too_deeply_are_refused() -> None:
    with pytest.raises(BrokenReferences, match="nests deeper"):
        put_together(record("Order", deep(100)), record("A"))


def test_a_schema_file_has_all_the_types_that_it_names() -> None:
    text = json.dumps(record("Order", "string", "com.acme.Address"))
    [found] = AvroSchemas().disagreements(text, (Field("f0", FieldType(Kind.STRING)),))
    assert (found.path, found.problem) == ("f1", "has the unknown type 'com.acme.Address'")
    assert found.fix == "define it where it is first named: the file has all its types"
