"""What the pages show of products, as JSON; its OpenAPI description is at ``/api/openapi.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field
from starlette.exceptions import HTTPException

from mesh_pipelines.contract.model import all_fields
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.errors import TableMissing
from mesh_pipelines.observe.store import records
from mesh_pipelines.observe.store.prometheus import metrics_text
from mesh_pipelines.portal import api_rows
from mesh_pipelines.portal.draw.lineage_graph import columns_of
from mesh_pipelines.portal.landscape import Entry
from mesh_pipelines.portal.pages.product import contract_response
from mesh_pipelines.portal.pages.products import Question, find
from mesh_pipelines.portal.shared import Refusal, page, portal_of

router = APIRouter(
    prefix="/api/v1", responses={"default": {"model": Refusal, "description": "The request cannot be answered"}}
)
pages = APIRouter(include_in_schema=False)

Part = Annotated[str, Path(max_length=200)]
Text = Annotated[str, Query(max_length=200)]
Measure = Annotated[str, Path(max_length=200, json_schema_extra={"enum": list(records.MEASURES)})]
Days = Annotated[int, Query(ge=1, le=400)]
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class ApiQuestion(Question):
    """The catalog's question, with how many answers are wanted."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000


@dataclass(frozen=True)
class ProductSummary:
    """A product as the catalog lists it."""

    product: str
    domain: str
    name: str
    owner: str
    purpose: str
    alignment: str
    event_type: str
    status: str
    contract_version: str
    tags: tuple[str, ...]
    current: records.Current
    found_in: tuple[str, ...] = ()


@dataclass(frozen=True)
class FieldDescription:
    """A field: its dotted path, SQL type and what the contract says of it."""

    path: str
    physical_name: str
    type: str
    required: bool
    key_position: int
    unique: bool
    classification: str
    description: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class RuleDescription:
    """A rule as the contract has it, and its newest result."""

    id: str
    kind: str
    check: str
    fields: tuple[str, ...]
    on_failure: str
    dimension: str
    description: str
    newest: records.RuleState | None


@dataclass(frozen=True)
class ProductDetail(ProductSummary):
    """A product with all that its pages tell."""

    usage: str = ""
    limitations: str = ""
    team: tuple[str, ...] = ()
    topic: str | None = None
    inputs: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    fields: tuple[FieldDescription, ...] = ()
    rules: tuple[RuleDescription, ...] = ()
    objectives: tuple[records.ObjectiveState, ...] = ()
    incidents: tuple[records.Incident, ...] = ()


@dataclass(frozen=True)
class ColumnLineage:
    """A field and the fields it is computed from; ``known`` is false where that cannot be told."""

    field: str
    sources: tuple[tuple[str, str], ...]
    known: bool


@dataclass(frozen=True)
class Lineage:
    """What a product is made from and what is made from it, one step each way, and its columns' sources."""

    product: str
    topic: str | None
    inputs: tuple[str, ...]
    consumers: tuple[str, ...]
    columns: tuple[ColumnLineage, ...]


@router.get("/products", summary="All products, filtered and searched")
def products(request: Request, asked: Annotated[ApiQuestion, Query()]) -> list[ProductSummary]:
    """The catalog."""
    entries, where = find(portal_of(request).landscape, asked.q, asked.facets, asked.sort)
    return [ProductSummary(**_summary(entry), found_in=where.get(entry.fqn, ())) for entry in entries[: asked.limit]]


@router.get("/products/{domain}/{name}", summary="One product")
def product(request: Request, domain: Part, name: Part) -> ProductDetail:
    """A product's contract, state, promises and incidents."""
    portal = portal_of(request)
    entry = portal.entry(domain, name)
    contract = entry.product
    if contract is None:
        return ProductDetail(**_summary(entry), incidents=entry.incidents)
    states = {one.rule: one for one in portal.rule_states(contract)}
    return ProductDetail(
        **_summary(entry),
        usage=contract.about.usage,
        limitations=contract.about.limitations,
        team=contract.team,
        topic=contract.topic.name if contract.topic else None,
        inputs=contract.inputs,
        consumers=portal.landscape.consumers.get(entry.fqn, ()),
        fields=tuple(
            FieldDescription(
                path,
                field.event_name,
                duckdb_type(field.type),
                field.required,
                field.key_position,
                field.unique,
                field.classification,
                field.description,
                field.tags,
            )
            for path, field in all_fields(contract.fields)
        ),
        rules=tuple(
            RuleDescription(
                rule.id,
                str(rule.kind),
                rule.check,
                rule.fields,
                str(rule.on_failure),
                rule.dimension,
                rule.description,
                states.get(rule.id),
            )
            for rule in contract.rules
        ),
        objectives=entry.objectives,
        incidents=entry.incidents,
    )


