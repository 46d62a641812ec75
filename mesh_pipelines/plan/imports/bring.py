"""One schema object of a contract that was written for other tools, as a contract of the mesh; pure.

What the mesh calls otherwise is renamed, and what was written is kept: names under ``physicalName``, anything else
under the ``customProperties`` around it. What the mesh asks for and is not there (a domain, an owner, the kind of
events) is put in. Everything that changes is noted. What is wrong beyond that is found by the reader of contracts
(``repair.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mesh_pipelines.contract.names import EVENT_NAME, TOPIC
from mesh_pipelines.contract.read.build import STATUS_WORDS, STATUSES, is_owner
from mesh_pipelines.contract.read.field_reader import RESERVED_DOMAINS
from mesh_pipelines.contract.read.numeric_types import lacks_digits, numeric_type
from mesh_pipelines.contract.read.older import VERSIONS
from mesh_pipelines.contract.read.standard import SUPPORTED
from mesh_pipelines.formats.avro.schema import NAME as AVRO_NAME
from mesh_pipelines.plan.imports.names import Names
from mesh_pipelines.plan.imports.text import plain
from mesh_pipelines.plan.imports.types import LOGICAL, logical_of

NO_OWNER = "owner@example.com"
_STREAMS = ("topic", "stream", "kafka", "event", "message")
_NEVER_KEYS = ("array", "object", "map")
_WITH_DIGITS = re.compile(r"\(.*\d.*\)")


@dataclass(frozen=True)
class Wanted:
    """What whoever imports says of the products; "" for what the document says, or else a default."""

    domain: str = ""
    owner: str = ""
    event_type: str = ""
    wire_format: str = ""


@dataclass
class Brought:
    """A contract for one product, what was changed, and the columns by what they were called."""

    domain: str
    name: str
    document: Any
    notes: list[str] = field(default_factory=list[str])
    columns: dict[str, str] = field(default_factory=dict[str, str])

    def note(self, text: str) -> None:
        """Note a change, once."""
        if text not in self.notes:
            self.notes.append(text)


def objects(document: Any) -> list[Any]:
    """The schema objects of a document, one product each."""
    schema = document.get("schema")
    return [one for one in schema if isinstance(one, dict)] if isinstance(schema, list) else []


def bring(document: Any, index: int, wanted: Wanted, names: Callable[[str], Names]) -> Brought:
    """The contract of a document's schema object of this index; ``names`` are those of a domain's products."""
    copied = plain(document)
    chosen = objects(copied)[index]
    for place in reversed(range(len(copied["schema"]))):
        if copied["schema"][place] is not chosen:
            del copied["schema"][place]
    domain = _domain(copied, wanted)
    called = chosen.get("name") or chosen.get("physicalName") or copied.get("name")
    name = names(domain).of(str(called or ""), "product")
    brought = Brought(domain, name, copied)
    others = len(objects(document)) - 1
    if others:
        brought.note(f"{others} other schema objects of the document are products of their own")
    _identify(brought)
    _custom_properties(copied)
    if not isinstance(chosen.get("name"), str) or not chosen["name"].strip():
        chosen["name"] = name
    _Fields(brought).bring(chosen)
    _own_levels(brought, document, chosen)
    _team(brought, wanted)
    _settings(brought, chosen, wanted)
    return brought


def _domain(document: Any, wanted: Wanted) -> str:
    domain = Names().of(wanted.domain or str(document.get("domain") or ""), "imported")
    return f"{domain[:56]}_domain" if domain in RESERVED_DOMAINS else domain


def _identify(brought: Brought) -> None:
    """The standard's head: version of the standard, domain, name, version, status."""
    document = brought.document
    for key, value in (("domain", brought.domain), ("name", brought.name)):
        if document.get(key) != value:
            if document.get(key):
                custom(document, key, document[key])
                brought.note(f"{key} is {value}, the folder's; what was written is kept in customProperties")
            else:
                brought.note(f"{key} is {value}")
            document[key] = value
    version = str(document.get("apiVersion") or "").strip()
    if version not in SUPPORTED:
        begins = f"v{version.lstrip('v')[:3]}"
        near = next((one for one in reversed(SUPPORTED) if one.startswith(begins)), SUPPORTED[-1])
        brought.note(f"apiVersion is {near} instead of {version or 'nothing'}")
        document["apiVersion"] = near
    for key in ("kind", "id", "version"):
        if not document.get(key):
            document[key] = {"kind": "DataContract", "id": f"{brought.domain}.{brought.name}", "version": "0.1.0"}[key]
            brought.note(f"{key} is {document[key]}")
        elif not isinstance(document[key], str):
            document[key] = plain(str(document[key]))
    given = str(document.get("status") or "draft")
    status = given.strip().lower()
    if status not in STATUSES:
        status = STATUS_WORDS.get(status, "draft")
        custom(document, "status", given)
        brought.note(f"status is {status} instead of {given}")
    if document.get("status") != status:
        document["status"] = status


