"""A portal over a drawn past, served where it is asked for, and a browser's visit to it."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from benchmarks.synthetic import synthetic
from mesh_pipelines.local.supervisor import answers
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.portal.app import create_app
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.server import server_of
from tests.building import contract_text, write_contract

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ASSETS = Path(__file__).parents[2] / "assets"
NO_BROWSER = (
    "these tests drive a browser and found none: on Debian, apt-get install -y chromium; elsewhere, put Chromium or "
    "Chrome on the PATH as chromium, chromium-browser or google-chrome"
)
PROPERTIES = """
- {name: id, logicalType: string, primaryKey: true}
- {name: email, logicalType: string, classification: confidential}
"""
# Products beside the demo's, by what is the matter with them.
NEVER, BROKEN, ORPHAN, UNSEEN = "shop.never", "shop.broken", "shop.orphan", "shop.unseen"


def place(assets: Path, fqn: str, owner: str = "ann@example.com") -> Path:
    """A small contract under an assets folder; gives its file."""
    return write_contract(assets, contract_text(fqn, PROPERTIES, owner=owner)) / "contract.yaml"


@dataclass(frozen=True)
class Mesh:
    """A portal that is not served yet: settings, history and application."""

    settings: Settings
    history: History
    app: FastAPI

    @property
    def products(self) -> Mapping[str, Any]:
        """All its products by name, broken ones included."""
        return self.app.state.portal.landscape.entries

    def client(self, **options: Any) -> TestClient:
        """A client without a session, as a browser on this machine."""
        return TestClient(
            self.app,
            base_url=self.settings.portal_address,
            raise_server_exceptions=False,
            **options,
        )

    def signed_in(self, **options: Any) -> TestClient:
        """A client that has signed in by the development link."""
        client = self.client(**options)
        token = self.app.state.portal.sign_in.development.token()
        done = client.post("/sign-in", data={"token": token}, headers=self.own, follow_redirects=False)
        assert done.status_code == 303
        return client

    @property
    def own(self) -> dict[str, str]:
        """The header by which a browser says that a request comes from the portal's own page."""
        return {"Origin": self.settings.portal_address}


@contextmanager
def mesh_of(settings: Settings, days: int = 40, *, unseen: frozenset[str] = frozenset()) -> Generator[Mesh]:
    """A portal over the contracts of these settings; every sound product but the unseen has a past."""
    history = History.open(settings)
    app = create_app(settings, history)
    names = [name for name, one in app.state.portal.landscape.entries.items() if one.product and name not in unseen]
    synthetic(history, names, days)
    app.state.portal.watcher.refresh(anew=True)
    try:
        yield Mesh(settings, history, app)
    finally:
        history.close()


@contextmanager
def served(app: FastAPI, port: int) -> Generator[str]:
    """Serve an application from a thread; gives its address."""
    server = server_of(app, "127.0.0.1", port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.02)
    assert answers("127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(15)


def chromium() -> Iterator[Browser]:
    """The machine's own Chromium."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.fail(NO_BROWSER, pytrace=False)
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@dataclass
class Visit:
    """A browser's visit to a portal and whatever is wrong in it: other hosts asked, errors, dialogs, scripts run."""

    context: BrowserContext
    page: Page
    address: str
    wrong: list[str] = field(default_factory=list[str])
    console: bool = True

    def open(self, path: str, status: int = 200) -> Page:
        """Open a path of the portal."""
        found = self.page.goto(f"{self.address}{path}")
        assert found is not None
        assert found.status == status, (path, found.status)
        return self.page

    def watch(self) -> None:
        """Note what must not happen."""
        host = urlsplit(self.address).netloc
        page = self.page
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: self.wrong.append(f"{page.url}: {error}"))
        page.on("console", lambda message: self._said(message.type, message.text))
        self.context.on(
            "request",
            lambda request: (
                None if urlsplit(request.url).netloc == host else self.wrong.append(f"{page.url} asks {request.url}")
            ),
        )
        self.context.expose_function("pwned", lambda *what: self.wrong.append(f"{page.url}: a script ran: {what}"))
        self.context.expose_function("violated", lambda what: self.wrong.append(f"{page.url}: against policy: {what}"))
        self.context.add_init_script(
            "addEventListener('securitypolicyviolation', one => violated(one.violatedDirective + ' ' + one.blockedURI))"
        )

    def _said(self, kind: str, text: str) -> None:
        if self.console and kind in ("error", "warning"):
            self.wrong.append(f"{self.page.url}: console: {text}")


@contextmanager
def visiting(browser: Browser, address: str, **options: Any) -> Generator[Visit]:
    """A visit in a context of its own; nothing may be wrong when it ends."""
    context = browser.new_context(**options)
    context.set_default_timeout(20_000)
    visit = Visit(context, context.new_page(), address)
    visit.watch()
    try:
        yield visit
        assert visit.wrong == []
    finally:
        context.close()


def axe(visit: Visit) -> list[str]:
    """What axe-core finds wrong with the page as it is."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(visit.page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{visit.page.url}: {one['id']}: {node['html'][:150]}" for one in found for node in one["nodes"]]


def sideways(visit: Visit, width: int) -> list[str]:
    """What of the page is wider than a window of this width; parts that scroll by themselves may be."""
    page = visit.page
    page.set_viewport_size({"width": width, "height": 900})
    wide = page.evaluate(
        "() => { const root = document.documentElement; if (root.scrollWidth <= root.clientWidth) return []; "
        "return [...document.querySelectorAll('body *')].filter(one => one.getBoundingClientRect().right > "
        "root.clientWidth + 1 && !one.parentElement.closest('.scroll, pre')).map(one => one.outerHTML.slice(0, 120)) }"
    )
    return [f"{page.url} at {width}: {one}" for one in wide[:3]]


def inspect(visit: Visit, path: str, status: int = 200) -> list[str]:
    """Everything that is wrong with how a page looks: for axe-core in light and dark, and in width."""
    console, visit.console = visit.console, status < 400
    page = visit.open(path, status)
    found: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found += axe(visit)
    for width in (2560, 360, 1280):
        found += sideways(visit, width)
    visit.console = console
    return found


def payloads() -> list[str]:
    """The texts of payloads.txt."""
    lines = Path(__file__).with_name("payloads.txt").read_text(encoding="utf-8").splitlines()
    texts = [line.replace("␊", "\n").replace("␉", "\t") for line in lines if not line.startswith(("# What", "# ⟨"))]
    return [re.sub("⟨([0-9A-F]{4})⟩", lambda found: chr(int(found[1], 16)), text) for text in texts]
