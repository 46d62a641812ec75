"""Dagster's own webserver behind the front: asked over sockets as other sites, programs, users and browsers ask it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from mesh_pipelines.local.supervisor import Supervisor, free_ports
from mesh_pipelines.orchestration.graphql import locations, reload_all
from mesh_pipelines.orchestration.instance import children
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.sign_in import program_token
from tests.portal.provider import CLIENT, SECRET, Provider
from tests.portal.serving import chromium, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIPE = "mutation { wipeAssets(assetPartitionRanges: []) { __typename } }"
LAUNCH = 'mutation { terminateRun(runId: "none") { __typename } }'
READ = "{ version }"
SUBSCRIBE = "subscription { locationStateChangeEvents { event { message } } }"
ROOT, ANN, BOB = "root@example.com", "ann@example.com", "bob@example.com"


class Pages:
    """Dagster's pages as they are served, and one who asks them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.address = f"http://127.0.0.1:{settings.dagster_port}"
        self.session = requests.Session()

    def ask(self, query: str, **headers: str) -> requests.Response:
        """Ask GraphQL as Dagster's own pages do."""
        given = {"Origin": self.address, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.session.post(f"{self.address}/graphql", json={"query": query}, headers=given, timeout=60)

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.session.get(f"{self.address}{path}", headers=headers, timeout=60, allow_redirects=False)

    def signed_in(self, issuer: Provider, email: str) -> Pages:
        """The same pages, asked by someone whom the provider vouches for."""
        issuer.reset()
        issuer.claims["email"] = email
        found = Pages(self.settings)
        assert found.session.get(f"{self.address}/sign-in/provider", timeout=60).status_code == 200
        return found

    def websocket(self, origin: str | None, cookies: bool = True) -> ClientConnection:
        cookie = "; ".join(f"{one.name}={one.value}" for one in self.session.cookies) if cookies else ""
        return connect(
            f"{self.address.replace('http', 'ws')}/graphql",
            origin=Origin(origin) if origin else None,
            subprotocols=[Subprotocol("graphql-ws")],
            additional_headers={"Cookie": cookie} if cookie else {},
            proxy=None,
        )


def serving(settings: Settings) -> Iterator[Pages]:
    settings.assets.mkdir(parents=True)
    with Supervisor() as supervisor:
        supervisor.start(children(settings)[:1])
        yield Pages(settings)


@pytest.fixture(scope="module")
def pages(dagster_front: Settings) -> Pages:
    """On loopback without sign-in."""
    return Pages(dagster_front)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Provider]:
    found = Provider(free_ports(1)[0])
    with served(found.app, found.port):
        yield found


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, issuer: Provider) -> Iterator[Pages]:
    """Behind the provider's sign-in: ann may launch, root may do everything, anyone else may view."""
    folder = tmp_path_factory.mktemp("signed")
    port = free_ports(1)[0]
    settings = Settings(
        home=folder / "home",
        assets=folder / "assets",
        dagster_port=port,
        dagster_url=f"http://127.0.0.1:{port}",
        oidc_issuer=issuer.issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
        dagster_launch=ANN,
        dagster_administer=ROOT,
    )
    yield from serving(settings)


def test_on_loopback_without_sign_in_its_own_pages_may_do_everything(pages: Pages) -> None:
    assert pages.ask(READ).json()["data"]["version"]
    assert pages.ask(WIPE).json()["data"]["wipeAssets"]["__typename"] == "AssetWipeSuccess"
    assert "<html" in pages.get("/").text
    assert pages.get("/server_info").json()["dagster_version"]


def started(socket: ClientConnection, query: Any) -> None:
    socket.send(json.dumps({"type": "connection_init"}))
    assert json.loads(socket.recv(30))["type"] == "connection_ack"
    socket.send(json.dumps({"id": "1", "type": "start", "payload": {"query": query}}))


def test_subscriptions_go_through_a_websocket(pages: Pages) -> None:
    with pages.websocket(pages.address) as socket:
        started(socket, SUBSCRIBE)
        reload_all(pages.settings)
        # It is asked, stays open, and takes further messages.
        socket.send(json.dumps({"type": "start", "id": "2", "payload": {"query": "subscription { nothing }"}}))
        assert json.loads(socket.recv(30))["type"] == "error"