def _custom_properties(document: Any) -> None:
    """A mapping of custom properties, as some write them, is a list of them."""
    for entry in everything(document):
        given = entry.get("customProperties")
        if isinstance(given, dict):
            entry["customProperties"] = plain([{"property": str(key), "value": item} for key, item in given.items()])
        elif given is None and "customProperties" in entry:
            del entry["customProperties"]


class _Fields:
    """Brings the properties of one schema object to columns."""

    def __init__(self, brought: Brought) -> None:
        self._brought = brought

    def bring(self, chosen: Any) -> None:
        """All properties of the object, at any depth."""
        self._properties(chosen, "")
        if "logicalType" in chosen and chosen["logicalType"] != "object":
            aside(chosen, "logicalType")
        _rename_references(self._brought, chosen)

    def _properties(self, around: Any, path: str) -> None:
        given = around.get("properties")
        if isinstance(given, dict):
            # An older form: a mapping by name.
            given = [{"name": str(name), **(one if isinstance(one, dict) else {})} for name, one in given.items()]
            around["properties"] = plain(given)
        if not isinstance(around.get("properties"), list):
            return
        names = Names()
        left_out: list[int] = []
        for index, entry in enumerate(around["properties"]):
            if not isinstance(entry, dict) or not self._property(entry, names, f"{path}{_called(entry)}"):
                left_out.append(index)
        for index in reversed(left_out):
            del around["properties"][index]

    def _property(self, entry: Any, names: Names, path: str) -> bool:
        """Whether the property can be a column; it is one then."""
        if entry.get("semanticType") == "measure":
            self._brought.note(f"{path} is left out: a measure is not a column of the rows")
            return False
        if not self._type(entry, path):
            return False
        self._name(entry, names, path)
        self._key(entry, path)
        return True

    def _name(self, entry: Any, names: Names, path: str) -> None:
        written = str(entry.get("name") or entry.get("physicalName") or "")
        column = names.of(written, "field")
        physical = entry.get("physicalName")
        if physical is not None and (not isinstance(physical, str) or not EVENT_NAME.fullmatch(physical)):
            aside(entry, "physicalName")
        if column != written:
            self._brought.note(f"{path} is the column {column}")
            if not entry.get("physicalName") and EVENT_NAME.fullmatch(written):
                put_first(entry, "physicalName", plain(written))
        for called in filter(None, (str(entry.get("physicalName") or ""), written)):
            self._brought.columns[called] = column
        put_first(entry, "name", plain(column))

    def _type(self, entry: Any, path: str) -> bool:
        written, physical = entry.get("logicalType"), entry.get("physicalType")
        if physical is not None and not isinstance(physical, str):
            aside(entry, "physicalType")
            physical = None
        logical = written if written in LOGICAL else logical_of(written) or logical_of(physical)
        if logical is None:
            if written or physical:
                self._brought.note(f"{path} is read as text: no type is known for {written or physical}")
            else:
                self._brought.note(f"{path} is read as text: it has no type")
            logical = "string"
        elif logical != written:
            self._brought.note(f"{path} is of logicalType {logical}, by {written or physical}")
        if written and logical != written:
            aside(entry, "logicalType")
        entry["logicalType"] = logical
        if logical in ("array", "object", "map") and not self._inside(entry, logical, path):
            return False
        self._numbers(entry, logical, path)
        return True

    def _inside(self, entry: Any, logical: str, path: str) -> bool:
        if logical == "object":
            self._properties(entry, f"{path}.")
            held = bool(entry.get("properties"))
        elif logical == "array":
            held = isinstance(entry.get("items"), dict) and self._type(entry["items"], f"{path}.items")
            if not held and isinstance(entry.get("items"), dict) and entry["items"].get("properties"):
                held = True
        else:
            value = entry["map"].get("value") if isinstance(entry.get("map"), dict) else None
            held = isinstance(value, dict) and self._type(value, f"{path}.value")
        if not held:
            self._brought.note(f"{path} is left out: it does not say what the {logical} contains, so it has no column")
        return held

    def _numbers(self, entry: Any, logical: str, path: str) -> None:
        physical = str(entry.get("physicalType") or "").strip().lower()
        if logical == "number" and lacks_digits(physical) and not entry.get("primaryKey"):
            aside(entry, "physicalType")
            entry["physicalType"] = "double"
            self._brought.note(f"{path} is a double: {physical} does not say how many digits it has")
        elif physical and logical_of(physical) not in (None, logical):
            exact = logical == "integer" and numeric_type(logical, physical)
            if not exact and not (logical == "number" and numeric_type(logical, physical)):
                aside(entry, "physicalType")

    def _key(self, entry: Any, path: str) -> None:
        if not entry.get("primaryKey"):
            return
        logical, physical = entry["logicalType"], str(entry.get("physicalType") or "").strip().lower()
        inexact = logical == "number" and not numeric_type(logical, physical) and not _WITH_DIGITS.search(physical)
        if (inexact and logical_of(physical) != "number") or lacks_digits(physical):
            entry["logicalType"] = "integer"
            aside(entry, "physicalType")
            self._brought.note(f"{path} is a key of whole numbers: a number without digits cannot be a key")
        elif inexact or logical in _NEVER_KEYS or physical in ("bytes", "binary"):
            del entry["primaryKey"]
            entry.pop("primaryKeyPosition", None)
            self._brought.note(f"{path} is not a key: {physical or logical} cannot be one")


