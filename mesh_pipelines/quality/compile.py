"""A contract's rules to SQL, without touching an engine.

Every rule becomes one thing that can be measured, compared and reported; one that cannot is a fault of the contract,
found by ``mesh lint`` and not by a run. A row rule is a predicate that is true where the row breaks it, so that one
scan counts all of them; null breaks no rule but those about null. Meanings the standard leaves open are decided in
``docs/rules.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import re2
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from mesh_pipelines.contract.load import CONTRACT
from mesh_pipelines.contract.model import DataProduct, Field, Kind, OnFailure, Operator, Rule, RuleKind, Unit
from mesh_pipelines.contract.sql import literal, quote
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.errors import ContractInvalid, Fault

_FORMATS = {
    "email": r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
    "uuid": r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "uri": r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$",
    "hostname": r"^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
    "ipv4": r"^((25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(25[0-5]|2[0-4]\d|1?\d?\d)$",
    "ipv6": r"^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+$",
}
_COMPARISONS = {"minimum": "<", "maximum": ">", "exclusiveMinimum": "<=", "exclusiveMaximum": ">="}
_PLACEHOLDERS = ("${table}", "${object}", "{table}", "{object}")
_COLUMN_PLACEHOLDERS = ("${column}", "${property}", "{column}", "{property}")
_OBJECT = "__object__"


class Uncompilable(ValueError):
    """The rule means nothing that could be measured; the message is the problem, ``fix`` what to do."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


@dataclass(frozen=True)
class CompiledRule:
    """A rule with its SQL: a ``predicate`` for row rules, a ``query`` (with the object's placeholder) for SQL rules."""

    rule: Rule
    predicate: str = ""
    query: str = ""


@dataclass(frozen=True)
class CompiledRules:
    """All rules of a product but those that are documentation."""

    rules: tuple[CompiledRule, ...]

    def of(self, kind: RuleKind) -> tuple[CompiledRule, ...]:
        """The rules of one kind, in the contract's order."""
        return tuple(compiled for compiled in self.rules if compiled.rule.kind is kind)

    @property
    def diverting(self) -> tuple[CompiledRule, ...]:
        """The row rules that hold events back at landing."""
        return tuple(compiled for compiled in self.rules if compiled.rule.on_failure is OnFailure.DIVERT)


def compile_product(product: DataProduct) -> CompiledRules:
    """Compile every rule of a product.

    Raises:
        ContractInvalid: with a fault for each rule that compiles to nothing.
    """
    compiled: list[CompiledRule] = []
    faults: list[Fault] = []
    for rule in product.rules:
        if rule.kind is RuleKind.TEXT:
            continue
        try:
            compiled.append(compile_rule(rule, product))
        except Uncompilable as error:
            faults.append(Fault(product.folder / CONTRACT, rule.line, f"rule {rule.id}", str(error), error.fix))
    if faults:
        raise ContractInvalid(product.fqn, tuple(faults))
    return CompiledRules(tuple(compiled))


def compile_rule(rule: Rule, product: DataProduct) -> CompiledRule:
    """Compile one rule.

    Raises:
        Uncompilable: it means nothing that could be measured.
    """
    if rule.on_failure is OnFailure.DIVERT:
        _check_diverting(rule, product)
    match rule.kind:
        case RuleKind.ROW:
            predicate = _predicate(rule, _field(product, rule.fields[0]))
            return CompiledRule(rule, predicate=f"coalesce({predicate}, FALSE)")
        case RuleKind.SQL:
            return CompiledRule(rule, query=_query(rule, product))
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
    symbols = {
        Operator.MUST_BE: "=",
        Operator.MUST_NOT_BE: "<>",
        Operator.GREATER: ">",
        Operator.GREATER_OR_EQUAL: ">=",
        Operator.LESS: "<",
        Operator.LESS_OR_EQUAL: "<=",
    }
    if operator in symbols:
        return f"{measured} {symbols[operator]} {literal(threshold)}"
    inside = f"{measured} BETWEEN {literal(threshold[0])} AND {literal(threshold[1])}"
    return inside if operator is Operator.BETWEEN else f"NOT ({inside})"


