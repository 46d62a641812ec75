"""Signing in and out."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from mesh_pipelines.portal.shared import page, portal_of
from mesh_pipelines.portal.sign_in import names_in, remember

router = APIRouter(include_in_schema=False)
_log = logging.getLogger(__name__)


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
        raise HTTPException(
            403, "This link has expired or is not from this portal. mesh portal --link prints a new one."
        )
    remember(request, "development", [], everything=True)
    return RedirectResponse("/", 303)


@router.get("/sign-in/provider")
async def to_provider(request: Request) -> Response:
    """To the OpenID Connect provider."""
    address = f"{portal_of(request).settings.portal_address}/sign-in/callback"
    async with _asking(request) as client:
        return await client.authorize_redirect(request, address)


@router.get("/sign-in/callback")
async def from_provider(request: Request) -> Response:
    """Back from the provider, with its word for who it is."""
    async with _asking(request) as client:
        token = await client.authorize_access_token(request)
    claims: dict[str, Any] = dict(token.get("userinfo") or {})
    if not claims.get("sub"):
        raise HTTPException(403, "The provider did not say who you are.")
    name, names = names_in(claims, portal_of(request).settings.oidc_claim)
    remember(request, name, names)
    return RedirectResponse("/", 303)


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session."""
    request.session.clear()
    return RedirectResponse("/", 303)


@asynccontextmanager
async def _asking(request: Request) -> AsyncGenerator[Any]:
    """The provider's client, and its errors as answers: what is refused is 403, and what cannot be asked 502.

    Raises:
        HTTPException: 404, no provider is configured; 403; 502.
    """
    from authlib.integrations.base_client import OAuthError
    from joserfc.errors import JoseError

    portal = portal_of(request)
    if portal.provider is None:
        raise HTTPException(404, "No OpenID Connect provider is configured.")
    client, issuer = portal.provider.provider, portal.settings.oidc_issuer
    try:
        # Tokens are held to the name that the provider gives itself, which has to be the one that is trusted.
        named = (await client.load_server_metadata()).get("issuer")
        if str(named).rstrip("/") != str(issuer).rstrip("/"):
            raise HTTPException(
                502, f"MESH_OIDC_ISSUER must be the name of the provider, which is {named}, got {issuer}."
            )
        yield client
    except (OAuthError, JoseError) as error:
        raise HTTPException(403, f"The provider did not sign you in: {error.description or error.error}") from error
    except HTTPException:
        raise
    except Exception as error:
        # Errors of the network, of TLS and of answers that are not JSON have no base in common.
        _log.warning("the provider %s does not answer", issuer, exc_info=error)
        raise HTTPException(502, f"The provider {issuer} does not answer. The portal's log says why.") from error