def _rename_references(brought: Brought, chosen: Any) -> None:
    """The names of fields in arguments of rules, as the columns are called."""
    quality = [rule for entry in everything(chosen) for rule in _dicts(entry.get("quality"))]
    for rule in quality:
        for holder in (rule, rule.get("arguments")):
            if isinstance(holder, dict) and isinstance(holder.get("properties"), list):
                holder["properties"] = plain([brought.columns.get(str(one), one) for one in holder["properties"]])
        implementation = rule.get("implementation")
        kwargs = implementation.get("kwargs") if isinstance(implementation, dict) else None
        if isinstance(kwargs, dict) and str(kwargs.get("column")) in brought.columns:
            kwargs["column"] = plain(brought.columns[str(kwargs["column"])])
        if rule.get("type") == "sql" and isinstance(rule.get("query"), str):
            rule["query"] = _over_object(rule["query"], chosen)


def _over_object(query: str, chosen: Any) -> str:
    """A query over the object by what it is called, as one over ``{object}``."""
    called = [str(chosen[key]) for key in ("physicalName", "name") if chosen.get(key)]
    for one in called:
        found = re.compile(rf"(\b(?:FROM|JOIN)\s+)[`\"]?{re.escape(one)}[`\"]?(?![\w.])", re.IGNORECASE)
        query = found.sub(r"\1{object}", query)
    return query


def _own_levels(brought: Brought, document: Any, chosen: Any) -> None:
    """The service levels of this object, about its columns; those of another object are that product's."""
    levels = brought.document.get("slaProperties")
    if not isinstance(levels, list):
        return
    mine = [str(chosen[key]) for key in ("name", "physicalName") if chosen.get(key)]
    theirs = {str(one[key]) for one in objects(document) for key in ("name", "physicalName") if one.get(key)} - {*mine}
    for entry in [one for one in levels if isinstance(one, dict)]:
        before, _, last = str(entry.get("element") or "").rpartition(".")
        if before in theirs:
            levels.remove(entry)
        elif last in brought.columns and (not before or before in mine):
            entry["element"] = plain(brought.columns[last])
    if not levels:
        del brought.document["slaProperties"]