def threshold_text(rule: Rule) -> str:
    """The promise as a person reads it: ``mustBeLessThan 5 percent``."""
    value = f"{rule.threshold[0]} and {rule.threshold[1]}" if isinstance(rule.threshold, tuple) else str(rule.threshold)
    unit = " percent" if rule.unit is Unit.PERCENT else ""
    return f"{rule.operator} {value}{unit}"


def duplicates_query(fields: tuple[str, ...], relation: str) -> str:
    """The number of rows beyond the first of each group that shares values; rows with a null there do not count."""
    columns = ", ".join(map(quote, fields))
    complete = " AND ".join(f"{quote(name)} IS NOT NULL" for name in fields)
    return (
        f"SELECT coalesce(sum(copies - 1), 0)::BIGINT FROM "
        f"(SELECT count(*) AS copies FROM {relation} WHERE {complete} GROUP BY {columns} HAVING count(*) > 1)"
    )


def bind(query: str, relation: str, inputs: Mapping[str, str]) -> str:
    """A compiled SQL rule's query over these relations: the product's own, and its inputs' by ``domain.name``."""
    tree = sqlglot.parse_one(query, dialect="duckdb")
    for table in list(tree.find_all(exp.Table)):
        name = f"{table.db}.{table.name}" if table.db else table.name
        target = relation if name == _OBJECT else inputs.get(name)
        if target:
            bound = exp.to_table(quote(target), dialect="duckdb")
            table.replace(exp.alias_(bound, table.alias or table.name, table=True))
    return tree.sql(dialect="duckdb")


def _field(product: DataProduct, name: str) -> Field:
    return next(field for field in product.fields if field.name == name)


def _check_diverting(rule: Rule, product: DataProduct) -> None:
    if rule.kind is not RuleKind.ROW:
        raise Uncompilable("a rule over several rows cannot divert single events", "use block or warn")
    if product.is_derived:
        raise Uncompilable("a derived product has no events to divert", "use block or warn")
    if (rule.operator, rule.threshold) != (Operator.MUST_BE, 0):
        raise Uncompilable("a diverting rule judges each event by itself", "use mustBe: 0")


def _predicate(rule: Rule, field: Field) -> str:
    column = quote(field.name)
    if rule.check in _COMPARISONS:
        return f"{column} {_COMPARISONS[rule.check]} {_bound(rule.arguments[rule.check], field)}"
    compiled = _PREDICATES.get(rule.check)
    if compiled is None:
        raise Uncompilable(f"{rule.check} is no check of a row", "see docs/rules.md")
    return compiled(column, field, rule.arguments)


def _bound(value: Any, field: Field) -> str:
    if field.type.kind in (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LOCAL):
        return f"CAST({literal(str(value))} AS {duckdb_type(field.type)})"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Uncompilable(f"{value!r} is no number", "give a number")
    return literal(value)


def _pattern(pattern: Any) -> str:
    try:
        re2.compile(str(pattern))
    except re2.error as error:
        message = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error.args[0])
        raise Uncompilable(
            f"the pattern {pattern!r} is not RE2: {message}", "rewrite it without look-around and back-references"
        ) from error
    return literal(str(pattern))


def _text(column: str, field: Field) -> str:
    return column if field.type.kind in (Kind.STRING, Kind.UUID) else f"CAST({column} AS VARCHAR)"


def _matches(column: str, field: Field, pattern: Any) -> str:
    return f"regexp_matches({_text(column, field)}, {_pattern(pattern)})"


def _among(column: str, field: Field, values: Any) -> str:
    """Whether a column is among listed values, compared in the column's own type."""
    if not isinstance(values, list):
        raise Uncompilable(f"{values!r} is no list", "list the values")
    kind = duckdb_type(field.type)
    listed = ", ".join(f"CAST({literal(value)} AS {kind})" for value in values if value is not None)
    return f"{column} IN ({listed})" if listed else "FALSE"


def _missing(column: str, _: Field, arguments: Mapping[str, Any]) -> str:
    values = arguments["missingValues"]
    if not isinstance(values, list):
        raise Uncompilable("missingValues is no list", "list the values")
    texts = ", ".join(literal(str(value)) for value in values if value is not None)
    among = f"CAST({column} AS VARCHAR) IN ({texts})" if texts else "FALSE"
    return f"({column} IS NULL OR {among})"


