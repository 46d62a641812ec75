"""The catalog: every product of the mesh, to be looked through, filtered and searched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field

from mesh_pipelines.local.troubles import noted
from mesh_pipelines.observe.store.records import Health, ProductDay
from mesh_pipelines.portal.landscape import FACETS, Entry, Landscape
from mesh_pipelines.portal.shared import Portal, page, portal_of

router = APIRouter(include_in_schema=False)

_PAGE = 48
_STRIP_DAYS = 14
# What needs looking at comes first.
_URGENCY = {Health.BAD: 0, Health.WARNING: 1, Health.UNKNOWN: 2, Health.GOOD: 3}
SORTS = ("relevance", "name", "health", "freshness", "rows")

Short = Annotated[str, Field(max_length=200)]


class Question(BaseModel):
    """What is asked of the catalog: words, a value for some facets, and an order."""

    q: Short = ""
    domain: Short = ""
    alignment: Short = ""
    event_type: Short = ""
    status: Short = ""
    quality: Short = ""
    tag: Short = ""
    owner: Short = ""
    classification: Short = ""
    sort: Short = ""

    @property
    def facets(self) -> dict[str, str]:
        """The value asked for under each facet; "" for any."""
        return {name: getattr(self, name) for name in FACETS}


class CatalogQuestion(Question):
    """The same, of one page of it."""

    at: Annotated[int, Field(ge=1, le=1_000_000)] = 1


@router.get("/", response_class=HTMLResponse)
def catalog(request: Request, asked: Annotated[CatalogQuestion, Query()]) -> HTMLResponse:
    """The catalog's page, filtered by what is in the address."""
    portal = portal_of(request)
    wanted, q, sort = asked.facets, asked.q, asked.sort
    landscape = portal.landscape
    found, where = find(landscape, q, wanted, sort)
    pages = max(1, -(-len(found) // _PAGE))
    at = min(asked.at, pages)
    shown = found[(at - 1) * _PAGE : at * _PAGE]
    return page(
        request,
        "catalog.html",
        entries=shown,
        where=where,
        total=len(found),
        everything=len(landscape.entries),
        health=Counter(str(entry.current.health) for entry in landscape.entries.values()),
        choices=_choices(landscape, wanted),
        wanted=wanted,
        q=q,
        sort=sort if sort in SORTS else ("relevance" if q else "name"),
        sorts=SORTS if q else SORTS[1:],
        at=at,
        pages=pages,
        strips=_strips(portal, shown),
    )


@router.get("/healthz", response_class=PlainTextResponse)
def health(request: Request) -> Response:
    """That the portal answers, and which services that `mesh up` runs do not: then with status 503."""
    troubles = noted(portal_of(request).settings.home)
    text = "".join(f"{name} {reason}\n" for name, reason in troubles.items())
    return PlainTextResponse(text or "ok\n", status_code=503 if troubles else 200)


def find(
    landscape: Landscape, q: str, wanted: Mapping[str, str], sort: str = ""
) -> tuple[list[Entry], dict[str, tuple[str, ...]]]:
    """The entries that a query and facets leave, in order, and where the query was found in each."""
    entries = list(landscape.where(**wanted))
    where: dict[str, tuple[str, ...]] = {}
    if q.strip():
        hits = landscape.search(q)
        where = {hit.product: hit.where for hit in hits}
        rank = {hit.product: place for place, hit in enumerate(hits)}
        entries = sorted((entry for entry in entries if entry.fqn in rank), key=lambda entry: rank[entry.fqn])
    match sort:
        case "name":
            entries.sort(key=lambda entry: entry.fqn)
        case "health":
            entries.sort(key=lambda entry: (_URGENCY[entry.current.health], entry.fqn))
        case "freshness":
            entries.sort(key=lambda entry: entry.current.published_at or _LONG_AGO, reverse=True)
        case "rows":
            entries.sort(key=lambda entry: entry.current.rows or 0, reverse=True)
        case _:
            pass
    return entries, where


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _choices(landscape: Landscape, wanted: Mapping[str, str]) -> dict[str, list[tuple[str, int]]]:
    """For each facet its values, each with how many products it would leave beside the other facets' choices."""
    choices: dict[str, list[tuple[str, int]]] = {}
    for name in FACETS:
        others = {facet_name: value for facet_name, value in wanted.items() if facet_name != name}
        counts = Counter(value for entry in landscape.where(**others) for value in entry.facets[name])
        if wanted[name]:
            counts.setdefault(wanted[name], 0)
        choices[name] = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:40]
    return choices


def _strips(portal: Portal, entries: Sequence[Entry]) -> dict[str, list[tuple[str, str]]]:
    """For each product one state a day, oldest first."""
    today = datetime.now(UTC).date()
    since = today - timedelta(days=_STRIP_DAYS - 1)
    days = [since + timedelta(days=number) for number in range(_STRIP_DAYS)]
    found: dict[str, list[tuple[str, str]]] = {}
    for entry in entries:
        by_day = {one.day: one for one in portal.history.product_days(entry.fqn, since=since)}
        found[entry.fqn] = [day_state(by_day.get(day), f"{day:%d %b}") for day in days]
    return found


def day_state(day: ProductDay | None, name: str) -> tuple[str, str]:
    """A day's state and its words."""
    if day is None or not day.evaluated:
        return "none", f"{name}: no audit"
    text = f"{name}: {day.passed} of {day.evaluated} rule results passed"
    if day.failed:
        return "bad", f"{text}, {day.failed} failed"
    return ("warning", f"{text}, {day.warned} warned") if day.warned else ("good", text)


def owners(entries: Iterable[Entry]) -> list[str]:
    """All owners, in order."""
    return sorted({entry.owner for entry in entries if entry.owner})
