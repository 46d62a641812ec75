"""Hold back, at landing, the events that a diverting rule refuses: the only rules that judge before the fold.

A rule whose predicate is null for an event does not refuse it, as everywhere. A product without such rules costs
nothing here; one with them costs one pass over the columns they speak of.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from mesh_pipelines.contract.envelope import FATE, OP, RAW, REASON, RULE, Fate, Op
from mesh_pipelines.contract.model import DataProduct, Rule
from mesh_pipelines.contract.telling import may_tell
from mesh_pipelines.rules.compile import CompiledRule, compile_divert_rules
from mesh_pipelines.rules.results import threshold_text
from mesh_pipelines.sql.quote import literal, quote

if TYPE_CHECKING:
    import duckdb

VALUE = "__value"
_BATCH = "batch"


class Diverter:
    """Holds back events by the diverting rules of a contract. Made once for all batches of a landing, then closed.

    Raises:
        ContractInvalid: a diverting rule of the contract compiles to nothing.
    """

    def __init__(self, product: DataProduct) -> None:
        rules = compile_divert_rules(product)
        self._active = bool(rules)
        self._judged = {FATE, OP, *(name for one in rules for name in one.rule.fields)}
        self._first_broken_sql = _first_broken_sql(rules)
        self._ids = pa.array([one.rule.id for one in rules], pa.string())
        self._reasons = pa.array([_reason(one.rule, product) for one in rules], pa.string())

    def divert(self, batch: pa.Table) -> pa.Table:
        """Give the events that break a diverting rule their fate, rule, reason and raw bytes; drop the raw column.

        ``batch`` has the log's columns and the raw values as ``__value``. An event that breaks several such rules is
        diverted by the contract's first. Tombstones carry nothing to judge and pass.
        """
        kept = batch.drop_columns([VALUE])
        if not self._active or not batch.num_rows:
            return kept
        broken = self._first_broken(batch)
        if broken.null_count == len(broken):
            return kept
        return self._mark(kept, batch[VALUE], broken)

    def close(self) -> None:
        """Close the engine, if any batch needed it."""
        if "_engine" in self.__dict__:
            self._engine.close()
            del self._engine

    @cached_property
    def _engine(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        return duckdb.connect()

    def _first_broken(self, batch: pa.Table) -> pa.Array:
        """For each event the number of the first rule that it breaks, or null."""
        judged = batch.select([name for name in batch.column_names if name in self._judged])
        self._engine.register(_BATCH, judged)
        try:
            return self._engine.sql(self._first_broken_sql).to_arrow_table()["number"].combine_chunks()
        finally:
            self._engine.unregister(_BATCH)

    def _mark(self, kept: pa.Table, values: pa.ChunkedArray, broken: pa.Array) -> pa.Table:
        from mesh_pipelines.arrow_compute import pc

        held = broken.is_valid()
        marked = {
            FATE: pc.if_else(held, str(Fate.DIVERTED), kept[FATE]),
            RULE: pc.coalesce(self._ids.take(broken), kept[RULE]),
            REASON: pc.coalesce(self._reasons.take(broken), kept[REASON]),
            RAW: pc.if_else(held, values, kept[RAW]),
        }
        return pa.table([marked.get(name, kept[name]) for name in kept.column_names], schema=kept.schema)


def _first_broken_sql(rules: tuple[CompiledRule, ...]) -> str:
    cases = " ".join(f"WHEN {one.predicate} THEN {number}" for number, one in enumerate(rules))
    passes = f"{quote(FATE)} <> {literal(str(Fate.OK))} OR {quote(OP)} = {literal(str(Op.DELETE))}"
    return f"SELECT CASE WHEN {passes} THEN NULL {cases} END::INTEGER AS number FROM {_BATCH}"


def _reason(rule: Rule, product: DataProduct) -> str:
    """Why a rule holds an event back: the contract's own words, or the promise.

    Beside an event a list of values says what it had, or nearly: where that may not be told, the check is named alone.
    """
    if rule.description:
        return rule.description
    if not may_tell(field for field in product.fields if field.name in rule.fields):
        return f"{', '.join(rule.fields)} breaks {rule.check}"
    limits = ", ".join(f"{name} {value}" for name, value in rule.arguments.items() if name != rule.check)
    promise = str(rule.arguments.get(rule.check, limits)) or threshold_text(rule)
    return f"{', '.join(rule.fields)} breaks {rule.check}: {promise}"
