"""A contract's promises as rules: those written under ``quality`` and those its schema implies.

What a document can say and a rule cannot mean is a fault here, so nothing that looks like a promise is ever dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mesh_pipelines.contract.document import Document, Where
from mesh_pipelines.contract.model import Field, Kind, OnFailure, Operator, Rule, RuleKind, Unit
from mesh_pipelines.errors import Fault

# Severities that only warn; any other, and none, blocks. The standard leaves the words free; these are in use.
WARNING_SEVERITIES = frozenset({"info", "warning", "warn", "low", "minor", "trivial"})
_ROW_METRICS = ("nullValues", "missingValues", "invalidValues")
_EXPECTATION_ENGINES = ("greatexpectations", "great-expectations", "great_expectations")
_OPTION_RULES = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems"),
)
FORMATS = ("email", "uuid", "uri", "hostname", "ipv4", "ipv6")
_INTEGER_RANGES = {"i8": (-128, 127), "i16": (-32768, 32767), "u8": (0, 255), "u16": (0, 65535), "u32": (0, 2**32 - 1)}


class RuleReader:
    """Reads all rules of one document; faults are collected in ``faults``."""

    def __init__(self, document: Document, fields: tuple[Field, ...]) -> None:
        self.document = document
        self.fields = {field.name: field for field in fields}
        self.faults: list[Fault] = []

    def read(self, schema: Mapping[str, Any], where: Where) -> tuple[Rule, ...]:
        """The rules of the contract's schema object, with ids made unique in document order."""
        rules = [*self._implied(schema, where), *self._key_rule(where)]
        rules += self._written(schema.get("quality", []), (*where, "quality"), None)
        for index, properties in enumerate(schema.get("properties", [])):
            at = (*where, "properties", index)
            name = str(properties.get("name", ""))
            if name in self.fields:
                rules += self._written(properties.get("quality", []), (*at, "quality"), name)
        return tuple(_unique_ids(rules))

    def _key_rule(self, where: Where) -> Iterator[Rule]:
        key = sorted((f for f in self.fields.values() if f.key_position), key=lambda f: f.key_position)
        if key:
            yield Rule(
                "key.unique",
                RuleKind.UNIQUE,
                "primaryKey",
                tuple(field.name for field in key),
                dimension="uniqueness",
                description="No two rows have the same primary key.",
                line=self.document.line(where),
            )

    def _implied(self, schema: Mapping[str, Any], where: Where) -> Iterator[Rule]:
        for index, properties in enumerate(schema.get("properties", [])):
            field = self.fields.get(str(properties.get("name", "")))
            if field is None:
                continue
            at = (*where, "properties", index)
            line = self.document.line(at)
            if field.required or field.key_position:
                yield Rule(
                    f"{field.name}.required",
                    RuleKind.ROW,
                    "required",
                    (field.name,),
                    dimension="completeness",
                    line=line,
                )
            if field.unique:
                yield Rule(
                    f"{field.name}.unique", RuleKind.UNIQUE, "unique", (field.name,), dimension="uniqueness", line=line
                )
            yield from self._options(field, properties, at)
            if values := properties.get("enum"):
                allowed = [entry["value"] for entry in values]
                yield Rule(
                    f"{field.name}.enum",
                    RuleKind.ROW,
                    "invalidValues",
                    (field.name,),
                    {"validValues": allowed},
                    dimension="conformity",
                    line=self.document.line((*at, "enum")),
                )

    def _options(self, field: Field, properties: Mapping[str, Any], at: Where) -> Iterator[Rule]:
        options: Mapping[str, Any] = properties.get("logicalTypeOptions") or {}
        where = (*at, "logicalTypeOptions")
        on_failure = self._on_failure(properties, at) or OnFailure.BLOCK
        for name, value in options.items():
            line = self.document.line((*where, name))
            rule = Rule(
                f"{field.name}.{name}",
                RuleKind.ROW,
                name,
                (field.name,),
                {name: value},
                on_failure=on_failure,
                dimension="conformity",
                line=line,
            )
            if name in _OPTION_RULES:
                yield rule
            elif name == "format" and field.type.kind in (Kind.STRING, Kind.UUID):
                if value in FORMATS:
                    yield replace(rule, arguments={"format": value})
                else:
                    self._fault((*where, name), f"{value!r} cannot be checked", f"use one of {', '.join(FORMATS)}")
            elif name == "format" and value in _INTEGER_RANGES:
                low, high = _INTEGER_RANGES[value]
                yield replace(rule, check="range", arguments={"minimum": low, "maximum": high})
            elif name in ("minProperties", "maxProperties", "required", "dimensions"):
                self._fault((*where, name), "cannot be checked on this type", "state it as a rule of type sql")

    def _written(self, entries: list[Mapping[str, Any]], where: Where, field: str | None) -> Iterator[Rule]:
        for index, entry in enumerate(entries or []):
            rule = self._entry(entry, (*where, index), field)
            if rule is not None:
                yield rule

    def _entry(self, entry: Mapping[str, Any], where: Where, field: str | None) -> Rule | None:
        kind = entry.get("type", "library")
        common = self._common(entry, where, field)
        if common is None:
            return None
        match kind:
            case "text":
                return replace(common, kind=RuleKind.TEXT, check="text")
            case "sql":
                return replace(common, kind=RuleKind.SQL, check="sql", arguments={"query": entry["query"]})
            case "custom":
                return self._custom(entry, where, common)
            case _:
                return self._library(entry, where, common, field)

    def _common(self, entry: Mapping[str, Any], where: Where, field: str | None) -> Rule | None:
        operator, threshold = self._operator(entry, where)
        unit_text = str(entry.get("unit", "rows")).lower()
        units = {"rows": Unit.ROWS, "row": Unit.ROWS, "percent": Unit.PERCENT, "%": Unit.PERCENT}
        if unit_text not in units:
            self._fault((*where, "unit"), f"{unit_text!r} is not a unit", "use rows or percent")
            return None
        on_failure = self._on_failure(entry, where)
        if on_failure is None:
            return None
        label = entry.get("name") or entry.get("metric") or entry.get("type") or "text"
        slug = re.sub(r"[^a-z0-9_]+", "_", str(label).lower()).strip("_") if entry.get("name") else str(label)
        return Rule(
            id=f"{field}.{slug}" if field else slug,
            kind=RuleKind.TEXT,
            check="",
            fields=(field,) if field else (),
            operator=operator,
            threshold=threshold,
            unit=units[unit_text],
            on_failure=on_failure,
            dimension=str(entry.get("dimension", "")),
            description=str(entry.get("description", "")),
            line=self.document.line(where),
        )

    def _operator(self, entry: Mapping[str, Any], where: Where) -> tuple[Operator, Any]:
        given = [operator for operator in Operator if operator in entry]
        if not given:
            return Operator.MUST_BE, 0
        operator = given[0]
        value = entry[operator]
        if operator in (Operator.BETWEEN, Operator.NOT_BETWEEN):
            return operator, (value[0], value[1])
        if not isinstance(value, bool | int | float):
            self._fault((*where, operator), f"{value!r} is no number", "compare with a number or a boolean")
            return operator, 0
        return operator, value

    def _on_failure(self, entry: Mapping[str, Any], where: Where) -> OnFailure | None:
        for custom in entry.get("customProperties", []):
            if custom.get("property") != "mesh.onFailure":
                continue
            if custom.get("value") in list(OnFailure):
                return OnFailure(custom["value"])
            self._fault(
                (*where, "customProperties"), f"mesh.onFailure is {custom.get('value')!r}", "use block, warn or divert"
            )
            return None
        severity = str(entry.get("severity", "error")).lower()
        return OnFailure.WARN if severity in WARNING_SEVERITIES else OnFailure.BLOCK

    def _custom(self, entry: Mapping[str, Any], where: Where, common: Rule) -> Rule | None:
        engine = str(entry.get("engine", "")).lower()
        if engine not in _EXPECTATION_ENGINES:
            self._fault(
                (*where, "engine"),
                f"{entry.get('engine')!r} is not run here",
                "use greatExpectations, a library metric, or type sql",
            )
            return None
        implementation = entry.get("implementation")
        if not isinstance(implementation, dict):
            self._fault((*where, "implementation"), "is not a mapping", "give it type and kwargs of the expectation")
            return None
        name = implementation.get("type") or implementation.get("expectation_type")
        if not name:
            self._fault((*where, "implementation"), "names no expectation", "add type: expect_...")
            return None
        return replace(
            common,
            kind=RuleKind.EXPECTATION,
            check=str(name),
            id=common.id if entry.get("name") else common.id.removesuffix("custom") + str(name),
            arguments={"type": str(name), "kwargs": dict(implementation.get("kwargs") or {})},
        )

    def _library(self, entry: Mapping[str, Any], where: Where, common: Rule, field: str | None) -> Rule | None:
        metric = entry.get("metric") or entry.get("rule")
        arguments = dict(entry.get("arguments") or {})
        common = replace(common, check=str(metric), arguments=arguments)
        if not any(operator in entry for operator in Operator):
            self._fault(where, f"{metric} has no operator", "add one, for instance mustBe: 0")
            return None
        if metric == "rowCount":
            return replace(common, kind=RuleKind.ROW_COUNT)
        if metric == "duplicateValues":
            names = tuple(arguments.get("properties") or ([field] if field else []))
            return self._on_fields(replace(common, kind=RuleKind.UNIQUE), names, where)
        if metric in _ROW_METRICS and field:
            if metric == "missingValues" and "missingValues" not in arguments:
                self._fault((*where, "arguments"), "lists no missingValues", "add arguments.missingValues")
                return None
            if metric == "invalidValues" and not {"validValues", "pattern"} & arguments.keys():
                self._fault(
                    (*where, "arguments"), "has neither validValues nor pattern", "add one of them under arguments"
                )
                return None
            return replace(common, kind=RuleKind.ROW)
        problem = f"{metric} belongs to a property" if metric in _ROW_METRICS else f"{metric!r} is no metric"
        self._fault(where, problem, "use nullValues, missingValues, invalidValues, duplicateValues or rowCount")
        return None

    def _on_fields(self, rule: Rule, names: tuple[str, ...], where: Where) -> Rule | None:
        unknown = [name for name in names if name not in self.fields]
        if unknown or not names:
            problem = f"{unknown[0]!r} is no property" if unknown else "names no properties"
            self._fault((*where, "arguments"), problem, "list property names under arguments.properties")
            return None
        return replace(rule, fields=names)

    def _fault(self, where: Where, problem: str, fix: str) -> None:
        self.faults.append(self.document.fault(where, problem, fix))


def _unique_ids(rules: list[Rule]) -> Iterator[Rule]:
    seen: dict[str, int] = {}
    for rule in rules:
        seen[rule.id] = seen.get(rule.id, 0) + 1
        yield rule if seen[rule.id] == 1 else replace(rule, id=f"{rule.id}.{seen[rule.id]}")
