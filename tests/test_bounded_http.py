"""No answer from outside takes more bytes or time than it may, whatever the other side does; servers on loopback."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from mesh_pipelines.bounded_http import BoundedAsyncTransport, Bounds, client_of
from mesh_pipelines.errors import DownloadFailed, SettingInvalid, StorageUnavailable
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.local import jars
from mesh_pipelines.openlineage.delivery import post_to
from mesh_pipelines.settings import Settings
from tests.hostile import HOSTILE, Answer, answering, cut_off, endless_body, packed
from tests.portal.serving import mesh_of, place

_BOUNDS = Bounds(1.0, 1_000_000)
# However busy the machine is.
_MOST_S = 20.0
_MOST_BYTES = 150_000_000


@contextmanager
def frugal() -> Generator[None]:
    """What is done in it ends in time, and takes little memory."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - began < _MOST_S
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < _MOST_BYTES


hostile = pytest.mark.parametrize("answer", HOSTILE, ids=lambda one: one.__name__)


@hostile
def test_a_client_of_ours_gives_up(answer: Answer) -> None:
    with answering(answer) as address, frugal(), client_of(_BOUNDS) as client, pytest.raises(httpx2.TransportError):
        client.get(address)


@hostile
def test_a_client_of_an_event_loop_gives_up(answer: Answer) -> None:
    async def ask(address: str) -> None:
        async with httpx2.AsyncClient(transport=BoundedAsyncTransport(_BOUNDS)) as client:
            await client.get(address)

    with answering(answer) as address, frugal(), pytest.raises(httpx2.TransportError):
        asyncio.run(ask(address))


@hostile
def test_a_jar_is_given_up_on_and_leaves_no_file(
    answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "_TIMEOUT_S", 1)
    jar = jars.Jar("kafka", "a", "b", "1", "jar", "", "0" * 64, 100_000)
    with answering(answer) as address, frugal():
        # The repository of the files; all else is as it is.
        monkeypatch.setattr("jgo.maven._core.DEFAULT_REMOTE_REPOS", {"central": address})
        with pytest.raises(DownloadFailed, match="a:b:1:jar: cannot be fetched"):
            jars._fetch_one(tmp_path, jar)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@hostile
def test_a_provider_is_given_up_on(answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_pipelines.web.sign_in._ANSWER_S", 1.0)
    place(tmp_path / "assets", "shop.hers")
    with answering(answer) as address:
        settings = Settings(home=tmp_path / "home", assets=tmp_path / "assets", oidc_issuer=address, oidc_client_id="x")
        with mesh_of(settings, days=1) as mesh, frugal():
            assert mesh.client().get("/sign-in/provider", follow_redirects=False).status_code == 502


@hostile
def test_a_lineage_backend_is_given_up_on(answer: Answer) -> None:
    with answering(answer) as address, frugal():
        send = post_to(address, "key")
        if answer is cut_off:
            return
        with pytest.raises((OSError, httpx2.TransportError)):
            send(b"{}")


def test_a_body_has_just_the_bytes_it_may_have() -> None:
    def of(size: int) -> Callable[..., None]:
        return lambda client: client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)

    with client_of(_BOUNDS) as client:
        with answering(of(1_000_000)) as address:
            assert len(client.get(address).content) == 1_000_000
        with answering(of(1_000_001)) as address, pytest.raises(httpx2.ReadError, match="more than 1,000,000 bytes"):
            client.get(address)


def test_packed_answers_are_not_asked_for_and_not_taken() -> None:
    asked: list[bytes] = []

    def answer(client: object) -> None:
        packed(client)  # pyright: ignore[reportArgumentType]

    with answering(answer) as address, client_of(_BOUNDS) as client:
        request = client.build_request("GET", address)
        with pytest.raises(httpx2.ReadError, match="packed"):
            client.send(request)
        asked.append(request.headers["accept-encoding"].encode())
    assert asked == [b"identity"]


def test_each_request_has_a_budget_of_its_own() -> None:
    """Connections are kept: what one request took is not charged to the next."""

    def answer(client: object) -> None:
        for _ in range(20):
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000)  # pyright: ignore
            client.recv(65_536)  # pyright: ignore

    with answering(answer) as address, client_of(Bounds(5.0, 1_000_000)) as client:
        for _ in range(10):
            assert len(client.get(address).content) == 900_000


def test_a_name_without_an_address_is_a_transport_error() -> None:
    with client_of(_BOUNDS) as client, pytest.raises(httpx2.TransportError):
        client.get("http://nothing.invalid")


def test_redirects_and_proxies_of_the_environment_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(client: object) -> None:
        client.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")  # pyright: ignore

    with answering(endless_body) as proxy, answering(answer) as address, client_of(_BOUNDS) as client:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        assert client.get(address).status_code == 302


@hostile
def test_a_rest_catalog_is_given_up_on(answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_pipelines.lake.rest._BOUNDS", _BOUNDS)
    with answering(answer) as address, frugal(), pytest.raises((StorageUnavailable, SettingInvalid)):
        open_catalog(Settings(home=tmp_path, catalog_uri=address))


def test_a_rest_catalog_that_answers_is_used(tmp_path: Path) -> None:
    asked: list[bytes] = []

    def answer(client: object) -> None:
        body = b'{"defaults": {}, "overrides": {}, "namespaces": [["shop"]]}'
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + body)  # pyright: ignore

    with answering(answer) as address:
        catalog = open_catalog(Settings(home=tmp_path, catalog_uri=address))
        asked.append(str(catalog.list_namespaces()).encode())
    assert asked == [b"[('shop',)]"]