@pytest.mark.parametrize("query", [WIPE, READ, None, "{", {"query": WIPE}])
def test_nothing_else_goes_through_a_websocket(pages: Pages, query: Any) -> None:
    with pages.websocket(pages.address) as socket:
        started(socket, query)
        with pytest.raises(WebSocketException):
            socket.recv(30)


def test_programs_of_the_mesh_ask_with_a_token(pages: Pages, signed: Pages) -> None:
    for one in (pages, signed):
        assert locations(one.settings) == []
        token = program_token(one.settings)
        assert one.ask(READ, Origin="", Authorization=f"Bearer {token}").status_code == 200
        assert one.ask(READ, Origin="", Authorization=f"Basic {token}").status_code in (401, 403)
    assert signed.ask(READ, Authorization=f"Bearer {program_token(pages.settings)}").status_code == 401


def test_who_has_not_signed_in_sees_nothing(signed: Pages) -> None:
    assert signed.ask(READ).status_code == signed.ask(WIPE).status_code == 401
    for path in ("/", "/runs", "/graphql", "/server_info", "/logs/x/y", "/favicon.png", "/download_debug/x"):
        assert signed.get(path).status_code == 401
        shown = signed.get(path, Accept="text/html")
        assert shown.status_code == 303
        assert shown.headers["Location"].startswith("/sign-in?back=%2F")
    assert "Sign in with your organisation" in signed.get("/sign-in").text
    with pytest.raises(WebSocketException), signed.websocket(signed.address):
        pass


@pytest.mark.parametrize(("email", "launch", "wipe"), [(BOB, 403, 403), (ANN, 200, 403), (ROOT, 200, 200)])
def test_roles(signed: Pages, issuer: Provider, email: str, launch: int, wipe: int) -> None:
    who = signed.signed_in(issuer, email)
    assert who.ask(READ).status_code == 200
    assert (who.ask(LAUNCH).status_code, who.ask(WIPE).status_code) == (launch, wipe)
    reported = who.session.post(
        f"{who.address}/report_asset_materialization/x", json={}, headers={"Origin": who.address}, timeout=60
    )
    assert (reported.status_code != 403) == (wipe == 200)
    may = who.ask("{ permissions { permission value } }").json()["data"]["permissions"]
    assert any(one["value"] for one in may) == (launch == 200)


def test_signing_out_ends_the_session_for_copies_of_its_cookie_too(signed: Pages, issuer: Provider) -> None:
    who, copy = signed.signed_in(issuer, ROOT), Pages(signed.settings)
    copy.session.cookies.update(who.session.cookies)
    assert copy.ask(WIPE).status_code == 200
    with copy.websocket(signed.address) as socket:
        started(socket, SUBSCRIBE)
    done = who.session.post(
        f"{who.address}/sign-out", headers={"Origin": who.address}, timeout=60, allow_redirects=False
    )
    assert done.status_code == 303
    assert copy.ask(READ).status_code == 401
    with pytest.raises(WebSocketException), copy.websocket(signed.address):
        pass


@pytest.mark.parametrize(
    ("asked", "led"),
    [
        ("/runs?view=x", "/runs?view=x"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/%2fevil.example", "/"),
        ("https://evil.example", "/"),
    ],
)
def test_after_signing_in_one_is_led_to_a_path_of_the_pages(
    signed: Pages, issuer: Provider, asked: str, led: str
) -> None:
    issuer.reset()
    session = requests.Session()
    away = session.get(f"{signed.address}/sign-in/provider", params={"back": asked}, timeout=60, allow_redirects=False)
    back = session.get(away.headers["Location"], timeout=60, allow_redirects=False)
    done = session.get(back.headers["Location"], timeout=60, allow_redirects=False)
    assert (done.status_code, done.headers["Location"]) == (303, led)


def test_in_a_browser_its_pages_work_behind_the_sign_in(signed: Pages, issuer: Provider, browser: Browser) -> None:
    issuer.reset()
    issuer.claims["email"] = ANN
    context = browser.new_context()
    page = context.new_page()
    sockets: list[str] = []
    failed: list[str] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda text: sockets.append(str(text))))
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    page.goto(f"{signed.address}/locations")
    page.get_by_text("Sign in with your organisation").click()
    page.get_by_text("Code locations").first.wait_for(timeout=60_000)
    assert page.url.endswith("/locations")
    for _ in range(50):
        if any("connection_ack" in one for one in sockets):
            break
        page.wait_for_timeout(200)
    assert any("connection_ack" in one for one in sockets), sockets
    assert failed == []
    context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from chromium()
