"""What breaks the rules of a version: the rows of each broken rule, the groups that share what has to be unique.

They are looked up in the stored version or candidate when somebody asks. Storing them with the results was ruled out:
values that are not public would lie in one more table, and a count is all that the history needs.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mesh_pipelines.contract.envelope import KEY, OFFSET, PARTITION
from mesh_pipelines.contract.metrics.together import duplicate_groups
from mesh_pipelines.contract.model import DataProduct, Rule, RuleKind
from mesh_pipelines.errors import Unaudited, UsageError
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Version
from mesh_pipelines.rules.compile import compile_rule
from mesh_pipelines.rules.mask import keeps_unique
from mesh_pipelines.rules.results import RuleResult, State
from mesh_pipelines.serve.door import MASKED, ROWS, Rows, Shelf, select
from mesh_pipelines.serve.stored_results import audit_of
from mesh_pipelines.sql.quote import quote

# Columns of groups, after the values that their rows share.
COPIES, EVENTS, KEYS = "copies", "events", "keys"
# Events and message keys that are named of each group.
_NAMED = 5
_KEPT = (State.PASS, State.VACUOUS)


@dataclass(frozen=True)
class Failing:
    """A rule and its result in a version; ``rows`` are some that break it, or groups of rows that are not unique.

    ``rows`` is None where no single row breaks the rule, or where the version's contract has no such rule. ``cause``
    says what is wrong with the stream, where that is known.
    """

    result: RuleResult
    rule: Rule | None
    rows: Rows | None
    cause: str = ""

    @property
    def is_grouped(self) -> bool:
        """Whether ``rows`` are groups."""
        return self.rule is not None and self.rule.kind is RuleKind.UNIQUE


def judged(platform: Platform, product: DataProduct, number: int | None = None) -> Version:
    """The newest candidate, whether or not it was published since, or the version of this number.

    Raises:
        Unaudited: the product has no candidate yet.
        NothingPublished, UnknownVersion: that version does not exist.
    """
    versions = platform.tables_of(product).versions
    newest = versions.newest()
    if newest is None:
        raise Unaudited(f"{product.fqn} has no candidate yet", next_step=f"mesh run {product.fqn}")
    return newest if number in (None, newest.number) else versions.at(number)


def failing(shelf: Shelf, rule: str | None = None, limit: int = _NAMED) -> list[Failing]:
    """The rules that a version breaks, those that block first; or one rule, also where it holds.

    At most ``limit`` rows, or groups, of each.

    Raises:
        UsageError: the version was not audited by this rule.
        UnknownVersion: its rows have expired.
    """
    results = _results(shelf)
    if rule is not None:
        return [_look(shelf, _named(shelf.product, results, rule), limit)]
    broken = sorted((one for one in results if one.state not in _KEPT), key=lambda one: not one.blocks)
    return [_look(shelf, one, limit) for one in broken]


def has_rows(rule: Rule) -> bool:
    """Whether there are rows that break a rule, rather than a figure that does."""
    return rule.kind in (RuleKind.ROW, RuleKind.UNIQUE)


def breaking(shelf: Shelf, rule: Rule, limit: int = 50) -> Rows:
    """The rows that break a row rule or share what has to be unique, each in full.

    Raises:
        UsageError: the rule judges the rows as a whole, so no single row breaks it.
        UnknownVersion: the version's rows have expired.
    """
    product = shelf.product
    match rule.kind:
        case RuleKind.ROW:
            return select(shelf, compile_rule(rule, product).predicate, limit)
        case RuleKind.UNIQUE:
            columns = ", ".join(map(quote, rule.fields))
            groups = duplicate_groups(rule.fields, ROWS)
            one = columns if len(rule.fields) == 1 else f"({columns})"
            order = [name for name in rule.fields if name not in shelf.masked]
            return select(shelf, f"{one} IN (SELECT {one} FROM ({groups}))", limit, order)
        case _:
            raise UsageError(
                f"{rule.id} judges the rows as a whole, no single row breaks it",
                next_step=f"mesh query over {product.fqn}",
            )


def _results(shelf: Shelf) -> tuple[RuleResult, ...]:
    found = audit_of(shelf.platform, shelf.ruling, shelf.version)
    return found.results if found else ()


def _named(product: DataProduct, results: Sequence[RuleResult], rule: str) -> RuleResult:
    found = next((one for one in results if one.rule == rule), None)
    if found is None:
        near = difflib.get_close_matches(rule, [one.rule for one in results], n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UsageError(
            f"{product.fqn}: this version was not audited by a rule {rule}{hint}",
            next_step=f"mesh failing {product.fqn}",
        )
    return found


def _look(shelf: Shelf, result: RuleResult, limit: int) -> Failing:
    rule = next((one for one in shelf.product.rules if one.id == result.rule), None)
    if rule is None or not result.bad:
        return Failing(result, rule, None)
    match rule.kind:
        case RuleKind.ROW:
            return Failing(result, rule, breaking(shelf, rule, limit))
        case RuleKind.UNIQUE:
            rows = groups(shelf, rule, limit)
            return Failing(result, rule, rows, _cause(shelf.product, rule, rows))
        case _:
            return Failing(result, rule, None)


def groups(shelf: Shelf, rule: Rule, limit: int) -> Rows:
    """What several rows share that has to be unique: the values, how many rows, their events and message keys.

    Of each group a few events, as partition:offset, and a few message keys are named. The largest groups come first.
    """
    product, masked = shelf.product, set(shelf.masked)
    columns = (*rule.fields, COPIES, *((EVENTS, KEYS) if product.has_log else ()))
    if masked:
        # A message key is what its producer wrote there, whatever the contract's key is.
        masked.add(KEYS)
    events = f"list({quote(PARTITION)} || ':' || {quote(OFFSET)} ORDER BY {quote(PARTITION)}, {quote(OFFSET)})"
    keys = f"list_sort(list(DISTINCT {quote(KEY)}))"
    more = f", {events}[1:{_NAMED}], {keys}[1:{_NAMED}]" if product.has_log else ""
    names = ", ".join(map(quote, rule.fields))
    # The order of rows tells as well.
    order = [COPIES + " DESC", *(quote(name) for name in rule.fields if name not in masked)]
    complete = " AND ".join(f"{quote(name)} IS NOT NULL" for name in rule.fields)
    state = shelf.state((PARTITION, OFFSET, KEY) if product.has_log else ())
    found = shelf.fetch(
        f"SELECT {names}, count(*) AS {COPIES}{more} FROM ({state}) WHERE {complete} GROUP BY {names} "
        f"HAVING count(*) > 1 ORDER BY {', '.join(order)} LIMIT {limit + 1}"
    )
    shown = tuple(
        tuple(MASKED if name in masked else _text(name, value) for name, value in zip(columns, row, strict=True))
        for row in found[:limit]
    )
    return Rows(columns, shown, frozenset(masked & set(columns)), len(found) > limit)


def _text(column: str, value: Any) -> Any:
    """Message keys are bytes, and mostly text."""
    if column != KEYS:
        return value
    return [key.decode("utf-8", errors="backslashreplace") for key in value if key is not None]


def _cause(product: DataProduct, rule: Rule, rows: Rows) -> str:
    """Why rows share a key although the fold keeps one row of each message key."""
    if not (product.has_log and product.event_type.folds_by_key and keeps_unique(rule, product) and rows.rows):
        return ""
    keys = rows.rows[0][rows.columns.index(KEYS)]
    named = "" if keys is MASKED else ", " + " and ".join(f"'{key}'" for key in keys[:2]) + ","
    return (
        f"two keys on the topic{named} have the same {', '.join(rule.fields)}: "
        "the producer's message key is not the text of the key fields"
    )
