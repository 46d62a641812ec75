"""Generated products for the benchmarks: 20 columns and 5 rules each, JSON events of five kinds of value."""

from __future__ import annotations

import json
from pathlib import Path

DOMAIN = "generated"
RULES = 5
_HEAD = """\
apiVersion: v3.1.0
kind: DataContract
id: {domain}.{name}
name: {name}
domain: {domain}
version: "1.0.0"
status: active
description: {{purpose: "The entities of {name}."}}
team: {{members: [{{username: ann@example.com, role: owner}}]}}
slaProperties:
  - {{property: freshness, value: 60, unit: min}}
customProperties:
  - {{property: mesh.alignment, value: source-aligned}}
  - {{property: mesh.eventType, value: state}}
  - {{property: mesh.wireFormat, value: json}}
schema:
  - name: {name}
    quality:
      - {{id: some, metric: rowCount, mustBeGreaterThan: 0}}
    properties:
      - name: id
        logicalType: string
        primaryKey: true
        description: What tells one entity from another.
"""
_KINDS = (("text", "string", "a"), ("whole", "integer", 7), ("number", "number", 1.5), ("flag", "boolean", True))
_COLUMNS = [(f"{kind}_{n}", logical, value) for n in range(5) for kind, logical, value in _KINDS][:19]
_MORE = {
    "whole_0": "logicalTypeOptions: {minimum: 0}",
    "whole_1": "logicalTypeOptions: {minimum: 0}",
    "text_0": "quality: [{metric: nullValues, mustBe: 0}]",
    "text_1": "quality: [{metric: nullValues, mustBe: 0}]",
}


def contract(name: str, domain: str = DOMAIN) -> str:
    """The contract of one product."""
    text = _HEAD.format(domain=domain, name=name)
    for number, (column, logical, _) in enumerate(_COLUMNS):
        text += f"      - name: {column}\n        logicalType: {logical}\n"
        text += f"        description: Value {number} of the entity, as its source says it.\n"
        if column in _MORE:
            text += f"        {_MORE[column]}\n"
    return text


def write(assets: Path, products: int, domain: str = DOMAIN) -> list[Path]:
    """Write the contracts of this many products under an assets folder; gives the files."""
    files: list[Path] = []
    for number in range(products):
        file = assets / domain / f"product_{number:04d}" / "contract.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(contract(file.parent.name, domain))
        files.append(file)
    return files


def event(key: str) -> bytes:
    """The state of one entity, as JSON."""
    return json.dumps({"id": key, **{column: value for column, _, value in _COLUMNS}}).encode()
