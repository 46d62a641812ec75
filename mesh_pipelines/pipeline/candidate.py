"""A stream's candidate, and what is known of it before its audit: counts of the version before, and of the delta.

Counts of bad rows are additive: bad(new) = bad(before) - bad(rows replaced) + bad(rows that came). They are added only
to those of the newest candidate, and only where that was audited whole or by the same addition, under the same
contract, over the same base, at a position that this one follows: no redrive, no new topic, no rebuild between them.
Wherever one of these is missing the whole candidate is audited, which also happens whenever the base is rewritten, so
that an error, if there ever was one, ends there. ``mesh rebuild`` compares both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mesh_pipelines.contract.envelope import KEY
from mesh_pipelines.contract.model import DataProduct, Rule, RuleKind
from mesh_pipelines.positions import Position, Version
from mesh_pipelines.rules.compile import duplicates_query
from mesh_pipelines.rules.mask import MISKEYED, Known, is_miskeyed, keeps_unique, mask_of
from mesh_pipelines.sql.quote import quote

if TYPE_CHECKING:
    import duckdb

    from mesh_pipelines.audit.results import Audit
    from mesh_pipelines.lake.catalog import Pinned
    from mesh_pipelines.lake.delta import Delta
    from mesh_pipelines.lake.overlay import Overlay
    from mesh_pipelines.lake.state import Base

CANDIDATE = "candidate"
_SUSPECTS = "candidate suspects"


@dataclass(frozen=True)
class Materialised:
    """A draft with its data in place as the view ``candidate``, and what is known of it (None: nothing)."""

    draft: Version
    rewrote_base: bool
    known: Known | None = None


def materialise(
    catalog: Pinned,
    product: DataProduct,
    engine: duckdb.DuckDBPyConnection,
    draft: Version,
    former: Version | None,
    *,
    tail_rows: int,
) -> Materialised:
    """Put a stream's candidate in place; ``former`` is the newest candidate there is.

    ``tail_rows``: the tail behind a base that is too short to be felt.
    """
    from mesh_pipelines.lake import state

    assert draft.position is not None
    if not product.event_type.folds_by_key:
        state.register(engine, catalog, product, draft, CANDIDATE)
        return Materialised(draft, False, _known_of_appended(catalog, product, engine, draft, former))
    from mesh_pipelines.lake import base

    used, rewrote = base.keep_up(engine, catalog, product, draft.position, tail_rows=tail_rows)
    found = _found(catalog, product, engine, used, draft, former) if used and not rewrote else None
    if used and not rewrote and found is None:
        used, rewrote = base.rewrite_base(engine, catalog, product, draft.position), True
    if used is None or found is None:
        draft = replace(draft, base_snapshot_id=used.snapshot_id if used else None)
        state.register(engine, catalog, product, draft, CANDIDATE)
        return Materialised(draft, rewrote)
    delta, added = found
    draft, taken_in, whole = _stored(catalog, product, engine, used, delta, draft, tail_rows)
    known = None
    if former and added and not whole and _adds_up(product, former, delta):
        known = _known_of_folded(catalog, product, engine, draft, former, delta)
    if known is None or known.miskeyed or not _follows_from_counts(product):
        state.register(engine, catalog, product, draft, CANDIDATE)
    return Materialised(draft, taken_in, known)


def _stored(
    catalog: Pinned,
    product: DataProduct,
    engine: duckdb.DuckDBPyConnection,
    base: Base,
    delta: Delta,
    draft: Version,
    tail_rows: int,
) -> tuple[Version, bool, bool]:
    """The draft with what it is read by: this base and an overlay, or a base that took in the tail.

    Also whether it did, and whether it is time for an audit of all rows.
    """
    from mesh_pipelines.lake import base as bases
    from mesh_pipelines.lake import overlay
    from mesh_pipelines.lake.files import files_of
    from mesh_pipelines.lake.tables import up_to_date

    assert draft.position is not None
    table = up_to_date(catalog, product, "base")
    rows = sum(file.record_count for file in files_of(table, base.snapshot_id))
    if not bases.worth_taking_in(rows, base.position.lag_to(draft.position), tail_rows):
        address = overlay.write(table, delta.overlay)
        return replace(draft, base_snapshot_id=base.snapshot_id, overlay=address), False, False
    taken = bases.take_in(engine, catalog, product, base, delta.overlay, draft.position)
    return replace(draft, base_snapshot_id=taken.snapshot_id), True, taken.unaudited == 0


def _known_of_folded(
    catalog: Pinned,
    product: DataProduct,
    engine: duckdb.DuckDBPyConnection,
    draft: Version,
    former: Version,
    delta: Delta,
) -> Known:
    from mesh_pipelines.lake import state

    if not _follows_from_counts(product):
        state.register(engine, catalog, product, draft, CANDIDATE)

    def suspects() -> str:
        state.register(engine, catalog, product, draft, _SUSPECTS, suspects=True)
        return _SUSPECTS

    return _sum(product, engine, former, delta, suspects)


def _follows_from_counts(product: DataProduct) -> bool:
    """Whether an audit from counts asks nothing of the candidate itself, as long as no row is miskeyed.

    Making the view alone opens every file of it.
    """
    return all(
        rule.kind in (RuleKind.ROW, RuleKind.ROW_COUNT, RuleKind.TEXT)
        or (rule.kind is RuleKind.UNIQUE and keeps_unique(rule, product))
        for rule in product.rules
    )


def _found(
    catalog: Pinned,
    product: DataProduct,
    engine: duckdb.DuckDBPyConnection,
    base: Base,
    draft: Version,
    former: Version | None,
) -> tuple[Delta, bool] | None:
    """The delta to this draft, and whether it goes on from the former version and not from the base.

    None where the base's rows do not say which of them are dead, or where the delta is not simply behind it.
    """
    from mesh_pipelines.lake import delta, state
    from mesh_pipelines.lake.tables import up_to_date

    assert draft.position is not None
    replaced = state.replaced_in(up_to_date(catalog, product, "base"), base)
    if replaced is None:
        return None
    before = _former_overlay(catalog, product, base, replaced, draft.position, former)
    added = before is not None
    found = delta.folded(engine, catalog, product, base, before or (base.position, replaced), draft.position)
    return (found, added) if found else None


def _former_overlay(
    catalog: Pinned, product: DataProduct, base: Base, replaced: Overlay, position: Position, former: Version | None
) -> tuple[Position, Overlay] | None:
    from mesh_pipelines.lake import overlay
    from mesh_pipelines.lake.tables import up_to_date

    if former is None or former.position is None or former.base_snapshot_id != base.snapshot_id:
        return None
    if not (position.follows(former.position) and former.position.follows(base.position)):
        return None
    if former.position == base.position:
        return former.position, replaced
    known = overlay.read(up_to_date(catalog, product, "base"), former.overlay)
    return (former.position, known) if known else None


def _known_of_appended(
    catalog: Pinned,
    product: DataProduct,
    engine: duckdb.DuckDBPyConnection,
    draft: Version,
    former: Version | None,
) -> Known | None:
    from mesh_pipelines.lake import delta

    if former is None or former.position is None or draft.position is None:
        return None
    if not draft.position.follows(former.position):
        return None
    found = delta.appended(engine, catalog, product, former.position, draft.position)
    return _sum(product, engine, former, found, lambda: CANDIDATE) if _adds_up(product, former, found) else None


def _adds_up(product: DataProduct, former: Version, delta: Delta) -> bool:
    """Whether the former version's counts are known, mean the same, and the delta's are known."""
    mask = mask_of(product)
    known = former.bad is not None and former.miskeyed is not None and set(mask.rules) <= set(former.bad)
    same = (former.contract_hash, former.mask) == (product.contract_hash, mask.fingerprint)
    return known and same and delta.counted


def _sum(
    product: DataProduct, engine: duckdb.DuckDBPyConnection, former: Version, delta: Delta, suspects: Callable[[], str]
) -> Known:
    assert former.bad is not None
    assert former.miskeyed is not None

    def change(bit: int) -> int:
        return delta.came.bad(bit) - delta.replaced.bad(bit)

    rows = former.rows + delta.came.rows - delta.replaced.rows
    bad = {rule: former.bad[rule] + change(bit) for rule, bit in mask_of(product).bits.items()}
    miskeyed = former.miskeyed + change(MISKEYED)
    known = Known(rows, bad, miskeyed, suspects)
    for rule in product.rules:
        if rule.kind is RuleKind.UNIQUE:
            count = _duplicates(product, engine, rule, former, miskeyed)
            if count is not None:
                bad[rule.id] = count
    return known


def _duplicates(
    product: DataProduct, engine: duckdb.DuckDBPyConnection, rule: Rule, former: Version, miskeyed: int
) -> int | None:
    """The bad rows of a uniqueness rule; None where it has to be measured over the whole.

    Where there were no duplicates before, all there are share a value with a row that came.
    """
    import duckdb

    if product.event_type.folds_by_key and miskeyed == 0 and keeps_unique(rule, product):
        return 0
    if not former.bad or former.bad.get(rule.id) != 0 or _follows_from_counts(product):
        return None
    columns = ", ".join(map(quote, rule.fields))
    came = f"(SELECT {columns} FROM arrived WHERE newest AND live)"
    touched = f"(SELECT {columns} FROM {quote(CANDIDATE)} SEMI JOIN {came} AS came USING ({columns}))"
    try:
        [(count,)] = engine.execute(duplicates_query(rule.fields, touched)).fetchall()
    except duckdb.Error:
        return None
    return count


def counted(
    catalog: Pinned, product: DataProduct, engine: duckdb.DuckDBPyConnection, done: Materialised, audit: Audit
) -> Version:
    """The draft with the counts that the next version's may be added to; none where a rule could not be computed."""
    rules = {rule.id for rule in product.rules if rule.kind in (RuleKind.ROW, RuleKind.UNIQUE)}
    bad = {result.rule: result.bad for result in audit.results if result.rule in rules and result.bad is not None}
    if not product.has_log or set(bad) != rules:
        return done.draft
    miskeyed = done.known.miskeyed if done.known else _miskeyed(catalog, product, engine, done.draft)
    return replace(done.draft, bad=bad, miskeyed=miskeyed, mask=mask_of(product).fingerprint)


def _miskeyed(catalog: Pinned, product: DataProduct, engine: duckdb.DuckDBPyConnection, draft: Version) -> int | None:
    """The rows whose message key is not the text of the contract's key."""
    import duckdb

    from mesh_pipelines.lake import state

    if not product.event_type.folds_by_key:
        return 0
    rows = state.state_sql(catalog, product, draft, envelope=[KEY])
    try:
        [(count,)] = engine.execute(f"SELECT count(*) FROM ({rows}) WHERE {is_miskeyed(product)}").fetchall()
    except duckdb.Error:
        return None
    return count
