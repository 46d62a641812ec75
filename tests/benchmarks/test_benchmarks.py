from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import fastavro
import pyarrow as pa
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """A benchmark's module, which lies in no package."""
    path = FOLDER / f"{request.param}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{request.param}", path)
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    yield made
    del sys.modules[spec.name]


def ratios(value: float, better: str) -> dict[str, Any]:
    return {"benchmark": "land", "ratios": {"of drain": {"value": value, "better": better}}}


@pytest.mark.parametrize("module", ["check"], indirect=True)
@pytest.mark.parametrize(
    ("before", "now", "better", "fails"),
    [
        (1.0, 0.81, "higher", False),
        (1.0, 0.79, "higher", True),
        (1.0, 1.24, "lower", False),
        (1.0, 1.26, "lower", True),
    ],
)
def test_a_ratio_fails_where_it_is_worse_than_tolerated(
    module: ModuleType, before: float, now: float, better: str, fails: bool
) -> None:
    assert bool(module.faults(ratios(before, better), ratios(now, better))) == fails


@pytest.mark.parametrize("module", ["check"], indirect=True)
def test_a_recorded_ratio_that_is_not_measured_fails(module: ModuleType) -> None:
    [fault] = module.faults(ratios(1.0, "higher"), {"benchmark": "land", "ratios": {}})
    assert "not measured" in fault


@pytest.mark.parametrize("module", ["orders"], indirect=True)
def test_more_orders_begin_with_fewer(module: ModuleType) -> None:
    few, many = module.Orders(70_000).blocks(), module.Orders(120_000)
    joined = pa.concat_tables([block.rows for block in many.blocks()])
    assert pa.concat_tables([block.rows for block in few]) == joined.slice(0, 70_000)
    assert pa.concat_tables([block.rows for block in many.blocks(70_000)]) == joined.slice(70_000)


@pytest.mark.parametrize("module", ["orders"], indirect=True)
def test_orders_are_encoded_as_libraries_read_them(module: ModuleType, tmp_path: Path) -> None:
    from mesh_pipelines.contract.read.load import load_product

    module.write_contract(tmp_path, module.AVRO)
    product = load_product(tmp_path / "shop" / "orders")
    schema = fastavro.parse_schema(json.loads(product.value_schema))
    rows = next(module.Orders(2_000).blocks()).rows
    values = module.Avro.encoded(rows, b"frame").to_pylist()
    assert [fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None) for value in values] == rows.to_pylist()
    texts = [json.loads(value) for value in module.as_json(rows).to_pylist()]
    assert [text["note"] for text in texts] == rows["note"].to_pylist()
    assert [text["weight_kg"] for text in texts] == rows["weight_kg"].to_pylist()
