"""A product's pages: what it is, how to read it, what it promises, and whether it keeps that."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from mesh_pipelines.contract.model import DataProduct, Rule, all_fields
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import NothingPublished, TableMissing, UsageError
from mesh_pipelines.observe.store.records import ContractRevision, RuleDay, RuleState
from mesh_pipelines.portal.draw import charts
from mesh_pipelines.portal.draw.lineage_graph import columns_of, draw, graph_of
from mesh_pipelines.portal.landscape import Entry
from mesh_pipelines.portal.pages.products import day_state
from mesh_pipelines.portal.shared import Portal, Unreadable, page, portal_of, product_url, user
from mesh_pipelines.portal.snippets import snippets
from mesh_pipelines.portal.text import compact, duration
from mesh_pipelines.positions import Version
from mesh_pipelines.serve.broken_rules import breaking, has_rows
from mesh_pipelines.serve.door import Reader, Shelf, held, hidden, sample

if TYPE_CHECKING:
    from mesh_pipelines.lake.versions import Versions

router = APIRouter(prefix="/products/{domain}/{name}", include_in_schema=False)

Part = Annotated[str, Path(max_length=200)]
DAYS = 30
_HELD = 100
_WORST_FIRST = {state: place for place, state in enumerate(("fail", "error", "not-executed", "warn", "vacuous"))}


class Shown(NamedTuple):
    """The product that a page is about."""

    portal: Portal
    entry: Entry
    product: DataProduct


def _shown(request: Request, domain: Part, name: Part) -> Shown:
    portal = portal_of(request)
    entry = portal.entry(domain, name)
    if entry.product is None:
        raise Unreadable(entry)
    return Shown(portal, entry, entry.product)


Asked = Annotated[Shown, Depends(_shown)]


@router.get("", response_class=HTMLResponse)
def overview(request: Request, shown: Asked) -> HTMLResponse:
    """What it is for, who to ask, how it stands."""
    portal, entry, product = shown
    since = _today() - timedelta(days=DAYS - 1)
    return page(
        request,
        "product/overview.html",
        entry=entry,
        product=product,
        part="",
        strip=_strip(portal, entry),
        volume=volume(portal, entry.fqn),
        consumers=portal.landscape.consumers.get(entry.fqn, ()),
        since=since,
    )


@router.get("/schema", response_class=HTMLResponse)
def schema(request: Request, shown: Asked) -> HTMLResponse:
    """Every field: type, key, classification, description and how its rules stand."""
    portal, entry, product = shown
    states = portal.rule_states(product)
    by_field: dict[str, list[RuleState]] = defaultdict(list)
    rules = {rule.id: rule for rule in product.rules}
    for state in states:
        for field in rules[state.rule].fields if state.rule in rules else ():
            by_field[field].append(state)
    fields = [(path, field, duckdb_type(field.type), path.count(".")) for path, field in all_fields(product.fields)]
    return page(
        request,
        "product/schema.html",
        entry=entry,
        product=product,
        part="schema",
        fields=fields,
        states=by_field,
    )


@router.get("/use", response_class=HTMLResponse)
def use(request: Request, shown: Asked) -> HTMLResponse:
    """Output ports, and code that reads them."""
    portal, entry, product = shown
    return page(
        request,
        "product/use.html",
        entry=entry,
        product=product,
        part="use",
        snippets=snippets(product, portal.settings),
    )


@router.get("/data", response_class=HTMLResponse)
def data(request: Request, shown: Asked, version: Annotated[int | None, Query(ge=1, le=10**12)] = None) -> HTMLResponse:
    """A few rows of a version."""
    portal, entry, product = shown
    versions = _versions(portal, product)
    try:
        chosen = versions.at(version) if version else versions.current()
    except (NothingPublished, TableMissing):
        return page(request, "product/data.html", entry=entry, product=product, part="data", rows=None, version=None)
    rows = sample(portal.landscape.platform, product, chosen, Reader.VISITOR)
    return page(request, "product/data.html", entry=entry, product=product, part="data", rows=rows, version=chosen)


@router.get("/versions", response_class=HTMLResponse)
def versions(request: Request, shown: Asked) -> HTMLResponse:
    """Every version published, and the candidate that is not."""
    portal, entry, product = shown
    known = _versions(portal, product)
    try:
        newest, published, every, tags = known.newest(), known.published(), known.all(), known.tags()
    except TableMissing:
        newest, published, every, tags = None, None, [], {}
    return page(
        request,
        "product/versions.html",
        entry=entry,
        product=product,
        part="versions",
        versions=list(reversed(every))[:_HELD],
        tags={number: tag for tag, number in tags.items()},
        published=published,
        candidate=newest if newest and newest.published_at is None else None,
    )


@router.get("/quality", response_class=HTMLResponse)
def quality(request: Request, shown: Asked, days: Annotated[int, Query(ge=1, le=400)] = DAYS) -> HTMLResponse:
    """How the rules and the promises stand, and stood."""
    portal, entry, product = shown
    since = _today() - timedelta(days=days - 1)
    history = portal.history
    by_rule: dict[str, list[RuleDay]] = defaultdict(list)
    for day in history.rule_days(entry.fqn, since=since):
        by_rule[day.rule].append(day)
    states = sorted(portal.rule_states(product), key=lambda one: _WORST_FIRST.get(one.state, len(_WORST_FIRST)))
    return page(
        request,
        "product/quality.html",
        entry=entry,
        product=product,
        part="quality",
        days=days,
        states=states,
        trends={rule: bad_share(one, since, days) for rule, one in by_rule.items()},
        strip=_strip(portal, entry, days),
        objective_strips=objective_strips(portal, entry.fqn, since, days),
        volume=volume(portal, entry.fqn),
        freshness=timeline(portal, entry, "freshness"),
        lag=timeline(portal, entry, "lag"),
        quarantine=quarantine_days(portal, entry.fqn, since, days),
        incidents=history.incidents(entry.fqn, limit=20),
    )


@router.get("/rule", response_class=HTMLResponse)
def rule(request: Request, shown: Asked, id: Annotated[str, Query(max_length=1000)]) -> HTMLResponse:
    """One rule: what it promises, how it stood, and the rows that break it."""
    portal, entry, product = shown
    found = _rule(product, id)
    state = next((one for one in portal.rule_states(product) if one.rule == id), None)
    version = _judged(portal, product, state)
    rows = None
    if version and has_rows(found) and state and state.bad:
        rows = breaking(Shelf(portal.landscape.platform, product, version, Reader.VISITOR), found)
    since = _today() - timedelta(days=DAYS - 1)
    return page(
        request,
        "product/rule.html",
        entry=entry,
        product=product,
        part="quality",
        rule=found,
        state=state,
        version=version,
        rows=rows,
        has_rows=has_rows(found),
        trend=portal.history.rule_days(entry.fqn, since=since, rule=id),
        chart_of_bad=rule_bars(portal.history.rule_days(entry.fqn, since=since, rule=id), since),
    )


@router.get("/lineage", response_class=HTMLResponse)
def lineage(request: Request, shown: Asked) -> HTMLResponse:
    """From topic to consumers, and by column."""
    portal, entry, product = shown
    landscape = portal.landscape
    urls = {fqn: product_url(fqn) for fqn in landscape.entries}
    graph = graph_of(landscape, entry.fqn, urls)
    return page(
        request,
        "product/lineage.html",
        entry=entry,
        product=product,
        part="lineage",
        drawing=draw(graph, f"Lineage of {entry.fqn}"),
        graph=graph,
        columns=columns_of(landscape, product),
        known=landscape.entries,
    )


@router.get("/quarantine", response_class=HTMLResponse)
def quarantine(request: Request, shown: Asked) -> HTMLResponse:
    """The events that were held back, and why."""
    portal, entry, product = shown
    return page(
        request,
        "product/quarantine.html",
        entry=entry,
        product=product,
        part="quarantine",
        events=_held(portal, product),
        masked=bool(hidden(product, Reader.VISITOR)),
        preview=_preview,
    )


@router.post("/quarantine/redrive")
def redrive(request: Request, shown: Asked) -> Response:
    """Try the held events again with the current contract."""
    from mesh_pipelines.repair.quarantine import redrive as step

    portal, entry, product = shown
    if not user(request).may_act_for(product):
        raise HTTPException(403, f"Only the team of {entry.fqn} may redrive its events.")
    done = step(portal.landscape.platform, product)
    return RedirectResponse(
        product_url(entry.fqn, "quarantine", back=done.came_back, held=done.undecodable + done.diverted), 303
    )


@router.get("/contract", response_class=HTMLResponse)
def contract(request: Request, shown: Asked) -> HTMLResponse:
    """The contract as it is, and how it came to be so."""
    portal, entry, product = shown
    revisions = sorted(portal.history.revisions(entry.fqn), key=lambda one: one.seen_at, reverse=True)
    return page(
        request,
        "product/contract.html",
        entry=entry,
        product=product,
        part="contract",
        document=_document(portal, product),
        revisions=list(zip(revisions, changelog(revisions), strict=True)),
    )


@router.get("/contract.yaml", response_class=Response)
def contract_file(request: Request, domain: Part, name: Part) -> Response:
    """The contract as a file: an Open Data Contract Standard document."""
    portal = portal_of(request)
    return contract_response(portal, portal.entry(domain, name))


def contract_response(portal: Portal, entry: Entry) -> Response:
    """A contract's text as a download.

    Raises:
        UsageError: it cannot be read.
    """
    if entry.product is None:
        raise UsageError("its contract cannot be read", next_step="mesh lint")
    return Response(
        _document(portal, entry.product),
        media_type="application/yaml",
        headers={"Content-Disposition": f'attachment; filename="{entry.fqn}.yaml"'},
    )


def bad_share(days: Sequence[RuleDay], since: Any, count: int) -> list[float | None]:
    """By day the share of a rule's results that did not pass, in percent; None on days without any."""
    by_day = {day.day: day for day in days}
    found: list[float | None] = []
    for number in range(count):
        day = by_day.get(since + timedelta(days=number))
        found.append(100 * (day.evaluated - day.passed) / day.evaluated if day and day.evaluated else None)
    return found


