"""A contract's promises as rules: those written under ``quality`` and those its schema implies.

What a document can say and a rule cannot mean is a fault here, so nothing that looks like a promise is ever dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesh_pipelines.contract.metrics import registry
from mesh_pipelines.contract.metrics.metric import Metric, Place, Problem, not_of_type
from mesh_pipelines.contract.misspelt import did_you_mean
from mesh_pipelines.contract.model import Field, Kind, OnFailure, Operator, Rule, RuleKind, Unit
from mesh_pipelines.contract.read.document import Document, FaultyDocument, Where, parse_document
from mesh_pipelines.contract.read.faults import NOT_CHECKED, Faults, mark_of

# Severities that only warn; any other, and none, blocks. The standard leaves the words free; these are in use.
WARNING_SEVERITIES = frozenset({"info", "warning", "warn", "low", "minor", "trivial"})
_EXPECTATION_ENGINES = ("greatexpectations", "great-expectations", "great_expectations")
_UNITS = {"rows": Unit.ROWS, "row": Unit.ROWS, "percent": Unit.PERCENT, "%": Unit.PERCENT}
# Custom rules of this engine are metrics, also those that the standard does not list.
ENGINE = "mesh"
_OF_METRIC = frozenset({"metric", "arguments", "unit", *Operator})


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
        rules += (self._unchecked(at, said) for at, said in self._faults.unchecked)
        return tuple(_unique_ids(rules))

    def _unchecked(self, where: Where, said: bool | str) -> Rule:
        """A promise of the schema that nothing here checks, as something to show."""
        names = [*_names_along(self._document.values, where), str(where[-1])]
        fields = (names[0],) if names[0] in self._fields else ()
        rule = self._rule(".".join(names), RuleKind.NOT_CHECKED, names[-1], fields, where)
        return replace(rule, arguments=_checked_by(said))

    def _key_rule(self, where: Where) -> Iterator[Rule]:
        key = sorted((f for f in self._fields.values() if f.key_position), key=lambda f: f.key_position)
        if key:
            names = tuple(field.name for field in key)
            rule = self._rule("key.unique", RuleKind.UNIQUE, "primaryKey", names, where)
            yield replace(rule, dimension="uniqueness", description="No two rows have the same primary key.")

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
            fix = "write it under the customProperties of the rule it is for"
            self._faults.add(
                (*where, "customProperties"), "mesh.onFailure needs a rule in the property's own schema", fix
            )
        for rule in rules:
            yield replace(rule, on_failure=chosen) if chosen and rule.kind is RuleKind.ROW else rule

    def _marks(self, field: Field, where: Where) -> Iterator[Rule]:
        name = (field.name,)
        if field.required:
            rule = self._rule(f"{field.name}.required", RuleKind.ROW, "required", name, where)
            yield replace(rule, dimension="completeness")
        if field.unique:
            rule = self._rule(f"{field.name}.unique", RuleKind.UNIQUE, "unique", name, where)
            yield replace(rule, dimension="uniqueness")

    def _enum(self, field: Field, entries: list[Mapping[str, Any]], where: Where) -> Iterator[Rule]:
        values = [entry["value"] for entry in entries]
        if values and not self._found(not_of_type(values, field), where):
            rule = self._rule(f"{field.name}.enum", RuleKind.ROW, "invalidValues", (field.name,), where)
            yield replace(rule, arguments={"validValues": values})

    def _options(self, field: Field, options: Mapping[str, Any], where: Where) -> Iterator[Rule]:
        for name, value in options.items() if field.type.kind is not Kind.STRUCT else ():
            metric = registry.options().get(name)
            at = (*where, name)
            if metric is None or self._found(metric.option_problems(value, field), at):
                continue
            named = self._rule(f"{field.name}.{name}", metric.kind, name, (field.name,), at)
            if rule := metric.of_option(named, value, field):
                yield rule

    def _written(self, entries: list[Mapping[str, Any]], where: Where, field: str | None) -> Iterator[Rule]:
        for index, entry in enumerate(entries):
            rule = self._entry(entry, (*where, index), field)
            if rule is not None and (field is None or field in self._fields):
                yield rule

    def _entry(self, entry: Mapping[str, Any], where: Where, field: str | None) -> Rule | None:
        kind = entry.get("type", "library" if "metric" in entry else None)
        if said := mark_of(entry):
            return self._elsewhere(self._identified(entry, where, field), entry, said)
        if kind == "custom" and entry["engine"].lower() == ENGINE:
            return self._own(entry, where, field)
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
                self._faults.add(where, "must promise something that can be checked", fix)
                return None

    def _elsewhere(self, rule: Rule, entry: Mapping[str, Any], said: bool | str) -> Rule:
        """A rule that the contract says is not checked here."""
        check = str(entry.get("engine") or entry.get("metric") or entry.get("type") or "library")
        return replace(rule, kind=RuleKind.NOT_CHECKED, check=check, arguments=_checked_by(said))

    def _common(self, entry: Mapping[str, Any], where: Where, field: str | None) -> Rule:
        operator, threshold = self._operator(entry, where)
        unit = str(entry.get("unit", "rows")).lower()
        if unit not in _UNITS:
            self._faults.add((*where, "unit"), f"must be rows or percent, got {unit!r}", "use one of them")
        rule = self._identified(entry, where, field)
        return replace(rule, operator=operator, threshold=threshold, unit=_UNITS.get(unit, Unit.ROWS))

    def _identified(self, entry: Mapping[str, Any], where: Where, field: str | None) -> Rule:
        """A rule with what tells it from others, and what people are told of it."""
        label = _slug(str(entry["name"])) if entry.get("name") else str(entry.get("metric") or entry.get("type"))
        rule = self._rule(
            f"{field}.{label}" if field is not None else label,
            RuleKind.TEXT,
            "",
            () if field is None else (field,),
            where,
        )
        return replace(
            rule,
            dimension=str(entry.get("dimension", "")),
            description=str(entry.get("description", "")).strip(),
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
                self._faults.add(at, f"must have its lower end first, got {low} and {high}", "swap them")
            return operator, (low, high)
        if isinstance(value, bool) and entry.get("type") != "sql":
            self._faults.add(at, f"must be a number, got {str(value).lower()}", "compare a metric with a number")
        elif not isinstance(value, bool | int | float):
            self._faults.add(
                at, f"must be a number, got {value!r}", "compare with a number, or true or false for a query"
            )
        return operator, value

    def _on_failure(self, entry: Mapping[str, Any], where: Where) -> OnFailure:
        for index, custom in enumerate(entry.get("customProperties", [])):
            name: str = custom["property"]
            if name == NOT_CHECKED:
                self._faults.check_mark(custom["value"], (*where, "customProperties", index, "value"))
            elif name.startswith("mesh.") and name != "mesh.onFailure":
                known = ["mesh.onFailure", NOT_CHECKED]
                fix = did_you_mean(name, known, f"use {' or '.join(known)}, or remove it")
                self._faults.add((*where, "customProperties", index), f"{name} is not a setting of a rule", fix)
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
                wrong = f"mesh.onFailure must be block, warn or divert, got {value!r}"
                problem = "mesh.onFailure appears twice" if chosen else wrong
                self._faults.add((*where, "customProperties", index, "value"), problem, "set it once, to one of them")
            else:
                chosen = OnFailure(value)
        return chosen

    def _sql(self, entry: Mapping[str, Any], where: Where, rule: Rule) -> Rule | None:
        if not entry["query"].strip():
            self._faults.add((*where, "query"), "is empty", "write one SELECT that gives one value")
            return None
        return replace(rule, kind=RuleKind.SQL, check="sql", arguments={"query": entry["query"]})

    def _own(self, entry: Mapping[str, Any], where: Where, field: str | None) -> Rule | None:
        """A metric as a custom rule: the standard's own list of metrics is closed."""
        at, own = (*where, "implementation"), entry["implementation"]
        if not isinstance(own, dict) or "metric" not in own:
            self._faults.add(at, "must be a mapping with a metric", "write metric, arguments and one operator")
            return None
        for name in own.keys() - _OF_METRIC:
            self._faults.add(
                (*at, name), f"{name} is not a key of a metric", did_you_mean(name, _OF_METRIC, "remove it")
            )
        given = [name for name in own if name in list(Operator)]
        if len(given) != 1:
            fix = "keep one mustBe... or mustNotBe... operator"
            self._faults.add(at, f"must have exactly one operator, got {len(given)}", fix)
            return None
        around = {name: value for name, value in entry.items() if name not in ("type", "engine", "implementation")}
        return self._library(merged := {**around, **own}, at, self._common(merged, at, field), field)

    def _custom(self, entry: Mapping[str, Any], where: Where, rule: Rule) -> Rule | None:
        if entry["engine"].lower() not in _EXPECTATION_ENGINES:
            fix = "use greatExpectations, a library metric, or type: sql"
            if said := self._faults.mark_at(where):
                return self._elsewhere(rule, entry, said)
            problem = f"must be greatExpectations or mesh, got {entry['engine']!r}"
            self._faults.cannot_check((*where, "engine"), problem, fix)
            return None
        implementation = _mapping(entry["implementation"])
        name = implementation.get("type") or implementation.get("expectation_type")
        kwargs = implementation.get("kwargs") or {}
        if not isinstance(name, str) or not isinstance(kwargs, dict):
            fix = "write type: expect_... and kwargs: {...}"
            self._faults.add((*where, "implementation"), "must be a mapping with the type of an expectation", fix)
            return None
        if rule.fields and "column" not in kwargs and "_column_" in name:
            kwargs = {"column": rule.fields[0], **kwargs}
        identity = rule.id if entry.get("name") else rule.id.removesuffix("custom") + name
        arguments = {"type": name, "kwargs": dict(kwargs)}
        return replace(rule, id=identity, kind=RuleKind.EXPECTATION, check=name, arguments=arguments)

    def _library(self, entry: Mapping[str, Any], where: Where, rule: Rule, field: str | None) -> Rule | None:
        metric = self._metric(entry["metric"], (*where, "metric"))
        arguments: Mapping[str, Any] = entry.get("arguments") or {}
        if metric is None or not self._check_arguments(metric, arguments, (*where, "arguments")):
            return None
        rule = replace(rule, kind=metric.kind, check=metric.name, arguments=dict(arguments))
        self._check_threshold(rule, where)
        if not self._check_place(metric, where, field):
            return None
        if rule.unit is Unit.PERCENT and not metric.in_percent:
            self._faults.add((*where, "unit"), f"{metric.name} cannot be a percentage", "use rows")
        return None if self._found(metric.problems(rule, self._fields), where) else metric.completed(rule)

    def _metric(self, name: Any, where: Where) -> Metric | None:
        known = registry.in_quality()
        if name not in known:
            fix = did_you_mean(str(name), known, f"use one of {', '.join(known)}")
            self._faults.add(where, f"{name!r} is not a metric", fix)
            return None
        return known[name]

    def _check_place(self, metric: Metric, where: Where, field: str | None) -> bool:
        if (Place.OBJECT if field is None else Place.FIELD) in metric.places:
            return True
        if field is None:
            problem, fix = "is for a property, not for the object", "write it under the quality of a property"
        else:
            problem, fix = (
                "is for the object, not for a property",
                "write it under the quality of the schema object",
            )
        self._faults.add(where, f"{metric.name} {problem}", fix)
        return False

    def _check_arguments(self, metric: Metric, arguments: Mapping[str, Any], where: Where) -> bool:
        known = metric.arguments
        unknown = [name for name in arguments if name not in known]
        for name in unknown:
            otherwise = f"{metric.name} takes {' or '.join(known)}" if known else f"remove it; {metric.name} takes none"
            fix = did_you_mean(name, known, otherwise)
            self._faults.add((*where, name), f"{name} is not an argument of {metric.name}", fix)
        if metric.needs_argument and not set(known) & set(arguments) and not unknown:
            self._faults.add(where, f"must have {' or '.join(known)}", f"add {' or '.join(known)} under arguments")
            return False
        return not unknown

    def _found(self, problems: Iterable[Problem], where: Where) -> bool:
        """Note what a metric found wrong below a path; whether it found anything."""
        found = list(problems)
        for one in found:
            fix = did_you_mean(one.got, one.known, one.fix) if one.known else one.fix
            self._faults.add((*where, *one.at), one.problem, fix)
        return bool(found)

    def _check_threshold(self, rule: Rule, where: Where) -> None:
        # A threshold that is not a number has a fault of its own by now.
        numbers = [end for end in _ends(rule.threshold) if isinstance(end, int | float)]
        if rule.unit is Unit.PERCENT and any(not 0 <= end <= 100 for end in numbers):
            self._faults.add((*where, str(rule.operator)), "must be a percentage from 0 to 100", "use 0 to 100")
        elif any(end < 0 for end in numbers):
            self._faults.add(
                (*where, str(rule.operator)), "must be 0 or more, a count is never negative", "use 0 or more"
            )

    def _rule(
        self,
        identity: str,
        kind: RuleKind,
        check: str,
        fields: tuple[str, ...],
        where: Where,
    ) -> Rule:
        return Rule(identity, kind, check, fields, dimension="conformity", line=self._document.line(where))


def _checked_by(said: bool | str) -> Mapping[str, Any]:
    return {"by": said.strip()} if isinstance(said, str) else {}


def _names_along(values: Any, where: Where) -> Iterator[str]:
    """The names of the properties below the schema object that a path leads through; ``items`` where they have none."""
    for depth, part in enumerate(where[:-1]):
        values = values[part]
        if depth > 1 and isinstance(part, int):
            yield str(values.get("name", ""))
        elif part in ("items", "key", "value"):
            yield str(part)


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


def _ends(threshold: object) -> tuple[object, ...]:
    return threshold if isinstance(threshold, tuple) else (threshold,)
