"""The portal as an ASGI application: what is shared by its pages, and how errors look."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.staticfiles import StaticFiles

from mesh_pipelines import errors
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.portal import markdown, text
from mesh_pipelines.portal.draw import charts
from mesh_pipelines.portal.landscape import Entry, Landscape, Watcher
from mesh_pipelines.portal.security import HEADERS, Guard
from mesh_pipelines.portal.sign_in import DevelopmentLink, User, provider, secret_key, user_of
from mesh_pipelines.settings import Settings

_STATIC = Path(__file__).parent / "static"
_SESSION_SECONDS = 12 * 3600
_log = logging.getLogger(__name__)


@dataclass
class Portal:
    """What the pages are handed: settings, the newest landscape and the history."""

    settings: Settings
    history: History
    watcher: Watcher

    @property
    def landscape(self) -> Landscape:
        """The mesh as it was read last."""
        return self.watcher.newest

    def prepare(self) -> None:
        """Read the mesh and compile the pages before anybody asks: contracts that were never read take seconds."""
        self.watcher.refresh()
        for name in self.templates.list_templates(extensions=["html"]):
            self.templates.get_template(name)

    def entry(self, domain: str, name: str) -> Entry:
        """The product of an address.

        Raises:
            UnknownProduct: that product does not exist.
        """
        fqn = f"{domain}.{name}"
        found = self.landscape.entries.get(fqn)
        if found is None:
            near = [hit.product for hit in self.landscape.search(fqn.replace(".", " "))[:3]]
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise errors.UnknownProduct(f"no product is named {fqn}{hint}", next_step="look for it in the catalog")
        return found

    @cached_property
    def development(self) -> DevelopmentLink:
        """The development user's way in."""
        return DevelopmentLink(self.settings)

    @cached_property
    def provider(self) -> Any:
        """The OpenID Connect client, or None."""
        return provider(self.settings)

    @cached_property
    def templates(self) -> Environment:
        """The pages' templates; everything put into them is escaped."""
        environment = Environment(
            loader=PackageLoader("mesh_pipelines.portal"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            count=text.count,
            compact=text.compact,
            percent=text.percent,
            duration=text.duration,
            ago=text.ago,
            utc=text.utc,
            markdown=markdown.render,
            safe_url=markdown.safe_url,
            product_url=product_url,
        )
        known: dict[str, Any] = environment.globals
        known.update(chart=charts, dagster_url=self.settings.dagster_address, link=_link)
        return environment


class Unreadable(Exception):
    """A page about a product whose contract cannot be read was asked for; it says what is wrong with that instead."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.fqn)
        self.entry = entry


@dataclass(frozen=True)
class Refusal:
    """What the API says if it cannot answer; ``code`` and ``next_step`` may be empty."""

    status: int
    code: str
    message: str
    next_step: str


def portal_of(request: Request) -> Portal:
    """The portal a request belongs to."""
    return request.app.state.portal


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from its template."""
    portal = portal_of(request)
    landscape = portal.landscape
    html = portal.templates.get_template(template).render(
        path=request.url.path,
        query=dict(request.query_params),
        user=user_of(request),
        can_sign_in=portal.provider is not None or portal.development.allowed,
        now=datetime.now(UTC),
        observed_at=landscape.observed_at,
        open_incidents=sum(len(entry.incidents) for entry in landscape.entries.values()),
        theme=request.cookies.get("theme", ""),
        **values,
    )
    return HTMLResponse(html, status)


def user(request: Request) -> User:
    """The user who signed in.

    Raises:
        HTTPException: 401, nobody has.
    """
    found = user_of(request)
    if found is None:
        raise HTTPException(401, "Sign in first: this changes something.")
    return found


def create_app(settings: Settings, history: History) -> FastAPI:
    """The portal over the mesh of these settings."""
    from mesh_pipelines.portal import api
    from mesh_pipelines.portal.pages import incidents, product, products, quality, session

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
    secure = settings.portal_address.startswith("https:")
    app.add_middleware(
        SessionMiddleware,
        secret_key=secret_key(settings),
        session_cookie="mesh_portal",
        max_age=_SESSION_SECONDS,
        same_site="lax",
        https_only=secure,
    )
    app.add_middleware(GZipMiddleware, minimum_size=2000)
    app.add_middleware(Guard, hosts={settings.host, urlsplit(settings.portal_address).hostname or settings.host})
    return app


class _Static(StaticFiles):
    """The portal's own files, kept by browsers for an hour."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, with how long it may be kept."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=3600"
        return response


def product_url(fqn: str, part: str = "", **query: Any) -> str:
    """The address of a product's page."""
    domain, _, name = fqn.partition(".")
    path = "/".join(["/products", quote(domain, safe=""), quote(name, safe=""), *([part] if part else [])])
    return _link(path, **query)


def _link(path: str, **query: Any) -> str:
    """A path with those of the query's values that are not empty."""
    given = {name: value for name, value in query.items() if value not in (None, "", ())}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


_STATUS: Mapping[type[errors.MeshError], int] = {
    errors.UnknownProduct: 404,
    errors.UnknownVersion: 404,
    errors.NothingPublished: 404,
    errors.UsageError: 400,
    errors.TableMissing: 404,
}


def _mesh_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.MeshError)
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 503 if error.transient else 500)
    return _refusal(request, status, error.message, code=error.code, next_step=error.next_step or "")


def _unreadable(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unreadable)
    return page(request, "broken.html", status=200 if request.method == "GET" else 409, entry=error.entry)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
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
