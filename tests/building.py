"""What tests build products and rows from: contracts from fragments, and tables from rows written in YAML."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from mesh_pipelines.contract.model import DataProduct, FieldType, Kind
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.contract.types import arrow_schema

CASES = Path(__file__).parent / "audit/cases"


@dataclass(frozen=True)
class Case:
    """A product, its rows, and what each rule must come to: ``(state, bad or measured)``."""

    product: DataProduct
    rows: pa.Table
    expected: Mapping[str, tuple[str, float | None]]


def contract(fragment: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A whole contract around ``properties``, schema-level ``quality`` and ``inputs`` of a fragment."""
    inputs = fragment.get("inputs")
    settings = {
        "mesh.alignment": "consumer-aligned" if inputs else "source-aligned",
        "mesh.eventType": fragment.get("eventType", "measurement"),
        **({"mesh.inputs": inputs} if inputs else {}),
    }
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": f"test.{name}",
        "name": name,
        "domain": "test",
        "version": "1.0.0",
        "status": "active",
        "team": {"members": [{"username": "owner@example.com", "role": "owner"}]},
        "customProperties": [{"property": key, "value": value} for key, value in settings.items()],
        "schema": [{"name": name, "properties": fragment["properties"], "quality": fragment.get("quality", [])}],
    }


def product_of(fragment: Mapping[str, Any], assets: Path) -> DataProduct:
    """The product ``test.things`` of a fragment, written under ``assets`` and loaded as any product is."""
    folder = assets / "test" / "things"
    folder.mkdir(parents=True)
    # JSON is YAML, and has no anchors where a fragment uses a value twice.
    text = json.dumps(contract(fragment, folder.name), indent=1)
    (folder / "contract.yaml").write_text(text, encoding="utf-8")
    if "inputs" in fragment:
        (folder / "transform.sql").write_text(f"SELECT * FROM {fragment['inputs'][0]}", encoding="utf-8")
    return load_product(folder)


def case_of(name: str, assets: Path) -> Case:
    """The case in the file ``audit/cases/NAME.yaml``; its product is written under ``assets``."""
    loaded = yaml.safe_load((CASES / f"{name}.yaml").read_text(encoding="utf-8"))
    product = product_of(loaded, assets)
    expected = {
        rule: (outcome, None) if isinstance(outcome, str) else (outcome[0], outcome[1])
        for rule, outcome in loaded["expected"].items()
    }
    return Case(product, typed_rows(product, loaded["rows"]), expected)


def typed_rows(product: DataProduct, rows: list[Mapping[str, Any]]) -> pa.Table:
    """Rows as written in YAML or JSON, in the contract's columns and types; what a row leaves out is null."""
    typed = [{field.name: _typed(row.get(field.name), field.type) for field in product.fields} for row in rows]
    return pa.Table.from_pylist(typed, schema=arrow_schema(product))


def _typed(value: Any, field_type: FieldType) -> Any:
    if value is None:
        return None
    match field_type.kind:
        case Kind.DATE:
            return dt.date.fromisoformat(str(value))
        case Kind.TIME:
            return dt.time.fromisoformat(value)
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LOCAL:
            return dt.datetime.fromisoformat(value)
        case Kind.DECIMAL:
            return Decimal(str(value))
        case Kind.BYTES:
            return value.encode()
        case _:
            return value
