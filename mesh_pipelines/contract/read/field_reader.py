"""A contract's properties as typed fields: the standard's logical types, sharpened by ``physicalType``.

A property's ``name`` is its column, ``physicalName`` what the events call it. Whatever a property says that would have
no effect here (a promise inside a list, a measure) is a fault and not passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mesh_pipelines.contract.misspelt import did_you_mean
from mesh_pipelines.contract.model import EPOCHS, MAX_TYPE_DEPTH, PUBLIC, Field, FieldType, Kind
from mesh_pipelines.contract.names import EVENT_NAME, EVENT_NAME_RULE, NAME, NAME_RULE, column_name
from mesh_pipelines.contract.read.document import Document, Where
from mesh_pipelines.contract.read.faults import NOT_CHECKED, Faults
from mesh_pipelines.contract.read.numeric_types import lacks_digits, numeric_type
from mesh_pipelines.contract.values import parse

# Schemas and databases of the engine's own, where a domain's products would hide them or be ambiguous beside them.
RESERVED_DOMAINS = frozenset({"information_schema", "main", "memory", "pg_catalog", "serving", "system", "temp"})
_DECIMAL = re.compile(r"(?:decimal|numeric)\s*\(\s*(\d{1,3})\s*(?:,\s*(\d{1,3})\s*)?\)", re.IGNORECASE)
_SETTINGS = ("mesh.aliases", "mesh.declassified", "mesh.default", "mesh.epoch", "mesh.onFailure", NOT_CHECKED)

_PHYSICAL: Mapping[str, Mapping[str, Kind]] = {
    "integer": {
        **dict.fromkeys(("int", "integer", "int32"), Kind.INT),
        **dict.fromkeys(("long", "bigint", "int64"), Kind.LONG),
    },
    "number": {
        **dict.fromkeys(("float", "float32"), Kind.FLOAT),
        **dict.fromkeys(("double", "float64"), Kind.DOUBLE),
    },
    "string": {**dict.fromkeys(("bytes", "binary"), Kind.BYTES), "uuid": Kind.UUID},
    "timestamp": {"local-timestamp-micros": Kind.TIMESTAMP_LOCAL},
}
_LOGICAL: Mapping[str, Kind] = {
    "string": Kind.STRING,
    "integer": Kind.LONG,
    "number": Kind.DOUBLE,
    "boolean": Kind.BOOLEAN,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "timestamp": Kind.TIMESTAMP,
}
_FORMATS: Mapping[tuple[str, str], Kind] = {
    **{("integer", form): Kind.INT for form in ("i8", "i16", "i32", "u8", "u16")},
    **{("integer", form): Kind.LONG for form in ("i64", "u32")},
    ("number", "f32"): Kind.FLOAT,
    ("number", "f64"): Kind.DOUBLE,
    ("string", "uuid"): Kind.UUID,
}
_NO_KEYS = {Kind.FLOAT, Kind.DOUBLE, Kind.BYTES, Kind.LIST, Kind.MAP, Kind.STRUCT}
_TOP_LEVEL_ONLY = ("primaryKey", "unique", "enum", "quality")
_TEMPORAL = ("date", "time", "timestamp")
_COUNTED = {Kind.DATE: EPOCHS, Kind.TIMESTAMP: EPOCHS[:-1], Kind.TIMESTAMP_LOCAL: EPOCHS[:-1]}
_ZONES = ("timezone", "defaultTimezone")
# The letters of java.time patterns that spell ISO 8601, the only form that values of these types have as text.
_ISO_FORM = re.compile(r"(yyyy-MM-dd)?([T ]|'T')?(HH:mm(:ss)?(\.S{1,9})?)?('?Z'?|XXX|X)?")
_UTC = ("UTC", "Etc/UTC", "Z", "GMT")


class FieldReader:
    """Reads the properties of one document; faults go to ``faults``."""

    def __init__(self, document: Document, faults: Faults) -> None:
        self._document = document
        self._faults = faults

    def read(self, properties: list[Mapping[str, Any]], where: Where) -> tuple[Field, ...]:
        """The fields of the contract's schema object, in order, with the positions of the key's."""
        fields = self._fields(properties, where, 0)
        first = {str(raw.get("name")): index for index, raw in reversed(list(enumerate(properties)))}
        places: dict[str, Where] = {name: (*where, index) for name, index in first.items()}
        self._check_aliases(fields, places)
        return self._with_key(fields, {name: properties[index] for name, index in first.items()}, places)

    def _fields(self, properties: list[Mapping[str, Any]], where: Where, depth: int) -> tuple[Field, ...]:
        if not properties:
            self._faults.add(where, "must list at least one property", "add one")
        fields: dict[str, Field] = {}
        for index, raw in enumerate(properties):
            field = self._field(raw, (*where, index), depth)
            if field is None:
                continue
            if field.name in fields:
                self._faults.add((*where, index, "name"), f"{field.name} appears twice", "rename one of them")
            elif other := next((one for one in fields.values() if one.event_name == field.event_name), None):
                at = (*where, index, "physicalName" if field.physical_name else "name")
                self._faults.add(
                    at, f"events call {other.name} {field.event_name}, too", "give each its own physicalName"
                )
            fields.setdefault(field.name, field)
        return tuple(fields.values())

    def _field(self, raw: Mapping[str, Any], where: Where, depth: int) -> Field | None:
        name = str(raw.get("name"))
        field_type = self._type(raw, where, depth)
        settings = self._settings(raw, where, depth)
        field_type = self._with_epoch(field_type, settings, where)
        self._check_name(raw, where)
        if not NAME.fullmatch(name) or field_type is None:
            return None
        field = Field(
            name=name,
            type=field_type,
            required=bool(raw.get("required") or raw.get("primaryKey")),
            unique=bool(raw.get("unique")),
            description=str(raw.get("description", "")).strip(),
            aliases=tuple(settings.get("mesh.aliases", ())),
            default=settings.get("mesh.default"),
            has_default="mesh.default" in settings,
            classification=_classification(raw),
            tags=tuple(raw.get("tags", ())),
            physical_name=_physical_name(raw),
            declassified=settings.get("mesh.declassified", ""),
        )
        return field if self._default_fits(field, where) else replace(field, default=None, has_default=False)

    def _check_name(self, raw: Mapping[str, Any], where: Where) -> None:
        name = raw.get("name")
        if not NAME.fullmatch(str(name)):
            self._faults.add((*where, "name"), f"must be a valid field name, got {name!r}", _naming(raw))
        if not EVENT_NAME.fullmatch(raw.get("physicalName") or "-"):
            problem = f"must be a name that events can have, got {raw['physicalName'][:80]!r}"
            self._faults.add((*where, "physicalName"), problem, EVENT_NAME_RULE)
        if raw.get("relationships"):
            fix = "state it as a rule of type sql, or remove it"
            self._faults.cannot_check((*where, "relationships"), "is not checked", fix)
        if raw.get("semanticType") == "measure":
            fix = "compute it in a derived product"
            self._faults.add((*where, "semanticType"), "a measure is not a column of the rows", fix)

    def _settings(self, raw: Mapping[str, Any], where: Where, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for index, entry in enumerate(raw.get("customProperties", [])):
            name, value, at = entry["property"], entry["value"], (*where, "customProperties", index)
            if not name.startswith("mesh."):
                continue
            if name not in _SETTINGS:
                fix = did_you_mean(name, _SETTINGS, f"use {', '.join(_SETTINGS)}")
                self._faults.add(at, f"{name} is not a setting of a property", fix)
            elif name == NOT_CHECKED:
                self._faults.check_mark(value, (*at, "value"))
            elif depth and name != "mesh.epoch":
                self._faults.add(at, f"{name} works only on top-level properties", "move or remove it")
            elif name == "mesh.onFailure":
                continue  # of the rules that the property implies; RuleReader reads it
            elif name == "mesh.aliases" and not _are_names(value):
                self._faults.add((*at, "value"), "must be a list of former names", f"write a list; {EVENT_NAME_RULE}")
            elif name == "mesh.declassified" and not (isinstance(value, str) and value.strip()):
                self._faults.add((*at, "value"), "must say why everybody may see the field", "write the reason as text")
            elif name in found:
                self._faults.add(at, f"{name} appears twice", "keep one of them")
            else:
                found[name] = value
        return found

    def _with_epoch(self, field_type: FieldType | None, settings: Mapping[str, Any], where: Where) -> FieldType | None:
        """The type with what numbers of events count in its place, where the property says that."""
        epoch = settings.get("mesh.epoch")
        if epoch is None or field_type is None:
            return field_type
        at = self._setting(where, "mesh.epoch")
        if field_type.kind not in _COUNTED:
            fix = "remove it; only a date or a timestamp can be a number of units from 1970 on"
            self._faults.add(at, f"a {field_type.kind} has no epoch", fix)
        elif epoch not in _COUNTED[field_type.kind]:
            units = ", ".join(_COUNTED[field_type.kind])
            self._faults.add(at, f"must be a unit of a {field_type.kind}, got {epoch!r}", f"use one of {units}")
        else:
            return replace(field_type, epoch=epoch)
        return field_type

    def _default_fits(self, field: Field, where: Where) -> bool:
        if field.default is None or (field.type.kind is Kind.LIST and field.default == []):
            return True
        at = self._setting(where, "mesh.default")
        if field.type.kind is Kind.LIST:
            self._faults.add(at, "a list with items cannot be a default", "use [] or null")
            return False
        try:
            parse(field.default, field.type)
        except ValueError as error:
            problem = f"the default of {field.name} does not fit its type, {field.type.kind}"
            self._faults.add(at, problem, f"write {error}")
            return False
        return True

    def _setting(self, where: Where, name: str) -> Where:
        """The path of a setting's value under a property."""
        entries: Any = self._document.values
        for part in (*where, "customProperties"):
            entries = entries[part]
        index = next(index for index, entry in enumerate(entries) if entry["property"] == name)
        return (*where, "customProperties", index, "value")

    def _check_aliases(self, fields: tuple[Field, ...], places: Mapping[str, Where]) -> None:
        taken = {field.name: field.name for field in fields} | {field.event_name: field.name for field in fields}
        for field in fields:
            for alias in field.aliases:
                owner = taken.setdefault(alias, field.name)
                if owner != field.name or alias == field.name == field.event_name:
                    problem = f"{alias} is already a name of the field {owner}"
                    self._faults.add(self._setting(places[field.name], "mesh.aliases"), problem, "remove that alias")

    def _with_key(
        self, fields: tuple[Field, ...], raws: Mapping[str, Mapping[str, Any]], places: Mapping[str, Where]
    ) -> tuple[Field, ...]:
        """The fields with their key positions: those that are given, or else the order of the key's fields."""
        key = [field.name for field in fields if raws[field.name].get("primaryKey")]
        given = [raws[name].get("primaryKeyPosition", -1) for name in key]
        for field in fields:
            where = (*places[field.name], "primaryKeyPosition")
            if field.name not in key and raws[field.name].get("primaryKeyPosition", -1) > 0:
                self._faults.add(where, "is only for key properties", "set primaryKey: true, or remove it")
            if field.name in key and field.type.kind in _NO_KEYS:
                fix = "use a key of text, whole numbers, decimals, dates or instants"
                if field.type.kind is Kind.DOUBLE:
                    fix = "set logicalType: integer, or write decimal(p, s) as its physicalType"
                self._faults.add(places[field.name], f"a {field.type.kind} cannot be a key", fix)
        positions = dict(zip(key, range(1, len(key) + 1), strict=True))
        if any(position > 0 for position in given):
            whole = len(key) == sum(bool(raw.get("primaryKey")) for raw in raws.values())
            if whole and sorted(given) != list(range(1, len(key) + 1)):
                fix = f"number the {len(key)} key fields from 1, each once, or number none of them"
                positions_text = ", ".join(str(position) if position > 0 else "none" for position in given)
                self._faults.add(
                    places[key[0]], f"the key's positions must be 1 to {len(key)}, got {positions_text}", fix
                )
            positions = dict(zip(key, given, strict=True))
        return tuple(replace(field, key_position=positions.get(field.name, 0)) for field in fields)

    def _type(self, raw: Mapping[str, Any], where: Where, depth: int) -> FieldType | None:
        if depth > MAX_TYPE_DEPTH:
            self._faults.add(where, f"nests deeper than {MAX_TYPE_DEPTH} levels", "flatten it")
            return None
        if depth:
            self._check_inner(raw, where)
        self._check_object_options(raw, where)
        match raw.get("logicalType"):
            case "object":
                fields = self._fields(raw.get("properties") or [], (*where, "properties"), depth + 1)
                return FieldType(Kind.STRUCT, fields=fields) if fields else None
            case "array":
                return self._collection(Kind.LIST, raw.get("items"), (*where, "items"), depth)
            case "map":
                return self._map(raw["map"], (*where, "map"), depth)
            case str(logical) if logical in _LOGICAL:
                return self._scalar(logical, raw, where)
            case unknown:
                problem = f"must be a type that a column can have, got {unknown}" if unknown else "is missing"
                fix = f"use one of {', '.join(_LOGICAL)}, array, object, map"
                self._faults.add((*where, "logicalType"), problem, fix)
                return None

    def _check_inner(self, raw: Mapping[str, Any], where: Where) -> None:
        fix = "state it as a rule of type sql, or move it to the top level"
        for name in _TOP_LEVEL_ONLY:
            if raw.get(name):
                self._faults.cannot_check((*where, name), "is not checked inside another property", fix)
        for name, value in (raw.get("logicalTypeOptions") or {}).items():
            logical = str(raw.get("logicalType"))
            chooses_type = name == "format" and ((logical, value) in _FORMATS or logical in _TEMPORAL)
            if name not in _ZONES and not chooses_type:
                at = (*where, "logicalTypeOptions", name)
                self._faults.cannot_check(at, "is not checked inside another property", fix)

    def _check_object_options(self, raw: Mapping[str, Any], where: Where) -> None:
        if raw.get("logicalType") == "object":
            for name in raw.get("logicalTypeOptions") or {}:
                at = (*where, "logicalTypeOptions", name)
                self._faults.cannot_check(at, "is not checked", "state it as a rule of type sql, or remove it")

    def _collection(self, kind: Kind, items: Any, where: Where, depth: int) -> FieldType | None:
        if not isinstance(items, dict):
            self._faults.add(where, "is missing", "describe what the collection contains")
            return None
        inner = self._with_epoch(self._type(items, where, depth + 1), self._settings(items, where, depth + 1), where)
        return FieldType(kind, items=inner) if inner else None

    def _map(self, entry: Mapping[str, Any], where: Where, depth: int) -> FieldType | None:
        if entry["key"].get("logicalType") != "string":
            self._faults.add((*where, "key"), "must be of type string", "use string keys; Avro has no others")
            return None
        return self._collection(Kind.MAP, entry["value"], (*where, "value"), depth)

    def _scalar(self, logical: str, raw: Mapping[str, Any], where: Where) -> FieldType | None:
        physical = str(raw.get("physicalType", "")).strip().lower()
        options: Mapping[str, Any] = raw.get("logicalTypeOptions") or {}
        if found := numeric_type(logical, physical):
            return found
        if match := _DECIMAL.fullmatch(physical):
            return self._decimal(logical, int(match[1]), int(match[2] or 0), (*where, "physicalType"))
        self._check_physical(logical, physical, (*where, "physicalType"))
        if logical == "number" and lacks_digits(physical):
            fix = "write decimal(p, s) with the digits it has, or double"
            self._faults.add((*where, "physicalType"), f"{physical} does not say how many digits it has", fix)
        if logical in _TEMPORAL:
            self._check_temporal(logical, options, (*where, "logicalTypeOptions"))
        if kind := _PHYSICAL.get(logical, {}).get(physical):
            return FieldType(kind)
        if logical == "timestamp" and options.get("timezone") is False:
            return FieldType(Kind.TIMESTAMP_LOCAL)
        form = options.get("format")
        if logical == "integer" and form and (logical, form) not in _FORMATS:
            at = (*where, "logicalTypeOptions", "format")
            self._faults.add(at, f"{form} does not fit a column type", "use number with physicalType: decimal(38, 0)")
            return None
        return FieldType(_FORMATS.get((logical, str(form)), _LOGICAL[logical]))

    def _decimal(self, logical: str, precision: int, scale: int, where: Where) -> FieldType | None:
        if logical != "number":
            self._faults.add(where, f"a decimal must have logicalType number, got {logical}", "set logicalType: number")
        elif not 1 <= precision <= 38 or scale > precision:
            self._faults.add(where, "must be a decimal of up to 38 digits", "use decimal(precision, scale)")
        else:
            return FieldType(Kind.DECIMAL, precision=precision, scale=scale)
        return None

    def _check_physical(self, logical: str, physical: str, where: Where) -> None:
        other = next((name for name, words in _PHYSICAL.items() if physical in words and name != logical), None)
        if other and physical not in _PHYSICAL.get(logical, {}):
            fix = f"set logicalType: {other}, or another physicalType"
            self._faults.add(where, f"{physical} has logicalType {other}, not {logical}", fix)

    def _check_temporal(self, logical: str, options: Mapping[str, Any], where: Where) -> None:
        if not _ISO_FORM.fullmatch(str(options.get("format", ""))):
            fix = "remove it; values as text are always ISO 8601"
            self._faults.add((*where, "format"), "must be a form of ISO 8601", fix)
        if logical == "time" and options.get("timezone"):
            fix = "use a timestamp, or timezone: false"
            self._faults.add((*where, "timezone"), "a time of day must not have a zone", fix)
        if options.get("defaultTimezone", "UTC") not in _UTC and options.get("timezone") is not False:
            fix = "produce instants, or set timezone: false for local times"
            self._faults.add((*where, "defaultTimezone"), "must be UTC; values are not converted", fix)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and EVENT_NAME.fullmatch(name) for name in value)


def _physical_name(raw: Mapping[str, Any]) -> str:
    """What events call the field; "" where that is its name."""
    physical = raw.get("physicalName") or ""
    return "" if physical == raw.get("name") else physical


def _naming(raw: Mapping[str, Any]) -> str:
    """How to name a column whose name is that of the events, or breaks the rule otherwise."""
    name = str(raw.get("name"))
    column = column_name(name)
    if column is None or raw.get("physicalName") or not EVENT_NAME.fullmatch(name):
        return NAME_RULE
    return f"write name: {column} and physicalName: {name}; {NAME_RULE}"


def _classification(raw: Mapping[str, Any]) -> str:
    """A property's classification: its own, or where that is public, the first other one of what it holds.

    The items of a list and the keys and values of a map are not fields of their own; those of an object are.
    """
    held = [raw.get("items"), *(raw.get("map") or {}).values()]
    found = [str(raw.get("classification", PUBLIC)), *(_classification(one) for one in held if isinstance(one, dict))]
    return next((one for one in found if one != PUBLIC), PUBLIC)