def rule_bars(days: Sequence[RuleDay], since: Any) -> Any:
    """By day the rows that broke a rule, at the worst of that day's audits on average."""
    by_day = {day.day: day for day in days}
    bars: list[charts.Day] = []
    for number in range(DAYS):
        date = since + timedelta(days=number)
        day = by_day.get(date)
        bad = day.bad / day.evaluated if day and day.evaluated else 0.0
        kind = "bad" if day and (day.failed or day.errors) else "warning" if day and day.warned else "good"
        text = f"{date:%d %b}: " + (f"{bad:,.0f} rows in {day.evaluated} audits" if day else "no audit")
        bars.append(charts.Day(date, ((kind, bad),), text))
    title = "Rows that break the rule by day, average per audit"
    return charts.stack(bars, title, none="No row broke it on these days." if days else "")


def volume(portal: Portal, fqn: str) -> Any:
    """Rows that came with each of the last versions, unusual ones marked."""
    found = list(reversed(portal.history.publications(fqn, limit=60)))
    bars = [
        charts.Day(
            one.at.date(),
            (("warning" if one.anomalous else "accent", float(one.new_rows or 0)),),
            f"version {one.version}, {one.at:%d %b %H:%M}: {one.new_rows or 0:,} new, {counted(one.rows, 'row')}"
            + (", unusual" if one.anomalous else ""),
        )
        for one in found
    ]
    return charts.stack(bars, "Events or rows that came with each of the last 60 versions")