@router.get("/products/{domain}/{name}/contract", summary="The contract as an ODCS document", response_class=Response)
def contract(request: Request, domain: Part, name: Part) -> Response:
    """The contract's YAML."""
    portal = portal_of(request)
    return contract_response(portal, portal.entry(domain, name))


@router.get("/products/{domain}/{name}/versions", summary="Versions, newest first")
def versions(request: Request, domain: Part, name: Part) -> list[dict[str, Any]]:
    """Every version published: position, rows, verdict, contract."""
    portal = portal_of(request)
    entry = portal.entry(domain, name)
    if entry.product is None:
        return []
    try:
        found = portal.landscape.platform.tables_of(entry.product).versions.all()
    except TableMissing:
        return []
    return [asdict(one) for one in reversed(found)]


@router.get("/products/{domain}/{name}/quality", summary="Rule results by day")
def quality(request: Request, domain: Part, name: Part, days: Days = 30) -> list[records.RuleDay]:
    """What each rule came to, a day."""
    portal = portal_of(request)
    return list(portal.history.rule_days(portal.entry(domain, name).fqn, since=_since(days)))


@router.get("/products/{domain}/{name}/lineage", summary="Lineage by product and column")
def lineage(request: Request, domain: Part, name: Part) -> Lineage:
    """Where the data come from and where they go."""
    landscape = portal_of(request).landscape
    entry = portal_of(request).entry(domain, name)
    found = entry.product
    return Lineage(
        entry.fqn,
        found.topic.name if found and found.topic else None,
        found.inputs if found else (),
        landscape.consumers.get(entry.fqn, ()),
        tuple(ColumnLineage(one.field, one.sources, one.known) for one in columns_of(landscape, found))
        if found
        else (),
    )


@router.get("/products/{domain}/{name}/measures/{measure}", summary="A measure's samples")
def samples(
    request: Request, domain: Part, name: Part, measure: Measure, hours: Annotated[int, Query(ge=1, le=720)] = 24
) -> list[records.Sample]:
    """Lag, freshness, latency, rows, quarantined, landing_rate or available, as they were sampled."""
    if measure not in records.MEASURES:
        raise HTTPException(404, f"The measure must be one of {', '.join(records.MEASURES)}, got {measure}.")
    portal = portal_of(request)
    since = datetime.now(UTC) - timedelta(hours=hours)
    return list(portal.history.samples(portal.entry(domain, name).fqn, measure, since=since))


@router.get("/objectives", summary="Service levels: promised, measured, budget, burn")
def objectives(request: Request, product: Text = "") -> list[records.ObjectiveState]:
    """Every measured objective."""
    return list(portal_of(request).history.objectives(product or None))


@router.get("/incidents", summary="Incidents, newest first")
def incidents(
    request: Request,
    product: Text = "",
    open_only: bool = False,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
) -> list[records.Incident]:
    """What went wrong."""
    return list(portal_of(request).history.incidents(product or None, open_only=open_only, limit=limit))


@router.get("/quality", summary="The mesh's rule results by day")
def mesh_quality(request: Request, days: Days = 30) -> list[records.ProductDay]:
    """Rule results, publishes and blocked candidates, a day."""
    return list(portal_of(request).history.mesh_days(since=_since(days)))


router.include_router(api_rows.router)


@pages.get("/api", response_class=HTMLResponse)
def about(request: Request) -> HTMLResponse:
    """What the API has, for people."""
    described = request.app.openapi()["paths"]
    return page(request, "api.html", paths={path: methods["get"] for path, methods in described.items()})


@pages.get("/metrics")
def metrics(request: Request) -> Response:
    """Everything measured, for Prometheus."""
    return Response(metrics_text(portal_of(request).history), media_type=_METRICS)


def _summary(entry: Entry) -> dict[str, Any]:
    found = entry.product
    return {
        "product": entry.fqn,
        "domain": entry.domain,
        "name": entry.name,
        "owner": entry.owner,
        "purpose": found.about.purpose if found else "",
        "alignment": str(found.alignment) if found else "",
        "event_type": str(found.event_type) if found else "",
        "status": found.status if found else "broken",
        "contract_version": found.contract_version if found else "",
        "tags": found.tags if found else (),
        "current": entry.current,
    }


def _since(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days - 1)
