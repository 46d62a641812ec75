"""Documents of ODCS 3.0 in the words of 3.1, so that one schema and one reader serve both.

The published schemas of 3.0.0, 3.0.1 and 3.0.2 were compared with 3.1's key by key. What 3.0 wrote otherwise is little:
a library rule is named by ``rule`` and has its arguments beside it, ``exclusiveMinimum`` and ``exclusiveMaximum`` say
whether the bound beside them is allowed, and ``date`` is the only type of time. Each is written here as 3.1 writes it;
line and path of each are kept, so that a fault names what the file says. Carrying the older schemas was ruled out: what
they allow beyond this is unknown keys, and these are faults in every document.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from mesh_pipelines.contract.misspelt import nearest
from mesh_pipelines.contract.read.document import Document, Where

VERSIONS = ("v3.0.0", "v3.0.1", "v3.0.2")
# The words that 3.0 and its examples have for the metrics of 3.1.
_METRICS = {
    **dict.fromkeys(("duplicatecount", "duplicates", "duplicatevalues", "uniquecheck", "unique"), "duplicateValues"),
    **dict.fromkeys(("validvalues", "invalidcount", "invalidvalues"), "invalidValues"),
    **dict.fromkeys(("nullcheck", "nullcount", "nullvalues", "notnull"), "nullValues"),
    **dict.fromkeys(("missingcount", "missingvalues"), "missingValues"),
    **dict.fromkeys(("rowcount", "countcheck"), "rowCount"),
}
# Metrics that ask for no such value, where the rule has no operator of its own.
_NONE_ALLOWED = ("duplicateValues", "invalidValues", "nullValues", "missingValues")
_ARGUMENTS = ("validValues", "missingValues", "pattern", "properties")
_TIME_OF_DAY = re.compile(r"[Hh]")
_INSTANT = re.compile(r"(timestamp|datetime)", re.IGNORECASE)


def in_words_of_3_1(document: Document) -> Document:
    """The document as 3.1 writes it, where it is of 3.0; any other as it is."""
    values = document.values
    if not isinstance(values, dict) or values.get("apiVersion") not in VERSIONS:
        return document
    rewriter = _Rewriter(document)
    for where, entry in list(_places(rewriter.values.get("schema"), ("schema",))):
        rewriter.options(entry, where)
        rewriter.type_of_time(entry)
        for index, rule in enumerate(_list(entry.get("quality"))):
            if isinstance(rule, dict):
                rewriter.rule(rule, (*where, "quality", index))
    return Document(document.file, rewriter.values, rewriter.lines, rewriter.origins)


class _Rewriter:
    """Changes a copy of a document's values in place, noting where what it moves stood."""

    def __init__(self, document: Document) -> None:
        self.values: dict[str, Any] = copy.deepcopy(document.values)
        self.lines = dict(document.lines)
        self.origins = dict(document.origins)

    def rule(self, rule: dict[str, Any], where: Where) -> None:
        """``rule`` and what stands beside it as ``metric`` with ``arguments``."""
        if "rule" not in rule or "metric" in rule or rule.get("type", "library") != "library":
            return
        word = str(rule.pop("rule"))
        metric = _METRICS.get(word.replace("_", "").lower()) or nearest(word, _METRICS.values())
        if metric is None:
            # 3.0 left the words free: one that says nothing here is as good as another engine's.
            asked = [name for name in rule if name.startswith("must") or name in ("arguments", *_ARGUMENTS)]
            rule.update(type="custom", engine=word, implementation={name: rule.pop(name) for name in asked})
            self._moved((*where, "rule"), (*where, "engine"))
            return
        rule["metric"] = metric
        self._moved((*where, "rule"), (*where, "metric"))
        beside = {name: rule.pop(name) for name in _ARGUMENTS if name in rule}
        if beside and isinstance(given := rule.setdefault("arguments", {}), dict):
            given.update(beside)
            for name in beside:
                self._moved((*where, name), (*where, "arguments", name))
        if metric in _NONE_ALLOWED and not any(name.startswith("must") for name in rule):
            rule["mustBe"] = 0

    def options(self, entry: dict[str, Any], where: Where) -> None:
        """``exclusiveMaximum: true`` beside ``maximum: 5`` as ``exclusiveMaximum: 5``."""
        options = entry.get("logicalTypeOptions")
        if not isinstance(options, dict):
            return
        for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if options.get(exclusive) is True and inclusive in options:
                options[exclusive] = options.pop(inclusive)
                self._moved((*where, "logicalTypeOptions", inclusive), (*where, "logicalTypeOptions", exclusive))
            elif options.get(exclusive) is False:
                del options[exclusive]

    def type_of_time(self, entry: dict[str, Any]) -> None:
        """A ``date`` with a time of day, by its format or its physical type, as the type that 3.1 has for it."""
        if entry.get("logicalType") != "date":
            return
        options = entry.get("logicalTypeOptions")
        form = str(options.get("format", "")) if isinstance(options, dict) else ""
        physical = str(entry.get("physicalType", "")).strip()
        if _INSTANT.match(physical) or (_TIME_OF_DAY.search(form) and "y" in form.lower()):
            entry["logicalType"] = "timestamp"
        elif _TIME_OF_DAY.search(form) or physical.lower() == "time":
            entry["logicalType"] = "time"

    def _moved(self, old: Where, new: Where) -> None:
        self.origins[new] = self.origins.get(old, old)
        if old in self.lines:
            self.lines[new] = self.lines[old]


def _places(value: Any, where: Where) -> Iterator[tuple[Where, dict[str, Any]]]:
    """Every schema object and property, at any depth."""
    for index, entry in enumerate(_list(value)):
        if isinstance(entry, dict):
            yield from _inside(entry, (*where, index))


def _inside(entry: dict[str, Any], where: Where) -> Iterator[tuple[Where, dict[str, Any]]]:
    yield where, entry
    yield from _places(entry.get("properties"), (*where, "properties"))
    if isinstance(items := entry.get("items"), dict):
        yield from _inside(items, (*where, "items"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
