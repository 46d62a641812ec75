"""A contract's rules to SQL, without touching an engine.

Every rule becomes one thing that can be measured, compared and reported; one that cannot is a fault of the contract,
found by ``mesh lint`` and not by a run. A row rule is a predicate that is true where the row breaks it and false
elsewhere, so that one scan counts all of them; null breaks no rule but those about null. Meanings that the standard
leaves open are decided in ``docs/rules.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from string import Formatter
from typing import Any, TypeAlias

from mesh_pipelines.contract.model import DataProduct, Field, FieldType, Kind, OnFailure, Operator, Rule, RuleKind, Unit
from mesh_pipelines.contract.read.load import CONTRACT
from mesh_pipelines.errors import ContractInvalid, Fault
from mesh_pipelines.rules import literals, patterns
from mesh_pipelines.rules.queries import Query, parse_query
from mesh_pipelines.rules.refusal import Uncompilable
from mesh_pipelines.sql.quote import literal, quote

_SYMBOLS = {
    Operator.MUST_BE: "=",
    Operator.MUST_NOT_BE: "<>",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
}
_MAX_HOSTNAME = 253
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
    def divert_rules(self) -> tuple[CompiledRule, ...]:
        """The row rules that hold events back at landing."""
        return tuple(compiled for compiled in self.rules if compiled.rule.on_failure is OnFailure.DIVERT)

    @property
    def set_rules(self) -> tuple[CompiledRule, ...]:
        """The rules about the rows as a whole: uniqueness and their number."""
        return self.of(RuleKind.UNIQUE, RuleKind.ROW_COUNT)

    @property
    def sql_rules(self) -> tuple[CompiledRule, ...]:
        """The rules written as a query."""
        return self.of(RuleKind.SQL)

    @property
    def expectations(self) -> tuple[CompiledRule, ...]:
        """The rules written as expectations."""
        return self.of(RuleKind.EXPECTATION)


def compile_product(product: DataProduct) -> CompiledRules:
    """Compile every rule of a product.

    Raises:
        ContractInvalid: with a fault for each rule that compiles to nothing.
    """
    return _compile(product, [rule for rule in product.rules if rule.kind is not RuleKind.TEXT])


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
        raise Uncompilable(f"{unknown[0]} is no property", "name a property of the contract")
    if rule.on_failure is OnFailure.DIVERT:
        _check_diverting(rule, product)
    match rule.kind:
        case RuleKind.ROW:
            return CompiledRule(rule, predicate=f"coalesce({_predicate(rule, product)}, FALSE)")
        case RuleKind.SQL:
            field = rule.fields[0] if rule.fields else None
            return CompiledRule(rule, query=parse_query(str(rule.arguments["query"]), product, field))
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


def threshold_text(rule: Rule) -> str:
    """The promise as a person reads it: ``mustBeLessThan 5 percent``."""
    if rule.kind is RuleKind.EXPECTATION:
        return "holds"
    value = f"{rule.threshold[0]} and {rule.threshold[1]}" if isinstance(rule.threshold, tuple) else str(rule.threshold)
    unit = " percent" if rule.unit is Unit.PERCENT else ""
    return f"{rule.operator} {value}{unit}"


def duplicates_query(fields: tuple[str, ...], relation: str) -> str:
    """The number of rows beyond the first of each group that shares values; rows with a null there do not count.

    ``relation`` is SQL and not quoted here.
    """
    groups = duplicate_groups(fields, relation)
    return f"SELECT coalesce(sum(copies - 1), 0)::BIGINT FROM ({groups}) AS duplicates"


def duplicate_groups(fields: tuple[str, ...], relation: str) -> str:
    """The values that several rows share, and the number of their ``copies``."""
    columns = ", ".join(map(quote, fields))
    complete = " AND ".join(f"{quote(name)} IS NOT NULL" for name in fields)
    return (
        f"SELECT {columns}, count(*) AS copies FROM {relation} WHERE {complete} GROUP BY {columns} HAVING count(*) > 1"
    )


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
    return Fault(product.folder / CONTRACT, rule.line, f"rule {rule.id}", problem, fix)


def _check_diverting(rule: Rule, product: DataProduct) -> None:
    if rule.kind is not RuleKind.ROW:
        raise Uncompilable("a rule about several rows cannot divert single events", "use block or warn")
    if not product.has_log:
        raise Uncompilable("a derived product has no events to divert", "use block or warn")
    if (rule.operator, rule.threshold) != (Operator.MUST_BE, 0):
        raise Uncompilable("a diverting rule judges each event by itself", "use mustBe: 0")


def _check_expectation(rule: Rule, product: DataProduct) -> None:
    """What can be known of an expectation without its library: that its columns exist and its queries only read."""
    if (rule.operator, rule.threshold) != (Operator.MUST_BE, 0):
        raise Uncompilable("an expectation decides by itself", "remove the operator; kwargs may have mostly")
    kwargs: Mapping[str, Any] = rule.arguments["kwargs"]
    declared = {field.name for field in product.fields}
    unknown = [name for name in _column_names(kwargs) if name not in declared]
    if unknown:
        raise Uncompilable(f"{unknown[0]!r} is no property", "name a property of the contract")
    for name, value in kwargs.items():
        if name == "unexpected_rows_query":
            parse_query(batch_query(str(value), "{object}"), product)
        elif name.endswith("_query") or name in _READING_KWARGS:
            raise Uncompilable(f"{name} cannot be checked for what it reads", "state the rule as type sql")


def batch_query(text: str, batch: str) -> str:
    """An expectation's query as the library formats it: ``{batch}`` stands for the rows, other braces are doubled.

    Raises:
        Uncompilable: the library would put something else into it.
    """
    try:
        fields = [(name, form, conversion) for _, name, form, conversion in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise Uncompilable(f"the query has a brace that stands alone: {error}", _BRACES) from error
    if any(field != ("batch", "", None) for field in fields):
        raise Uncompilable("the query has a placeholder other than {batch}", _BRACES)
    return text.format(batch=batch)


def _column_names(kwargs: Mapping[str, Any]) -> Iterator[Any]:
    for name in ("column", "column_A", "column_B"):
        if name in kwargs:
            yield kwargs[name]
    for name in ("column_list", "column_set"):
        yield from kwargs.get(name) or ()


_Predicate: TypeAlias = Callable[[str, FieldType, Mapping[str, Any]], str]


def _predicate(rule: Rule, product: DataProduct) -> str:
    """The SQL that is true where a row breaks the rule, and false or null elsewhere."""
    field = _field(product, rule.fields[0])
    if rule.check not in ROW_CHECKS:
        raise Uncompilable(f"{rule.check} is no check of a row", "see docs/rules.md")
    kinds, compiled = ROW_CHECKS[rule.check]
    if field.type.kind not in kinds:
        raise Uncompilable(f"{rule.check} says nothing about a {field.type.kind}", "see docs/rules.md for its types")
    return compiled(quote(field.name), field.type, rule.arguments)


def _field(product: DataProduct, name: str) -> Field:
    return next(field for field in product.fields if field.name == name)


def _null(column: str, _: FieldType, __: Mapping[str, Any]) -> str:
    return f"{column} IS NULL"


def _missing(column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
    values = _listed(arguments, "missingValues")
    among = _among(column, field_type, values)
    return f"({column} IS NULL OR {among})" if among else f"{column} IS NULL"


def _invalid(column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
    parts: list[str] = []
    if "validValues" in arguments:
        among = _among(column, field_type, _listed(arguments, "validValues"))
        if not among:
            raise Uncompilable("no value is valid", "list the valid values; nullValues is the rule about null")
        parts.append(f"NOT {among}")
    if "pattern" in arguments:
        parts.append(_unmatched(column, field_type, arguments))
    if not parts:
        raise Uncompilable("has neither validValues nor pattern", "add one of them under arguments")
    return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"


def _listed(arguments: Mapping[str, Any], name: str) -> list[Any]:
    values = arguments.get(name)
    if not isinstance(values, list):
        raise Uncompilable(f"{name} is no list", "list the values under arguments")
    return values


def _among(column: str, field_type: FieldType, values: list[Any]) -> str:
    """Whether a column is among the values but null, compared in its own type; "" for no values."""
    if field_type.kind not in literals.LISTABLE:
        raise Uncompilable(f"the values of a {field_type.kind} cannot be listed", "state it as a rule of type sql")
    listed = ", ".join(literals.member(value, field_type) for value in values if value is not None)
    return f"{column} IN ({listed})" if listed else ""


def _unmatched(column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
    if field_type.kind not in literals.TEXTS | literals.INTEGERS:
        raise Uncompilable(f"a {field_type.kind} has no text of its own to match", "state it as a rule of type sql")
    text = column if field_type.kind in literals.TEXTS else f"CAST({column} AS VARCHAR)"
    return f"NOT regexp_matches({text}, {literal(patterns.checked(arguments['pattern']))})"


def _format(column: str, _: FieldType, arguments: Mapping[str, Any]) -> str:
    name = arguments["format"]
    unmatched = f"NOT regexp_matches({column}, {literal(patterns.of_format(name))})"
    return f"({unmatched} OR length({column}) > {_MAX_HOSTNAME})" if name == "hostname" else unmatched


def _limit(name: str, broken: str) -> _Predicate:
    """A comparison with the argument of this name; ``broken`` is the operator under which the row breaks it."""

    def predicate(column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        return f"{column} {broken} {literals.bound(arguments[name], field_type)}"

    return predicate


def _size(name: str, broken: str) -> _Predicate:
    """A comparison of a length: characters of a text, bytes of a binary, items of a list."""

    def predicate(column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        size = arguments[name]
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise Uncompilable(f"{size!r} is no length", "give a whole number from 0")
        function = "octet_length" if field_type.kind is Kind.BYTES else "length"
        return f"{function}({column}) {broken} {size}"

    return predicate


def _range(column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
    low, high = (literals.bound(arguments[name], field_type) for name in ("minimum", "maximum"))
    return f"{column} NOT BETWEEN {low} AND {high}"


def _repeated(column: str, _: FieldType, arguments: Mapping[str, Any]) -> str:
    if arguments["uniqueItems"] is not True:
        raise Uncompilable("promises nothing", "set it to true or remove it")
    return f"list_count({column}) <> list_unique({column})"


def _multiple(column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
    step = literals.bound(arguments["multipleOf"], field_type)
    if field_type.kind not in literals.BINARY_FRACTIONS:
        return f"{column} % {step} <> 0"
    # A binary fraction is only ever near a multiple. What counts as near grows with the value, as its own precision
    # does: a few units in the last place (1e-15 for 64 bits, 1e-6 for 32), and a billionth of the step.
    precision = "1e-6" if field_type.kind is Kind.FLOAT else "1e-15"
    distance = f"abs({column} - round({column} / {step}) * {step})"
    return f"(NOT isfinite({column}) OR {distance} > {step} * 1e-9 + abs({column}) * {precision})"


_LIMITED = literals.NUMBERS | literals.TEMPORALS
_SIZED = literals.TEXTS | {Kind.BYTES}
_LISTS = frozenset({Kind.LIST})
# What can be checked of a row: of which types, and how.
ROW_CHECKS: Mapping[str, tuple[frozenset[Kind], _Predicate]] = {
    "required": (frozenset(Kind), _null),
    "nullValues": (frozenset(Kind), _null),
    "missingValues": (literals.LISTABLE, _missing),
    "invalidValues": (literals.LISTABLE, _invalid),
    "pattern": (literals.TEXTS, _unmatched),
    "format": (literals.TEXTS, _format),
    "minimum": (_LIMITED, _limit("minimum", "<")),
    "maximum": (_LIMITED, _limit("maximum", ">")),
    "exclusiveMinimum": (_LIMITED, _limit("exclusiveMinimum", "<=")),
    "exclusiveMaximum": (_LIMITED, _limit("exclusiveMaximum", ">=")),
    "range": (literals.INTEGERS, _range),
    "multipleOf": (literals.NUMBERS, _multiple),
    "minLength": (_SIZED, _size("minLength", "<")),
    "maxLength": (_SIZED, _size("maxLength", ">")),
    "minItems": (_LISTS, _size("minItems", "<")),
    "maxItems": (_LISTS, _size("maxItems", ">")),
    "uniqueItems": (_LISTS, _repeated),
}
