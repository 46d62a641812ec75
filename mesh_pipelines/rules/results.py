"""What an audit says: a result per rule, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mesh_pipelines.contract.model import DataProduct, OnFailure, Rule, RuleKind, Unit
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
