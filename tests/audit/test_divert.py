from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from mesh_pipelines.audit.divert import VALUE, Diverter
from mesh_pipelines.contract.types import log_schema
from tests.building import log_row

DIVERT = {"customProperties": [{"property": "mesh.onFailure", "value": "divert"}]}
FRAGMENT = {
    "properties": [
        {"name": "speed", "logicalType": "number", "logicalTypeOptions": {"minimum": 0, "maximum": 254}, **DIVERT},
        {
            "name": "place",
            "logicalType": "string",
            "required": True,
            "quality": [
                {
                    "name": "known",
                    "description": "Only airports of New York.",
                    "metric": "invalidValues",
                    "arguments": {"validValues": ["EWR", "JFK"]},
                    "mustBe": 0,
                    **DIVERT,
                }
            ],
        },
    ]
}


@pytest.fixture(scope="module")
def product(make_product):
    return make_product(FRAGMENT)


def batch(product, rows: list[dict[str, Any]]) -> pa.Table:
    schema = log_schema(product).append(pa.field(VALUE, pa.large_binary()))
    instant = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    given = [
        log_row(number, {"_timestamp": instant, VALUE: f"value {number}".encode(), **row}, op="append")
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(given, schema=schema)


def divert(given: pa.Table, product) -> pa.Table:
    with closing(Diverter(product)) as diverter:
        return diverter.divert(given)


def fates(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in ("_fate", "_rule", "_reason", "_raw")) for row in table.to_pylist()]


def test_events_that_break_a_diverting_rule_are_held_back_with_their_bytes(product):
    rows = [
        {"speed": 10, "place": "JFK"},
        {"speed": 1048, "place": "JFK"},
        {"speed": -1, "place": "XXX"},
        {"speed": 1, "place": "XXX"},
        {},
    ]
    given = batch(product, rows)
    held = divert(given, product)
    assert held.schema == log_schema(product)
    assert fates(held) == [
        ("ok", None, None, None),
        ("diverted", "speed.maximum", "speed breaks maximum: 254", b"value 1"),
        ("diverted", "speed.minimum", "speed breaks minimum: 0", b"value 2"),
        ("diverted", "place.known", "Only airports of New York.", b"value 3"),
        ("ok", None, None, None),
    ]
    others = [name for name in held.column_names if name not in ("_fate", "_rule", "_reason", "_raw")]
    assert held.select(others).equals(given.select(others))


def test_rules_that_do_not_divert_hold_nothing_back(product):
    assert {rule.id for rule in product.rules} > {"place.required"}
    assert fates(divert(batch(product, [{"speed": 1}]), product)) == [("ok", None, None, None)]


def test_tombstones_and_events_already_set_aside_are_left_alone(product):
    undecodable = {"_fate": "undecodable", "_rule": "avro", "_reason": "short", "_raw": b"raw", "speed": 999}
    held = divert(batch(product, [{"_op": "delete", "speed": 999}, undecodable]), product)
    assert fates(held) == [("ok", None, None, None), ("undecodable", "avro", "short", b"raw")]


def test_several_chunks_keep_their_order(product):
    rows = [{"speed": float(number), "place": "JFK"} for number in range(250, 260)]
    whole = batch(product, rows)
    chunked = pa.concat_tables([whole.slice(0, 3), whole.slice(3, 4), whole.slice(7)])
    assert divert(chunked, product).combine_chunks().equals(divert(whole, product).combine_chunks())
    assert [fate for fate, *_ in fates(divert(chunked, product))] == ["ok"] * 5 + ["diverted"] * 5


def test_one_engine_judges_every_batch_of_a_landing(product, monkeypatch):
    opened: list[duckdb.DuckDBPyConnection] = []
    connect = duckdb.connect

    def counted() -> duckdb.DuckDBPyConnection:
        opened.append(connect())
        return opened[-1]

    monkeypatch.setattr(duckdb, "connect", counted)
    with closing(Diverter(product)) as diverter:
        fates_of = [fates(diverter.divert(batch(product, [{"speed": speed, "place": "JFK"}]))) for speed in (1, 999)]
    assert [[fate for fate, *_ in each] for each in fates_of] == [["ok"], ["diverted"]]
    [engine] = opened
    with pytest.raises(duckdb.ConnectionException):
        engine.execute("SELECT 1")


@pytest.mark.parametrize("rows", [[], [{"speed": 1, "place": "JFK"}]])
def test_the_raw_column_always_goes(product, rows):
    assert divert(batch(product, rows), product).schema == log_schema(product)


def test_a_product_without_diverting_rules_is_not_even_looked_at(make_product, monkeypatch):
    product = make_product({"properties": [{"name": "a", "logicalType": "integer", "required": True}]})
    monkeypatch.setattr(Diverter, "_first_broken", None)
    given = batch(product, [{}, {"a": 1}])
    assert divert(given, product).equals(given.drop_columns([VALUE]))


def test_a_reason_repeats_no_list_or_limit_of_a_field_that_is_not_public(make_product) -> None:
    properties = [{**one, "classification": "confidential"} for one in FRAGMENT["properties"]]
    del (rule := dict(properties[1]["quality"][0]))["description"]
    properties[1]["quality"] = [rule]
    product = make_product({"properties": properties})
    found = divert(batch(product, [{"speed": 300, "place": "JFK"}, {"speed": 1, "place": "BOS"}]), product)
    assert [row["_reason"] for row in found.to_pylist()] == ["speed breaks maximum", "place breaks invalidValues"]