def _invalid(column: str, field: Field, arguments: Mapping[str, Any]) -> str:
    parts: list[str] = []
    if "validValues" in arguments:
        parts.append(f"NOT ({_among(column, field, arguments['validValues'])})")
    if "pattern" in arguments:
        parts.append(f"NOT {_matches(column, field, arguments['pattern'])}")
    return "(" + " OR ".join(parts) + ")"


def _format(column: str, field: Field, arguments: Mapping[str, Any]) -> str:
    return f"NOT {_matches(column, field, _FORMATS[arguments['format']])}"


def _length(comparison: str, name: str) -> Callable[[str, Field, Mapping[str, Any]], str]:
    def predicate(column: str, field: Field, arguments: Mapping[str, Any]) -> str:
        function = "octet_length" if field.type.kind is Kind.BYTES else "length"
        return f"{function}({column}) {comparison} {literal(arguments[name])}"

    return predicate


def _multiple(column: str, field: Field, arguments: Mapping[str, Any]) -> str:
    step = arguments["multipleOf"]
    if field.type.kind in (Kind.FLOAT, Kind.DOUBLE):
        # Binary fractions are never exact multiples; a billionth of a step is the tolerance.
        return f"abs({column} / {literal(step)} - round({column} / {literal(step)})) > 1e-9"
    return f"{column} % CAST({literal(str(step))} AS DECIMAL(38, 10)) <> 0"


_PREDICATES: Mapping[str, Callable[[str, Field, Mapping[str, Any]], str]] = {
    "required": lambda column, _field, _arguments: f"{column} IS NULL",
    "nullValues": lambda column, _field, _arguments: f"{column} IS NULL",
    "missingValues": _missing,
    "invalidValues": _invalid,
    "pattern": lambda column, field, arguments: f"NOT {_matches(column, field, arguments['pattern'])}",
    "format": _format,
    "minLength": _length("<", "minLength"),
    "maxLength": _length(">", "maxLength"),
    "minItems": _length("<", "minItems"),
    "maxItems": _length(">", "maxItems"),
    "uniqueItems": lambda column, _field, arguments: (
        f"len({column}) <> len(list_distinct({column}))" if arguments["uniqueItems"] else "FALSE"
    ),
    "multipleOf": _multiple,
    "range": lambda column, _field, arguments: (
        f"{column} NOT BETWEEN {literal(arguments['minimum'])} AND {literal(arguments['maximum'])}"
    ),
}


def _query(rule: Rule, product: DataProduct) -> str:
    """One SELECT over the product and its inputs, the product's name replaced by a placeholder."""
    text = str(rule.arguments["query"])
    for placeholder in _PLACEHOLDERS:
        text = text.replace(placeholder, _OBJECT)
    for placeholder in _COLUMN_PLACEHOLDERS:
        if placeholder in text:
            if not rule.fields:
                raise Uncompilable(f"{placeholder} stands for no property here", "put the rule under a property")
            text = text.replace(placeholder, quote(rule.fields[0]))
    try:
        statements = [statement for statement in sqlglot.parse(text, dialect="duckdb") if statement]
    except SqlglotError as error:
        raise Uncompilable(f"the query does not parse: {str(error).splitlines()[0]}", "mend the SQL") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise Uncompilable("the query is not exactly one SELECT", "write one SELECT that gives one value")
    _own_names(statements[0], product)
    return statements[0].sql(dialect="duckdb")


def _own_names(tree: exp.Query, product: DataProduct) -> None:
    """Turn the product's own names into the placeholder, and refuse every other table but its inputs."""
    own = {_OBJECT, product.name, product.fqn}
    expressions = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in list(tree.find_all(exp.Table)):
        if not isinstance(table.this, exp.Identifier):
            raise Uncompilable(f"the query reads {table.sql(dialect='duckdb')}", "read {object} or an input")
        name = f"{table.db}.{table.name}" if table.db else table.name
        if name in own:
            bound = exp.to_table(_OBJECT)
            table.replace(exp.alias_(bound, table.alias or product.name, table=True))
        elif name not in product.inputs and name not in expressions:
            raise Uncompilable(f"the query reads {name}", "read {object}, or declare the product among mesh.inputs")
