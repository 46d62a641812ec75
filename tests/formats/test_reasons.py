"""Why an event is held back: field, type and rule; the value only where the field, with all inside it, is public."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import PUBLIC, Field, FieldType, Kind
from mesh_pipelines.formats.codec import codec_of
from mesh_pipelines.formats.decoded import Decoded
from mesh_pipelines.formats.guarded import Guarded
from mesh_pipelines.formats.json.portable import JsonReader
from mesh_pipelines.formats.registered import FORMATS

AMOUNT = FieldType(Kind.DECIMAL, 6, 2)
CANARY = "7777.771234"
TEXT = "canary-7f3a"


def holder(kind: FieldType, classification: str) -> dict[str, tuple[Field, str]]:
    """Fields that hold a type in each way, the innermost that can be classified so, and where {} is the value."""
    inner = FieldType(Kind.STRUCT, fields=(Field("inner", kind, classification=classification),))
    return {
        "plain": (Field("top", kind, classification=classification), "{}"),
        "object": (Field("top", inner), '{{"inner": {}}}'),
        "list": (Field("top", FieldType(Kind.LIST, items=kind), classification=classification), "[{}]"),
        "list of objects": (Field("top", FieldType(Kind.LIST, items=inner)), '[{{"inner": {}}}]'),
        "map": (Field("top", FieldType(Kind.MAP, items=kind), classification=classification), '{{"k": {}}}'),
        "map of objects": (Field("top", FieldType(Kind.MAP, items=inner)), '{{"k": {{"inner": {}}}}}'),
        "key": (Field("top", FieldType(Kind.MAP, items=kind), classification=classification), '{{{}: "x"}}'),
    }


WRONG = {
    "decimal": (AMOUNT, CANARY),
    "decimal as text": (AMOUNT, f'"{TEXT}"'),
    "decimal as an exact text": (AMOUNT, f'"{CANARY}"'),
    "long": (FieldType(Kind.LONG), f'"{TEXT}"'),
    "boolean": (FieldType(Kind.BOOLEAN), f'"{TEXT}"'),
    "date": (FieldType(Kind.DATE), f'"{TEXT}"'),
    "time": (FieldType(Kind.TIME), f'"{TEXT}"'),
    "timestamp": (FieldType(Kind.TIMESTAMP), f'"{TEXT}"'),
    "timestamp-local": (FieldType(Kind.TIMESTAMP_LOCAL), f'"{TEXT}"'),
    "bytes": (FieldType(Kind.BYTES), f'"{TEXT}"'),
    "object": (FieldType(Kind.STRUCT, fields=(Field("x", AMOUNT),)), f'"{TEXT}"'),
    "no UTF-8": (FieldType(Kind.STRING), f'"{TEXT}\udcff"'),
    "cut short": (FieldType(Kind.STRING), f'"{TEXT}'),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("place", holder(AMOUNT, PUBLIC))
def test_a_reason_tells_no_value_of_a_field_that_is_not_public(place: str, wrong: str, native: bool) -> None:
    kind, value = WRONG[wrong]
    field, form = holder(kind, "restricted")[place]
    if place == "key" and not value.startswith('"'):
        value = f'"{value}"'
    event = f'{{"top": {form.format(value)}}}'.encode(errors="surrogateescape")
    values = pa.array([event], pa.large_binary())
    found = codec_of(FORMATS["json"]).reader((field,), "", native=native).decode(values)
    assert list(found.faults) == [0]
    assert TEXT not in found.faults[0]
    assert "7777" not in found.faults[0]


def test_a_reason_tells_the_value_of_a_public_field_and_the_type_and_rule_of_any() -> None:
    values = pa.array([b'{"top": 7777.771234}'], pa.large_binary())
    public = JsonReader((Field("top", AMOUNT),)).decode(values)
    rule = "field top does not fit its type DECIMAL(6, 2): must be a decimal(6, 2)"
    assert public.faults == {0: f"{rule}, got 7777.771234"}
    restricted = JsonReader((Field("top", AMOUNT, classification="personal"),)).decode(values)
    assert restricted.faults == {0: rule}


@dataclasses.dataclass
class Quoting:
    """A reader that fails as native code may, with a value in its words."""

    fields: tuple[Field, ...]

    def decode(self, values: pa.LargeBinaryArray, header_bytes: int = 0) -> Decoded:
        raise RuntimeError(f"at {values[0].as_py().decode()}")


@pytest.mark.parametrize(("classification", "reason"), [(PUBLIC, f"at {TEXT}"), ("restricted", "RuntimeError")])
def test_what_a_reader_says_as_it_fails_is_told_for_public_fields_only(classification: str, reason: str) -> None:
    reader: Any = Quoting((Field("top", FieldType(Kind.STRING), classification=classification),))
    guarded = Guarded()
    try:
        found = guarded.decode(reader, pa.array([TEXT.encode()], pa.large_binary()))
    finally:
        guarded.close()
    assert found.faults == {0: f"cannot be decoded: {reason}"}
