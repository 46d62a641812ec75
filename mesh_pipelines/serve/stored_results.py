"""Results of audits as they are read back from a product's tables, for everybody who shows or keeps them.

What an audit may tell is decided when it is stored, and again here: a field may have been public then, or the result
may be older than the decision. Neither the contract that it was made under nor the one that rules makes public what
the other hides. Nobody else reads the table of checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.platform import Platform, fields_behind
from mesh_pipelines.positions import Version
from mesh_pipelines.rules.results import Audit, R, RuleResult, told

if TYPE_CHECKING:
    import pyarrow as pa

# What an audit was of, as one of its rows has it (``audit.history.RESULT_SCHEMA``), and its results.
Stored: TypeAlias = tuple[Mapping[str, Any], tuple[RuleResult, ...]]


def audit_of(platform: Platform, product: DataProduct, version: Version) -> Audit | None:
    """The stored audit of a version; None where it has no verdict or its results are not there.

    Raises:
        TableMissing: the product was not applied.
        TableDamaged: the contract that it was audited under is gone.
    """
    table = platform.tables_of(product).checks.read(candidate_id=version.candidate_id)
    found = _told(platform, product, table)
    if version.verdict is None or not found:
        return None
    return Audit(version.rows, found[0][1], version.verdict)


def audits(platform: Platform, product: DataProduct, since: datetime | None = None) -> Sequence[Stored]:
    """A product's stored audits, newest first: all, or those made since a moment. Raises as ``audit_of``."""
    checks = platform.tables_of(product).checks
    return _told(platform, product, checks.since(since) if since else checks.read())


def told_now(platform: Platform, product: DataProduct, results: Iterable[R]) -> list[R]:
    """Results that were copied from here before, as far as the contract that rules now tells them."""
    rules, fields = {rule.id: rule for rule in product.rules}, fields_behind(platform, product)
    return [told(one, rules.get(one.rule), fields) for one in results]


def _told(platform: Platform, product: DataProduct, table: pa.Table) -> Sequence[Stored]:
    from mesh_pipelines.audit import history

    under = cache(platform.tables_of(product).under)

    def told_of(row: Mapping[str, Any], results: Sequence[RuleResult]) -> tuple[RuleResult, ...]:
        own = under(row["contract_hash"])
        rules = {rule.id: rule for rule in own.rules}
        fields = (*fields_behind(platform, product), *fields_behind(platform, own))
        return tuple(told(one, rules.get(one.rule), fields) for one in results)

    return [(row, told_of(row, results)) for row, results in history.audits(table)]
