"""A contract's rules to SQL, without touching an engine.

Every rule becomes one thing that can be measured, compared and reported; one that cannot is a fault of the contract,
found by ``mesh lint`` and not by a run. A row rule is a predicate that is true where the row breaks it and false
elsewhere, so that one scan counts all of them; null breaks no rule but those about null. Meanings that the standard
leaves open are decided in ``docs/rules.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from string import Formatter
from typing import Any

from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.contract.metrics.registry import metric_of
from mesh_pipelines.contract.model import NOT_COMPUTED, DataProduct, OnFailure, Operator, Rule, RuleKind
from mesh_pipelines.contract.read.contract_file import contract_file
from mesh_pipelines.errors import ContractInvalid, Fault
from mesh_pipelines.rules.queries import Query, parse_query
from mesh_pipelines.sql.quote import literal, quote

_SYMBOLS = {
    Operator.MUST_BE: "=",
    Operator.MUST_NOT_BE: "<>",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
}
# What expectations read besides their rows, in forms that are not ours to parse.
_READING_KWARGS = frozenset({"query", "template_dict", "other_table_name"})
_BRACES = "use {batch} for the rows, and double every other brace"


@dataclass(frozen=True)
class CompiledRule:
    """A rule with its SQL: a ``predicate`` for a row rule, a ``query`` for one written as SQL."""

    rule: Rule
    predicate: str = ""
    query: Query = dataclass_field(default_factory=Query)


@dataclass(frozen=True)
class CompiledRules:
    """All rules of a product but those that are documentation, in the contract's order."""

    rules: tuple[CompiledRule, ...]

    def of(self, *kinds: RuleKind) -> tuple[CompiledRule, ...]:
        """The rules of these kinds."""
        return tuple(compiled for compiled in self.rules if compiled.rule.kind in kinds)

    @property
    def row_rules(self) -> tuple[CompiledRule, ...]:
        """The rules that judge each row by itself."""
        return self.of(RuleKind.ROW)

    @property
    def expectations(self) -> tuple[CompiledRule, ...]:
        """The rules written as expectations."""
        return self.of(RuleKind.EXPECTATION)


def compile_product(product: DataProduct) -> CompiledRules:
    """Compile every rule of a product.

    Raises:
        ContractInvalid: with a fault for each rule that compiles to nothing.
    """
    return _compile(product, [rule for rule in product.rules if rule.kind not in NOT_COMPUTED])


def compile_divert_rules(product: DataProduct) -> tuple[CompiledRule, ...]:
    """Compile only the rules that hold events back: landing asks for them with every batch.

    Raises:
        ContractInvalid: with a fault for each of them that compiles to nothing.
    """
    return _compile(product, [rule for rule in product.rules if rule.on_failure is OnFailure.DIVERT]).rules


def compile_rule(rule: Rule, product: DataProduct) -> CompiledRule:
    """Compile one rule.

    Raises:
        Uncompilable: it means nothing that could be measured.
    """
    unknown = [name for name in rule.fields if name not in {field.name for field in product.fields}]
    if unknown:
        raise Uncompilable(f"{unknown[0]} is not a property", "name a property of the contract")
    if rule.on_failure is OnFailure.DIVERT:
        _check_diverting(rule, product)
    match rule.kind:
        case RuleKind.ROW:
            return CompiledRule(rule, predicate=f"coalesce({_predicate(rule, product)}, FALSE)")
        case RuleKind.SQL:
            field = rule.fields[0] if rule.fields else None
            return CompiledRule(rule, query=parse_query(_query_text(rule), product, field))
        case RuleKind.EXPECTATION:
            _check_expectation(rule, product)
            return CompiledRule(rule)
        case _:
            return CompiledRule(rule)


def holds(measured: float | bool, operator: Operator, threshold: Any) -> bool:
    """Whether a measured value keeps the promise; ``between`` includes both ends."""
    match operator:
        case Operator.MUST_BE:
            return measured == threshold
        case Operator.MUST_NOT_BE:
            return measured != threshold
        case Operator.GREATER:
            return measured > threshold
        case Operator.GREATER_OR_EQUAL:
            return measured >= threshold
        case Operator.LESS:
            return measured < threshold
        case Operator.LESS_OR_EQUAL:
            return measured <= threshold
        case Operator.BETWEEN:
            return threshold[0] <= measured <= threshold[1]
        case Operator.NOT_BETWEEN:
            return not threshold[0] <= measured <= threshold[1]


