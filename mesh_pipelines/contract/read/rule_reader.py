"""A contract's promises as rules: those written under ``quality`` and those its schema implies.

What a document can say and a rule cannot mean is a fault here, so nothing that looks like a promise is ever dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesh_pipelines.contract.misspelt import did_you_mean
from mesh_pipelines.contract.model import Field, Kind, OnFailure, Operator, Rule, RuleKind, Unit
from mesh_pipelines.contract.read.document import Document, FaultyDocument, Where, parse_document
from mesh_pipelines.contract.read.faults import Faults
from mesh_pipelines.contract.values import parse

# Severities that only warn; any other, and none, blocks. The standard leaves the words free; these are in use.
WARNING_SEVERITIES = frozenset({"info", "warning", "warn", "low", "minor", "trivial"})
FORMATS = ("email", "uuid", "uri", "hostname", "ipv4", "ipv6")
_EXPECTATION_ENGINES = ("greatexpectations", "great-expectations", "great_expectations")
_UNITS = {"rows": Unit.ROWS, "row": Unit.ROWS, "percent": Unit.PERCENT, "%": Unit.PERCENT}
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_TEMPORAL = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LOCAL)
_RANGES = {"i8": (-128, 127), "i16": (-32768, 32767), "u8": (0, 255), "u16": (0, 65535), "u32": (0, 2**32 - 1)}
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "nullValues": (),
    "missingValues": ("missingValues",),
    "invalidValues": ("validValues", "pattern"),
    "duplicateValues": ("properties",),
    "rowCount": (),
}
_ROW_METRICS = ("nullValues", "missingValues", "invalidValues")


class RuleReader:
    """Reads all rules of one document; faults go to ``faults``."""

    def __init__(self, document: Document, fields: tuple[Field, ...], faults: Faults) -> None:
        self._document = document
        self._fields = {field.name: field for field in fields}
        self._faults = faults

    def read(self, schema: Mapping[str, Any], where: Where) -> tuple[Rule, ...]:
        """The rules of the contract's schema object, with ids made unique in document order."""
        rules = [*self._implied(schema, where), *self._key_rule(where)]
        rules += self._written(schema.get("quality", []), (*where, "quality"), None)
        for index, properties in enumerate(schema.get("properties", [])):
            at = (*where, "properties", index, "quality")
            rules += self._written(properties.get("quality", []), at, str(properties.get("name", "")))
        return tuple(_unique_ids(rules))

    def _key_rule(self, where: Where) -> Iterator[Rule]:
        key = sorted((f for f in self._fields.values() if f.key_position), key=lambda f: f.key_position)
        if key:
            names = tuple(field.name for field in key)
            described = "No two rows have the same primary key."
            yield self._rule("key.unique", RuleKind.UNIQUE, "primaryKey", names, where, "uniqueness", described)

    def _implied(self, schema: Mapping[str, Any], where: Where) -> Iterator[Rule]:
        for index, raw in enumerate(schema.get("properties", [])):
            at = (*where, "properties", index)
            if field := self._fields.get(str(raw.get("name", ""))):
                yield from self._implied_by(field, raw, at)

    def _implied_by(self, field: Field, raw: Mapping[str, Any], where: Where) -> Iterator[Rule]:
        rules = [
            *self._marks(field, where),
            *self._options(field, raw.get("logicalTypeOptions") or {}, (*where, "logicalTypeOptions")),
            *self._enum(field, raw.get("enum") or [], (*where, "enum")),
        ]
        chosen = self._chosen(raw, where)
        if chosen and not any(rule.kind is RuleKind.ROW for rule in rules):
            fix = "write it under the customProperties of the rule it is about"
            self._faults.add(
                (*where, "customProperties"), "mesh.onFailure is about no rule of the property's schema", fix
            )
        for rule in rules:
            yield replace(rule, on_failure=chosen) if chosen and rule.kind is RuleKind.ROW else rule

    def _marks(self, field: Field, where: Where) -> Iterator[Rule]:
        name = (field.name,)
        if field.required:
            yield self._rule(f"{field.name}.required", RuleKind.ROW, "required", name, where, "completeness")
        if field.unique:
            yield self._rule(f"{field.name}.unique", RuleKind.UNIQUE, "unique", name, where, "uniqueness")

    def _enum(self, field: Field, entries: list[Mapping[str, Any]], where: Where) -> Iterator[Rule]:
        if entries and self._check_values([entry["value"] for entry in entries], field, where):
            rule = self._rule(f"{field.name}.enum", RuleKind.ROW, "invalidValues", (field.name,), where)
            yield replace(rule, arguments={"validValues": [entry["value"] for entry in entries]})

    def _options(self, field: Field, options: Mapping[str, Any], where: Where) -> Iterator[Rule]:
        if field.type.kind is Kind.STRUCT:
            return
        for name, value in options.items():
            at = (*where, name)
            rule = self._rule(f"{field.name}.{name}", RuleKind.ROW, name, (field.name,), at)
            if name == "format":
                yield from self._format(rule, field, value, at)
            elif name in _BOUNDS and field.type.kind in _TEMPORAL and not self._check_values([value], field, at):
                continue
            elif name not in ("timezone", "defaultTimezone") and (name, value) != ("uniqueItems", False):
                yield replace(rule, arguments={name: value})

    def _format(self, rule: Rule, field: Field, value: str, where: Where) -> Iterator[Rule]:
        if field.type.kind in (Kind.STRING, Kind.UUID):
            if value in FORMATS:
                yield replace(rule, arguments={"format": value})
            else:
                otherwise = f"use one of {', '.join(FORMATS)}, or a pattern"
                self._faults.add(where, f"{value!r} cannot be checked", did_you_mean(value, FORMATS, otherwise))
        elif value in _RANGES:
            low, high = _RANGES[value]
            yield replace(rule, check="range", arguments={"minimum": low, "maximum": high})

    def _written(self, entries: list[Mapping[str, Any]], where: Where, field: str | None) -> Iterator[Rule]:
        for index, entry in enumerate(entries):
            rule = self._entry(entry, (*where, index), field)
            if rule is not None and (field is None or field in self._fields):
                yield rule

    def _entry(self, entry: Mapping[str, Any], where: Where, field: str | None) -> Rule | None:
        kind = entry.get("type", "library" if "metric" in entry else None)
        rule = self._common(entry, where, field)
        match kind:
            case "text":
                return replace(rule, kind=RuleKind.TEXT, check="text")
            case "sql":
                return self._sql(entry, where, rule)
            case "custom":
                return self._custom(entry, where, rule)
            case "library":
                return self._library(entry, where, rule, field)
            case _:
                fix = "add a metric, or type: sql, custom or text"
                self._faults.add(where, "promises nothing that can be checked", fix)
                return None

    def _common(self, entry: Mapping[str, Any], where: Where, field: str | None) -> Rule:
        operator, threshold = self._operator(entry, where)
        unit = str(entry.get("unit", "rows")).lower()
        if unit not in _UNITS:
            self._faults.add((*where, "unit"), f"{unit!r} is not a unit", "use rows or percent")
        label = _slug(str(entry["name"])) if entry.get("name") else str(entry.get("metric") or entry.get("type"))
        rule = self._rule(
            f"{field}.{label}" if field is not None else label,
            RuleKind.TEXT,
            "",
            () if field is None else (field,),
            where,
            str(entry.get("dimension", "")),
            str(entry.get("description", "")).strip(),
        )
        return replace(
            rule,
            operator=operator,
            threshold=threshold,
            unit=_UNITS.get(unit, Unit.ROWS),
            on_failure=self._on_failure(entry, where),
        )

    def _operator(self, entry: Mapping[str, Any], where: Where) -> tuple[Operator, Any]:
        operator = next((operator for operator in Operator if operator in entry), None)
        if operator is None:
            return Operator.MUST_BE, 0
        value, at = entry[operator], (*where, str(operator))
        if operator in (Operator.BETWEEN, Operator.NOT_BETWEEN):
            low, high = value
            if low > high:
                self._faults.add(at, f"{low} is above {high}", "write the lower end first")
            return operator, (low, high)
        if isinstance(value, bool) and entry.get("type") != "sql":
            self._faults.add(at, f"{str(value).lower()} is no number", "compare a metric with a number")
        elif not isinstance(value, bool | int | float):
            self._faults.add(at, f"{value!r} is no number", "compare with a number, or true or false for a query")
        return operator, value

    def _on_failure(self, entry: Mapping[str, Any], where: Where) -> OnFailure:
        for index, custom in enumerate(entry.get("customProperties", [])):
            name: str = custom["property"]
            if name.startswith("mesh.") and name != "mesh.onFailure":
                fix = did_you_mean(name, ["mesh.onFailure"], "use mesh.onFailure, or remove it")
                self._faults.add((*where, "customProperties", index), f"{name} is no setting of a rule", fix)
        severity = str(entry.get("severity", "error")).lower()
        by_severity = OnFailure.WARN if severity in WARNING_SEVERITIES else OnFailure.BLOCK
        return self._chosen(entry, where) or by_severity

    def _chosen(self, entry: Mapping[str, Any], where: Where) -> OnFailure | None:
        """What ``mesh.onFailure`` of a rule or a property says."""
        chosen: OnFailure | None = None
        for index, custom in enumerate(entry.get("customProperties", [])):
            if custom["property"] != "mesh.onFailure":
                continue
            value = custom["value"]
            if chosen or value not in list(OnFailure):
                problem = "mesh.onFailure is there twice" if chosen else f"mesh.onFailure is {value!r}"
                self._faults.add(
                    (*where, "customProperties", index, "value"), problem, "use block, warn or divert, once"
                )
            else:
                chosen = OnFailure(value)
        return chosen

    def _sql(self, entry: Mapping[str, Any], where: Where, rule: Rule) -> Rule | None:
        if not entry["query"].strip():
            self._faults.add((*where, "query"), "is empty", "write one SELECT that gives one value")
            return None
        return replace(rule, kind=RuleKind.SQL, check="sql", arguments={"query": entry["query"]})

    def _custom(self, entry: Mapping[str, Any], where: Where, rule: Rule) -> Rule | None:
        if entry["engine"].lower() not in _EXPECTATION_ENGINES:
            fix = "use greatExpectations, a library metric, or type sql"
            self._faults.add((*where, "engine"), f"{entry['engine']!r} is not run here", fix)
            return None
        implementation = _mapping(entry["implementation"])
        name = implementation.get("type") or implementation.get("expectation_type")
        kwargs = implementation.get("kwargs") or {}
        if not isinstance(name, str) or not isinstance(kwargs, dict):
            fix = "write type: expect_... and kwargs: {...}"
            self._faults.add((*where, "implementation"), "is no mapping with the type of an expectation", fix)
            return None
        if rule.fields and "column" not in kwargs and "_column_" in name:
            kwargs = {"column": rule.fields[0], **kwargs}
        identity = rule.id if entry.get("name") else rule.id.removesuffix("custom") + name
        arguments = {"type": name, "kwargs": dict(kwargs)}
        return replace(rule, id=identity, kind=RuleKind.EXPECTATION, check=name, arguments=arguments)

    def _library(self, entry: Mapping[str, Any], where: Where, rule: Rule, field: str | None) -> Rule | None:
        metric: str = entry["metric"]
        arguments: Mapping[str, Any] = entry.get("arguments") or {}
        rule = replace(rule, check=metric, arguments=dict(arguments))
        if not self._check_arguments(metric, arguments, (*where, "arguments")):
            return None
        self._check_threshold(rule, where)
        if metric == "rowCount":
            return self._row_count(rule, where, field)
        if metric == "duplicateValues":
            return self._duplicates(rule, where, field)
        if field is None:
            fix = "write it under the quality of a property"
            self._faults.add(where, f"{metric} is about a property, not about the object", fix)
            return None
        return self._row(rule, where)

    def _check_arguments(self, metric: str, arguments: Mapping[str, Any], where: Where) -> bool:
        known = _ARGUMENTS[metric]
        unknown = [name for name in arguments if name not in known]
        for name in unknown:
            otherwise = f"{metric} takes {' or '.join(known)}" if known else f"remove it; {metric} takes none"
            fix = did_you_mean(name, known, otherwise)
            self._faults.add((*where, name), f"{name} is no argument of {metric}", fix)
        if metric in _ROW_METRICS and known and not set(known) & set(arguments) and not unknown:
            self._faults.add(where, f"has no {' and no '.join(known)}", f"add {' or '.join(known)} under arguments")
            return False
        return not unknown

    def _check_threshold(self, rule: Rule, where: Where) -> None:
        ends = rule.threshold if isinstance(rule.threshold, tuple) else (rule.threshold,)
        numbers = [end for end in ends if isinstance(end, int | float)]
        if rule.unit is Unit.PERCENT and any(not 0 <= end <= 100 for end in numbers):
            self._faults.add((*where, str(rule.operator)), "is no percentage", "use 0 to 100")
        elif any(end < 0 for end in numbers):
            self._faults.add((*where, str(rule.operator)), "is below zero, a count never is", "use 0 or more")

    def _row_count(self, rule: Rule, where: Where, field: str | None) -> Rule | None:
        if field is not None:
            fix = "write it under the quality of the schema object"
            self._faults.add(where, "rowCount is about the object, not about a property", fix)
            return None
        if rule.unit is Unit.PERCENT:
            self._faults.add((*where, "unit"), "rows are no percentage of anything", "use rows")
        return replace(rule, kind=RuleKind.ROW_COUNT)

    def _duplicates(self, rule: Rule, where: Where, field: str | None) -> Rule | None:
        at = (*where, "arguments", "properties")
        names = rule.arguments.get("properties", [] if field is None else [field])
        if not isinstance(names, list) or not names:
            self._faults.add(at, "names no properties", "list property names under arguments.properties")
            return None
        for name in names:
            if name not in self._fields:
                fix = did_you_mean(str(name), self._fields, "list properties of the schema object")
                self._faults.add(at, f"{name!r} is no property", fix)
        if field is not None and field not in names:
            self._faults.add(at, f"does not hold {field}", "write the rule under the quality of the schema object")
        return replace(rule, kind=RuleKind.UNIQUE, fields=tuple(map(str, names)))

    def _row(self, rule: Rule, where: Where) -> Rule | None:
        at = (*where, "arguments")
        field = self._fields.get(rule.fields[0])
        for name in ("validValues", "missingValues"):
            if name not in rule.arguments:
                continue
            values = rule.arguments[name]
            if not isinstance(values, list) or not values:
                self._faults.add((*at, name), "is no list of values", "list at least one value")
                return None
            if field and name == "validValues":
                self._check_values(values, field, (*at, name))
        if not isinstance(rule.arguments.get("pattern", ""), str):
            self._faults.add((*at, "pattern"), "is no text", "quote the pattern")
            return None
        return replace(rule, kind=RuleKind.ROW)

    def _check_values(self, values: list[Any], field: Field, where: Where) -> bool:
        """Whether all values are of the field's type; null is of every type."""
        for value in values:
            try:
                if value is not None:
                    parse(value, field.type)
            except ValueError as error:
                wanted = str(error) if str(error) != "null" else "a rule of type sql instead"
                self._faults.add(where, f"{value!r} is no {field.type.kind}", f"write {wanted}")
                return False
        return True

    def _rule(
        self,
        identity: str,
        kind: RuleKind,
        check: str,
        fields: tuple[str, ...],
        where: Where,
        dimension: str = "conformity",
        description: str = "",
    ) -> Rule:
        line = self._document.line(where)
        return Rule(identity, kind, check, fields, dimension=dimension, description=description, line=line)


def _mapping(implementation: Any) -> Mapping[str, Any]:
    """The implementation of a custom rule; the standard lets it be YAML text as well."""
    if isinstance(implementation, str):
        try:
            implementation = parse_document(Path(), implementation).values
        except FaultyDocument:
            return {}
    return implementation if isinstance(implementation, dict) else {}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_") or "rule"


def _unique_ids(rules: list[Rule]) -> Iterator[Rule]:
    """Number rules of one id; a number that another rule has for its own is passed over."""
    taken = {rule.id for rule in rules}
    given: set[str] = set()
    for rule in rules:
        identity, number = rule.id, 1
        while identity in given or (number > 1 and identity in taken):
            number += 1
            identity = f"{rule.id}.{number}"
        given.add(identity)
        yield replace(rule, id=identity)
