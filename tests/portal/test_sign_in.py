"""Signing in: by the development link on loopback, and by a provider that speaks OpenID Connect, here a small one."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from joserfc.jwk import RSAKey
from starlette.requests import Request
from starlette.testclient import TestClient

from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.server import log_who_asks
from mesh_pipelines.web.sessions import Sessions, User
from mesh_pipelines.web.sign_in import DevelopmentLink, provider, secret_key
from tests.portal.provider import CLIENT, SECRET, Provider
from tests.portal.serving import Mesh, mesh_of, place, served


@pytest.fixture(scope="module")
def issuer() -> Iterator[Provider]:
    found = Provider(free_ports(1)[0])
    with served(found.app, found.port):
        yield found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, issuer: Provider) -> Iterator[Mesh]:
    """A portal that trusts the provider; ann@example.com is the team of shop.hers, bob@example.com that of shop.his."""
    folder = tmp_path_factory.mktemp("guarded")
    place(folder / "assets", "shop.hers")
    place(folder / "assets", "shop.his", owner="bob@example.com")
    settings = Settings(
        home=folder / "home",
        assets=folder / "assets",
        oidc_issuer=issuer.issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
    )
    with mesh_of(settings, days=2) as found:
        yield found


@pytest.fixture
def provided(issuer: Provider) -> Provider:
    issuer.reset()
    return issuer


def to_callback(client: TestClient) -> str:
    """Go to the provider and back as far as the callback's address."""
    away = client.get("/sign-in/provider", follow_redirects=False)
    assert away.status_code == 302
    asked = parse_qs(urlsplit(away.headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["scope"] == ["openid email profile"]
    back = requests.get(away.headers["location"], allow_redirects=False, timeout=10)
    place = urlsplit(back.headers["location"])
    return f"{place.path}?{place.query}"


def sign_in(client: TestClient) -> int:
    return client.get(to_callback(client), follow_redirects=False).status_code


def may_redrive(mesh: Mesh, client: TestClient, fqn: str) -> bool:
    """Whether it is let through; its tables are not there, which is said afterwards."""
    path = f"/products/{fqn.replace('.', '/')}/quarantine/redrive"
    status = client.post(path, headers=mesh.own, follow_redirects=False).status_code
    assert status in (401, 403, 404)
    return status == 404


def test_someone_of_the_team_may_act_for_it_and_for_no_other(guarded: Mesh, provided: Provider) -> None:
    client = guarded.client()
    assert not may_redrive(guarded, client, "shop.hers")
    assert sign_in(client) == 303
    assert "Sign out Ann" in client.get("/").text
    assert may_redrive(guarded, client, "shop.hers")
    assert not may_redrive(guarded, client, "shop.his")
    assert client.post("/sign-out", headers=guarded.own, follow_redirects=False).status_code == 303
    assert "Sign out" not in client.get("/").text
    assert not may_redrive(guarded, client, "shop.hers")


@pytest.mark.parametrize("verified", [False, "false", "False", None, 0])
def test_an_address_that_is_not_verified_is_nobodys(guarded: Mesh, provided: Provider, verified: object) -> None:
    provided.claims["email_verified"] = verified
    client = guarded.client()
    assert sign_in(client) == 303
    assert not may_redrive(guarded, client, "shop.hers")


@pytest.mark.parametrize("verified", [True, "true"])
def test_one_that_is_verified_is_trusted(guarded: Mesh, provided: Provider, verified: object) -> None:
    provided.claims["email_verified"] = verified
    client = guarded.client()
    assert sign_in(client) == 303
    assert may_redrive(guarded, client, "shop.hers")


@pytest.mark.parametrize("claims", [{"sub": "1"}, {"sub": "1", "email": ""}, {"sub": "1", "email": None}])
def test_who_has_no_address_is_on_no_team(guarded: Mesh, provided: Provider, claims: dict[str, Any]) -> None:
    provided.claims = claims
    client = guarded.client()
    assert sign_in(client) == 303
    assert not may_redrive(guarded, client, "shop.hers")


@pytest.mark.parametrize(
    "more",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"exp": 1},
        {"nonce": "another"},
        {"nonce": None},
        {"sub": ""},
    ],
)
def test_a_token_that_is_not_for_this_is_refused(guarded: Mesh, provided: Provider, more: dict[str, Any]) -> None:
    provided.more = more
    client = guarded.client()
    assert sign_in(client) == 403
    assert "Sign out" not in client.get("/").text


