"""Numbers that stand for days and instants, as the contract says what they count: in JSON and in Avro's plain longs."""

from __future__ import annotations

import datetime as dt
import io
import json
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import EPOCHS, Field, FieldType, Kind
from mesh_pipelines.formats.avro.agreement import disagreements
from mesh_pipelines.formats.codec import Refused, codec_of
from mesh_pipelines.formats.registered import FORMATS
from mesh_pipelines.formats.resolve import project
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

FIELDS = """
- {name: id, logicalType: integer, primaryKey: true}
- {name: at, logicalType: timestamp, customProperties: [{property: mesh.epoch, value: ms}]}
- {name: day, logicalType: date, customProperties: [{property: mesh.epoch, value: d}]}
- name: times
  logicalType: array
  items: {logicalType: timestamp, customProperties: [{property: mesh.epoch, value: s}]}
- name: stop
  logicalType: object
  properties:
    - name: local
      logicalType: timestamp
      logicalTypeOptions: {timezone: false}
      customProperties: [{property: mesh.epoch, value: us}]
"""
EVENT = {
    "id": 1,
    "at": 1_700_000_000_123,
    "day": 19_675,
    "times": [1_700_000_000, None],
    "stop": {"local": 1_700_000_000_123_456},
}
ROW = {
    "id": 1,
    "at": dt.datetime(2023, 11, 14, 22, 13, 20, 123_000, dt.UTC),
    "day": dt.date(2023, 11, 14),
    "times": [dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC), None],
    "stop": {"local": dt.datetime(2023, 11, 14, 22, 13, 20, 123_456, dt.UTC).replace(tzinfo=None)},
}
PLAIN = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "at", "type": ["null", "long"], "default": None},
        {"name": "day", "type": ["null", "int"], "default": None},
        {"name": "times", "type": ["null", {"type": "array", "items": ["null", "long"]}], "default": None},
        {
            "name": "stop",
            "type": [
                "null",
                {"type": "record", "name": "Stop", "fields": [{"name": "local", "type": ["null", "long"]}]},
            ],
            "default": None,
        },
    ],
}


def rows(name: str, fields: tuple[Field, ...], schema: str, value: bytes, native: bool) -> list[dict[str, Any]]:
    reader = codec_of(FORMATS[name]).reader(fields, schema, native=native)
    found = reader.decode(pa.array([value], pa.large_binary()))
    assert found.faults == {}
    return pa.table(found.columns, names=[field.name for field in fields]).to_pylist()


def test_numbers_are_read_as_the_contract_counts_them_at_any_depth(
    local_settings: Settings, contract: Any, native: bool
) -> None:
    name = contract("stops", FIELDS)
    fields = Platform.open(local_settings).product(name).fields
    assert rows("json", fields, "", json.dumps(EVENT).encode(), native) == [ROW]
    datum = io.BytesIO()
    fastavro.schemaless_writer(datum, PLAIN, EVENT)
    assert rows("avro", fields, json.dumps(PLAIN), datum.getvalue(), native) == [ROW]
    assert disagreements(json.dumps(PLAIN), fields) == []


def test_a_plain_long_is_no_instant_without_it(native: bool) -> None:
    fields = (Field("at", FieldType(Kind.TIMESTAMP)),)
    with pytest.raises(Refused, match="field at must be timestamp as in the contract, got long"):
        codec_of(FORMATS["avro"]).reader(fields, json.dumps(PLAIN), native=native)
    assert disagreements(json.dumps({**PLAIN, "fields": [PLAIN["fields"][1]]}), fields)  # type: ignore[index]


EDGES = [-(2**63), -62_135_596_800_001, -62_135_596_800_000, -1, 0, 1, 253_402_300_799_999, 2**63 - 1]


@pytest.mark.parametrize("kind", [Kind.TIMESTAMP, Kind.TIMESTAMP_LOCAL, Kind.DATE])
@pytest.mark.parametrize("unit", EPOCHS)
def test_longs_of_avro_are_the_instants_that_the_same_numbers_are_in_json(kind: Kind, unit: str) -> None:
    if unit == "d" and kind is not Kind.DATE:
        return
    scale = {"s": 10**-3, "ms": 1, "us": 10**3, "ns": 10**6, "d": 1 / 86_400_000}[unit]
    near = [int(edge * scale) + by for edge in EDGES for by in (-1, 0, 1, 999)]
    numbers = [number for number in near if -(2**63) <= number < 2**63]
    field = Field("at", FieldType(kind, epoch=unit))
    long = FieldType(Kind.LONG)
    found = project({"at": pa.array([*numbers, None])}, len(numbers) + 1, [field], types={"at": long})
    texts = [b'{"at": %d}' % number for number in numbers] + [b'{"at": null}']
    expected = codec_of(FORMATS["json"]).reader([field], "", native=False).decode(pa.array(texts, pa.large_binary()))
    assert list(found.faults) == list(expected.faults)
    assert found.columns[0].equals(expected.columns[0])
    narrow = project({"at": pa.array(np.array([0, 1], np.int32))}, 2, [field], types={"at": FieldType(Kind.INT)})
    assert narrow.faults == {}
