"""A derived product's SQL: checked against its declared inputs, traced to their columns, and run at pinned versions.

The SQL is parsed, never searched by pattern: what it reads and where each column comes from are facts of its syntax
tree, so an input that was not declared is found before anything runs. It must be one SELECT; everything else
(ATTACH, COPY, SET, ...) is refused by ``contract/select.py`` and cannot be reached by the engine that runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.select import NotReadable, Select, read_select
from mesh_pipelines.contract.sql import quote
from mesh_pipelines.contract.types import arrow_schema, duckdb_type
from mesh_pipelines.engine import Author
from mesh_pipelines.errors import TransformInvalid

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

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

    tree, scope = _qualified(product, inputs)
    traced: dict[str, tuple[SourceColumn, ...]] = {}
    for field in product.fields:
        try:
            # Of the scope only, and not trimmed to what a column needs: neither changes what is traced.
            root = trace(field.name, tree, {}, dialect="duckdb", scope=scope, trim_selects=False, copy=False)
        except (SqlglotError, ValueError, RecursionError) as error:
            raise _untraceable(product, field.name, error) from error
        leaves = {
            SourceColumn(f"{node.source.db}.{node.source.name}", node.name.rsplit(".", 1)[-1].strip('"'))
            for node in root.walk()
            if not node.downstream and isinstance(node.source, exp.Table)
        }
        traced[field.name] = tuple(sorted(leaf for leaf in leaves if leaf.column != "*"))
    return traced


def _qualified(product: DataProduct, inputs: Mapping[str, DataProduct]) -> tuple[exp.Expr, Scope]:
    """The transform's syntax tree with every column's table written out, once for all columns that are traced."""
    import sqlglot
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    text = _select(product).text
    schema: dict[str, Any] = {}
    for source in inputs.values():
        columns = {field.name: duckdb_type(field.type) for field in source.fields}
        schema.setdefault(source.domain, {})[source.name] = columns
    try:
        tree = sqlglot.parse_one(text, dialect="duckdb")
        tree = qualify(tree, dialect="duckdb", schema=schema, validate_qualify_columns=False, identify=False)
        scope = build_scope(tree)
    except (SqlglotError, ValueError, RecursionError) as error:
        raise _untraceable(product, product.fields[0].name, error) from error
    assert scope is not None, "what parses as one SELECT has a scope"
    return tree, scope


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


def _untraceable(product: DataProduct, column: str, error: Exception) -> TransformInvalid:
    return _invalid(product, f"column {column} cannot be traced: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _invalid(product: DataProduct, problem: str, next_step: str = "mesh lint") -> TransformInvalid:
    return TransformInvalid(f"{product.fqn}: transform.sql: {problem}", next_step=next_step)
