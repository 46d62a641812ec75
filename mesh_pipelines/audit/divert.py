"""Hold back, at landing, the events that a diverting rule refuses: the only rules that judge before the fold.

A rule whose predicate is null for an event does not refuse it, as everywhere. A product without such rules costs
nothing here; one with them costs one pass over the columns they speak of.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mesh_pipelines.contract.envelope import FATE, OP, RAW, REASON, RULE, Fate, Op
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.rules.compile import CompiledRule, compile_divert_rules, threshold_text
from mesh_pipelines.sql.quote import literal, quote

VALUE = "__value"


def divert(batch: pa.Table, product: DataProduct) -> pa.Table:
    """Give the events that break a diverting rule their fate, rule, reason and raw bytes; drop the raw column.

    ``batch`` has the log's columns and the raw values as ``__value``. An event that breaks several such rules is
    diverted by the contract's first. Tombstones carry nothing to judge and pass.

    Raises:
        ContractInvalid: a diverting rule of the contract compiles to nothing.
    """
    rules = compile_divert_rules(product)
    kept = batch.drop_columns([VALUE])
    if not rules or not batch.num_rows:
        return kept
    broken = _first_broken(batch, rules)
    if broken.null_count == len(broken):
        return kept
    return _mark(kept, batch[VALUE], broken, rules)


def _first_broken(batch: pa.Table, rules: Sequence[CompiledRule]) -> pa.Array:
    """For each event the number of the first rule that it breaks, or null."""
    import duckdb

    judged = {FATE, OP, *(name for one in rules for name in one.rule.fields)}
    cases = " ".join(f"WHEN {one.predicate} THEN {number}" for number, one in enumerate(rules))
    passes = f"{quote(FATE)} <> {literal(str(Fate.OK))} OR {quote(OP)} = {literal(str(Op.DELETE))}"
    with duckdb.connect() as connection:
        connection.register("batch", batch.select([name for name in batch.column_names if name in judged]))
        numbers = connection.sql(f"SELECT CASE WHEN {passes} THEN NULL {cases} END::INTEGER AS number FROM batch")
        return numbers.to_arrow_table()["number"].combine_chunks()


def _mark(kept: pa.Table, values: pa.ChunkedArray, broken: pa.Array, rules: Sequence[CompiledRule]) -> pa.Table:
    import pyarrow.compute as pc

    held = broken.is_valid()
    marked = {
        FATE: pc.if_else(held, str(Fate.DIVERTED), kept[FATE]),
        RULE: pc.coalesce(pa.array([one.rule.id for one in rules]).take(broken), kept[RULE]),
        REASON: pc.coalesce(pa.array([_reason(one) for one in rules]).take(broken), kept[REASON]),
        RAW: pc.if_else(held, values, kept[RAW]),
    }
    return pa.table([marked.get(name, kept[name]) for name in kept.column_names], schema=kept.schema)


def _reason(compiled: CompiledRule) -> str:
    """Why a rule holds an event back: the contract's own words, or the promise."""
    rule = compiled.rule
    if rule.description:
        return rule.description
    limits = ", ".join(f"{name} {value}" for name, value in rule.arguments.items() if name != rule.check)
    promise = str(rule.arguments.get(rule.check, limits)) or threshold_text(rule)
    return f"{', '.join(rule.fields)} breaks {rule.check}: {promise}"
