"""What an audit says: a result per rule, and the verdict that follows from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

from mesh_pipelines.contract.model import DataProduct, Field, OnFailure, Rule, RuleKind, Unit
from mesh_pipelines.contract.telling import may_tell, repeated
from mesh_pipelines.positions import Verdict


class State(StrEnum):
    """The outcome of one rule.

    VACUOUS: there was nothing to judge, on no rows. ERROR: it could not be computed. NOT_EXECUTED: what it needs is not
    installed.
    """

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    ERROR = "error"
    VACUOUS = "vacuous"
    NOT_EXECUTED = "not-executed"


_UNKNOWN = (State.ERROR, State.NOT_EXECUTED)
# What these measure is how many rows there are, or break the rule.
_COUNTING = (RuleKind.ROW, RuleKind.UNIQUE, RuleKind.ROW_COUNT)
# Of queries only those that are plainly counts of rows, and sums and shares of them: as much as a row rule tells.
_LONG_QUERY = 2_000
_COUNT = r"count\(\s*\*?\s*\)(\s+FILTER\s*\(\s*WHERE\s[^()]*\))?"
_WHERE = r"(\s+WHERE\s((?!\b(SELECT|FROM|UNION|EXCEPT|INTERSECT)\b).)*)?"
_INNER = re.compile(rf"\(\s*SELECT\s+{_COUNT}\s+FROM\s+[\w.]+\s*\)", re.IGNORECASE)
_COUNTS = re.compile(
    rf"\s*SELECT(\s|\(|\)|abs|{_COUNT}|[\d.+*/-])+(\sAS\s+\w+)?\s+FROM\s+\$?\{{(object|table|model|schema)\}}{_WHERE}\s*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class RuleResult:
    """One rule's outcome: how many of ``rows`` were ``bad`` (None where it counts none), what was measured against
    which threshold, and, for a broken rule, a few of the rows that broke it.

    ``sample`` has values of every classification: the door decides who sees them (``serve/door.py``).
    """

    rule: str
    check: str
    dimension: str
    on_failure: str
    state: State
    rows: int
    bad: int | None
    measured: float | None
    threshold: str
    milliseconds: float
    message: str = ""
    sample: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    @property
    def blocks(self) -> bool:
        """Whether this outcome keeps the candidate from being published: what is not known to hold does not hold."""
        return blocks(self.state, self.on_failure)


@dataclass(frozen=True)
class Audit:
    """One audit of one candidate of ``rows`` rows."""

    rows: int
    results: tuple[RuleResult, ...]
    verdict: Verdict


def blocks(state: State, on_failure: str) -> bool:
    """Whether a rule in this state keeps its candidate from being published."""
    return state is State.FAIL or (state in _UNKNOWN and on_failure != OnFailure.WARN)


def outcome(rule: Rule, kept: bool, *, vacuous: bool) -> State:
    """The state of a rule that could be computed."""
    if vacuous:
        return State.VACUOUS
    if kept:
        return State.PASS
    return State.WARN if rule.on_failure is OnFailure.WARN else State.FAIL


def result(rule: Rule, state: State, rows: int) -> RuleResult:
    """A rule's result before what was measured: what is known of the rule, and its state."""
    return RuleResult(
        rule=rule.id,
        check=rule.check,
        dimension=rule.dimension,
        on_failure=str(rule.on_failure),
        state=state,
        rows=rows,
        bad=None,
        measured=None,
        threshold=threshold_text(rule),
        milliseconds=0.0,
        message="",
    )


class Told(Protocol):
    """A rule's result, wherever it is kept: a dataclass that has what of it may quote values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def rule(self) -> str:
        """The rule's id."""
        ...

    @property
    def state(self) -> str:
        """One of ``State``."""
        ...

    @property
    def bad(self) -> int | None:
        """How many rows break the rule."""
        ...

    @property
    def measured(self) -> float | None:
        """What was measured."""
        ...

    @property
    def message(self) -> str:
        """Why it could not be computed."""
        ...


R = TypeVar("R", bound=Told)


def told(result: R, rule: Rule | None, fields: Iterable[Field]) -> R:
    """A rule's result as far as it may be told, made now or stored before: this decides for all who store or read one.

    ``fields`` are those of all that the rule can read; ``rule`` is None where nobody knows it any more.
    """
    fields = tuple(fields)
    found = replace(result, measured=_measure_told(result, rule, fields), message=repeated(result.message, fields))
    if rule and rule.kind is RuleKind.EXPECTATION and result.state == State.ERROR and not may_tell(fields):
        # The library's words may quote values.
        return replace(found, message="the expectation could not be computed")
    return found


def _measure_told(result: Told, rule: Rule | None, fields: Iterable[Field]) -> float | None:
    """What a rule measured, as far as it may be told: counts of rows, or anything of public fields.

    An author's query or an expectation may measure a value, such as the greatest of a column; which of the fields it
    does read is not asked.
    """
    if (rule is not None and _counts(rule)) or may_tell(fields):
        return result.measured
    return None if result.bad is None else float(result.bad)


def _counts(rule: Rule) -> bool:
    if rule.kind is RuleKind.SQL:
        query = " ".join(str(rule.arguments.get("query", "")).split())
        return len(query) < _LONG_QUERY and _COUNTS.fullmatch(_INNER.sub("0", query)) is not None
    return rule.kind in _COUNTING


def verdict(product: DataProduct, candidate_id: str, results: Sequence[RuleResult], at: str) -> Verdict:
    """The verdict that these results come to; ``errors`` counts the rules that were not executed, too."""
    count = {state: sum(result.state is state for result in results) for state in State}
    blocking = tuple(result.rule for result in results if result.blocks)
    return Verdict(
        candidate_id=candidate_id,
        contract_hash=product.contract_hash,
        passed=not blocking,
        rules=len(results),
        failed=count[State.FAIL],
        warned=count[State.WARN],
        errors=sum(count[state] for state in _UNKNOWN),
        vacuous=count[State.VACUOUS],
        at=at,
        blocking=blocking,
    )


def threshold_text(rule: Rule) -> str:
    """The promise as a person reads it: ``mustBeLessThan 5 percent``."""
    if rule.kind is RuleKind.EXPECTATION:
        return "holds"
    value = f"{rule.threshold[0]} and {rule.threshold[1]}" if isinstance(rule.threshold, tuple) else str(rule.threshold)
    unit = " percent" if rule.unit is Unit.PERCENT else ""
    return f"{rule.operator} {value}{unit}"
