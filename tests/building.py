"""What tests build products and rows from: contracts from fragments, and tables from rows written in YAML."""

from __future__ import annotations

import datetime as dt
import json
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml

from mesh_pipelines.contract.model import DataProduct, FieldType, Kind
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.contract.types import arrow_schema, log_schema
from mesh_pipelines.positions import PartitionOffset, Position, Verdict, Version

if TYPE_CHECKING:
    from mesh_pipelines.lake.product_tables import ProductTables

CASES = Path(__file__).parent / "audit/cases"


@dataclass(frozen=True)
class Case:
    """A product, its rows, and what each rule must come to: ``(state, bad or measured)``."""

    product: DataProduct
    rows: pa.Table
    expected: Mapping[str, tuple[str, float | None]]


def contract_text(
    fqn: str,
    properties: str = "- {name: id, logicalType: string, primaryKey: true}",
    *,
    kind: str = "state",
    alignment: str = "source-aligned",
    settings: str = "",
    quality: str = "",
    more: str = "",
    owner: str = "ann@example.com",
    version: str = "1.0.0",
) -> str:
    """A contract of ``domain.name``, which ends with its ``properties``, so that a test may add some.

    ``properties``, ``quality`` and ``settings`` (of ``customProperties``) are lists in YAML, ``more`` is further keys.
    """
    domain, name = fqn.split(".")
    rules = f"    quality:\n{_block(quality, '      ')}" if quality else ""
    return f"""\
apiVersion: v3.1.0
kind: DataContract
id: {fqn}
name: {name}
domain: {domain}
version: "{version}"
status: active
description: {{purpose: A product of a test.}}
team: {{members: [{{username: {owner}, role: owner}}]}}
{_block(more)}
customProperties:
  - {{property: mesh.alignment, value: {alignment}}}
  - {{property: mesh.eventType, value: {kind}}}
{_block(settings, "  ")}
schema:
  - name: {name}
{rules}
    properties:
{_block(properties, "      ")}
"""


def _block(text: str, indent: str = "") -> str:
    return textwrap.indent(textwrap.dedent(text).strip(), indent)


def write_contract(assets: Path, text: str, transform: str = "") -> Path:
    """Write a contract where its product's belongs under ``assets``; gives the product's folder."""
    about = yaml.safe_load(text)
    folder = assets / about["domain"] / about["name"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.yaml").write_text(text, encoding="utf-8")
    if transform:
        (folder / "transform.sql").write_text(transform, encoding="utf-8")
    return folder


def written(assets: Path, text: str, transform: str = "") -> DataProduct:
    """The product of a contract that is written under ``assets``, loaded as any product is."""
    return load_product(write_contract(assets, text, transform))


def product_of(fragment: Mapping[str, Any], assets: Path) -> DataProduct:
    """The product ``test.things`` of a fragment: its ``properties``, ``quality``, ``eventType`` and ``inputs``."""
    inputs = fragment.get("inputs")
    # JSON is YAML, and has no anchors where a fragment uses a value twice.
    text = contract_text(
        "test.things",
        json.dumps(fragment["properties"], indent=1),
        kind=fragment.get("eventType", "measurement"),
        alignment="consumer-aligned" if inputs else "source-aligned",
        settings=f"- {{property: mesh.inputs, value: {json.dumps(inputs)}}}" if inputs else "",
        quality=json.dumps(fragment.get("quality", []), indent=1),
    )
    return written(assets, text, f"SELECT * FROM {inputs[0]}" if inputs else "")


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


def log_row(
    offset: int,
    values: Mapping[str, Any] | None = None,
    *,
    partition: int = 0,
    generation: int = 0,
    key: bytes | None = b"k",
    op: str = "upsert",
    fate: str = "ok",
) -> dict[str, Any]:
    """A row of a log: the columns of the platform's own, and an event's ``values``."""
    return {
        "_generation": generation,
        "_partition": partition,
        "_offset": offset,
        "_key": key,
        "_op": op,
        "_fate": fate,
        **(values or {}),
    }


def log_table(product: DataProduct, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows in the columns of the product's log; what a row leaves out is null."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=log_schema(product))


def start_of(product: DataProduct) -> Position:
    """Where landing a product's topic begins."""
    return Position("cluster", product.topic.name if product.topic else product.fqn, "topic")


def land_rows(tables: ProductTables, rows: Iterable[Mapping[str, Any]]) -> Position:
    """Append rows to a log as landing does; gives the position after them."""
    table = log_table(tables.product, rows)
    before = tables.log.position()
    start = before or start_of(tables.product)
    ends = {row["_partition"]: PartitionOffset(row["_offset"] + 1) for row in table.sort_by("_offset").to_pylist()}
    after = start.advance(ends)
    tables.log.append(table, before, after)
    return after


def next_offset(tables: ProductTables, partition: int = 0) -> int:
    """The offset of the next event to land in a partition."""
    return (tables.log.position() or start_of(tables.product)).next_offset(partition)


def version_of(product: DataProduct, number: int, position: Position, *, passed: bool = True) -> Version:
    """An audited version of a product, whose audit passed or has one rule that blocks."""
    name = f"c{number}"
    verdict = Verdict(name, product.contract_hash, passed, 1, int(not passed), 0, 0, 0, "now")
    return Version(
        *(product.fqn, number, name, product.contract_version, product.contract_hash, "now", 1),
        position=position,
        verdict=verdict,
    )


def publish_version(tables: ProductTables, version: Version) -> Version:
    """Propose a version and publish it, a second after the one before it."""
    tables.versions.propose(version)
    at = f"2024-01-01T00:00:{version.number:02}+00:00"
    return tables.versions.publish(version.candidate_id, version.contract_hash, at)
