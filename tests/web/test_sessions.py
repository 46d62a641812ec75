"""Sessions end where they are kept: by signing out, by time, and with the way to sign in that they began by."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from starlette.requests import Request

from mesh_pipelines.web.security import path_of_ours
from mesh_pipelines.web.sessions import SECONDS, Sessions, User
from mesh_pipelines.web.sign_in import names_in

ANN = User("Ann", frozenset({"ann@example.com"}))
ISSUER = "https://login.example.org"


def request_of(cookie: dict[str, object] | None = None) -> Request:
    return Request({"type": "http", "headers": [], "session": dict(cookie or {})})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def begun(sessions: Sessions, user: User = ANN, issuer: str | None = ISSUER) -> dict[str, object]:
    """The content of a new session's cookie."""
    request = request_of()
    sessions.begin(request, user, issuer)
    return dict(request.session)


def test_a_copy_of_the_cookie_is_worth_nothing_once_its_user_has_signed_out(home: Path) -> None:
    sessions = Sessions(home, ISSUER, development=False)
    cookie = begun(sessions)
    copy = dict(cookie)
    assert sessions.user(request_of(copy)) == ANN
    sessions.end(request_of(cookie))
    assert sessions.user(request_of(copy)) is None


def test_two_processes_share_sessions_and_their_end(home: Path) -> None:
    one, other = (Sessions(home, ISSUER, development=False) for _ in range(2))
    cookie = begun(one)
    assert other.user(request_of(cookie)) == ANN
    other.end(request_of(cookie))
    assert one.user(request_of(cookie)) is None


def test_a_session_of_the_development_link_ends_when_a_provider_is_configured(home: Path) -> None:
    before = Sessions(home, None, development=True)
    cookie = begun(before, User("development", frozenset(), everything=True), None)
    assert before.user(request_of(cookie)) is not None
    assert Sessions(home, ISSUER, development=False).user(request_of(cookie)) is None


@pytest.mark.parametrize("issuer", [None, "https://another.example.org"])
def test_a_session_of_a_provider_ends_when_another_is_configured_or_none(home: Path, issuer: str | None) -> None:
    cookie = begun(Sessions(home, ISSUER, development=False))
    assert Sessions(home, issuer, development=issuer is None).user(request_of(cookie)) is None


def test_a_session_lasts_half_a_day_however_much_it_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(home, ISSUER, development=False)
    cookie = begun(sessions)
    now = time.time()
    for later, there in ((SECONDS - 60, True), (SECONDS + 60, False)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert (sessions.user(request_of(cookie)) is not None) == there


def test_signing_in_again_ends_the_session_before(home: Path) -> None:
    sessions = Sessions(home, ISSUER, development=False)
    request = request_of(begun(sessions))
    before = dict(request.session)
    sessions.begin(request, ANN, ISSUER)
    assert request.session != before
    assert sessions.user(request_of(before)) is None


@pytest.mark.parametrize(
    "cookie", [{}, {"session": ""}, {"session": "x"}, {"session": "../portal.key"}, {"session": 1}, {"user": "ann"}]
)
def test_a_cookie_that_names_no_session_is_nobodys(home: Path, cookie: dict[str, object]) -> None:
    sessions = Sessions(home, ISSUER, development=False)
    begun(sessions)
    assert sessions.user(request_of(cookie)) is None
    sessions.end(request_of(cookie))


def test_a_cookie_that_claims_to_be_someone_is_nobodys(home: Path) -> None:
    cookie = {"user": {"name": "x", "names": [], "everything": True}}
    assert Sessions(home, ISSUER, development=False).user(request_of(cookie)) is None


def test_sessions_are_their_owners_alone_and_their_names_are_not_in_the_folder(home: Path) -> None:
    cookie = begun(Sessions(home, ISSUER, development=False))
    folder = home / "sessions"
    [file] = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600
    assert str(cookie["session"]) not in f"{file} {file.read_text()}"


def test_what_has_ended_by_itself_is_removed(home: Path) -> None:
    sessions = Sessions(home, ISSUER, development=False)
    begun(sessions)
    [old] = (home / "sessions").iterdir()
    os.utime(old, (1, 1))
    begun(sessions)
    assert not old.exists()
    assert len([*(home / "sessions").iterdir()]) == 1


def test_a_claim_of_several_values_gives_all_of_them_as_names() -> None:
    claims = {"sub": "1", "name": "Ann", "groups": ["data", "platform", None]}
    assert names_in(claims, "groups") == ("Ann", ["data", "platform"])


@pytest.mark.parametrize("path", ["/", "/runs", "/assets/shop/orders?view=lineage&q=a%20b", "/products/shop/orders"])
def test_a_path_of_ours_is_gone_back_to(path: str) -> None:
    assert path_of_ours(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "runs", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\\/evil.example"),
        *("https://evil.example", "javascript:alert(1)", "/\t/evil.example", "/\n/evil.example", "\t//evil.example"),
        *("/%2fevil.example", "/%2Fevil.example", "/%5cevil.example", "/%5Cevil.example", "/%252fevil.example"),
        *("/%09/evil.example", "/%0a/evil.example", "/%0d%0aLocation:x", "/a/..//evil.example", "/../x", "/%2e%2e/x"),
        *("/a//evil.example", "/\x00", "/é", "/ x", "/x\r\ny", "/%00", "/%25252fevil.example"),
    ],
)
def test_a_path_that_leads_elsewhere_is_not(path: str) -> None:
    assert path_of_ours(path) == "/"
