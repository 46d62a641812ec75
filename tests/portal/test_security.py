"""What every answer has to carry and every request has to keep to."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mesh_pipelines.settings import Settings
from mesh_pipelines.web.security import HEADERS
from tests.portal.serving import NEVER, Mesh, mesh_of, place

ANSWERS = [
    ("GET", "/", 200),
    ("HEAD", "/healthz", 405),
    ("GET", "/healthz", 200),
    ("GET", "/metrics", 200),
    ("GET", "/api/v1/products", 200),
    ("GET", "/api/openapi.json", 200),
    ("GET", "/static/portal.css", 200),
    ("GET", "/static/portal.js", 200),
    ("GET", "/static/icon.svg", 200),
    ("GET", "/static/nothing", 404),
    ("GET", "/nothing", 404),
    ("GET", "/products/no/such", 404),
    ("GET", "/api/v1/products/no/such", 404),
    ("GET", "/quality?days=many", 422),
    ("GET", "/incidents/0", 422),
    ("PUT", "/quality", 405),
    ("POST", "/sign-out", 303),
]
# What may lie outside of the folder of static files, by every way of writing it that is known.
ESCAPES = [
    "/static/../app.py",
    "/static/%2e%2e/app.py",
    "/static/..%2fapp.py",
    "/static/%2e%2e%2fapp.py",
    "/static/..%5capp.py",
    "/static/....//app.py",
    "/static/%252e%252e/app.py",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/static/portal.css%00.py",
    "/static/",
    "/products/../../etc/passwd",
    "/products/..%2f..%2f..%2fetc/passwd/contract.yaml",
    "/products/%2e%2e/%2e%2e/contract.yaml",
    "/products/shop/..%2f..%2fportal.key/contract.yaml",
    "/products/shop/%00/contract.yaml",
    "/api/v1/products/%2e%2e/%2e%2e/contract",
    "/api/v1/products/shop/..%2f..%2fportal.key/contract",
]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_answer_carries_the_headers(mesh: Mesh, client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, headers=mesh.own, follow_redirects=False)
    assert answer.status_code == status
    assert HEADERS.items() <= {name.title(): value for name, value in answer.headers.items()}.items() | set()
    assert "server" not in answer.headers


def test_a_page_that_fails_carries_them_too_and_tells_no_inner_thing(mesh: Mesh, client: TestClient) -> None:
    mesh.app.add_api_route("/fails", lambda: 1 / 0)
    mesh.app.add_api_route("/api/fails", lambda: 1 / 0)
    for path in ("/fails", "/api/fails"):
        answer = client.get(path)
        assert answer.status_code == 500
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert "ZeroDivision" not in answer.text
        assert "log says why" in answer.text


def test_the_policy_lets_nothing_in() -> None:
    policy = dict(one.strip().split(" ", 1) for one in HEADERS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert all(value in ("'self'", "'none'") for value in policy.values())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "localhost:3001", "LOCALHOST", "[::1]", "[::1]:80"])
def test_it_answers_to_its_names(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1@evil.example"),
        *("evil.example:3001", "[::1", "[::1].evil.example", "", "0.0.0.0", "10.0.0.1", "xn--1-ufa", " "),
    ],
)
def test_it_does_not_answer_to_other_names(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 400
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[::1"},
        {"Referer": "https://evil.example/http://127.0.0.1"},
        {"Origin": "https://evil.example", "Referer": "{own}/"},
    ],
)
@pytest.mark.parametrize(
    "path", ["/sign-in", "/sign-out", "/incidents/1/acknowledge", "/products/operations/flights/quarantine/redrive"]
)
def test_nothing_is_changed_by_other_sites(mesh: Mesh, path: str, headers: dict[str, str]) -> None:
    client = mesh.signed_in()
    given = {name: value.format(own=mesh.settings.portal_address) for name, value in headers.items()}
    assert client.post(path, headers=given, follow_redirects=False).status_code == 403


def test_the_portals_own_pages_may_change_things_and_so_may_their_referrer(mesh: Mesh) -> None:
    for headers in (mesh.own, {"Referer": f"{mesh.settings.portal_address}/quality"}):
        answer = mesh.client().post("/sign-out", headers=headers, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leads_out_of_its_folder(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 422), answer.text
    assert "root:" not in answer.text
    assert "import" not in answer.text


@pytest.mark.parametrize("what", ["x" * 201, "x" * 60_000])
def test_long_values_are_refused(client: TestClient, what: str) -> None:
    assert client.get("/", params={"q": what}).status_code == 422
    assert client.get(f"/products/shop/{what}").status_code in (404, 422)
    assert client.get("/products/shop/never/rule", params={"id": what}).status_code in (404, 422)
    assert client.get("/sign-in", params={"token": what}).status_code in (200, 422)


def test_nobody_is_sent_to_another_host(mesh: Mesh) -> None:
    client = mesh.client(follow_redirects=False)
    for path in ("/products//evil.example/", "/\\evil.example", "/static//evil.example", "/api//evil.example/"):
        place = client.get(path).headers.get("location", mesh.settings.portal_address)
        assert place.startswith(mesh.settings.portal_address)


def test_who_has_not_signed_in_changes_nothing(mesh: Mesh, client: TestClient) -> None:
    domain, name = NEVER.split(".")
    [incident, *_] = mesh.history.incidents()
    for path in (f"/incidents/{incident.id}/acknowledge", f"/products/{domain}/{name}/quarantine/redrive"):
        assert client.post(path, headers=mesh.own).status_code == 401
    assert mesh.history.incident(incident.id) == incident


def test_a_contract_that_is_swapped_for_a_link_serves_no_other_file(tmp_path: Path) -> None:
    file = place(tmp_path / "assets", "shop.orders")
    settings = Settings(home=tmp_path / "home", assets=tmp_path / "assets")
    with mesh_of(settings, days=1) as mesh:
        key = settings.home / "portal.key"
        client = mesh.client()
        pages = ["/products/shop/orders/contract.yaml", "/products/shop/orders/contract"]
        pages += ["/api/v1/products/shop/orders/contract", "/products/shop/orders/use"]
        assert [client.get(path).status_code for path in pages] == [200] * 4
        file.unlink()
        file.symlink_to(key)
        for path in pages:
            answer = client.get(path)
            assert answer.status_code in (200, 409)
            assert key.read_text() not in answer.text
        assert client.get(pages[0]).status_code == 409


def test_a_link_to_a_page_writes_no_words_into_it(client: TestClient) -> None:
    path = "/products/shop/never/quarantine"
    assert "7 events came back" in client.get(path, params={"back": "7", "held": "1"}).text
    for back, held in (("//evil.example", "1"), ("call 555", "1"), ("7", "call 555")):
        answer = client.get(path, params={"back": back, "held": held})
        assert "came back" not in answer.text
        assert "555" not in answer.text
