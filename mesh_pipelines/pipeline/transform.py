"""A derived product's SQL: checked against its declared inputs, and run at their pinned versions.

The SQL is parsed, never searched by pattern: what it reads is a fact of its syntax tree, so an input that was not
declared is found before anything runs. It must be one SELECT; everything else (ATTACH, COPY, SET, ...) is refused by
``sql/select.py`` and cannot be reached by the engine that runs it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from mesh_pipelines.contract.column_lineage import Sources
from mesh_pipelines.contract.column_lineage import lineage as trace
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import arrow_schema, duckdb_type
from mesh_pipelines.engine import View
from mesh_pipelines.errors import TransformInvalid
from mesh_pipelines.sandbox.author import Allowance, Author
from mesh_pipelines.sql.quote import quote
from mesh_pipelines.sql.select import NotReadable, Select, read_select

_BATCH_ROWS = 100_000


def select(product: DataProduct) -> Select:
    """The transform as one SELECT.

    Raises:
        TransformInvalid: the SQL does not parse, is not one SELECT, or reads what is not declared as an input.
    """
    try:
        found = read_select(product.transform.sql if product.transform else "")
    except NotReadable as error:
        raise _invalid(product, f"it {error}") from error
    undeclared = sorted(found.names - set(product.inputs))
    if undeclared:
        raise _invalid(
            product,
            f"it reads {', '.join(undeclared)}, but its inputs are {', '.join(product.inputs) or 'none'}",
            next_step="add it to mesh.inputs in the contract, or remove it from transform.sql",
        )
    return found


def lineage(product: DataProduct, inputs: Mapping[str, DataProduct]) -> dict[str, Sources]:
    """For each column of the result whose lineage is known, the input columns its value is computed from.

    Raises:
        TransformInvalid: the SQL does not parse, or its result lacks a column.
    """
    select(product)
    traced = trace(product, inputs)
    if traced.missing:
        raise _invalid(product, f"its result lacks {', '.join(traced.missing)}")
    return {name: sources for name, sources in traced.fields.items() if sources is not None}


def run(product: DataProduct, inputs: Mapping[str, View], allowance: Allowance) -> pa.RecordBatchReader:
    """The transform's rows in the contract's columns and types, streamed, over its inputs by ``domain.name``.

    Raises:
        TransformInvalid: the SQL fails, takes more time than is allowed (both also while reading), or does not give the
            contract's columns.
    """
    found = select(product)
    views = {tuple(name.split(".")): view for name, view in inputs.items()}
    author = Author(allowance, views, lambda problem: _invalid(product, problem))
    tables = {*product.inputs, *found.expressions}
    try:
        _same_columns(product, author.columns(found.text, tables))
    except BaseException:
        author.close()
        raise
    columns = ", ".join(
        f"CAST({quote(field.name)} AS {duckdb_type(field.type)}) AS {quote(field.name)}" for field in product.fields
    )
    return _cast(author.rows(found.text, tables, columns, _BATCH_ROWS), arrow_schema(product))


def _cast(reader: pa.RecordBatchReader, schema: pa.Schema) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(
        schema, (batch for piece in reader for batch in pa.Table.from_batches([piece]).cast(schema).to_batches())
    )


def _same_columns(product: DataProduct, columns: list[str]) -> None:
    declared = [field.name for field in product.fields]
    missing = [name for name in declared if name not in columns]
    extra = [name for name in columns if name not in declared]
    if missing or extra:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has {', '.join(extra)}, which the contract does not"] if extra else []
        raise _invalid(product, f"its result {' and '.join(parts)}")


def _invalid(product: DataProduct, problem: str, next_step: str = "mesh lint") -> TransformInvalid:
    return TransformInvalid(f"{product.fqn}: transform.sql: {problem}", next_step=next_step)