def timeline(portal: Portal, entry: Entry, measure: str, hours: int = 24) -> Any:
    """A measure over the last hours, beside what is promised of it."""
    now = datetime.now(UTC)
    since = now - timedelta(hours=hours)
    samples = portal.history.samples(entry.fqn, measure, since=since)
    points = [((one.at - since) / (now - since), one.value) for one in samples]
    promised = next((one.promised for one in entry.objectives if one.property == measure), None)
    name, unit = {"freshness": ("Age of the newest data", duration), "lag": ("Events not yet published", compact)}[
        measure
    ]
    ends = (f"{hours} hours ago", "now")
    return charts.line(charts.Line(points, promised, ends), f"{name}, last {hours} hours", unit)


def quarantine_days(portal: Portal, fqn: str, since: Any, count: int) -> Any:
    """Events held back by day, as they stood at its end."""
    by_day = {one.day: one for one in portal.history.measure_days(fqn, "quarantined", since=since)}
    bars = []
    for number in range(count):
        date = since + timedelta(days=number)
        day = by_day.get(date)
        last = day.last if day else 0.0
        bars.append(charts.Day(date, (("warning", last),), f"{date:%d %b}: {last:,.0f} held"))
    return charts.stack(bars, f"Events in quarantine, last {count} days", height=80, none="No event was held back.")


