"""The Open Data Contract Standard's own JSON Schema, applied before anything else looks at a contract.

The standard's Python models drop unknown keys without a word, so a typo in a rule would remove the rule; the JSON
Schema refuses it. The schema is the one published with the models (3.2, which accepts every 3.1 document).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Any

from jsonschema import Draft201909Validator
from jsonschema.exceptions import ValidationError

from mesh_pipelines.contract.document import Document, Where
from mesh_pipelines.errors import Fault

SUPPORTED = ("v3.1.0", "v3.2.0")


def violations(document: Document) -> list[Fault]:
    """Everything in which the document breaks the standard, each with its line."""
    if not isinstance(document.values, dict):
        return [document.fault((), "is not a mapping", "start from mesh init DOMAIN/PRODUCT")]
    version = document.values.get("apiVersion")
    if version not in SUPPORTED:
        return [
            document.fault(("apiVersion",), f"is {version!r}; only {' and '.join(SUPPORTED)} are read", "upgrade it")
        ]
    leaves = [leaf for error in _validator().iter_errors(document.values) for leaf in _leaves(error)]
    return [_fault(document, leaf) for leaf in _without_echoes(leaves)]


@cache
def _validator() -> Draft201909Validator:
    text = resources.files("open_data_contract_standard").joinpath("schema.json").read_text(encoding="utf-8")
    return Draft201909Validator(json.loads(text))


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The errors that say what is wrong, under those that only say that something is."""
    if not error.context:
        yield error
        return
    if error.validator == "oneOf" and not _branches_differ(error):
        yield error
        return
    depth = max(len(inner.absolute_path) for inner in error.context)
    deepest = [inner for inner in error.context if len(inner.absolute_path) == depth]
    for inner in deepest if depth > len(error.absolute_path) else error.context[:1]:
        yield from _leaves(inner)


def _branches_differ(error: ValidationError) -> bool:
    return any(len(inner.absolute_path) > len(error.absolute_path) for inner in error.context or ())


def _without_echoes(errors: list[ValidationError]) -> Iterable[ValidationError]:
    """Leave out "unevaluated" errors where something inside the same value is wrong: they only follow from it."""
    causes = [tuple(error.absolute_path) for error in errors if error.validator != "unevaluatedProperties"]
    seen: set[tuple[Where, str]] = set()
    for error in errors:
        where = tuple(error.absolute_path)
        echo = error.validator == "unevaluatedProperties" and any(cause[: len(where)] == where for cause in causes)
        if not echo and (where, error.message) not in seen:
            seen.add((where, error.message))
            yield error


def _fault(document: Document, error: ValidationError) -> Fault:
    where: Where = tuple(error.absolute_path)
    unknown = re.findall(r"'([^']+)'", error.message) if "unexpected" in error.message else []
    if unknown:
        known = _known_names(error)
        near = difflib.get_close_matches(unknown[0], known, n=1)
        fix = f"did you mean {near[0]}?" if near else "remove it, or move it under customProperties"
        return document.fault((*where, unknown[0]), "is no key of the standard here", fix)
    if error.validator == "required":
        return document.fault(where, error.message, "add it")
    if error.validator == "oneOf" and "mustBe" in json.dumps(error.validator_value):
        given = (
            [key for key in error.instance if str(key).startswith("must")] if isinstance(error.instance, dict) else []
        )
        return document.fault(
            where, f"has {len(given)} operators; a rule has exactly one", "keep one mustBe... operator"
        )
    return document.fault(where, _short(error.message), _expectation(error))


def _known_names(error: ValidationError) -> list[str]:
    names: set[str] = set()
    pending: list[Any] = [error.schema]
    definitions = _validator().schema.get("$defs", {})  # pyright: ignore[reportAttributeAccessIssue]
    visited: set[str] = set()
    while pending:
        schema = pending.pop()
        if not isinstance(schema, dict):
            continue
        names.update(schema.get("properties", {}))
        pending += [*schema.get("allOf", []), *schema.get("oneOf", []), schema.get("then"), schema.get("if")]
        reference = str(schema.get("$ref", "")).rsplit("/", 1)[-1]
        if reference in definitions and reference not in visited:
            visited.add(reference)
            pending.append(definitions[reference])
    return sorted(names)


def _expectation(error: ValidationError) -> str:
    match error.validator:
        case "enum":
            return "use one of " + ", ".join(map(str, error.validator_value))  # pyright: ignore[reportArgumentType]
        case "type":
            return f"make it {error.validator_value}; quote it if it is text"
        case _:
            return "see the standard's reference for this key"


def _short(message: str, limit: int = 160) -> str:
    return message if len(message) <= limit else f"{message[:limit]}..."
