"""Contract in, compiled product or faults out: every folder under ``cases`` is a case, its path the id.

A sound case has an ``expected.json``, a faulty one a ``faults.txt``. ``MESH_WRITE_CASES=1`` writes what is found, to be
read and committed.
"""

import json
import os
from dataclasses import asdict, fields
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from mesh_pipelines.contract.model import DataProduct, Field, Rule
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.contract.types import arrow_schema, duckdb_type
from mesh_pipelines.errors import ContractInvalid

CASES = Path(__file__).parent / "cases"
FOLDERS = sorted(file.parent for file in CASES.glob("*/*/contract.yaml"))
SOUND = [folder for folder in FOLDERS if not folder.parent.name.startswith("faults_")]
APART = (
    "fields",
    "rules",
    "folder",
    "value_schema",
    "contract_hash",
    "topic",
    "transform",
    "service_levels",
    "about",
    "objective_target",
)
FAULTY = [folder for folder in FOLDERS if folder.parent.name.startswith("faults_")]


def case_id(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def hold_against(file: Path, found: str) -> None:
    if os.environ.get("MESH_WRITE_CASES"):
        file.write_text(found, encoding="utf-8")
    assert found == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", SOUND, ids=case_id)
def test_sound_contract_compiles(folder: Path) -> None:
    product = load_product(folder)
    hold_against(folder / "expected.json", json.dumps(described(product), indent=1, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("folder", FAULTY, ids=case_id)
def test_faulty_contract_names_every_fault(folder: Path) -> None:
    with pytest.raises(ContractInvalid) as raised:
        load_product(folder)
    lines = [str(fault).removeprefix(f"{folder}{os.sep}") for fault in raised.value.faults]
    hold_against(folder / "faults.txt", "\n".join(lines) + "\n")


def described(product: DataProduct) -> dict[str, Any]:
    plain = {field.name: getattr(product, field.name) for field in fields(product) if field.name not in APART}
    return {
        **plain,
        "about": {name: value for name, value in asdict(product.about).items() if value},
        "topic": {**vars(product.topic)} if product.topic else None,
        "inputs": product.inputs,
        "transform": product.transform.sql if product.transform else "",
        "service_levels": [
            f"{level.property} {level.value} {level.unit} {level.element} = {level.seconds()} s"
            for level in product.service_levels
        ],
        "fields": [one_line(field) for field in product.fields],
        "arrow": [f"{field.name}: {field.type}" for field in arrow_schema(product)],
        "rules": [rule_line(rule) for rule in product.rules],
        "avro": json.loads(product.value_schema) if product.value_schema else None,
    }


def one_line(field: Field) -> str:
    marks = [
        "required" * field.required,
        f"key {field.key_position}" * bool(field.key_position),
        "unique" * field.unique,
        f"default {field.default!r}" * field.has_default,
        f"formerly {', '.join(field.aliases)}" * bool(field.aliases),
        field.classification * (field.classification != "public"),
    ]
    return ", ".join([f"{field.name} {duckdb_type(field.type)}", *filter(None, marks)])


def rule_line(rule: Rule) -> str:
    parts = [rule.kind, rule.check, ",".join(rule.fields), rule.arguments or "", rule.operator, rule.threshold]
    parts += [rule.unit, rule.on_failure, rule.dimension, f"line {rule.line}"]
    return f"{rule.id}: " + " | ".join(str(part.value if isinstance(part, Enum) else part) for part in parts)
