"""A product's folder to a ``DataProduct``: the standard's schema first, then the model, then our policies.

Each stage collects all it finds, and one broken contract never hides another: ``load_products`` gives the sound
products and, beside them, the faults of the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mesh_pipelines.contract.avro import agreement
from mesh_pipelines.contract.document import Document, FaultyDocument, Where, read_document, read_text
from mesh_pipelines.contract.fields import NAME, FieldReader
from mesh_pipelines.contract.model import (
    Alignment,
    Compatibility,
    DataProduct,
    EventType,
    Field,
    ServiceLevel,
    TopicSettings,
    WireFormat,
)
from mesh_pipelines.contract.rules import RuleReader
from mesh_pipelines.contract.standard import violations
from mesh_pipelines.contract.types import avro_schema
from mesh_pipelines.errors import ContractInvalid, Fault

Choice = TypeVar("Choice", Alignment, EventType, WireFormat, Compatibility)

CONTRACT = "contract.yaml"
TRANSFORM = "transform.sql"
AVRO = "schema.avsc"
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_DURATION = re.compile(r"(\d+)\s*(ms|s|m|h|d)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_STREAM_SETTINGS = {
    *("mesh.topic", "mesh.partitions", "mesh.cleanupPolicy", "mesh.retention", "mesh.wireFormat"),
    *("mesh.compatibility", "mesh.topicConfig"),
}
_SETTINGS = {"mesh.alignment", "mesh.eventType", "mesh.inputs", *_STREAM_SETTINGS}


@dataclass(frozen=True)
class Loaded:
    """The products of an assets folder: sound ones, and the faults of broken ones, both by ``domain.name``."""

    products: Mapping[str, DataProduct] = field(default_factory=dict[str, DataProduct])
    broken: Mapping[str, ContractInvalid] = field(default_factory=dict[str, ContractInvalid])


def load_products(assets: Path) -> Loaded:
    """Every product under ``<assets>/<domain>/<product>/contract.yaml``; reads nothing outside that folder."""
    products: dict[str, DataProduct] = {}
    broken: dict[str, ContractInvalid] = {}
    for file in sorted(assets.glob(f"*/*/{CONTRACT}")):
        name = f"{file.parent.parent.name}.{file.parent.name}"
        try:
            products[name] = load_product(file.parent)
        except ContractInvalid as error:
            broken[name] = error
    for name, fault in _across(products, set(broken)):
        known = broken[name].faults if name in broken else ()
        broken[name] = ContractInvalid(name, (*known, fault))
        products.pop(name, None)
    return Loaded(products, broken)


def load_product(folder: Path) -> DataProduct:
    """The product of one folder.

    Raises:
        ContractInvalid: with every fault of its files.
    """
    fqn = f"{folder.parent.name}.{folder.name}"
    try:
        _confined(folder)
        document = read_document(folder / CONTRACT)
        if faults := violations(document):
            raise FaultyDocument(faults)
        return _Builder(folder, document).build()
    except FaultyDocument as error:
        raise ContractInvalid(fqn, tuple(sorted(set(error.faults)))) from error


def _confined(folder: Path) -> None:
    home = folder.resolve()
    faults = [
        Fault(file, 0, "", "leads out of the product's folder", "put the file itself there, not a link")
        for name in (CONTRACT, TRANSFORM, AVRO)
        if (file := folder / name).is_symlink() or (file.exists() and home not in file.resolve().parents)
    ]
    if faults:
        raise FaultyDocument(faults)


class _Builder:
    """Builds one product from a document that keeps to the standard, collecting every fault on the way."""

    def __init__(self, folder: Path, document: Document) -> None:
        self.folder = folder
        self.document = document
        self.values: Mapping[str, Any] = document.values
        self.faults: list[Fault] = []
        self.settings: dict[str, Any] = {}

    def build(self) -> DataProduct:
        self._read_settings()
        self._names()
        fields, rules = self._schema()
        alignment = self._choice("mesh.alignment", Alignment)
        event_type = self._choice("mesh.eventType", EventType)
        owner, team = self._team()
        inputs = self._inputs(alignment)
        transform = self._text(TRANSFORM)
        derived = alignment is not None and alignment is not Alignment.SOURCE
        self._derivation(alignment, inputs, transform)
        stream = None if derived else self._stream(event_type)
        if event_type is EventType.STATE and fields and not any(one.key_position for one in fields):
            self._fault(("schema", 0), "a state product has no key", "set primaryKey: true on the fields of its key")
        avro = self._avro(fields) if stream and stream.wire_format is WireFormat.AVRO else ""
        if self.faults:
            raise FaultyDocument(self.faults)
        assert alignment is not None
        assert event_type is not None
        return DataProduct(
            domain=str(self.values["domain"]),
            name=str(self.values["name"]),
            contract_version=str(self.values["version"]),
            contract_hash=self._hash(transform),
            status=str(self.values.get("status", "draft")),
            alignment=alignment,
            event_type=event_type,
            description=_description(self.values),
            owner=owner,
            team=team,
            tags=tuple(str(tag) for tag in self.values.get("tags", ())),
            fields=fields,
            rules=rules,
            service_levels=self._service_levels(),
            folder=self.folder,
            stream=stream,
            avro_schema=avro,
            inputs=inputs,
            transform=transform,
        )

    def _read_settings(self) -> None:
        for index, entry in enumerate(self.values.get("customProperties", [])):
            name = str(entry.get("property", ""))
            where: Where = ("customProperties", index)
            if not name.startswith("mesh."):
                continue
            if name not in _SETTINGS:
                self._fault(where, f"{name} is no setting of a product", f"use one of {', '.join(sorted(_SETTINGS))}")
            elif name in self.settings:
                self._fault(where, f"{name} is there twice", "keep one of them")
            else:
                self.settings[name] = entry.get("value")

    def _where(self, name: str) -> Where:
        for index, entry in enumerate(self.values.get("customProperties", [])):
            if entry.get("property") == name:
                return ("customProperties", index, "value")
        return ("customProperties",)

    def _names(self) -> None:
        for key, expected in (("domain", self.folder.parent.name), ("name", self.folder.name)):
            value = self.values.get(key)
            if not isinstance(value, str) or not NAME.fullmatch(value):
                self._fault((key,), f"{value!r} is no name", "use lower-case letters, digits and underscores")
            elif value != expected:
                self._fault((key,), f"is {value!r}, but the folder is {expected!r}", "make the two the same")

    def _schema(self) -> tuple[tuple[Field, ...], tuple[Any, ...]]:
        schema = self.values.get("schema") or []
        if len(schema) != 1:
            self._fault(
                ("schema",), f"has {len(schema)} objects", "describe exactly one; a product is one stream or table"
            )
            return (), ()
        if schema[0].get("relationships"):
            self._fault(
                ("schema", 0, "relationships"), "is not checked", "state it as a rule of type sql, or remove it"
            )
        reader = FieldReader(self.document)
        fields = reader.read(schema[0].get("properties") or [], ("schema", 0, "properties"))
        rules = RuleReader(self.document, fields)
        found = rules.read(schema[0], ("schema", 0))
        self.faults += [*reader.faults, *rules.faults]
        return fields, found

    def _choice(self, name: str, choices: type[Choice], default: Choice | None = None) -> Choice | None:
        value = self.settings.get(name)
        if value is None and default is not None:
            return default
        if value not in list(choices):
            problem = f"{name} is {value!r}" if name in self.settings else f"{name} is not declared"
            self._fault(self._where(name), problem, f"use one of {', '.join(choices)}")
            return None
        return choices(value)

    def _team(self) -> tuple[str, tuple[str, ...]]:
        team = self.values.get("team") or []
        members = team if isinstance(team, list) else team.get("members") or []
        names = tuple(str(member["username"]) for member in members if member.get("username"))
        owners = [
            str(m["username"]) for m in members if str(m.get("role", "")).lower() == "owner" and m.get("username")
        ]
        if not names:
            self._fault(("team",), "names nobody", "add team.members with a username each")
        elif not owners:
            self._fault(("team",), "has no owner", "give one member the role owner")
        return (owners[0] if owners else ""), names

    def _inputs(self, alignment: Alignment | None) -> tuple[str, ...]:
        inputs = self.settings.get("mesh.inputs") or []
        if not isinstance(inputs, list) or not all(_is_product_name(name) for name in inputs):
            self._fault(self._where("mesh.inputs"), "is no list of domain.product names", "write - domain.product")
            return ()
        if alignment is Alignment.SOURCE and inputs:
            self._fault(
                self._where("mesh.inputs"),
                "a source-aligned product has inputs",
                "remove them, or declare it aggregate-aligned or consumer-aligned",
            )
        return tuple(dict.fromkeys(str(name) for name in inputs))

    def _derivation(self, alignment: Alignment | None, inputs: tuple[str, ...], transform: str) -> None:
        if alignment is None:
            return
        if alignment is Alignment.SOURCE:
            if transform:
                self.faults.append(
                    Fault(self.folder / TRANSFORM, 0, "", "belongs to a source-aligned product", "remove it")
                )
            return
        if not inputs:
            self._fault(
                self._where("mesh.inputs"), f"a product that is {alignment} has no inputs", "list them in mesh.inputs"
            )
        if not transform:
            self.faults.append(
                Fault(self.folder / TRANSFORM, 0, "", "is missing or empty", "write the product's SELECT")
            )
        for name in sorted(_STREAM_SETTINGS & self.settings.keys()):
            self._fault(self._where(name), f"{name} is for products with a stream", "remove it")

    def _stream(self, event_type: EventType | None) -> TopicSettings | None:
        wire = self._choice("mesh.wireFormat", WireFormat, WireFormat.AVRO)
        compatibility = self._choice("mesh.compatibility", Compatibility, Compatibility.BACKWARD)
        topic = self.settings.get("mesh.topic", f"{self.values.get('domain')}.{self.values.get('name')}")
        if not isinstance(topic, str) or not _TOPIC.fullmatch(topic) or topic in (".", ".."):
            self._fault(
                self._where("mesh.topic"), f"{topic!r} is no topic name", "use letters, digits, '.', '_' and '-'"
            )
        partitions = self.settings.get("mesh.partitions", 1)
        if isinstance(partitions, bool) or not isinstance(partitions, int) or not 1 <= partitions <= 10_000:
            self._fault(self._where("mesh.partitions"), f"{partitions!r} is no number of partitions", "use 1 to 10000")
        cleanup = self.settings.get("mesh.cleanupPolicy", "delete")
        if cleanup not in ("delete", "compact", "compact,delete"):
            self._fault(self._where("mesh.cleanupPolicy"), f"is {cleanup!r}", "use delete, compact, or compact,delete")
        elif cleanup != "delete" and event_type and not event_type.folds_by_key:
            self._fault(self._where("mesh.cleanupPolicy"), f"{cleanup} drops {event_type} events", "use delete")
        retention = _retention(self.settings.get("mesh.retention", "forever"))
        if retention is None:
            self._fault(self._where("mesh.retention"), "is no duration", "write 7d, 12h, 30m or forever")
        config = self.settings.get("mesh.topicConfig") or {}
        if not isinstance(config, dict) or {"cleanup.policy", "retention.ms"} & config.keys():
            self._fault(self._where("mesh.topicConfig"), "is no mapping of further topic settings", "use name: value")
            return None
        if wire is None or compatibility is None or retention is None or not isinstance(partitions, int):
            return None
        further = {str(name): str(value) for name, value in config.items()}
        return TopicSettings(str(topic), partitions, str(cleanup), retention, wire, compatibility, further)

    def _avro(self, fields: tuple[Field, ...]) -> str:
        text = self._text(AVRO)
        if not text:
            name, domain = str(self.values.get("name")), str(self.values.get("domain"))
            return avro_schema(name, domain, fields, _description(self.values))
        problems = agreement(text, fields)
        self.faults += [Fault(self.folder / AVRO, 0, where, problem, fix) for where, problem, fix in problems]
        return text

    def _text(self, name: str) -> str:
        file = self.folder / name
        if not file.exists():
            return ""
        try:
            return read_text(file).strip()
        except FaultyDocument as error:
            self.faults += error.faults
            return ""

    def _service_levels(self) -> tuple[ServiceLevel, ...]:
        return tuple(
            ServiceLevel(
                str(entry.get("property")),
                entry.get("value"),
                str(entry.get("unit", "")),
                str(entry.get("element", "")),
            )
            for entry in self.values.get("slaProperties", [])
        )

    def _hash(self, transform: str) -> str:
        canonical = json.dumps([self.values, transform, self._text(AVRO)], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _fault(self, where: Where, problem: str, fix: str) -> None:
        self.faults.append(self.document.fault(where, problem, fix))


def _across(products: Mapping[str, DataProduct], broken: set[str]) -> list[tuple[str, Fault]]:
    """What is wrong between contracts: inputs nobody declares, cycles, one topic for two products."""
    found: list[tuple[str, Fault]] = []
    topics: dict[str, str] = {}

    def add(product: DataProduct, problem: str, fix: str) -> None:
        found.append((product.fqn, Fault(product.folder / CONTRACT, 0, "customProperties", problem, fix)))

    for product in products.values():
        for name in product.inputs:
            if name not in products and name not in broken:
                add(product, f"its input {name} is declared by no contract", "mend the name or add that contract")
        if _reaches(products, product.fqn):
            add(product, "it is an input of itself, by way of its inputs", "break the cycle")
        if product.stream:
            other = topics.setdefault(product.stream.name, product.fqn)
            if other != product.fqn:
                add(product, f"its topic {product.stream.name} is also the topic of {other}", "give it one of its own")
    return found


def _reaches(products: Mapping[str, DataProduct], start: str) -> bool:
    seen: set[str] = set()
    pending = list(products[start].inputs)
    while pending:
        name = pending.pop()
        if name == start:
            return True
        if name not in seen and name in products:
            seen.add(name)
            pending += products[name].inputs
    return False


def _retention(value: Any) -> int | None:
    """Milliseconds of a duration such as ``7d``; -1 for ``forever``; None for what is neither."""
    if value == "forever":
        return -1
    match = _DURATION.fullmatch(str(value).strip())
    return int(match[1]) * _MILLISECONDS[match[2]] if match else None


def _is_product_name(name: Any) -> bool:
    parts = name.split(".") if isinstance(name, str) else []
    return len(parts) == 2 and all(NAME.fullmatch(part) for part in parts)


def _description(values: Mapping[str, Any]) -> str:
    description = values.get("description") or {}
    return str(description.get("purpose", "")).strip()
