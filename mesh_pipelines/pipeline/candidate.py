"""A product's next version on its way, and what is known of it before its audit.

That is the counts of the version before, and of the delta.

Counts of bad rows are additive: bad(new) = bad(before) - bad(rows replaced) + bad(rows that came). They are added only
to those of the newest candidate, and only where that was audited whole or by the same addition, under the same
contract, over the same base, at a position that this one follows: no redrive, no new topic, no rebuild between them.
Wherever one of these is missing the whole candidate is audited, which also happens whenever the base is rewritten, so
that an error, if there ever was one, ends there. ``mesh rebuild`` compares both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import duckdb

from mesh_pipelines.contract.envelope import KEY
from mesh_pipelines.contract.metrics.together import duplicates_query
from mesh_pipelines.contract.model import NOT_COMPUTED, Rule, RuleKind
from mesh_pipelines.engine import View, create_view
from mesh_pipelines.lake.delta import ARRIVED, Delta
from mesh_pipelines.lake.overlay import Overlay
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.state import Base
from mesh_pipelines.positions import Position, Version
from mesh_pipelines.rules.mask import MISKEYED, Known, is_miskeyed, keeps_unique
from mesh_pipelines.sql.quote import quote

if TYPE_CHECKING:
    import pyarrow as pa

    from mesh_pipelines.rules.results import Audit

_SUSPECTS = "candidate suspects"


class Candidate:
    """A draft, its data, and what is known of them: first put in place, then audited as the view ``relation``.

    ``former`` is the newest candidate there is, and ``tail_rows`` the tail behind a base that is too short to be felt.
    ``known`` is None where nothing is known before the audit.
    """

    relation = "candidate"

    def __init__(
        self,
        tables: ProductTables,
        engine: duckdb.DuckDBPyConnection,
        draft: Version,
        former: Version | None,
        *,
        tail_rows: int,
    ) -> None:
        self.draft = draft
        self.known: Known | None = None
        self.rewrote_base = False
        self._tables = tables
        self._product = tables.product
        self._engine = engine
        self._former = former
        self._tail_rows = tail_rows
        self._shown = False

    def put(self, rows: pa.RecordBatchReader) -> None:
        """Put a derived product's rows in place."""
        self.draft = replace(self.draft, base_snapshot_id=self._tables.base.write_result(rows))
        self.rewrote_base = True
        self._show()

    def fold(self) -> None:
        """Put a stream's events up to the draft's position in place."""
        if self._product.event_type.folds_by_key:
            self._fold_by_key()
            return
        self._show()
        if self._former and self._former.position and self._position.follows(self._former.position):
            added = self._tables.changes.appended(self._engine, self._former.position, self._position)
            self.known = self._sum(self._former, added, lambda: self.relation)

    def view(self) -> View:
        """The candidate's rows, and the files that they are in."""
        return self._tables.state.view(self.draft)

    def audited(self, audit: Audit) -> Version:
        """The version to store: the draft with its verdict, and the counts that the next version's may be added to."""
        held = self._tables.log.quarantined() if self._product.has_log else 0
        return replace(self._counted(audit), rows=audit.rows, quarantined=held, verdict=audit.verdict)

    @property
    def _position(self) -> Position:
        assert self.draft.position is not None, f"{self._product.fqn}: a stream's draft has a position"
        return self.draft.position

    def _show(self) -> None:
        """Make the view of the candidate's rows, unless it is there."""
        if not self._shown:
            create_view(self._engine, self.relation, self._tables.state.sql(self.draft))
            self._shown = True

    def _fold_by_key(self) -> None:
        base = self._tables.base
        used, self.rewrote_base = base.keep_up(self._engine, self._position, tail_rows=self._tail_rows)
        found = self._delta(used) if used and not self.rewrote_base else None
        if used and found is None and not self.rewrote_base:
            used, self.rewrote_base = base.rewrite(self._engine, self._position), True
        if used is None or found is None:
            self.draft = replace(self.draft, base_snapshot_id=used.snapshot_id if used else None)
            self._show()
            return
        came, former = found
        audit_all = self._store(used, came)
        if former and not audit_all:
            self.known = self._sum(former, came, self._suspects)
        if self.known is None or self.known.miskeyed or not self._follows_from_counts:
            self._show()

    def _store(self, used: Base, came: Delta) -> bool:
        """Store what the draft is read by: this base and an overlay, or a base that takes in the tail.

        Gives whether it is time for an audit of all rows.
        """
        base = self._tables.base
        if not base.is_tail_long(used, self._position, self._tail_rows):
            self.draft = replace(self.draft, base_snapshot_id=used.snapshot_id, overlay=base.keep(came.overlay))
            return False
        taken = base.take_in(self._engine, used, came.overlay, self._position)
        self.draft = replace(self.draft, base_snapshot_id=taken.snapshot_id)
        self.rewrote_base = True
        return taken.unaudited == 0

    def _delta(self, used: Base) -> tuple[Delta, Version | None] | None:
        """What came and what it replaced, and the former version where it goes on from that and not from the base.

        None where the base's rows do not say which of them are dead, or where the delta is not simply behind it.
        """
        replaced = self._tables.state.replaced_in(used)
        if replaced is None:
            return None
        before = self._former_overlay(used, replaced)
        start = before or (used.position, replaced)
        found = self._tables.changes.folded(self._engine, used, start, self._position)
        return (found, self._former if before else None) if found else None

    def _former_overlay(self, used: Base, replaced: Overlay) -> tuple[Position, Overlay] | None:
        """The former version's position and overlay, where it has the same base and the draft goes on from it."""
        former = self._former
        if former is None or former.position is None or former.base_snapshot_id != used.snapshot_id:
            return None
        if not (self._position.follows(former.position) and former.position.follows(used.position)):
            return None
        if former.position == used.position:
            return former.position, replaced
        known = self._tables.state.overlay(former.overlay)
        return (former.position, known) if known else None

    def _suspects(self) -> str:
        create_view(self._engine, _SUSPECTS, self._tables.state.sql(self.draft, suspects=True))
        return _SUSPECTS

    @cached_property
    def _follows_from_counts(self) -> bool:
        """Whether an audit from counts asks nothing of the candidate itself, as long as no row is miskeyed.

        Making the view alone opens every file of it.
        """
        return all(
            rule.kind in (RuleKind.ROW, RuleKind.ROW_COUNT, *NOT_COMPUTED)
            or (rule.kind is RuleKind.UNIQUE and keeps_unique(rule, self._product))
            for rule in self._product.rules
        )

    def _sum(self, former: Version, came: Delta, suspects: Callable[[], str]) -> Known | None:
        """The former version's counts and the delta's; None where they do not add up.

        They do where both are known, and mean the same.
        """
        mask = self._tables.mask
        same = (former.contract_hash, former.mask) == (self._product.contract_hash, mask.fingerprint)
        if former.bad is None or former.miskeyed is None or not (same and came.counted):
            return None
        if not set(mask.rules) <= set(former.bad):
            return None
        rows = former.rows + came.came.rows - came.replaced.rows
        bad = {rule: former.bad[rule] + came.change(bit) for rule, bit in mask.bits.items()}
        miskeyed = former.miskeyed + came.change(MISKEYED)
        known = Known(rows, bad, miskeyed, suspects)
        for rule in self._product.rules:
            if rule.kind is RuleKind.UNIQUE and (count := self._duplicates(rule, former, miskeyed)) is not None:
                bad[rule.id] = count
        return known

    def _duplicates(self, rule: Rule, former: Version, miskeyed: int) -> int | None:
        """The bad rows of a uniqueness rule; None where it has to be measured over the whole.

        Where there were no duplicates before, all there are share a value with a row that came.
        """
        if self._product.event_type.folds_by_key and miskeyed == 0 and keeps_unique(rule, self._product):
            return 0
        if not former.bad or former.bad.get(rule.id) != 0 or self._follows_from_counts:
            return None
        self._show()
        columns = ", ".join(map(quote, rule.fields))
        came = f"(SELECT {columns} FROM {ARRIVED} WHERE newest AND live)"
        touched = f"(SELECT {columns} FROM {quote(self.relation)} SEMI JOIN {came} AS came USING ({columns}))"
        return self._count(duplicates_query(rule.fields, touched))

    def _counted(self, audit: Audit) -> Version:
        """The draft with its counts of bad rows; without them where a rule could not be computed."""
        rules = {rule.id for rule in self._product.rules if rule.kind in (RuleKind.ROW, RuleKind.UNIQUE)}
        bad = {result.rule: result.bad for result in audit.results if result.rule in rules and result.bad is not None}
        if not self._product.has_log or set(bad) != rules:
            return self.draft
        miskeyed = self.known.miskeyed if self.known else self._miskeyed()
        return replace(self.draft, bad=bad, miskeyed=miskeyed, mask=self._tables.mask.fingerprint)

    def _miskeyed(self) -> int | None:
        """The rows whose message key is not the text of the contract's key."""
        if not self._product.event_type.folds_by_key:
            return 0
        rows = self._tables.state.sql(self.draft, envelope=[KEY])
        return self._count(f"SELECT count(*) FROM ({rows}) WHERE {is_miskeyed(self._product)}")

    def _count(self, query: str) -> int | None:
        """The one number a query gives; None where it cannot be computed."""
        try:
            [(count,)] = self._engine.execute(query).fetchall()
        except duckdb.Error:
            return None
        return count
