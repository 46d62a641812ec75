"""What stands in front of a registry: redirects, sign-in pages, rate limits, TLS; each is named, with what to do."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mesh_pipelines.errors import EnvironmentFault, MeshError, NotAuthorized, RegistryUnreachable
from mesh_pipelines.kafka.registry import Registry
from mesh_pipelines.settings import Settings
from tests.kafka.registry_server import Instead, RegistryServer, registry_server

SCHEMA = {"schema": json.dumps({"type": "record", "name": "r", "fields": []})}
HTML = {"content-type": "text/html"}


def of(url: str, **more: Any) -> Registry:
    return Registry(Settings(schema_registry_url=url, timeout_s=3.0, **more))


def always(status: int, headers: dict[str, str], body: bytes = b"") -> Instead:
    return lambda _method, _path: (status, headers, body)


def elsewhere(server: RegistryServer) -> Instead:
    target = server.url.replace("http:", "https:")
    return lambda _method, path: (307, {"location": f"{target}{path}?token=secret"}, b"")


# What answers, what is said of it, what to do, and whether it may pass.
ANSWERS = {
    "redirect": (elsewhere, r"GET http://.*/schemas/ids/1: it redirects to https://.*/schemas/ids/1 \(HTTP 307\)",
                 r"set MESH_SCHEMA_REGISTRY_URL=https://127.0.0.1:\d+$", False),
    "sign-in page": (lambda _: always(200, HTML, b"<title>Sign in</title>"),
                     r"none of a schema registry \(HTTP 200, text/html, '<title>Sign in</title>'\)",
                     "to the registry itself", False),
    "no page": (lambda _: always(404, HTML, b"<h1>404</h1>"), r"none of a schema registry \(HTTP 404", "itself", False),
    "wrong path": (lambda _: always(404, {}, b'{"error_code": 404, "message": "HTTP 404 Not Found"}'),
                   r"no registry's API at this path", "/apis/ccompat/v7", False),
    "other JSON": (lambda _: always(200, {}, b'{"status": "up"}'), "none of a registry: it has no schema",
                   "Confluent's API", False),
    "a list": (lambda _: always(200, {}, b"[1]"), "none of a registry", "Confluent's API", False),
    "no password": (lambda _: always(401, {}, b'{"error_code": 401}'), "does not accept the credentials",
                    "basic.auth.user.info", False),
    "no right": (lambda _: always(403, HTML, b"<h1>no</h1>"), r"does not let this user do that \(HTTP 403\)",
                 "ask for the right", False),
    "rate limit": (lambda _: always(429, {"retry-after": "600"}, b"{}"), r"asks to come back in 600 s \(HTTP 429\)",
                   "higher rate limit", True),
    "rate limit without a time": (lambda _: always(429, {}, b"{}"), "asked too often", "check", True),
    "gateway": (lambda _: always(502, HTML, b"<h1>bad gateway</h1>"), r"fails \(HTTP 502\)", "check", True),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_what_stands_in_front_of_a_registry_is_named(name: str) -> None:
    answer, said, step, passes = ANSWERS[name]
    with registry_server() as server:
        server.instead = answer(server)
        with pytest.raises(EnvironmentFault, match=said) as raised:
            of(server.url).schema(1)
    assert raised.value.transient is passes
    assert re.search(step, str(raised.value.next_step))
    assert "secret" not in str(raised.value)
    assert isinstance(raised.value, NotAuthorized) is (name in ("no password", "no right"))


def test_a_short_wait_is_waited_and_asked_again() -> None:
    asked: list[float] = []

    def once(_method: str, _path: str) -> tuple[int, dict[str, str], bytes] | None:
        asked.append(time.monotonic())
        return (429, {"retry-after": "1"}, b"{}") if len(asked) == 1 else None

    with registry_server() as server:
        number = server.add("s", SCHEMA)
        server.instead = once
        assert of(server.url).schema(number).text == SCHEMA["schema"]
    assert len(asked) == 2
    assert asked[1] - asked[0] >= 1


def test_the_second_address_answers_where_the_first_does_not() -> None:
    with registry_server() as first, registry_server(prefix="/behind/a/gateway") as second:
        number = second.add("s", SCHEMA)
        for instead in (elsewhere(first), always(200, HTML, b"<p>"), always(503, {}, b"")):
            first.instead = instead
            assert of(f"{first.url}, {second.url}/").schema(number)
        assert second.asked[0] == f"GET /behind/a/gateway/schemas/ids/{number}"
    with pytest.raises(RegistryUnreachable, match="does not answer"):
        of(f"{first.url},{second.url}").schema(1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of a private CA's kind, its key in the same file."""
    file = tmp_path_factory.mktemp("tls") / "registry.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=registry -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


def test_tls_says_whose_certificate_and_what_to_set(certificate: Path) -> None:
    with registry_server(certificate) as server, registry_server() as plain:
        number = server.add("s", SCHEMA)
        untrusted = r"TLS fails: its certificate is not trusted \(self.signed certificate\)"
        wrong = {
            server.url: (untrusted, "ssl.ca.location in MESH_SCHEMA_REGISTRY_CONFIG"),
            plain.url.replace("http:", "https:"): ("TLS fails: ", "write http://"),
        }
        for url, (said, step) in wrong.items():
            with pytest.raises(EnvironmentFault, match=said) as raised:
                of(url).schema(number)
            assert step in str(raised.value.next_step), url
            assert not raised.value.transient
        trusted = of(server.url, schema_registry_config={"ssl.ca.location": f"{certificate}.crt"})
        assert trusted.schema(number).text == SCHEMA["schema"]


def test_a_registry_that_takes_no_changes_says_so() -> None:
    with registry_server() as server:
        number = server.add("s", SCHEMA)
        server.read_only = True
        registry = of(server.url)
        assert registry.registered_id("s", SCHEMA["schema"], "AVRO") == number
        for change in (
            lambda: registry.register("t", SCHEMA["schema"], "AVRO"),
            lambda: registry.set_compatibility("t", "FULL"),
        ):
            with pytest.raises(MeshError, match="takes no changes") as raised:
                change()
            assert not raised.value.transient
