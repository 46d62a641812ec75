"""Signing in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from mesh_pipelines.portal.shared import page, portal_of
from mesh_pipelines.web.sign_in import CALLBACK

router = APIRouter(include_in_schema=False)


@router.get("/sign-in", response_class=HTMLResponse)
def sign_in(request: Request, token: Annotated[str, Query(max_length=500)] = "") -> HTMLResponse:
    """How to sign in; a link's token is shown as a button, so that looking ahead at a link signs nobody in."""
    ways = portal_of(request).sign_in
    accepted = ways.development.accepts(token)
    return page(
        request,
        "sign_in.html",
        with_provider=ways.provider is not None,
        token=token if accepted else "",
        expired=bool(token) and not accepted,
    )


@router.post("/sign-in")
def sign_in_by_link(request: Request, token: Annotated[str, Form(max_length=500)]) -> Response:
    """Sign the development user in."""
    portal_of(request).sign_in.by_link(request, token)
    return RedirectResponse("/", 303)


@router.get("/sign-in/provider")
async def to_provider(request: Request) -> Response:
    """To the OpenID Connect provider."""
    return await portal_of(request).sign_in.to_provider(request)


@router.get(CALLBACK)
async def from_provider(request: Request) -> Response:
    """Back from the provider, with its word for who it is."""
    await portal_of(request).sign_in.from_provider(request)
    return RedirectResponse("/", 303)


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session, also for whoever has a copy of its cookie."""
    portal_of(request).sign_in.sessions.end(request)
    return RedirectResponse("/", 303)
