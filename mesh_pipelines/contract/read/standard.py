"""The Open Data Contract Standard's own JSON Schema, applied before anything else looks at a contract.

The standard's Python models drop unknown keys without a word, so a typo in a rule would remove the rule; the JSON
Schema refuses it. The schema is the one published with the models, of 3.2, which accepts every 3.1 document, and every
3.0 document once it is in 3.1's words (``older.py``); what it accepts beyond 3.1 is refused here in documents that say
they are older (``docs/decisions/0002-contract-format.md``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jsonschema import Draft201909Validator as Walker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from jsonschema_rs import Draft201909Validator

from mesh_pipelines.contract.misspelt import did_you_mean, nearest
from mesh_pipelines.contract.model import Operator
from mesh_pipelines.contract.read import older
from mesh_pipelines.contract.read.document import Document, FaultyDocument, Where
from mesh_pipelines.errors import Fault, printable

NEWEST = "v3.2.0"
SUPPORTED = (*older.VERSIONS, "v3.1.0", NEWEST)
_SINCE_3_2 = ("context", "enum", "map", "semanticType", "synonyms", "deprecated")
_TYPES_SINCE_3_2 = ("map", "vector")
_KINDS = {
    "string": "text",
    "object": "a mapping",
    "array": "a list",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
}
_ARGUMENTS = ("pattern", "validValues", "missingValues", "properties")
# Each round takes away what the one before found; faults within faults end after two or three.
_ROUNDS = 6
_RECURSIVE = ("#/$defs/SchemaProperty", "#/$defs/SchemaItemProperty")
_visited: ContextVar[set[tuple[str, int]]] = ContextVar("properties validated in this run, by identity")


@dataclass(frozen=True)
class Checked:
    """What of a document keeps to the standard, and what does not.

    ``removed`` are the paths that ``document`` lacks, or that are known to be wrong where they could not be taken out.
    """

    document: Document
    faults: list[Fault]
    removed: frozenset[Where]


def check(document: Document) -> Checked:
    """Find everything in which a document breaks the standard, and leave it out so that the rest can be looked at.

    Raises:
        FaultyDocument: nothing is left to look at.
    """
    _check_version(document)
    document = older.in_words_of_3_1(document)
    faults, removed = _beyond(document)
    errors = _errors(document)
    faults += [_describe(document, error) for error in errors]
    for _ in range(_ROUNDS):
        removed |= {document.origin(where) for error in errors for where in _concerned(error)}
        removable = {where for error in errors for where in _removable(error)}
        if not removable:
            return Checked(document, faults, frozenset(removed))
        document = document.without(removable)
        errors = _errors(document)
    raise FaultyDocument(faults)


def _check_version(document: Document) -> None:
    if not isinstance(document.values, dict):
        problem = "is empty" if document.values is None else "must be a mapping"
        raise FaultyDocument([document.fault((), problem, "start from mesh init DOMAIN/PRODUCT")])
    version = document.values.get("apiVersion")
    if version in SUPPORTED:
        return
    wanted = ", ".join(SUPPORTED)
    problem = (
        f"must be one of {wanted}, got {_short(repr(version))}" if "apiVersion" in document.values else "is missing"
    )
    fix = f"write the contract by the Open Data Contract Standard, best {NEWEST}"
    raise FaultyDocument([document.fault(("apiVersion",), problem, fix)])


def _beyond(document: Document) -> tuple[list[Fault], set[Where]]:
    """What the schema of 3.2 lets pass in an older document."""
    values: Mapping[str, Any] = document.values
    version = values["apiVersion"]
    if version == NEWEST:
        return [], set()
    places = [*(where for where in _newer_keys(values.get("schema"), ("schema",)))]
    places += [("context",)] if "context" in values else []
    fix = f"set apiVersion: {NEWEST}, or remove it"
    faults = [document.fault(where, f"needs apiVersion {NEWEST}, the contract has {version}", fix) for where in places]
    if "status" not in values:
        faults.append(document.fault(("status",), "is missing", "write draft, active or deprecated"))
    return faults, set(places)


def _newer_keys(value: Any, where: Where) -> Iterator[Where]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _newer_keys(item, (*where, index))
    elif isinstance(value, dict):
        yield from ((*where, key) for key in _SINCE_3_2 if key in value)
        if value.get("logicalType") in _TYPES_SINCE_3_2:
            yield (*where, "logicalType")
        for key in ("properties", "items"):
            yield from _newer_keys(value.get(key), (*where, key))


def _unique_items(_: Any, unique: bool, instance: Any, __: Any) -> Iterator[ValidationError]:
    if unique and isinstance(instance, list) and not _all_differ(instance):
        yield ValidationError("must not have an item twice")


def _all_differ(items: list[Any]) -> bool:
    """Whether no item is there twice, by its text: comparing each with each takes minutes for a long list."""
    return len({json.dumps(item, sort_keys=True) for item in items}) == len(items)


def _only_own_keys(_: Any, __: bool, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        yield from (ValidationError(key) for key in instance if key not in schema.get("properties", {}))


def _only_known_keys(validator: Any, _: bool, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """Refuse keys that no part of the schema allows here.

    The library validates the whole value again to find out, at each level twice: the time doubles and doubles again
    with every level that properties are nested. Which parts apply depends on a few keys of the value itself.
    """
    if isinstance(instance, dict) and not instance.keys() <= _names(id(schema), conditional=False):
        known = _allowed(validator, schema, instance)
        yield from (ValidationError(key) for key in instance if key not in known)


def _allowed(validator: Any, schema: Mapping[str, Any], instance: Mapping[str, Any]) -> set[str]:
    names = set(schema.get("properties", {}))
    parts = list(schema.get("allOf", []))
    if "$ref" in schema:
        parts.append(_definition(schema["$ref"]))
    if "if" in schema and _applies(validator, schema["if"], instance):
        parts.append(schema["then"])
    parts += [part for part in schema.get("oneOf", []) if validator.evolve(schema=part).is_valid(instance)]
    return names.union(*(_allowed(validator, part, instance) for part in parts))


def _conditionally(validator: Any, condition: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    if _applies(validator, condition, instance):
        yield from validator.descend(instance, schema["then"], schema_path="then")


def _applies(validator: Any, condition: Any, instance: Any) -> bool:
    """Whether a part of the schema is about a value.

    The schema's parts for the logical types are about a property without one as well, all of them at once, which
    gives a fault for each; that the type is missing is said by the reader of fields.
    """
    untyped = isinstance(instance, dict) and "logicalType" not in instance
    return not (untyped and "logicalType" in str(condition)) and validator.evolve(schema=condition).is_valid(instance)


def _once(validator: Any, reference: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """Validate a property once, though two parts of the schema around it lead to it: each level would double the work.

    Neither reference stands in a condition or an alternative, so what is found the first time is reported.
    """
    if reference in _RECURSIVE and isinstance(instance, dict):
        visit = (reference, id(instance))
        if visit in _visited.get():
            return
        _visited.get().add(visit)
    yield from Walker.VALIDATORS["$ref"](validator, reference, instance, schema)


# The standard's schema gives both keywords about further keys the value false and no other.
_Validator = extend(
    Walker,
    {
        "uniqueItems": _unique_items,
        "if": _conditionally,
        "$ref": _once,
        "additionalProperties": _only_own_keys,
        "unevaluatedProperties": _only_known_keys,
    },
)


@cache
def _validator() -> Any:
    text = resources.files("open_data_contract_standard").joinpath("schema.json").read_text(encoding="utf-8")
    return _Validator(json.loads(text))


@cache
def _compiled() -> Draft201909Validator:
    return Draft201909Validator(_validator().schema)


@cache
def _schemas() -> Mapping[int, Mapping[str, Any]]:
    """Every object of the standard's schema by identity: what to cache by, since dictionaries have no hash."""
    found: dict[int, Mapping[str, Any]] = {}
    pending: list[Any] = [_validator().schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            found[id(value)] = value
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return found


@cache
def _names(schema_id: int, *, conditional: bool) -> frozenset[str]:
    """The keys a schema knows: all of them, or those that it allows under no condition."""
    names: set[str] = set()
    pending: list[Any] = [_schemas()[schema_id]]
    visited: set[str] = {""}
    while pending:
        schema = pending.pop()
        names.update(schema.get("properties", {}))
        pending += schema.get("allOf", [])
        if conditional:
            pending += [*schema.get("oneOf", []), *([schema["then"]] if "then" in schema else [])]
        reference = schema.get("$ref", "")
        if reference not in visited:
            visited.add(reference)
            pending.append(_definition(reference))
    return frozenset(names)


def _definition(reference: str) -> Any:
    found = _validator().schema
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _errors(document: Document) -> list[ValidationError]:
    return [] if is_sound(document.values) else errors_of(document.values)


def is_sound(values: Any) -> bool:
    """Whether a document's values keep to the standard, by the compiled schema: in a tenth of a millisecond.

    ``errors_of`` finds nothing in these. It takes ten milliseconds, and finds nothing either in what this refuses for a
    missing logical type alone.
    """
    try:
        return _compiled().is_valid(values)
    except ValueError:
        # What JSON does not have, such as a date.
        return False


def errors_of(values: Any) -> list[ValidationError]:
    """Everything in which a document's values break the standard, found by walking the schema."""
    _visited.set(set())
    errors: Iterable[ValidationError] = _validator().iter_errors(values)
    return list(_without_echoes([leaf for error in errors for leaf in _leaves(error)]))


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The errors that say what is wrong, under those that only say that something is."""
    inner = list(error.context or ())
    deepest = max((len(one.absolute_path) for one in inner), default=0)
    if not inner or (error.validator == "oneOf" and deepest <= len(error.absolute_path)):
        yield error
        return
    for one in inner:
        if len(one.absolute_path) == deepest:
            yield from _leaves(one)


def _without_echoes(errors: list[ValidationError]) -> Iterator[ValidationError]:
    """Leave out what only follows.

    That is a known key that is not allowed because something else in the value is wrong, and an operator that is
    missing because it is misspelt.
    """
    causes = [tuple(error.absolute_path) for error in errors if _refused_key(error) is None]
    misspelt = {tuple(error.absolute_path) for error in errors if _meant(error).startswith("must")}
    seen: set[tuple[Where, str]] = set()
    for error in errors:
        where = tuple(error.absolute_path)
        follows = _refused_key(error) in _known_names(error) and any(cause[: len(where)] == where for cause in causes)
        follows = follows or (error.validator == "oneOf" and where in misspelt)
        if not follows and (where, error.message) not in seen:
            seen.add((where, error.message))
            yield error


def _concerned(error: ValidationError) -> Iterator[Where]:
    """The paths an error is about: also those of keys that are missing, or that a misspelt key was meant to be."""
    where: Where = tuple(error.absolute_path)
    if error.validator == "required":
        yield (*where, _missing(error))
    elif meant := _meant(error):
        yield (*where, meant)
    yield from _removable(error)


def _removable(error: ValidationError) -> Iterator[Where]:
    """What to leave out so that an error goes; nothing where the document or its one schema object lacks a key."""
    where: Where = tuple(error.absolute_path)
    if key := _refused_key(error):
        yield (*where, key)
    elif error.validator != "required" or where not in ((), ("schema", 0)):
        yield where


def _describe(document: Document, error: ValidationError) -> Fault:
    where: Where = tuple(error.absolute_path)
    match error.validator:
        case "additionalProperties" | "unevaluatedProperties":
            at = (*where, error.message)
            return document.fault(at, "is not a key of the standard here", _fix_for_key(error.message, error))
        case "required":
            return document.fault((*where, _missing(error)), "is missing", "add it")
        case "oneOf" if "mustBe" in str(error.validator_value):
            given = [key for key in _keys(error) if key in list(Operator)]
            problem = f"must have exactly one operator, got {len(given)}"
            return document.fault(where, problem, "keep one mustBe... or mustNotBe... operator")
        case "enum":
            choices = _listed(error.validator_value)
            problem = f"must be one of {', '.join(choices)}, got {_short(repr(error.instance))}"
            fix = did_you_mean(str(error.instance), choices, "use one of them")
            return document.fault(where, problem, fix)
        case "type":
            wanted = " or ".join(_KINDS.get(kind, kind) for kind in _listed(error.validator_value))
            quote = "; quote it" if "text" in wanted and isinstance(error.instance, bool | int | float) else ""
            return document.fault(
                where, f"must be {wanted}, got {_short(repr(error.instance))}", f"make it {wanted}{quote}"
            )
        case "oneOf":
            problem = f"must have a form that the standard allows here, got {_short(repr(error.instance))}"
            return document.fault(where, problem, "see the standard's reference for this key")
        case _:
            return document.fault(where, _short(error.message), "see the standard's reference for this key")


def _fix_for_key(key: str, error: ValidationError) -> str:
    near = nearest(key, _known_names(error))
    if near and near != key:
        return f"did you mean {near}?"
    if key in _ARGUMENTS and "metric" in _keys(error):
        return "move it under arguments"
    if near:
        return "remove it, or give the rule or the property the type that it belongs to"
    return "remove it, or move it under customProperties"


def _refused_key(error: ValidationError) -> str | None:
    """The key that should not be there, where an error is about one."""
    return error.message if error.validator in ("unevaluatedProperties", "additionalProperties") else None


def _meant(error: ValidationError) -> str:
    """The known key, not there itself, that a refused one was probably meant to be; empty if there is none."""
    key = _refused_key(error)
    near = nearest(key, _known_names(error)) if key else None
    return near if near and near not in _keys(error) else ""


def _missing(error: ValidationError) -> str:
    """The key that a "required" error is about; the library tells it only in its message."""
    return next(name for name in _listed(error.validator_value) if error.message.startswith(repr(name)))


def _known_names(error: ValidationError) -> frozenset[str]:
    """All names that the schema around an error knows, whatever the conditions under which it allows them."""
    return _names(id(error.schema), conditional=True)


def _keys(error: ValidationError) -> list[str]:
    return list(error.instance) if isinstance(error.instance, dict) else []


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _short(text: str) -> str:
    return printable(text, 160)
