"""A document that keeps to the standard to a ``DataProduct``: the model and the mesh's policies.

Every part is read even where another is faulty, so that all faults come to light together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mesh_pipelines.contract.model import (
    TRANSFORM,
    Alignment,
    DataProduct,
    EventType,
    Field,
    Rule,
    TopicSettings,
    Transform,
    all_fields,
)
from mesh_pipelines.contract.names import EVENT_NAME, NAME, NAME_RULE
from mesh_pipelines.contract.read.about import read_about
from mesh_pipelines.contract.read.document import Document, FaultyDocument, read_text
from mesh_pipelines.contract.read.faults import Faults
from mesh_pipelines.contract.read.field_reader import RESERVED_DOMAINS, FieldReader
from mesh_pipelines.contract.read.rule_reader import RuleReader
from mesh_pipelines.contract.read.service_levels import read_service_levels
from mesh_pipelines.contract.read.settings_reader import SettingsReader
from mesh_pipelines.contract.read.standard import Checked
from mesh_pipelines.errors import Fault, printable
from mesh_pipelines.formats.format import Format
from mesh_pipelines.formats.registered import format_of, schema_files

STATUSES = ("proposed", "draft", "active", "deprecated", "retired")
# What other words for a status mean.
STATUS_WORDS = {
    **dict.fromkeys(("development", "in development", "in_development", "dev", "experimental", "wip"), "draft"),
    **dict.fromkeys(("production", "prod", "live", "published", "current", "released", "stable"), "active"),
    **dict.fromkeys(("sunset", "obsolete"), "deprecated"),
    **dict.fromkeys(("inactive", "archived", "decommissioned"), "retired"),
}
_OBJECT = ("schema", 0)
# Room for a sentence about a schema file with a name from it.
_PROBLEM = 200


@dataclass(frozen=True)
class Texts:
    """The files beside a contract, and what is wrong with them.

    ``transform`` is "" if there is none; ``schemas`` has the text of each schema that is there, by its file's name.
    """

    transform: str = ""
    schemas: Mapping[str, str] = field(default_factory=dict[str, str])
    faults: tuple[Fault, ...] = ()


def read_texts(folder: Path) -> Texts:
    """Read a product's ``transform.sql`` and schema file, under the same limits as its contract."""
    faults: list[Fault] = []

    def read(name: str) -> str:
        file = folder / name
        if not file.exists():
            return ""
        try:
            text = read_text(file).strip()
        except FaultyDocument as error:
            faults.extend(error.faults)
            return ""
        if not text:
            faults.append(Fault(file, 0, "", "is empty", "fill it or remove it"))
        return text

    transform = read(TRANSFORM)
    schemas = {name: text for name in schema_files() if (text := read(name))}
    return Texts(transform, schemas, tuple(faults))


def build_product(folder: Path, original: Document, checked: Checked, texts: Texts) -> DataProduct:
    """The product of a folder whose contract has been held against the standard, with the files beside it.

    Raises:
        FaultyDocument: with all faults, those against the standard included.
    """
    builder = _Builder(folder, checked.document, texts)
    product = builder.build(contract_hash(original, texts))
    faults = [*checked.faults, *texts.faults, *builder.faults.besides(checked.removed), *builder.beside]
    if faults or product is None:
        raise FaultyDocument(faults)
    return product


def rebuild_product(folder: Path, original: Document, checked: Checked, texts: Texts) -> DataProduct | None:
    """The product of a contract that was sound when it was applied, whatever is asked of contracts today.

    None where it cannot be understood at all.
    """
    return _Builder(folder, checked.document, texts).build(contract_hash(original, texts))


