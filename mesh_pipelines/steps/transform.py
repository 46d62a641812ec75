"""A derived product's SQL: checked against its declared inputs, traced to their columns, and run at pinned versions.

The SQL is parsed, never searched by pattern: what it reads and where each column comes from are facts of its syntax
tree, so an input that was not declared is found before anything runs. It must be one SELECT; everything else
(ATTACH, COPY, SET, ...) is refused by ``contract/select.py`` and cannot be reached by the engine that runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.select import NotReadable, Select, read_select
from mesh_pipelines.contract.sql import quote
from mesh_pipelines.contract.types import arrow_schema, duckdb_type
from mesh_pipelines.engine import Author
from mesh_pipelines.errors import TransformInvalid

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_BATCH_ROWS = 100_000


@dataclass(frozen=True, order=True)
class SourceColumn:
    """A column of an input product: ``operations.flights`` and ``dep_delay``."""

    product: str
    column: str


def reads(product: DataProduct) -> frozenset[str]:
    """The products the transform reads, as ``domain.name``.

    Raises:
        TransformInvalid: the SQL does not parse, is not one SELECT, or reads what is not declared as an input.
    """
    return _select(product).names


def lineage(product: DataProduct, inputs: Mapping[str, DataProduct]) -> dict[str, tuple[SourceColumn, ...]]:
    """For each column of the result, the input columns its value is computed from (sorted; empty for constants).

    Raises:
        TransformInvalid: the SQL does not parse, or names a column its inputs do not have.
    """
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage as trace

    text = _select(product).text
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for source in inputs.values():
        columns = {field.name: duckdb_type(field.type) for field in source.fields}
        schema.setdefault(source.domain, {})[source.name] = columns
    traced: dict[str, tuple[SourceColumn, ...]] = {}
    for field in product.fields:
        try:
            root = trace(field.name, text, schema=schema, dialect="duckdb")
        except (SqlglotError, ValueError, RecursionError) as error:
            raise _invalid(product, f"column {field.name} cannot be traced: {_first_line(error)}") from error
        leaves = {
            SourceColumn(f"{node.source.db}.{node.source.name}", node.name.rsplit(".", 1)[-1].strip('"'))
            for node in root.walk()
            if not node.downstream and isinstance(node.source, exp.Table)
        }
        traced[field.name] = tuple(sorted(leaf for leaf in leaves if leaf.column != "*"))
    return traced


def run(connection: duckdb.DuckDBPyConnection, product: DataProduct, *, timeout_s: float) -> pa.RecordBatchReader:
    """The transform's rows in the contract's columns and types, streamed; its inputs are registered as views.

    Raises:
        TransformInvalid: the SQL fails, takes more than ``timeout_s`` seconds (both also while reading), or does not
            give the contract's columns.
    """
    select = _select(product)
    author = Author(connection, timeout_s, lambda problem: _invalid(product, problem))
    relation = author.relation(select, product.inputs)
    _same_columns(product, list(relation.columns))
    columns = ", ".join(
        f"CAST({quote(field.name)} AS {duckdb_type(field.type)}) AS {quote(field.name)}" for field in product.fields
    )
    return _cast(author.rows(relation.project(columns), _BATCH_ROWS), arrow_schema(product))


def _cast(reader: pa.RecordBatchReader, schema: pa.Schema) -> pa.RecordBatchReader:
    import pyarrow as pa

    return pa.RecordBatchReader.from_batches(
        schema, (batch for piece in reader for batch in pa.Table.from_batches([piece]).cast(schema).to_batches())
    )


def _select(product: DataProduct) -> Select:
    try:
        select = read_select(product.transform)
    except NotReadable as error:
        raise _invalid(product, f"it {error}") from error
    undeclared = sorted(select.names - set(product.inputs))
    if undeclared:
        raise _invalid(
            product,
            f"it reads {', '.join(undeclared)}, declared as input: {', '.join(product.inputs) or 'none'}",
            next_step="add it to mesh.inputs in the contract, or take it out of transform.sql",
        )
    return select


def _same_columns(product: DataProduct, columns: list[str]) -> None:
    declared = [field.name for field in product.fields]
    missing = [name for name in declared if name not in columns]
    extra = [name for name in columns if name not in declared]
    if missing or extra:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has {', '.join(extra)}, which the contract does not"] if extra else []
        raise _invalid(product, f"its result {' and '.join(parts)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _invalid(product: DataProduct, problem: str, next_step: str = "mesh lint") -> TransformInvalid:
    return TransformInvalid(f"{product.fqn}: transform.sql: {problem}", next_step=next_step)
