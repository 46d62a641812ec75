"""The ``mesh.*`` settings at the top of a contract: what a product is, and how its topic is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from mesh_pipelines.contract.misspelt import did_you_mean
from mesh_pipelines.contract.model import (
    Alignment,
    Compatibility,
    DataProduct,
    EventType,
    Number,
    Output,
    SubjectNameStrategy,
    TopicSettings,
)
from mesh_pipelines.contract.names import NAME, TOPIC
from mesh_pipelines.contract.read.document import Document, Where
from mesh_pipelines.contract.read.faults import NOT_CHECKED, Faults
from mesh_pipelines.formats.format import Format
from mesh_pipelines.formats.registered import FORMATS

Choice = TypeVar("Choice", Alignment, EventType, Compatibility, SubjectNameStrategy)

_SUBJECT = re.compile(r"\S(.{0,247}\S)?")
_RECORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_DURATION = re.compile(r"([0-9]{1,12})\s*(ms|s|m|h|d)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MAX_MILLISECONDS = 2**63 - 1
_CLEANUP = ("delete", "compact", "compact,delete")
_REGISTRY_SETTINGS = ("mesh.compatibility", "mesh.recordName", "mesh.subject", "mesh.subjectNameStrategy")
_STREAM_SETTINGS = (
    *("mesh.topic", "mesh.partitions", "mesh.cleanupPolicy", "mesh.retention", "mesh.wireFormat"),
    *("mesh.topicConfig", "mesh.maxUndecodableShare"),
    *_REGISTRY_SETTINGS,
)
_SETTINGS = (
    *("mesh.alignment", "mesh.eventType", "mesh.inputs", "mesh.outputs", "mesh.objectiveTarget", NOT_CHECKED),
    *_STREAM_SETTINGS,
)


class SettingsReader:
    """Reads the settings of one document; faults go to ``faults``."""

    def __init__(self, document: Document, faults: Faults) -> None:
        self._faults = faults
        self._values: dict[str, Any] = {}
        self._places: dict[str, Where] = {}
        for index, entry in enumerate(document.values.get("customProperties", [])):
            self._note(entry, ("customProperties", index))

    def _note(self, entry: Mapping[str, Any], where: Where) -> None:
        name: str = entry["property"]
        if not name.startswith("mesh."):
            return
        if name not in _SETTINGS:
            fix = did_you_mean(name, _SETTINGS, f"use one of {', '.join(_SETTINGS)}")
            self._faults.add(where, f"{name} is not a setting of a product", fix)
        elif name in self._values:
            self._faults.add(where, f"{name} appears twice", "keep one of them")
        else:
            if name == NOT_CHECKED:
                self._faults.check_mark(entry["value"], (*where, "value"))
            self._values[name] = entry["value"]
            self._places[name] = (*where, "value")

    def alignment(self) -> Alignment | None:
        """What the product is aligned with; None with a fault where it is not said."""
        return self._choice("mesh.alignment", Alignment)

    def event_type(self) -> EventType | None:
        """What the product's events say; None with a fault where it is not said."""
        return self._choice("mesh.eventType", EventType)

    def inputs(self, alignment: Alignment | None) -> tuple[str, ...]:
        """The products this one is computed from, as ``domain.name``."""
        name = "mesh.inputs"
        inputs = self._values.get(name) or []
        if not isinstance(inputs, list) or not all(_is_product_name(one) for one in inputs):
            self._fault(name, f"{name} must be a list of products", "write each as domain.product")
            return ()
        if alignment is Alignment.SOURCE and inputs:
            fix = "remove them, or declare it aggregate-aligned or consumer-aligned"
            self._fault(name, "a source-aligned product must not have inputs", fix)
        if alignment in (Alignment.AGGREGATE, Alignment.CONSUMER) and not inputs:
            self._fault(
                name, f"a product that is {alignment} must have inputs", "list them in mesh.inputs as domain.product"
            )
        return tuple(dict.fromkeys(inputs))

    def outputs(self, alignment: Alignment | None) -> tuple[Output, ...]:
        """The ports the product is read by: its table, and of a product that lands a topic, that topic."""
        name = "mesh.outputs"
        possible = (Output.TABLE, Output.STREAM) if alignment is Alignment.SOURCE else (Output.TABLE,)
        declared = self._values.get(name, list(possible))
        if not isinstance(declared, list) or not all(one in list(Output) for one in declared):
            self._fault(name, f"{name} must be a list of {', '.join(Output)}, got {declared!r}", "write [table]")
            return possible
        if Output.TABLE not in declared:
            self._fault(name, f"{name} must include table, every product has one", "add it to the list")
        if Output.STREAM in declared and Output.STREAM not in possible:
            self._fault(name, f"{name} must not include stream, a computed product has none", "write [table]")
        return tuple(one for one in possible if one in declared)

    def objective_target(self) -> Number:
        """The percentage of observations in which the product's service levels have to be met."""
        name = "mesh.objectiveTarget"
        percent = self._values.get(name, DataProduct.objective_target)
        if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 < percent < 100:
            self._fault(name, f"{name} must be above 0 and below 100, got {percent!r}", "write a percentage such as 99")
            return DataProduct.objective_target
        return percent

    def refuse_stream(self) -> None:
        """A derived product has no stream, so that no setting of one may be there."""
        for name in _STREAM_SETTINGS:
            if name in self._values:
                self._fault(name, f"{name} is only for source-aligned products", "remove it")

    def topic(self, fqn: str, event_type: EventType | None) -> TopicSettings:
        """The stream of a source-aligned product."""
        chosen = self._format()
        for name in _REGISTRY_SETTINGS:
            if name in self._values and not chosen.registered:
                problem = f"{name} is for schemas in the registry, events of {chosen.name} have none there"
                self._fault(name, problem, "remove it")
        stated = "mesh.compatibility" in self._values
        compatibility = self._choice("mesh.compatibility", Compatibility) if stated else None
        return TopicSettings(
            self._name(fqn),
            self._partitions(),
            self._cleanup(event_type),
            self._retention(),
            chosen.name,
            compatibility,
            self._config(),
            self._undecodable(),
        )

    def record_name(self, fqn: str, *, is_given: bool) -> tuple[str, str]:
        """The namespace and the name of the record that events are, where no schema beside the contract gives it."""
        name = "mesh.recordName"
        record = self._values.get(name, fqn)
        if name in self._values and (not isinstance(record, str) or not _RECORD.fullmatch(record)):
            fix = "write names of letters, digits and underscores with dots between them"
            self._fault(name, f"{name} must be the full name of a record, got {record!r}", fix)
            record = fqn
        elif name in self._values and is_given:
            self._fault(name, f"{name} is stated, and the schema beside the contract has a name", "remove it")
        namespace, _, last = str(record).rpartition(".")
        return namespace, last

    def subject(self, topic: TopicSettings, record: str) -> str:
        """The registry's subject of the events' schemas, whose record has this full name ("" if unknown)."""
        name = "mesh.subjectNameStrategy"
        if "mesh.subject" in self._values:
            return self._stated_subject()
        if name not in self._values:
            return ""
        match self._choice(name, SubjectNameStrategy):
            case SubjectNameStrategy.RECORD:
                return record
            case SubjectNameStrategy.TOPIC_RECORD if record:
                return f"{topic.name}-{record}"
            case _:
                return ""

    def _stated_subject(self) -> str:
        name, subject = "mesh.subject", self._values["mesh.subject"]
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject) or not subject.isprintable():
            self._fault(name, f"{name} must be a subject of the registry, got {subject!r}", "write its name as text")
            return ""
        if "mesh.subjectNameStrategy" in self._values:
            self._fault(name, f"{name} is stated, and mesh.subjectNameStrategy too", "keep one of them")
        return subject

    def _format(self) -> Format:
        name = "mesh.wireFormat"
        value = self._values.get(name, TopicSettings.wire_format)
        if isinstance(value, str) and value in FORMATS:
            return FORMATS[value]
        problem = f"{name} must be one of {', '.join(FORMATS)}, got {value!r}"
        self._fault(name, problem, did_you_mean(str(value), list(FORMATS), "use one of them"))
        return FORMATS[TopicSettings.wire_format]

    def _name(self, fqn: str) -> str:
        topic = self._values.get("mesh.topic", fqn)
        if not isinstance(topic, str) or not TOPIC.fullmatch(topic) or topic in (".", ".."):
            self._fault(
                "mesh.topic", f"mesh.topic must be a topic name, got {topic!r}", "use letters, digits, '.', '_' and '-'"
            )
        return str(topic)

    def _partitions(self) -> int | None:
        partitions = self._values.get("mesh.partitions")
        if partitions is None and "mesh.partitions" not in self._values:
            return None
        if isinstance(partitions, bool) or not isinstance(partitions, int) or not 1 <= partitions <= 10_000:
            self._fault(
                "mesh.partitions", f"mesh.partitions must be 1 to 10000, got {partitions!r}", "write a whole number"
            )
            return None
        return partitions

    def _cleanup(self, event_type: EventType | None) -> str | None:
        if "mesh.cleanupPolicy" not in self._values:
            return None
        policy = self._values["mesh.cleanupPolicy"]
        if policy not in _CLEANUP:
            known = f"{', '.join(_CLEANUP[:2])} or {_CLEANUP[2]}"
            self._fault("mesh.cleanupPolicy", f"mesh.cleanupPolicy must be {known}, got {policy!r}", "use one of them")
        elif policy != "delete" and event_type and not event_type.folds_by_key:
            fix = "use delete, or set mesh.eventType to state"
            self._fault(
                "mesh.cleanupPolicy", f"mesh.cleanupPolicy must be delete for {event_type} events, got {policy}", fix
            )
        return str(policy)

    def _retention(self) -> int | None:
        """Milliseconds; -1 is forever."""
        if "mesh.retention" not in self._values:
            return None
        value = self._values["mesh.retention"]
        if value == "forever":
            return -1
        match = _DURATION.fullmatch(str(value).strip())
        milliseconds = int(match[1]) * _MILLISECONDS[match[2]] if match else 0
        if not 0 < milliseconds <= _MAX_MILLISECONDS:
            self._fault(
                "mesh.retention",
                f"mesh.retention must be a duration, got {value!r}",
                "write 7d, 12h, 30m, 90s or forever",
            )
        return milliseconds

    def _undecodable(self) -> float:
        name = "mesh.maxUndecodableShare"
        share = self._values.get(name, TopicSettings.max_undecodable_share)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            self._fault(
                name, f"{name} must be 0 to 1, got {share!r}", "write a share such as 0.05; 0 allows none, 1 allows all"
            )
            return TopicSettings.max_undecodable_share
        return float(share)

    def _config(self) -> dict[str, str]:
        name = "mesh.topicConfig"
        config = self._values.get(name) or {}
        if not isinstance(config, dict) or any(isinstance(value, dict | list) for value in config.values()):
            self._fault(name, f"{name} must be a mapping of topic settings", "write name: value")
            return {}
        for own, setting in (("cleanup.policy", "mesh.cleanupPolicy"), ("retention.ms", "mesh.retention")):
            if own in config:
                self._fault(name, f"sets {own}", f"use {setting}")
        return {str(key): _kafka_text(value) for key, value in config.items()}

    def _choice(self, name: str, choices: type[Choice]) -> Choice | None:
        value = self._values.get(name)
        if value in list(choices):
            return choices(value)
        listed = f"one of {', '.join(choices)}"
        if name in self._values:
            fix = did_you_mean(str(value), list(choices), "use one of them")
            self._fault(name, f"{name} must be {listed}, got {value!r}", fix)
        else:
            self._fault(name, f"{name} is missing", f"add it; use {listed}")
        return None

    def _fault(self, name: str, problem: str, fix: str) -> None:
        self._faults.add(self._places.get(name, ("customProperties",)), problem, fix)


def _kafka_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_product_name(name: Any) -> bool:
    parts = name.split(".") if isinstance(name, str) else []
    return len(parts) == 2 and all(NAME.fullmatch(part) for part in parts)
