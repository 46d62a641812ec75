"""A new product's folder, to begin from: it lints as it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mesh_pipelines.contract.fields import NAME
from mesh_pipelines.contract.load import CONTRACT, TRANSFORM
from mesh_pipelines.errors import UsageError

_CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: {domain}.{name}
name: {name}
domain: {domain}
version: "0.1.0"
status: draft
description:
  purpose: Say in a sentence what a row of {name} is, and for whom.
team:
  name: {domain}
  members:
    - {{username: {owner}, role: owner}}
customProperties:
  - {{property: mesh.alignment, value: {alignment}}}
  - {{property: mesh.eventType, value: state}}
{settings}slaProperties:
  - {{property: freshness, value: 1, unit: h}}
schema:
  - name: {name}
    quality:
      - {{metric: rowCount, mustBeGreaterThan: 0, dimension: completeness}}
    properties:
{properties}"""

_STREAM_SETTINGS = """\
  - {{property: mesh.topic, value: {domain}.{name}}}
  - {{property: mesh.partitions, value: 1}}
  - {{property: mesh.wireFormat, value: avro}}
  - {{property: mesh.retention, value: forever}}
"""
_STREAM_PROPERTIES = """\
      - {name: id, logicalType: string, primaryKey: true, description: What the row is found by.}
      - {name: changed_at, logicalType: timestamp, required: true, description: When it last changed.}
"""
_DERIVED_PROPERTIES = """\
      - {name: source, logicalType: string, primaryKey: true, description: The input that was counted.}
      - {name: rows_counted, logicalType: integer, required: true, description: Its number of rows.}
"""


def scaffold(assets: Path, fqn: str, *, inputs: Sequence[str] = (), owner: str = "owner@example.com") -> list[Path]:
    """Write the folder of a new product, derived where ``inputs`` are given; gives the files written.

    Raises:
        UsageError: the name is no ``domain.product``, or there is a contract already.
    """
    domain, _, name = fqn.replace("/", ".").partition(".")
    if not NAME.fullmatch(domain) or not NAME.fullmatch(name):
        raise UsageError(
            f"{fqn!r} is no name of a product: use lower-case letters, digits and underscores",
            next_step="mesh init DOMAIN/PRODUCT",
        )
    folder = assets / domain / name
    if (folder / CONTRACT).exists():
        raise UsageError(f"{folder / CONTRACT} exists", next_step=f"mesh lint {domain}.{name}")
    files = {CONTRACT: _contract(domain, name, inputs, owner)}
    if inputs:
        selects = "\nUNION ALL\n".join(
            f"SELECT '{source}' AS source, count(*) AS rows_counted FROM {source}" for source in inputs
        )
        files[TRANSFORM] = f"{selects}\n"
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    return [folder / file for file in files]


def _contract(domain: str, name: str, inputs: Sequence[str], owner: str) -> str:
    if inputs:
        settings = f"  - {{property: mesh.inputs, value: [{', '.join(inputs)}]}}\n"
        alignment, properties = "aggregate-aligned", _DERIVED_PROPERTIES
    else:
        settings = _STREAM_SETTINGS.format(domain=domain, name=name)
        alignment, properties = "source-aligned", _STREAM_PROPERTIES
    return _CONTRACT.format(
        domain=domain, name=name, owner=owner, alignment=alignment, settings=settings, properties=properties
    )
