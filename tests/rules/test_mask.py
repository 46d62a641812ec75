"""A row's number against each rule's own query, row by row: what counts are added up from."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import arrow_schema
from mesh_pipelines.rules.compile import compile_product
from mesh_pipelines.rules.mask import MISKEYED, MOST_RULES, keeps_unique, mask_of

FIELDS = [
    {"name": "id", "logicalType": "string", "primaryKey": True, "primaryKeyPosition": 1},
    {"name": "part", "logicalType": "integer", "primaryKey": True, "primaryKeyPosition": 2, "unique": True},
    {
        "name": "text",
        "logicalType": "string",
        "logicalTypeOptions": {"minLength": 1, "maxLength": 2, "pattern": "^[ab]*$"},
        "quality": [{"metric": "missingValues", "arguments": {"missingValues": ["a", None]}, "mustBe": 0}],
    },
    {
        "name": "share",
        "logicalType": "number",
        "logicalTypeOptions": {"minimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.5},
        "quality": [{"metric": "nullValues", "mustBeLessThan": 50, "unit": "percent"}],
    },
]
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.none() | st.sampled_from(["a", 'quo"te', "b"]),
            "part": st.none() | st.integers(0, 2),
            "text": st.none() | st.text("abc", max_size=3),
            "share": st.none() | st.sampled_from([-1.0, 0.0, 0.5, 0.7, 1.0, float("nan"), float("inf")]),
            "keyed": st.booleans(),
        }
    ),
    min_size=1,
    max_size=12,
)


@pytest.fixture(scope="module")
def product(make_product) -> DataProduct:
    return make_product({"properties": FIELDS, "eventType": "state"})


def key_of(row: dict[str, Any]) -> bytes:
    if "_key" in row:
        return row["_key"]
    return json.dumps([row["id"], row["part"]], separators=(",", ":")).encode() if row["keyed"] else b"other"


def numbered(connection: duckdb.DuckDBPyConnection, product: DataProduct, rows: list[dict[str, Any]]) -> None:
    """The rows as the table ``things``, in their order by ``_row``."""
    table = pa.Table.from_pylist(rows, schema=arrow_schema(product))
    table = table.append_column("_key", pa.array([key_of(row) for row in rows], pa.binary()))
    connection.register("given", table.append_column("_row", pa.array(range(len(rows)))))
    connection.execute("CREATE OR REPLACE TABLE things AS FROM given")


def rows_where(connection: duckdb.DuckDBPyConnection, condition: str) -> set[int]:
    return {row for (row,) in connection.execute(f"SELECT _row FROM things WHERE {condition}").fetchall()}


@settings(deadline=None, max_examples=60)
@given(rows=ROWS)
def test_each_bit_is_what_the_rule_finds_by_itself(product: DataProduct, rows: list[dict[str, Any]]) -> None:
    mask = mask_of(product)
    with duckdb.connect() as connection:
        numbered(connection, product, rows)
        numbers = dict(connection.execute(f"SELECT _row, {mask.sql} FROM things").fetchall())
        for compiled in compile_product(product).row_rules:
            found = {row for row, number in numbers.items() if number >> mask.bits[compiled.rule.id] & 1}
            assert found == rows_where(connection, compiled.predicate), compiled.rule.id
    # A key with a null in it has no text, so that no message key is that text.
    keyed = {at for at, row in enumerate(rows) if row["keyed"] and None not in (row["id"], row["part"])}
    assert {row for row, number in numbers.items() if not number >> MISKEYED & 1} == keyed
    assert all(number < 1 << MISKEYED + 1 for number in numbers.values())


def test_every_row_rule_has_a_bit_of_its_own(product: DataProduct) -> None:
    mask = mask_of(product)
    assert mask.rules == tuple(one.rule.id for one in compile_product(product).row_rules)
    assert sorted(mask.bits.values()) == list(range(len(mask.rules)))
    assert MISKEYED not in mask.bits.values()


def test_a_row_that_cannot_be_judged_has_no_number_and_the_others_have(make_product) -> None:
    amount = {"name": "a", "logicalType": "number", "physicalType": "decimal(38, 0)"}
    product = make_product({"properties": [{**amount, "logicalTypeOptions": {"minimum": 0.5}}]})
    rows = [{"a": Decimal(value), "_key": b""} for value in ("0", "9" * 38, "1")]
    with duckdb.connect() as connection:
        numbered(connection, product, rows)
        numbers = connection.execute(f"SELECT {mask_of(product).sql} FROM things ORDER BY _row").fetchall()
    # Without a key every message's key counts as another one.
    assert numbers == [(1 << MISKEYED | 1,), (None,), (1 << MISKEYED,)]


@pytest.mark.parametrize(("count", "fit"), [(MOST_RULES, True), (MOST_RULES + 1, False)])
def test_more_rules_than_bits_are_no_number(make_product, count: int, fit: bool) -> None:
    rules = [{"metric": "invalidValues", "arguments": {"validValues": [n]}, "mustBe": 0} for n in range(count)]
    product = make_product({"properties": [{"name": "a", "logicalType": "integer", "quality": rules}]})
    mask = mask_of(product)
    with duckdb.connect() as connection:
        numbered(connection, product, [{"a": count - 1, "_key": b""}])
        [(number,)] = connection.execute(f"SELECT {mask.sql} FROM things").fetchall()
    others = (1 << count - 1) - 1
    assert (len(mask.rules), number) == ((count, others | 1 << MISKEYED) if fit else (0, None))


def test_the_fingerprint_changes_with_what_the_bits_mean_and_with_nothing_else(make_product) -> None:
    def fingerprint(maximum: int, **more: Any) -> str:
        field = {"name": "a", "logicalType": "integer", "logicalTypeOptions": {"maximum": maximum}, **more}
        return mask_of(make_product({"properties": [field]})).fingerprint

    assert fingerprint(1) == fingerprint(1, description="Another word for it.")
    assert len({fingerprint(1), fingerprint(2), fingerprint(1, required=True)}) == 3


def test_what_the_key_makes_unique(product: DataProduct) -> None:
    kept = {rule.id: keeps_unique(rule, product) for rule in product.rules if rule.kind == "unique"}
    assert kept == {"key.unique": True, "part.unique": False}
