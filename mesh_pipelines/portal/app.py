"""The portal put together: its pages and API, its own files, how errors look, and what guards it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.staticfiles import StaticFiles

from mesh_pipelines import errors
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.portal import api
from mesh_pipelines.portal.landscape import Watcher
from mesh_pipelines.portal.pages import incidents, product, products, quality, session
from mesh_pipelines.portal.shared import Portal, Refusal, Unreadable, page, portal_of
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.security import HEADERS, Guard, Rules, headers_at, is_https, names_of
from mesh_pipelines.web.sessions import SECONDS, cookie_at, note_refused
from mesh_pipelines.web.sign_in import secret_key

_STATIC = Path(__file__).parent / "static"
_log = logging.getLogger(__name__)
_STATUS: Mapping[type[errors.MeshError], int] = {
    errors.UnknownProduct: 404,
    errors.UnknownVersion: 404,
    errors.NothingPublished: 404,
    errors.UsageError: 400,
    errors.TableMissing: 404,
    errors.ContractInvalid: 409,
}


def create_app(settings: Settings, history: History) -> FastAPI:
    """The portal over the mesh of these settings."""
    app = FastAPI(
        title="Mesh portal",
        description="Everything the portal shows: products, promises, versions, quality, incidents, lineage.",
        version="1",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.portal = Portal(settings, history, Watcher(settings, history))
    for part in (products, product, quality, incidents, session, api):
        app.include_router(part.router)
    app.include_router(api.pages)
    app.mount("/static", _Static(directory=_STATIC), name="static")
    app.add_exception_handler(errors.MeshError, _mesh_error)
    app.add_exception_handler(Unreadable, _unreadable)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(
        SessionMiddleware,
        secret_key=secret_key(settings),
        session_cookie=cookie_at(settings.portal_address),
        max_age=SECONDS,
        same_site="lax",
        https_only=is_https(settings.portal_address),
    )
    app.add_middleware(GZipMiddleware, minimum_size=2000)
    headers = headers_at(settings.portal_address, HEADERS)
    app.add_middleware(Guard, rules=Rules(names_of(settings.host, settings.portal_address), headers))
    return app


class _Static(StaticFiles):
    """The portal's own files, kept by browsers for an hour."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, with how long it may be kept."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=3600"
        return response


def _mesh_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.MeshError)
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 503 if error.transient else 500)
    return _refusal(request, status, error.message, code=error.code, next_step=error.next_step or "")


def _unreadable(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unreadable)
    return page(request, "broken.html", status=200 if request.method == "GET" else 409, entry=error.entry)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 403 and (who := portal_of(request).sign_in.sessions.user(request)):
        note_refused(who, request.url.path)
    return _refusal(request, error.status_code, str(error.detail))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors())
    return _refusal(request, 422, wrong)


def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("a page failed: %s", request.url.path, exc_info=error)
    answer = _refusal(request, 500, "This page could not be shown. The portal's log says why.")
    # It is made outside of all that wraps the application, the guard included.
    answer.headers.update(HEADERS)
    return answer


def _refusal(request: Request, status: int, message: str, *, code: str = "", next_step: str = "") -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse(asdict(Refusal(status, code, message, next_step)), status)
    title = "Nothing here" if status == 404 else HTTPStatus(status).phrase
    return page(request, "error.html", status=status, title=title, code=code, message=message, next_step=next_step)
