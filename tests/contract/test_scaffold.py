from pathlib import Path

import duckdb
import pytest

from mesh_pipelines.contract.model import Alignment
from mesh_pipelines.contract.read.load import load_product, load_products
from mesh_pipelines.contract.scaffold import scaffold
from mesh_pipelines.errors import UsageError


def test_source_product_loads(tmp_path: Path) -> None:
    (file,) = scaffold(tmp_path, "insights/busiest_routes", owner='A. "Person" <a@example.org>')
    assert file == tmp_path / "insights" / "busiest_routes" / "contract.yaml"
    product = load_product(file.parent)
    assert product.alignment is Alignment.SOURCE
    assert product.owner == 'A. "Person" <a@example.org>'
    assert [field.name for field in product.key] == ["id"]


def test_derived_product_loads_and_its_transform_runs(tmp_path: Path) -> None:
    inputs = ["order.select", "a.b_c", "a_b.c"]
    for name in inputs:
        scaffold(tmp_path, name)
    # Kafka takes the topics a.b_c and a_b.c for one.
    contract = tmp_path / "a_b" / "c" / "contract.yaml"
    own = "customProperties:\n  - {property: mesh.topic, value: c}\n"
    contract.write_text(contract.read_text().replace("customProperties:\n", own))
    files = scaffold(tmp_path, "insights.totals", inputs=["order/select", *inputs], alignment=Alignment.CONSUMER)
    assert [file.name for file in files] == ["contract.yaml", "transform.sql"]
    loaded = load_products(tmp_path)
    assert loaded.broken == {}
    product = loaded.products["insights.totals"]
    assert (product.alignment, product.inputs) == (Alignment.CONSUMER, tuple(inputs))
    with duckdb.connect() as connection:
        for name in inputs:
            domain, table = name.split(".")
            connection.execute(f'CREATE SCHEMA "{domain}"; CREATE TABLE "{domain}"."{table}" AS SELECT 1 AS x')
        found = connection.execute(product.transform.sql)
        assert [column[0] for column in found.description] == [field.name for field in product.fields]
        assert found.fetchall() == [(1, 1, 1)]


def test_inputs_make_an_aggregate(tmp_path: Path) -> None:
    (contract, _) = scaffold(tmp_path, "insights.totals", inputs=["a.b"])
    assert load_product(contract.parent).alignment is Alignment.AGGREGATE


@pytest.mark.parametrize("name", ["routes", "a.b.c", "../x", "A/b", "a/b;", "/etc/passwd", "a/", ""])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="must be named as domain/product"):
        scaffold(tmp_path, name)
    with pytest.raises(UsageError, match="must be named as domain/product"):
        scaffold(tmp_path, "a/b", inputs=[name])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (file,) = scaffold(tmp_path, "sales/orders")
    file.write_text("mine")
    with pytest.raises(UsageError, match="already exists"):
        scaffold(tmp_path, "sales/orders")
    assert file.read_text() == "mine"
    (tmp_path / "sales" / "returns").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="must not be a link or inside one"):
        scaffold(tmp_path, "sales/returns")


def test_alignment_and_inputs_go_together(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must not have inputs"):
        scaffold(tmp_path, "a/b", alignment=Alignment.SOURCE, inputs=["a.c"])
    with pytest.raises(UsageError, match="must have inputs"):
        scaffold(tmp_path, "a/b", alignment=Alignment.CONSUMER)
    with pytest.raises(UsageError, match="the owner must be a username or an address"):
        scaffold(tmp_path, "a/b", owner="x\ny")