def objective_strips(portal: Portal, fqn: str, since: Any, count: int) -> Mapping[str, list[tuple[str, str]]]:
    """For each objective one state a day."""
    found: dict[str, dict[Any, Any]] = defaultdict(dict)
    for one in portal.history.objective_days(fqn, since=since):
        found[one.objective][one.day] = one
    return {objective: list(_objective_days(days, since, count)) for objective, days in found.items()}


def _objective_days(days: Mapping[Any, Any], since: Any, count: int) -> Iterator[tuple[str, str]]:
    for number in range(count):
        date = since + timedelta(days=number)
        day = days.get(date)
        if day is None or not day.total:
            yield "none", f"{date:%d %b}: not measured"
            continue
        share = day.good / day.total
        kind = "good" if share >= 0.99 else "warning" if share >= 0.9 else "bad"
        yield kind, f"{date:%d %b}: met {100 * share:.1f} % of the time"


def changelog(revisions: Sequence[ContractRevision]) -> list[list[tuple[str, str]]]:
    """For each revision, newest first, the lines that differ from the one before; (kind, line)."""
    found: list[list[tuple[str, str]]] = []
    for number, revision in enumerate(revisions):
        before = revisions[number + 1].document if number + 1 < len(revisions) else ""
        if not before:
            found.append([])
            continue
        lines = difflib.unified_diff(before.splitlines(), revision.document.splitlines(), n=2, lineterm="")
        found.append([(_kind(line), line) for line in list(lines)[2:]])
    return found


def _kind(line: str) -> str:
    return {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "same")


def _versions(portal: Portal, product: DataProduct) -> Versions:
    return portal.landscape.platform.tables_of(product).versions


def _rule(product: DataProduct, identity: str) -> Rule:
    found = next((one for one in product.rules if one.id == identity), None)
    if found is None:
        raise HTTPException(404, f"The contract of {product.fqn} has no rule {identity!r}.")
    return found


def _held(portal: Portal, product: DataProduct) -> list[dict[str, Any]]:
    """The newest quarantined events; none of a product that has no stream, or that was not applied yet."""
    if not product.has_log:
        return []
    try:
        return held(portal.landscape.platform, product, Reader.VISITOR, _HELD).to_pylist()
    except TableMissing:
        return []


def _judged(portal: Portal, product: DataProduct, state: RuleState | None) -> Version | None:
    """The candidate or version that a rule's newest result is about, while it can still be read."""
    if state is None:
        return None
    versions = _versions(portal, product)
    try:
        known = (versions.newest(), versions.published())
    except TableMissing:
        return None
    return next((one for one in known if one and one.candidate_id == state.candidate_id), None)


def _strip(portal: Portal, entry: Entry, days: int = DAYS) -> list[tuple[str, str]]:
    since = _today() - timedelta(days=days - 1)
    by_day = {one.day: one for one in portal.history.product_days(entry.fqn, since=since)}
    dates = [since + timedelta(days=number) for number in range(days)]
    return [day_state(by_day.get(date), f"{date:%d %b}") for date in dates]


def _preview(raw: bytes | None) -> str:
    """The first bytes of an event as text; bytes that are not text as hexadecimal numbers."""
    if raw is None:
        return ""
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in raw[:80]) + (
        "…" if len(raw) > 80 else ""
    )


def _document(portal: Portal, product: DataProduct) -> str:
    return portal.landscape.platform.files_of(product).contract


def _today() -> Any:
    return datetime.now(UTC).date()
