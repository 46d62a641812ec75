"""Signing in and out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from mesh_pipelines.portal.app import page, portal_of
from mesh_pipelines.portal.sign_in import names_in, remember

router = APIRouter(include_in_schema=False)


@router.get("/sign-in", response_class=HTMLResponse)
def sign_in(request: Request, token: Annotated[str, Query(max_length=500)] = "") -> HTMLResponse:
    """How to sign in; a link's token is shown as a button, so that looking ahead at a link signs nobody in."""
    portal = portal_of(request)
    return page(
        request,
        "sign_in.html",
        with_provider=portal.provider is not None,
        token=token if portal.development.accepts(token) else "",
        expired=bool(token) and not portal.development.accepts(token),
    )


@router.post("/sign-in")
def sign_in_by_link(request: Request, token: Annotated[str, Form(max_length=500)]) -> Response:
    """Sign the development user in."""
    if not portal_of(request).development.accepts(token):
        raise HTTPException(403, "This link is too old or not from this portal. mesh portal --link prints a new one.")
    remember(request, "development", [], everything=True)
    return RedirectResponse("/", 303)


@router.get("/sign-in/provider")
async def to_provider(request: Request) -> Response:
    """To the OpenID Connect provider."""
    portal = portal_of(request)
    return await _client(request).authorize_redirect(request, f"{portal.settings.portal_address}/sign-in/callback")


@router.get("/sign-in/callback")
async def from_provider(request: Request) -> Response:
    """Back from the provider, with its word for who it is."""
    from authlib.integrations.base_client import OAuthError

    try:
        token = await _client(request).authorize_access_token(request)
    except OAuthError as error:
        raise HTTPException(403, f"The provider did not sign you in: {error.description or error.error}") from error
    claims: dict[str, Any] = dict(token.get("userinfo") or {})
    if not claims.get("sub"):
        raise HTTPException(403, "The provider said nothing about who you are.")
    name, names = names_in(claims, portal_of(request).settings.oidc_claim)
    remember(request, name, names)
    return RedirectResponse("/", 303)


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session."""
    request.session.clear()
    return RedirectResponse("/", 303)


def _client(request: Request) -> Any:
    oauth = portal_of(request).provider
    if oauth is None:
        raise HTTPException(404, "No OpenID Connect provider is configured.")
    return oauth.provider