def test_a_token_of_another_key_is_refused(guarded: Mesh, provided: Provider) -> None:
    provided.signed_with = RSAKey.generate_key(2048, {"kid": "one"}, private=True)
    assert sign_in(guarded.client()) == 403
    provided.header = {"alg": "RS256", "kid": "two"}
    assert sign_in(guarded.client()) == 403


def test_a_callback_is_good_once_and_in_the_browser_that_asked(guarded: Mesh, provided: Provider) -> None:
    client = guarded.client()
    callback = to_callback(client)
    assert guarded.client().get(callback).status_code == 403
    assert client.get(callback, follow_redirects=False).status_code == 303
    assert client.get(callback).status_code == 403


@pytest.mark.parametrize("query", ["", "code=x", "state=x", "code=x&state=x", "error=access_denied&state=x"])
def test_a_callback_of_nobody_is_refused(guarded: Mesh, query: str) -> None:
    assert guarded.client().get(f"/sign-in/callback?{query}").status_code == 403


def test_there_is_no_development_user_beside_a_provider(guarded: Mesh) -> None:
    forged = URLSafeTimedSerializer(secret_key(guarded.settings), salt="portal sign-in link").dumps("development")
    client = guarded.client()
    assert client.post("/sign-in", data={"token": forged}, headers=guarded.own).status_code == 403
    assert "Sign in with your organisation" in client.get("/sign-in").text


@pytest.mark.parametrize("said", ["unreachable", "another"])
def test_a_provider_that_is_not_what_it_should_be(tmp_path: Path, issuer: Provider, said: str) -> None:
    place(tmp_path / "assets", "shop.hers")
    port = free_ports(1)[0]
    address = f"http://127.0.0.1:{port}" if said == "unreachable" else f"http://localhost:{issuer.port}"
    settings = Settings(home=tmp_path / "home", assets=tmp_path / "assets", oidc_issuer=address, oidc_client_id=CLIENT)
    with mesh_of(settings, days=1) as mesh:
        answer = mesh.client().get("/sign-in/provider", follow_redirects=False)
        assert answer.status_code == 502
        assert address in answer.text


def test_a_provider_needs_a_client_id(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="MESH_OIDC_CLIENT_ID"):
        provider(Settings(home=tmp_path, oidc_issuer="https://issuer.example"))


def test_without_a_provider_its_pages_are_not_there(mesh: Mesh, client: TestClient) -> None:
    for path in ("/sign-in/provider", "/sign-in/callback?code=x&state=x"):
        assert client.get(path, follow_redirects=False).status_code == 404


def test_the_development_link_signs_in_by_a_button_only(mesh: Mesh) -> None:
    client = mesh.client()
    token = DevelopmentLink(mesh.settings).token()
    shown = client.get("/sign-in", params={"token": token})
    assert "Sign in as the development user" in shown.text
    assert "Sign out" not in client.get("/").text
    done = client.post("/sign-in", data={"token": token}, headers=mesh.own, follow_redirects=False)
    assert done.status_code == 303
    cookie = done.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie
    assert "Sign out development" in client.get("/").text


def test_over_https_the_cookie_is_sent_by_https_only(tmp_path: Path) -> None:
    place(tmp_path / "assets", "shop.hers")
    settings = Settings(home=tmp_path / "home", assets=tmp_path / "assets", portal_url="https://mesh.example")
    with mesh_of(settings, days=1) as mesh:
        token = mesh.app.state.portal.sign_in.development.token()
        done = mesh.client().post("/sign-in", data={"token": token}, headers=mesh.own, follow_redirects=False)
        assert "secure" in done.headers["set-cookie"].lower()
        assert done.headers["set-cookie"].startswith("__Host-mesh_portal=")
        assert done.headers["strict-transport-security"] == "max-age=31536000"


def test_who_signs_in_and_out_and_what_they_are_refused_is_logged(
    guarded: Mesh, provided: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provided.claims["email"] = "ann@example.com"
    client = guarded.client()
    with caplog.at_level(logging.INFO, "mesh_pipelines.web"):
        client.get("/sign-in/callback?error=access_denied", follow_redirects=False)
        assert sign_in(client) == 303
        path = "/products/shop/his/quarantine/redrive"
        assert client.post(path, headers=guarded.own, follow_redirects=False).status_code == 403
        client.post("/sign-out", headers=guarded.own, follow_redirects=False)
        # Nobody who has not signed in can fill a disk with lines.
        assert client.post(path, headers=guarded.own, follow_redirects=False).status_code in (401, 403)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("mesh_pipelines.web")]
    name = repr(provided.claims.get("name", "ann@example.com"))
    assert said == [
        f"not signed in by {provided.issuer}: access_denied",
        f"signed in: {name} by {provided.issuer}",
        f"refused: {name} asked for {path!r}",
        f"signed out: {name}",
    ]


