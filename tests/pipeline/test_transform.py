"""A derived product's SQL, run over tables that stand for its inputs: its columns and types, and what is refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import arrow_schema
from mesh_pipelines.engine import View
from mesh_pipelines.errors import TransformInvalid
from mesh_pipelines.pipeline import transform
from mesh_pipelines.sandbox.author import Allowance
from tests.building import contract_text, written

PROPERTIES = """
- {name: id, logicalType: string, primaryKey: true}
- {name: total, logicalType: number, physicalType: "decimal(9, 2)"}
"""


ORDERS = View("SELECT * FROM (VALUES ('a', 1.5), ('a', 2), ('b', 4)) AS t(id, amount)", frozenset())


def totals(assets: Path, sql: str) -> DataProduct:
    inputs = "- {property: mesh.inputs, value: [shop.orders]}"
    text = contract_text("shop.totals", PROPERTIES, alignment="aggregate-aligned", settings=inputs)
    return written(assets, text, sql)


def rows(assets: Path, sql: str, seconds: float = 30) -> pa.Table:
    return transform.run(totals(assets, sql), {"shop.orders": ORDERS}, Allowance(seconds)).read_all()


def test_rows_come_in_the_contracts_columns_and_types(tmp_path: Path) -> None:
    sql = "SELECT sum(amount) AS total, id FROM shop.orders GROUP BY id ORDER BY id;"
    found = rows(tmp_path, sql)
    assert found.schema == arrow_schema(totals(tmp_path, sql))
    assert found.to_pylist() == [{"id": "a", "total": Decimal("3.50")}, {"id": "b", "total": Decimal("4.00")}]


def test_no_rows_have_the_columns(tmp_path: Path) -> None:
    sql = "SELECT id, amount AS total FROM shop.orders WHERE false"
    found = rows(tmp_path, sql)
    assert (found.num_rows, found.schema) == (0, arrow_schema(totals(tmp_path, sql)))


def refusal(assets: Path, sql: str) -> str:
    with pytest.raises(TransformInvalid) as caught:
        rows(assets, sql)
    assert caught.value.message.startswith("shop.totals: transform.sql: ")
    return caught.value.message.removeprefix("shop.totals: transform.sql: ")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT id FROM shop.orders", "its result lacks total"),
        ("SELECT id, 1 AS total, 2 AS more FROM shop.orders", "its result has more, which the contract does not"),
        ("SELECT 1 AS other", "its result lacks id, total and has other, which the contract does not"),
        ("SELECT id, amount AS total FROM shop.returns", "it reads shop.returns, but its inputs are shop.orders"),
        ("SELECT id, wrong AS total FROM shop.orders", "wrong"),
        ("SELECT id, 'x' AS total FROM shop.orders", "x"),
        ("SELECT id, 1e9 AS total FROM shop.orders", ""),
        ("DROP TABLE shop.orders", "it "),
        ("SELECT id, (SELECT getenv('HOME')) AS total FROM shop.orders", "getenv"),
    ],
)
def test_what_is_not_a_transform_says_why(tmp_path: Path, sql: str, said: str) -> None:
    assert said in refusal(tmp_path, sql)


def test_a_transform_ends_when_its_time_is_up(tmp_path: Path) -> None:
    endless = "SELECT 'a' AS id, sum(a.range * b.range) AS total FROM range(10000000) a, range(10000000) b"
    with pytest.raises(TransformInvalid, match="took longer than MESH_SQL_TIMEOUT_S allows"):
        rows(tmp_path, endless, seconds=0.2)


def test_what_each_column_is_made_from(tmp_path: Path) -> None:
    orders = written(
        tmp_path, contract_text("shop.orders", "- {name: id, logicalType: string, primaryKey: true}\n" + AMOUNT)
    )
    found = transform.lineage(
        totals(tmp_path, "SELECT id, sum(amount) AS total FROM shop.orders GROUP BY id"), {"shop.orders": orders}
    )
    assert {name: [(one.product, one.column) for one in sources] for name, sources in found.items()} == {
        "id": [("shop.orders", "id")],
        "total": [("shop.orders", "amount")],
    }
    with pytest.raises(TransformInvalid, match="its result lacks total"):
        transform.lineage(totals(tmp_path, "SELECT id FROM shop.orders"), {"shop.orders": orders})


AMOUNT = "- {name: amount, logicalType: integer}"
