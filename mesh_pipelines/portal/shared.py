"""What the portal's pages share: the mesh as it was read last, who asks, and how a page is made of a template."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from mesh_pipelines import errors
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.counted import counted
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.records import RuleState
from mesh_pipelines.portal import markdown, text
from mesh_pipelines.portal.draw import charts
from mesh_pipelines.portal.landscape import Entry, Landscape, Watcher
from mesh_pipelines.serve.stored_results import told_now
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.sessions import User
from mesh_pipelines.web.sign_in import SignIn

_STATIC = Path(__file__).parent / "static"


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

    def rule_states(self, product: DataProduct) -> list[RuleState]:
        """The newest result of each of a product's rules, as far as its contract tells it now."""
        return told_now(self.landscape.platform, product, self.history.rule_states(product.fqn))

    @cached_property
    def sign_in(self) -> SignIn:
        """The ways to sign in, and who has."""
        return SignIn(self.settings, self.settings.portal_address)

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
        known.update(counted=counted, chart=charts, dagster_url=self.settings.dagster_address, link=_link)
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
        user=portal.sign_in.sessions.user(request),
        can_sign_in=portal.sign_in.provider is not None or portal.sign_in.development.allowed,
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
    found = portal_of(request).sign_in.sessions.user(request)
    if found is None:
        raise HTTPException(401, "Sign in first: this changes something.")
    return found


def product_url(fqn: str, part: str = "", **query: Any) -> str:
    """The address of a product's page."""
    domain, _, name = fqn.partition(".")
    path = "/".join(["/products", quote(domain, safe=""), quote(name, safe=""), *([part] if part else [])])
    return _link(path, **query)


def _link(path: str, **query: Any) -> str:
    """A path with those of the query's values that are not empty."""
    given = {name: value for name, value in query.items() if value not in (None, "", ())}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path
