"""The rows, held events, failing rows and contract changes that the pages show, as JSON.

All of it is for visitors, as the pages are: what they may not see is null, and named under ``masked``. JSON has no form
for some values: instants and dates are ISO 8601, decimals, NaN and infinities text, bytes base64.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from mesh_pipelines.contract.envelope import FATE, GENERATION, KEY, OFFSET, PARTITION, RAW, REASON, RULE, TIMESTAMP
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import NothingPublished, TableMissing, Unaudited
from mesh_pipelines.observe.store.records import ContractRevision
from mesh_pipelines.portal.pages.product import changelog
from mesh_pipelines.portal.shared import Portal, portal_of
from mesh_pipelines.serve.broken_rules import Failing, failing, judged
from mesh_pipelines.serve.door import MASKED, Reader, Rows, Shelf, held, sample

router = APIRouter(prefix="/products/{domain}/{name}")

Part = Annotated[str, Path(max_length=200)]
Number = Annotated[int | None, Query(ge=1, le=10**12)]
Limit = Annotated[int, Query(ge=1, le=1000)]


@dataclass(frozen=True)
class TableRows:
    """Rows of a version, each a list of values under ``columns``; ``more`` says that there are more of them."""

    columns: tuple[str, ...]
    rows: list[list[Any]]
    masked: tuple[str, ...]
    more: bool


@dataclass(frozen=True)
class VersionRows:
    """A sample of a version's rows; ``version`` is null where nothing is published."""

    version: int | None
    sample: TableRows | None


@dataclass(frozen=True)
class HeldEvent:
    """A quarantined event; key (text), reason and bytes (base64) are null where a field is not public."""

    generation: int
    partition: int
    offset: int
    at: dt.datetime | None
    fate: str
    rule: str | None
    key: str | None
    reason: str | None
    raw: str | None


class FailingQuestion(BaseModel):
    """Which rule, of which version, and how many rows of each are wanted."""

    rule: Annotated[str | None, Field(max_length=1000)] = None
    version: Annotated[int | None, Field(ge=1, le=10**12)] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 20


@dataclass(frozen=True)
class FailingRule:
    """A rule that a version breaks, and rows that break it; null where it is about the rows as a whole."""

    rule: str
    version: int
    published: bool
    blocks: bool
    state: str
    bad: int | None
    measured: Any
    promised: str
    cause: str
    rows: TableRows | None


@dataclass(frozen=True)
class Revision:
    """A contract as it was, and the lines that differ from the one before, as a unified diff has them."""

    version: str
    hash: str
    seen_at: dt.datetime
    document: str
    changes: tuple[str, ...]


@router.get("/rows", summary="A few rows of a version")
def rows(request: Request, domain: Part, name: Part, version: Number = None, limit: Limit = 20) -> VersionRows:
    """The first rows as they come, of the published version or of one by number."""
    portal, product = _asked(request, domain, name)
    if product is None:
        return VersionRows(None, None)
    versions = portal.landscape.platform.tables_of(product).versions
    try:
        chosen = versions.at(version) if version else versions.current()
    except (NothingPublished, TableMissing):
        return VersionRows(None, None)
    return VersionRows(chosen.number, _table(sample(portal.landscape.platform, product, chosen, Reader.VISITOR, limit)))


@router.get("/quarantine", summary="Events held back, newest first")
def quarantine(request: Request, domain: Part, name: Part, limit: Limit = 100) -> list[HeldEvent]:
    """Where each lies on the stream, and why it is held."""
    portal, product = _asked(request, domain, name)
    if product is None or not product.has_log:
        return []
    try:
        events = held(portal.landscape.platform, product, Reader.VISITOR, limit).to_pylist()
    except TableMissing:
        return []
    return [_held(event) for event in events]


@router.get("/failing", summary="Rules that are broken, and the rows that break them")
def failing_rows(
    request: Request, domain: Part, name: Part, asked: Annotated[FailingQuestion, Query()]
) -> list[FailingRule]:
    """Of the newest candidate, published or not, or of a version by number; every broken rule, or one by its id."""
    portal, product = _asked(request, domain, name)
    if product is None:
        return []
    try:
        chosen = judged(portal.landscape.platform, product, asked.version)
    except (NothingPublished, TableMissing, Unaudited):
        return []
    shelf = Shelf(portal.landscape.platform, product, chosen, Reader.VISITOR)
    return [_failing(shelf, one) for one in failing(shelf, asked.rule, asked.limit)]


@router.get("/revisions", summary="The contract's changes, newest first")
def revisions(request: Request, domain: Part, name: Part) -> list[Revision]:
    """Every contract that ruled, as far as it was observed."""
    portal = portal_of(request)
    known = sorted(portal.history.revisions(portal.entry(domain, name).fqn), key=_seen_at, reverse=True)
    return [
        Revision(one.version, one.hash, one.seen_at, one.document, tuple(line for _, line in lines))
        for one, lines in zip(known, changelog(known), strict=True)
    ]


def _asked(request: Request, domain: str, name: str) -> tuple[Portal, DataProduct | None]:
    portal = portal_of(request)
    return portal, portal.entry(domain, name).product


def _held(event: dict[str, Any]) -> HeldEvent:
    key, raw = event[KEY], event[RAW]
    return HeldEvent(
        event[GENERATION],
        event[PARTITION],
        event[OFFSET],
        event[TIMESTAMP],
        event[FATE],
        event[RULE],
        key.decode("utf-8", errors="backslashreplace") if key is not None else None,
        event[REASON],
        _value(raw),
    )


def _seen_at(revision: ContractRevision) -> dt.datetime:
    return revision.seen_at


def _failing(shelf: Shelf, found: Failing) -> FailingRule:
    result = found.result
    return FailingRule(
        result.rule,
        shelf.version.number,
        shelf.version.published_at is not None,
        result.blocks,
        str(result.state),
        result.bad,
        _value(result.measured),
        result.threshold,
        found.cause,
        _table(found.rows) if found.rows else None,
    )


def _table(found: Rows) -> TableRows:
    return TableRows(found.columns, [_values(row) for row in found.rows], tuple(sorted(found.masked)), found.more)


def _values(values: Iterable[Any]) -> list[Any]:
    return [_value(value) for value in values]


def _value(value: Any) -> Any:
    """A value as JSON has it."""
    match value:
        case None | bool() | int() | str() | dt.datetime():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return str(value)
        case dt.date() | dt.time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {str(name): _value(inner) for name, inner in value.items()}
        case list() | tuple():
            return _values(value)
        case _:
            return None if value is MASKED else str(value)
