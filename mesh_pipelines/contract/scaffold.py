"""A product's folder to start from: small, sound, and showing where things go."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh_pipelines.contract.model import Alignment
from mesh_pipelines.contract.names import NAME, NAME_RULE
from mesh_pipelines.contract.read.build import TRANSFORM
from mesh_pipelines.contract.read.contract_file import CONTRACT
from mesh_pipelines.contract.read.field_reader import RESERVED_DOMAINS
from mesh_pipelines.errors import UsageError
from mesh_pipelines.sql.quote import quote

_HEAD = """\
apiVersion: v3.1.0
kind: DataContract
id: {domain}.{name}
domain: {domain}
name: {name}
version: "0.1.0"
status: draft
description:
  purpose: What {name} contains, what one row is, and who it is for.

team:
  name: {domain}
  members:
    - username: {owner}
      role: owner

schema:
  - name: {name}
    logicalType: object
    properties:
"""
_SOURCE = """\
      - name: id
        logicalType: string
        primaryKey: true
        description: The identity of one {name}; also the message key.
      - name: changed_at
        logicalType: timestamp
        required: true
        description: When this state began, as an instant.
    quality:
      - name: not empty
        metric: rowCount
        mustBeGreaterThan: 0
        dimension: coverage

customProperties:
  - property: mesh.alignment
    value: {alignment}
  - property: mesh.eventType
    value: state
"""
_DERIVED_FIELD = """\
      - name: {column}
        logicalType: integer
        required: true
        description: Rows of {fqn}.
        logicalTypeOptions: {{minimum: 0}}
"""
_DERIVED = """\
    quality:
      - name: one row
        metric: rowCount
        mustBe: 1

customProperties:
  - property: mesh.alignment
    value: {alignment}
  - property: mesh.eventType
    value: measurement
  - property: mesh.inputs
    value: [{inputs}]
"""


def scaffold(
    assets: Path,
    fqn: str,
    *,
    alignment: Alignment | None = None,
    inputs: Sequence[str] = (),
    owner: str = "owner@example.com",
) -> list[Path]:
    """Write a product's folder whose contract lints; gives the files written.

    ``fqn`` is ``domain.product`` or ``domain/product``. With ``inputs`` (named likewise) it is a derived product,
    aggregate-aligned unless said otherwise, whose ``transform.sql`` counts their rows.

    Raises:
        UsageError: the name is not valid, the inputs do not go with the alignment, or the product exists.
    """
    domain, name = _split(fqn)
    columns = _columns([".".join(_split(one)) for one in dict.fromkeys(inputs)])
    alignment = alignment or (Alignment.AGGREGATE if columns else Alignment.SOURCE)
    _check_inputs(alignment, columns)
    if not owner.strip() or not owner.isprintable():
        raise UsageError(
            f"the owner must be a username or an address, got {owner!r}", next_step="name one with --owner"
        )
    head = _HEAD.format(domain=domain, name=name, owner=json.dumps(owner, ensure_ascii=False))
    texts = {CONTRACT: head + _body(name, alignment, columns)}
    if columns:
        texts[TRANSFORM] = _transform(columns)
    folder = assets / domain / name
    _check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        with (folder / file).open("x", encoding="utf-8") as out:
            out.write(text)
    return [folder / file for file in texts]


def _split(fqn: str) -> tuple[str, str]:
    parts = re.split(r"[./]", fqn)
    if len(parts) != 2 or not all(NAME.fullmatch(part) for part in parts):
        raise UsageError(
            f"a new product must be named as domain/product, got {fqn!r}", next_step=f"for both names {NAME_RULE}"
        )
    if parts[0] in RESERVED_DOMAINS:
        raise UsageError(f"the domain {parts[0]!r} is reserved by the SQL engine", next_step="choose another domain")
    return parts[0], parts[1]


def _check_inputs(alignment: Alignment, inputs: Mapping[str, str]) -> None:
    if alignment is Alignment.SOURCE and inputs:
        raise UsageError(
            "a source-aligned product must not have inputs", next_step="leave them out, or choose another alignment"
        )
    if alignment is not Alignment.SOURCE and not inputs:
        raise UsageError(f"a product that is {alignment} must have inputs", next_step="name them as domain.product")


def _check_free(folder: Path) -> None:
    if folder.is_symlink() or folder.parent.is_symlink():
        raise UsageError(f"{folder} must not be a link or inside one", next_step="put the folder itself there")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} already exists", next_step="edit it, or choose another name")


def _columns(inputs: Sequence[str]) -> dict[str, str]:
    """A column for each input, numbered where two would have one name."""
    columns: dict[str, str] = {}
    for fqn in inputs:
        base = fqn.replace(".", "_")[:50]
        number = sum(column.startswith(f"{base}_rows") for column in columns.values()) + 1
        columns[fqn] = f"{base}_rows" if number == 1 else f"{base}_rows_{number}"
    return columns


def _body(name: str, alignment: Alignment, columns: Mapping[str, str]) -> str:
    if not columns:
        return _SOURCE.format(name=name, alignment=alignment)
    fields = "".join(_DERIVED_FIELD.format(column=column, fqn=fqn) for fqn, column in columns.items())
    return fields + _DERIVED.format(alignment=alignment, inputs=", ".join(columns))


def _transform(columns: Mapping[str, str]) -> str:
    """Names are quoted, since a domain or product may be named by a word of SQL."""
    tables = {fqn: ".".join(map(quote, fqn.split("."))) for fqn in columns}
    counts = [f"    (SELECT count(*) FROM {tables[fqn]}) AS {column}" for fqn, column in columns.items()]
    return "SELECT\n" + ",\n".join(counts) + "\n"