def test_the_log_of_sign_ins_goes_to_standard_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = logging.getLogger("mesh_pipelines.web")
    before, level = list(log.handlers), log.level
    try:
        log_who_asks()
        sessions = Sessions(tmp_path, "https://login.example.org", development=False)
        request = Request({"type": "http", "headers": [], "session": {}})
        sessions.begin(request, User("a\nb", frozenset()), "https://login.example.org")
        [line] = capsys.readouterr().err.splitlines()
        assert re.fullmatch(r"[\d-]{10} [\d:,]{12} signed in: 'a\\nb' by https://login.example.org", line)
    finally:
        log.handlers, log.level = before, level


def test_links_that_are_forged_or_of_another_portal_are_refused(mesh: Mesh, tmp_path: Path) -> None:
    other = DevelopmentLink(Settings(home=tmp_path)).token()
    key = secret_key(mesh.settings)
    another_use = URLSafeTimedSerializer(key, salt="another use").dumps("development")
    another_user = URLSafeTimedSerializer(key, salt="portal sign-in link").dumps("root")
    good = mesh.app.state.portal.sign_in.development.token()
    for token in ("", "x", other, another_use, another_user, good[:-1], f"{good}x", good.swapcase()):
        client = mesh.client()
        assert client.post("/sign-in", data={"token": token}, headers=mesh.own).status_code in (403, 422)
        assert "development user" not in client.get("/sign-in", params={"token": token}).text


def test_a_link_is_good_for_an_hour(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    token = mesh.app.state.portal.sign_in.development.token()
    now = time.time()
    for later, status in ((3590, 303), (3700, 403)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        done = mesh.client().post("/sign-in", data={"token": token}, headers=mesh.own, follow_redirects=False)
        assert done.status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "mesh.example"])
def test_there_is_no_link_where_others_can_reach_the_portal(tmp_path: Path, host: str) -> None:
    link = DevelopmentLink(Settings(home=tmp_path, host=host))
    assert not link.allowed
    assert not link.accepts(link.token())


def test_a_session_that_was_changed_is_none(mesh: Mesh) -> None:
    client = mesh.signed_in()
    assert "Sign out" in client.get("/").text
    name, value = "mesh_portal", client.cookies["mesh_portal"].strip('"')
    for changed in (value[:-2] + "aa", "x" + value, base64.b64encode(b'{"user": {"name": "x", "names": []}}').decode()):
        other = mesh.client()
        other.cookies.set(name, changed)
        assert "Sign out" not in other.get("/").text


def test_the_key_is_its_owners_alone_and_long(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    key = secret_key(settings)
    assert secret_key(settings) == key
    file = settings.home / "portal.key"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("short")
    with pytest.raises(SettingInvalid):
        secret_key(settings)


def with_cookie(mesh: Mesh, cookie: str) -> TestClient:
    """A client that has a copy of a cookie."""
    client = mesh.client()
    client.cookies.set("mesh_portal", cookie)
    return client


def test_a_copy_of_the_cookie_is_worth_nothing_after_signing_out(mesh: Mesh) -> None:
    client = mesh.signed_in()
    cookie = client.cookies["mesh_portal"].strip('"')
    assert "Sign out" in with_cookie(mesh, cookie).get("/").text
    client.post("/sign-out", headers=mesh.own)
    assert "Sign out" not in with_cookie(mesh, cookie).get("/").text


def test_a_session_of_the_development_link_is_worth_nothing_beside_a_provider(tmp_path: Path, issuer: Provider) -> None:
    place(tmp_path / "assets", "shop.hers")
    settings = Settings(home=tmp_path / "home", assets=tmp_path / "assets")
    with mesh_of(settings, days=1) as before:
        cookie = before.signed_in().cookies["mesh_portal"].strip('"')
    provided = settings.model_copy(update={"oidc_issuer": issuer.issuer, "oidc_client_id": CLIENT})
    with mesh_of(provided, days=1) as after:
        client = with_cookie(after, cookie)
        assert "Sign out" not in client.get("/").text
        assert not may_redrive(after, client, "shop.hers")


def test_a_cookie_signed_with_a_stolen_key_names_no_session(mesh: Mesh) -> None:
    user = {"user": {"name": "x", "names": [], "everything": True}, "session": "x" * 43}
    data = base64.b64encode(json.dumps(user).encode())
    forged = TimestampSigner(secret_key(mesh.settings)).sign(data).decode()
    assert "Sign out" not in with_cookie(mesh, forged).get("/").text
