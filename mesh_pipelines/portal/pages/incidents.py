"""Incidents: what went wrong, since when, who looks after it, and when it was over."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from mesh_pipelines.observe.store.records import Incident
from mesh_pipelines.portal.pages.products import owners
from mesh_pipelines.portal.shared import Portal, page, portal_of, user

router = APIRouter(prefix="/incidents", include_in_schema=False)

Number = Annotated[int, Path(ge=1, le=2**62)]


@router.get("", response_class=HTMLResponse)
def incidents(
    request: Request,
    owner: Annotated[str, Query(max_length=200)] = "",
    state: Annotated[str, Query(max_length=20)] = "open",
) -> HTMLResponse:
    """Incidents, the open ones unless all are asked for."""
    portal = portal_of(request)
    entries = portal.landscape.entries
    found = [
        one
        for one in portal.history.incidents(open_only=state != "all", limit=500)
        if not owner or (one.product in entries and entries[one.product].owner == owner)
    ]
    return page(
        request,
        "incidents.html",
        incidents=found,
        state=state,
        owner=owner,
        owners=owners(entries.values()),
        entries=entries,
    )


@router.get("/{number}", response_class=HTMLResponse)
def incident(request: Request, number: Number) -> HTMLResponse:
    """One incident, and what to do about it."""
    portal = portal_of(request)
    found = _incident(portal, number)
    return page(request, "incident.html", incident=found, entry=portal.landscape.entries.get(found.product))


@router.post("/{number}/acknowledge")
def acknowledge(request: Request, number: Number, note: Annotated[str, Form(max_length=2000)] = "") -> Response:
    """Say that somebody looks after it."""
    portal = portal_of(request)
    found = _incident(portal, number)
    entry = portal.landscape.entries.get(found.product)
    who = user(request)
    if not (who.everything or (entry and entry.product and who.may_act_for(entry.product))):
        raise HTTPException(403, f"Only the team of {found.product} may acknowledge its incidents.")
    portal.history.acknowledge(number, who.name, note.strip())
    portal.watcher.refresh(anew=True)
    return RedirectResponse(f"/incidents/{number}", 303)


def _incident(portal: Portal, number: int) -> Incident:
    found = portal.history.incident(number)
    if found is None:
        raise HTTPException(404, f"No incident has the number {number}.")
    return found
