"""Hold back, at landing, the events that a diverting rule refuses: the only rules that judge before the fold."""

from __future__ import annotations

import pyarrow as pa

from mesh_pipelines.contract.log import FATE, OP, RAW, REASON, RULE, Fate, Op
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.sql import literal
from mesh_pipelines.quality.compile import CompiledRule, compile_product, threshold_text

VALUE = "__value"


def divert(batch: pa.Table, product: DataProduct) -> pa.Table:
    """Give the events that break a diverting rule their fate, rule, reason and raw bytes; drop the raw column.

    ``batch`` has the log's columns and the raw values as ``__value``. An event that breaks several such rules is
    diverted by the contract's first. Tombstones carry nothing to judge and pass.
    """
    rules = compile_product(product).diverting
    schema = batch.schema.remove(batch.schema.get_field_index(VALUE))
    if not rules:
        return batch.drop_columns([VALUE])
    import duckdb

    broken = " ".join(f"WHEN {compiled.predicate} THEN {number}" for number, compiled in enumerate(rules))
    judged = f"{FATE} = {literal(str(Fate.OK))} AND {OP} <> {literal(str(Op.DELETE))}"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("batch", batch)
        numbers = connection.sql(
            f"SELECT CASE WHEN NOT ({judged}) THEN NULL {broken} END::INTEGER AS number FROM batch"
        ).to_arrow_table()["number"]
    if numbers.null_count == len(numbers):
        return batch.drop_columns([VALUE])
    return _mark(batch, numbers.combine_chunks(), [one.rule.id for one in rules], _reasons(rules), schema)


def _reasons(rules: tuple[CompiledRule, ...]) -> list[str]:
    return [
        one.rule.description or f"{one.rule.check} of {', '.join(one.rule.fields)}: {threshold_text(one.rule)}"
        for one in rules
    ]


def _mark(batch: pa.Table, numbers: pa.Array, ids: list[str], reasons: list[str], schema: pa.Schema) -> pa.Table:
    import pyarrow.compute as pc

    held = numbers.is_valid()
    columns = {
        FATE: pc.if_else(held, str(Fate.DIVERTED), batch[FATE]),
        RULE: pc.coalesce(pa.array(ids).take(numbers), batch[RULE]),
        REASON: pc.coalesce(pa.array(reasons).take(numbers), batch[REASON]),
        RAW: pc.if_else(held, batch[VALUE], batch[RAW]),
    }
    return pa.table([columns.get(name, batch[name]) for name in schema.names], schema=schema)