def _team(brought: Brought, wanted: Wanted) -> None:
    document = brought.document
    team = document.get("team")
    if not isinstance(team, dict | list):
        # In documents of 3.0 a team is a list.
        document["team"] = team = plain([] if document["apiVersion"] in VERSIONS else {"members": []})
    if isinstance(team, dict) and not isinstance(team.get("members"), list):
        team["members"] = plain([])
    members = team if isinstance(team, list) else team["members"]
    members[:] = [one for one in members if isinstance(one, dict) and str(one.get("username") or "").strip()]
    has_one = any(is_owner(one) and not one.get("dateOut") for one in members)
    if wanted.owner or not has_one:
        for one in members if wanted.owner else ():
            if is_owner(one) and str(one.get("role")).strip().lower() == "owner":
                aside(one, "role")
        members.insert(0, plain({"username": wanted.owner or NO_OWNER, "role": "owner"}))
        if not wanted.owner:
            brought.note(f"it names no owner: {NO_OWNER} stands there; name one with --owner")


def _settings(brought: Brought, chosen: Any, wanted: Wanted) -> None:
    """What the mesh has to know of the stream, where the document does not say it."""
    document = brought.document
    stated = {str(one.get("property")) for one in _dicts(document.get("customProperties"))}
    keyed = any(one.get("primaryKey") for one in _dicts(chosen.get("properties")))
    kafka = any(str(one.get("type")).lower() == "kafka" for one in _dicts(document.get("servers")))
    physical = str(chosen.get("physicalType") or "").lower()
    event_type = wanted.event_type or ("state" if keyed else "measurement")
    if event_type == "state" and not keyed:
        brought.note("events are measurements: it has no key, which a state needs")
        event_type = "measurement"
    settings = {"mesh.alignment": "source-aligned", "mesh.eventType": event_type}
    topic = chosen.get("physicalName") or chosen.get("name")
    if (kafka or physical in _STREAMS) and isinstance(topic, str) and TOPIC.fullmatch(topic):
        settings["mesh.topic"] = topic
    named = [one for one in everything(chosen.get("properties")) if "logicalType" in one and one.get("name")]
    names = [str(one.get("physicalName") or one["name"]) for one in named]
    formats = [str(one.get("format")).lower() for one in _dicts(document.get("servers")) if one.get("format")]
    if wanted.wire_format or "json" in formats or not all(map(AVRO_NAME.fullmatch, names)):
        settings["mesh.wireFormat"] = wanted.wire_format or "json"
    for name, value in settings.items():
        if name not in stated:
            custom(document, name, value)
            brought.note(f"{name} is {value}")


def everything(value: Any) -> Iterator[Any]:
    """A mapping and all mappings inside it."""
    if isinstance(value, dict):
        yield value
        for one in list(value.values()):
            yield from everything(one)
    elif isinstance(value, list):
        for one in value:
            yield from everything(one)


def aside(entry: Any, key: str) -> None:
    """Keep what a key had among the custom properties, where no reader takes it for more than it is."""
    if key in entry:
        value = entry.pop(key)
        if value not in (None, "", [], {}):
            custom(entry, key, value)


def custom(entry: Any, name: str, value: Any) -> None:
    """Add a custom property."""
    if not isinstance(entry.get("customProperties"), list):
        entry["customProperties"] = plain([])
    entry["customProperties"].append(plain({"property": name, "value": value}))


def put_first(entry: Any, key: str, value: Any) -> None:
    """Set a key; one that is new comes right behind the name."""
    if key in entry or not hasattr(entry, "insert"):
        entry[key] = value
    else:
        entry.insert(1 if "name" in entry else 0, key, value)


def _dicts(value: Any) -> list[Any]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _called(entry: Any) -> str:
    return str(entry.get("name") or entry.get("physicalName") or "?") if isinstance(entry, dict) else "?"
