"""A derived product's SQL: checked against its declared inputs, traced to their columns, and run at pinned versions.

The SQL is parsed, never searched by pattern: what it reads and where each column comes from are facts of its syntax
tree, so an input that was not declared is found before anything runs. It must be one SELECT; everything else
(ATTACH, COPY, SET, ...) is refused here and cannot be reached by the locked-down engine that runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import arrow_schema, duckdb_type
from mesh_pipelines.errors import TransformInvalid

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from sqlglot import exp


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
    select = _select(product)
    return frozenset(_tables(product, select))


def lineage(product: DataProduct, inputs: Mapping[str, DataProduct]) -> dict[str, tuple[SourceColumn, ...]]:
    """For each column of the result, the input columns its value is computed from (sorted; empty for constants).

    Raises:
        TransformInvalid: the SQL does not parse, or names a column its inputs do not have.
    """
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage as trace

    _tables(product, _select(product))
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for source in inputs.values():
        columns = {field.name: duckdb_type(field.type) for field in source.fields}
        schema.setdefault(source.domain, {})[source.name] = columns
    traced: dict[str, tuple[SourceColumn, ...]] = {}
    for field in product.fields:
        try:
            root = trace(field.name, product.transform, schema=schema, dialect="duckdb")
        except (SqlglotError, ValueError) as error:
            raise _invalid(product, f"column {field.name} cannot be traced: {_first_line(error)}") from error
        leaves = {
            SourceColumn(f"{node.source.db}.{node.source.name}", node.name.rsplit(".", 1)[-1].strip('"'))
            for node in root.walk()
            if not node.downstream and isinstance(node.source, exp.Table)
        }
        traced[field.name] = tuple(sorted(leaf for leaf in leaves if leaf.column != "*"))
    return traced


def run(connection: duckdb.DuckDBPyConnection, product: DataProduct) -> pa.RecordBatchReader:
    """The transform's rows in the contract's columns and types, streamed; its inputs are registered as views.

    Raises:
        TransformInvalid: the SQL fails, or does not give the contract's columns.
    """
    import duckdb

    reads(product)
    try:
        relation = connection.sql(product.transform.rstrip().rstrip(";"))
        _same_columns(product, list(relation.columns))
        columns = ", ".join(
            f'CAST("{field.name}" AS {duckdb_type(field.type)}) AS "{field.name}"' for field in product.fields
        )
        reader = relation.project(columns).to_arrow_reader(100_000)
    except duckdb.Error as error:
        raise _invalid(product, _first_line(error)) from error
    return _cast(reader, arrow_schema(product))


def _cast(reader: pa.RecordBatchReader, schema: pa.Schema) -> pa.RecordBatchReader:
    import pyarrow as pa

    return pa.RecordBatchReader.from_batches(
        schema, (batch for piece in reader for batch in pa.Table.from_batches([piece]).cast(schema).to_batches())
    )


def _select(product: DataProduct) -> exp.Query:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        statements = [statement for statement in sqlglot.parse(product.transform, dialect="duckdb") if statement]
    except SqlglotError as error:
        raise _invalid(product, _first_line(error)) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise _invalid(product, "it must be exactly one SELECT")
    return statements[0]


def _tables(product: DataProduct, select: exp.Query) -> set[str]:
    from sqlglot import exp
    from sqlglot.optimizer.scope import traverse_scope

    found: set[str] = set()
    for scope in traverse_scope(select):
        for source in scope.sources.values():
            if isinstance(source, exp.Table):
                found.add(_read_name(product, source))
    undeclared = sorted(found - set(product.inputs))
    if undeclared:
        raise _invalid(
            product,
            f"it reads {', '.join(undeclared)}, declared as input: {', '.join(product.inputs) or 'none'}",
            next_step="add it to mesh.inputs in the contract, or take it out of transform.sql",
        )
    return found


def _read_name(product: DataProduct, table: exp.Table) -> str:
    from sqlglot import exp

    if not isinstance(table.this, exp.Identifier) or not table.db or table.catalog:
        raise _invalid(product, f"it reads {table.sql(dialect='duckdb')}; only products can be read, as domain.name")
    return f"{table.db}.{table.name}"


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