def condition(measured: str, operator: Operator, threshold: Any) -> str:
    """``holds`` as SQL over an expression."""
    if operator in _SYMBOLS:
        return f"{measured} {_SYMBOLS[operator]} {literal(threshold)}"
    inside = f"{measured} BETWEEN {literal(threshold[0])} AND {literal(threshold[1])}"
    return inside if operator is Operator.BETWEEN else f"NOT ({inside})"


def _compile(product: DataProduct, rules: list[Rule]) -> CompiledRules:
    compiled: list[CompiledRule] = []
    faults: list[Fault] = []
    for rule in rules:
        try:
            compiled.append(compile_rule(rule, product))
        except Uncompilable as error:
            faults.append(fault(rule, product, str(error), error.fix))
    if faults:
        raise ContractInvalid(product.fqn, tuple(faults))
    return CompiledRules(tuple(compiled))


def fault(rule: Rule, product: DataProduct, problem: str, fix: str) -> Fault:
    """A fault at the line of a rule."""
    return Fault(contract_file(product.folder), rule.line, f"rule {rule.id}", problem, fix)


def _check_diverting(rule: Rule, product: DataProduct) -> None:
    if rule.kind is not RuleKind.ROW:
        raise Uncompilable("a rule about several rows cannot divert single events", "use block or warn")
    if not product.has_log:
        raise Uncompilable("a derived product has no events to divert", "use block or warn")
    if (rule.operator, rule.threshold) != (Operator.MUST_BE, 0):
        raise Uncompilable("a diverting rule judges each event by itself, so it must have mustBe: 0", "use mustBe: 0")


def _check_expectation(rule: Rule, product: DataProduct) -> None:
    """What can be known of an expectation without its library: that its columns exist and its queries only read."""
    if (rule.operator, rule.threshold) != (Operator.MUST_BE, 0):
        raise Uncompilable("an expectation must not have an operator", "remove it; kwargs may have mostly")
    kwargs: Mapping[str, Any] = rule.arguments["kwargs"]
    declared = {field.name for field in product.fields}
    unknown = [name for name in _column_names(kwargs) if name not in declared]
    if unknown:
        raise Uncompilable(f"{unknown[0]!r} is not a property", "name a property of the contract")
    for name, value in kwargs.items():
        if name == "unexpected_rows_query":
            parse_query(batch_query(str(value), "{object}"), product)
        elif name.endswith("_query") or name in _READING_KWARGS:
            raise Uncompilable(f"{name} may read other data, which cannot be checked", "state the rule as type: sql")


def batch_query(text: str, batch: str) -> str:
    """An expectation's query as the library formats it: ``{batch}`` stands for the rows, other braces are doubled.

    Raises:
        Uncompilable: the library would put something else into it.
    """
    try:
        fields = [(name, form, conversion) for _, name, form, conversion in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise Uncompilable(f"the query has an unpaired brace: {error}", _BRACES) from error
    if any(field != ("batch", "", None) for field in fields):
        raise Uncompilable("the query has a placeholder other than {batch}", _BRACES)
    return text.format(batch=batch)


def _column_names(kwargs: Mapping[str, Any]) -> Iterator[Any]:
    for name in ("column", "column_A", "column_B"):
        if name in kwargs:
            yield kwargs[name]
    for name in ("column_list", "column_set"):
        yield from kwargs.get(name) or ()


def _predicate(rule: Rule, product: DataProduct) -> str:
    """The SQL that is true where a row breaks the rule, and false or null elsewhere."""
    field = next(field for field in product.fields if field.name == rule.fields[0])
    metric = metric_of(rule.check)
    if metric is None or metric.kind is not RuleKind.ROW:
        raise Uncompilable(f"{rule.check} does not check single rows", "see docs/rules.md")
    if field.type.kind not in metric.types:
        raise Uncompilable(f"{rule.check} cannot check a {field.type.kind}", "see docs/rules.md for its types")
    return metric.predicate(quote(field.name), field.type, rule.arguments)


def _query_text(rule: Rule) -> str:
    """The text of a rule's query: its author's, or its metric's."""
    metric = metric_of(rule.check)
    return metric.query(rule) if metric else str(rule.arguments["query"])