def contract_hash(document: Document, texts: Texts) -> str:
    """SHA-256 over everything that is promised: the contract but its layout, the transform, the schema beside it."""
    schema = next(iter(texts.schemas.values()), "")
    canonical = json.dumps([document.values, texts.transform, schema], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class _Builder:
    """Builds one product; ``faults`` are those of the contract, ``beside`` those of the files next to it."""

    def __init__(self, folder: Path, document: Document, texts: Texts) -> None:
        self.faults = Faults(document)
        self.beside: list[Fault] = []
        self._folder = folder
        self._document = document
        self._values: Mapping[str, Any] = document.values
        self._texts = texts

    def build(self, contract_hash: str) -> DataProduct | None:
        domain, name = self._names()
        settings = SettingsReader(self._document, self.faults)
        alignment, event_type = settings.alignment(), settings.event_type()
        inputs = settings.inputs(alignment)
        fields, rules = self._schema(event_type)
        owner, team = self._team()
        levels = self._service_levels(fields)
        status = self._status()
        topic, schema = None, ""
        if alignment is Alignment.SOURCE:
            topic = settings.topic(f"{domain}.{name}", event_type)
            schemas = format_of(topic).schemas
            is_given = bool(schemas and self._texts.schemas.get(schemas.file))
            record = settings.record_name(f"{domain}.{name}", is_given=is_given)
            schema = self._value_schema(topic, record, fields)
            full = schemas.record_name(schema) if schemas and schema else ""
            topic = replace(topic, named_subject=settings.subject(topic, full))
        elif alignment:
            settings.refuse_stream()
            self._refuse_schemas()
        self._check_transform(alignment)
        if alignment is None or event_type is None:
            return None
        return DataProduct(
            domain=domain,
            name=name,
            contract_version=str(self._values.get("version")),
            contract_hash=contract_hash,
            status=status,
            alignment=alignment,
            event_type=event_type,
            about=read_about(self._values),
            owner=owner,
            team=team,
            tags=tuple(self._values.get("tags", ())),
            fields=fields,
            rules=rules,
            service_levels=levels,
            folder=self._folder,
            topic=topic,
            transform=Transform(inputs, self._texts.transform) if topic is None else None,
            outputs=settings.outputs(alignment),
            value_schema=schema,
            objective_target=settings.objective_target(),
        )

    def _names(self) -> tuple[str, str]:
        domain, name = self._folder.parent.name, self._folder.name
        for key, expected in (("domain", domain), ("name", name)):
            value = self._values.get(key)
            if value is None:
                self.faults.add((key,), "is missing", f"add {key}: {expected}")
            elif not NAME.fullmatch(value):
                self.faults.add((key,), f"must be a valid name, got {value!r}", NAME_RULE)
            elif value != expected:
                self.faults.add((key,), f"must be {expected!r} like the folder, got {value!r}", "make the two the same")
        if domain in RESERVED_DOMAINS:
            self.faults.add(("domain",), f"{domain!r} is reserved by the SQL engine", "choose another domain")
        return domain, name

    def _status(self) -> str:
        given = self._values.get("status", "draft")
        status = given.strip().lower()
        if status not in STATUSES:
            fix = f"write {STATUS_WORDS[status]}" if status in STATUS_WORDS else "use one of them"
            self.faults.add(("status",), f"must be one of {', '.join(STATUSES)}, got {given!r}", fix)
        return status

    def _schema(self, event_type: EventType | None) -> tuple[tuple[Field, ...], tuple[Rule, ...]]:
        schema = self._values.get("schema") or []
        if len(schema) != 1:
            fix = "mesh import makes a product of each" if schema else "describe one stream or table"
            self.faults.add(("schema",), f"must describe exactly one object, got {len(schema)}", fix)
        if not schema:
            return (), ()
        if schema[0].get("relationships"):
            fix = "state it as a rule of type sql, or remove it"
            self.faults.cannot_check((*_OBJECT, "relationships"), "is not checked", fix)
        fields = FieldReader(self._document, self.faults).read(
            schema[0].get("properties") or [], (*_OBJECT, "properties")
        )
        rules = RuleReader(self._document, fields, self.faults).read(schema[0], _OBJECT)
        keyed = any(raw.get("primaryKey") for raw in schema[0].get("properties") or [])
        if event_type is EventType.STATE and fields and not keyed:
            self.faults.add(_OBJECT, "a state product must have a key", "set primaryKey: true on the fields of its key")
        return fields, rules

    def _team(self) -> tuple[str, tuple[str, ...]]:
        team = self._values.get("team") or []
        members = team if isinstance(team, list) else team.get("members") or []
        present = [member for member in members if member["username"].strip() and not member.get("dateOut")]
        owners = _owners(present)
        if not present:
            self.faults.add(
                ("team",), "must name at least one member", "add members, each with a username, one with the role owner"
            )
        elif not owners:
            roles = ", ".join(dict.fromkeys(_role(member) or "none" for member in present))
            self.faults.add(("team",), f"must have an owner, has the roles {roles}", "give one member the role owner")
        return (owners[0] if owners else ""), tuple(member["username"] for member in present)

    def _service_levels(self, fields: tuple[Field, ...]) -> Any:
        schema = self._values.get("schema") or [{}]
        names = frozenset(field.name for field in fields)
        return read_service_levels(
            self._values.get("slaProperties", []), names, str(schema[0].get("name", "")), self.faults
        )

    def _value_schema(self, topic: TopicSettings, record: tuple[str, str], fields: tuple[Field, ...]) -> str:
        chosen = format_of(topic)
        self._refuse_schemas(chosen)
        schemas = chosen.schemas
        if schemas is None:
            return ""
        given = self._texts.schemas.get(schemas.file)
        if not given and not chosen.registered:
            fix = f"put the producer's schema there: events of {chosen.name} do not say theirs"
            self.beside.append(Fault(self._folder / schemas.file, 0, "", "is missing", fix))
        if not given:
            self._check_event_names(fields, chosen)
            purpose = str((self._values.get("description") or {}).get("purpose", "")).strip()
            namespace, name = record
            return schemas.compile(name, namespace, fields, purpose)
        file = self._folder / schemas.file
        self.beside += [
            Fault(file, one.line, printable(one.path), printable(one.problem, _PROBLEM), one.fix)
            for one in schemas.disagreements(given, fields)
        ]
        return given

    def _check_event_names(self, fields: tuple[Field, ...], chosen: Format) -> None:
        """A schema that is made from the fields can only have names that its format allows."""
        assert chosen.schemas is not None
        for path, one in all_fields(fields):
            if EVENT_NAME.fullmatch(one.event_name) and not chosen.schemas.takes(one.event_name):
                problem = f"events call {path} {one.event_name!r}, which a schema of {chosen.title} cannot have"
                fix = f"put the producer's schema beside the contract as {chosen.schemas.file}, or change physicalName"
                self.faults.add((*_OBJECT, "properties"), problem, fix)

    def _refuse_schemas(self, chosen: Format | None = None) -> None:
        """Schema files of formats other than the one that was chosen describe nothing."""
        for name, each in schema_files().items():
            wanted = chosen.schemas.file if chosen and chosen.schemas else ""
            if name in self._texts.schemas and name != wanted:
                fault = Fault(self._folder / name, 0, "", f"is only for products with {each.title} events", "remove it")
                self.beside.append(fault)

    def _check_transform(self, alignment: Alignment | None) -> None:
        file = self._folder / TRANSFORM
        if alignment is Alignment.SOURCE and self._texts.transform:
            fix = "remove it, or declare the product aggregate-aligned or consumer-aligned"
            self.beside.append(Fault(file, 0, "", "is only for products with inputs, this one is source-aligned", fix))
        elif alignment not in (None, Alignment.SOURCE) and not file.exists():
            fix = "write the SELECT that computes the product"
            self.beside.append(Fault(file, 0, "", f"is missing; a product that is {alignment} needs it", fix))


def _owners(members: list[Mapping[str, Any]]) -> list[str]:
    """The usernames of those whose role is owner, and after them of those whose role ends so, as in Product Owner."""
    owners = [member for member in members if is_owner(member)]
    return [member["username"] for member in sorted(owners, key=lambda one: _role(one).lower() != "owner")]


def is_owner(member: Mapping[str, Any]) -> bool:
    """Whether a member's role is owner, or ends so."""
    return _role(member).lower().endswith("owner")


def _role(member: Mapping[str, Any]) -> str:
    return str(member.get("role", "")).strip()
