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


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_answer_carries_the_headers(mesh: Mesh, client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, headers=mesh.own, follow_redirects=False)
    assert answer.status_code == status
    kept = {"Cache-Control": "public, max-age=3600"} if path.startswith("/static/") and status == 200 else {}
    assert {**HEADERS, **kept}.items() <= {name.title(): value for name, value in answer.headers.items()}.items()
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


def test_the_portals_own_pages_may_change_things_and_so_may_their_referrer(mesh: Mesh) -> None:
    for headers in (mesh.own, {"Referer": f"{mesh.settings.portal_address}/quality"}):
        answer = mesh.client().post("/sign-out", headers=headers, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


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
