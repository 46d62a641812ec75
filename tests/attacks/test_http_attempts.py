"""Requests that are meant to get more than they may, as bytes over sockets, to the portal and to Dagster's front."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection

import pytest

from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.settings import Settings
from tests.attacks.collected import Attempt, attempts, by_class, written_out
from tests.portal.serving import NEVER, mesh_of, place, served

CLASSES = by_class(attempts("http.yaml"))
# What an answer must not have: a file of the machine, a change, a way into the program.
TELLING = re.compile(rb"root:x:|AssetWipe|Traceback|\nimport |\"version\":")
COOKIE = re.compile(rb"^set-cookie: ?a=b", re.MULTILINE | re.IGNORECASE)
_STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3}) ", re.MULTILINE)
_MOST_S = 20.0


@dataclass(frozen=True)
class Asked:
    """A server that attempts are made against: its port, a session's cookie, and what of ours its answers may have."""

    port: int
    cookie: str = ""

    def text(self, attempt: Attempt) -> bytes:
        """The request of an attempt, as it goes over the wire."""
        said = written_out(str(attempt.said))
        own = f"http://127.0.0.1:{self.port}"
        for name, value in (("own", own), ("host", own[7:]), ("cookie", self.cookie), ("long", "x" * 60_000)):
            said = said.replace(f"{{{name}}}", value)
        if not attempt.stated.get("raw"):
            head, empty, body = said.partition("\n\n")
            close = "" if "\nConnection:" in head else "\nConnection: close"
            head = head.replace("{length}", str(len(on_the_wire(body))))
            said = f"{head.rstrip()}{close}\n\n{body}" if empty or "HTTP/" in head else f"{head}\n\n"
        return on_the_wire(said)

    def answer(self, attempt: Attempt) -> bytes:
        """All that comes back until the server hangs up, or says nothing for a while."""
        found = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection, suppress(OSError):
            with suppress(OSError):
                connection.sendall(self.text(attempt))
            connection.settimeout(1.0 if attempt.stated.get("raw") else _MOST_S)
            while piece := connection.recv(65_536):
                found += piece
        return found

    def wrong(self, attempt: Attempt) -> str:
        """What is not right of the answer to an attempt, or nothing."""
        began = time.monotonic()
        answer = self.answer(attempt)
        statuses = [int(one) for one in _STATUS.findall(answer)] or [0]
        head = answer.partition(b"\r\n\r\n")[0]
        if any(one not in attempt.stated["right"] for one in statuses):
            return f"it is answered with {statuses}: {answer[:200]!r}"
        if len(statuses) > attempt.stated.get("answers", 1):
            return f"it has {len(statuses)} answers"
        if told := TELLING.search(answer) or COOKIE.search(head):
            return f"the answer has {told[0]!r}"
        places = re.findall(rb"^location: *(.*?)\r?$", head, re.MULTILINE | re.IGNORECASE)
        if any(not self.is_ours(place.decode("latin-1")) for place in places):
            return f"it leads to {places}"
        took = time.monotonic() - began
        return f"it took {took:.0f} s" if took > _MOST_S else ""

    def is_ours(self, place: str) -> bool:
        """Whether an address is one of this server, in whichever way it is read."""
        path = place.removeprefix(f"http://127.0.0.1:{self.port}")
        return path.startswith("/") and not path.startswith(("//", "/\\"))

    def is_well(self) -> bool:
        """Whether it answers others."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_MOST_S)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        finally:
            connection.close()


def on_the_wire(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A portal with a product and a past; nothing in it is another than it was when all is over."""
    folder = tmp_path_factory.mktemp("asked")
    place(folder / "assets", NEVER)
    [port] = free_ports(1)
    with mesh_of(Settings(home=folder / "home", assets=folder / "assets", portal_port=port)) as mesh:
        cookie = mesh.signed_in().cookies["mesh_portal"]
        before = mesh.history.incidents(limit=1000)
        assert before
        with served(mesh.app, port):
            yield Asked(port, f"mesh_portal={cookie}")
        assert mesh.history.incidents(limit=1000) == before
        still = mesh.client()
        still.cookies.set("mesh_portal", cookie)
        assert "Sign out" in still.get("/").text


@pytest.fixture(scope="module")
def dagster(dagster_front: Settings) -> Asked:
    """Dagster's pages without a provider, where who gets through may do everything."""
    return Asked(dagster_front.dagster_port)


@pytest.mark.parametrize(
    ("whom", "kind"), [(whom, kind) for kind, several in CLASSES.items() for whom in several[0].stated["of"]]
)
def test_a_hostile_request_gets_nothing(whom: str, kind: str, request: pytest.FixtureRequest) -> None:
    asked = request.getfixturevalue(whom)
    assert asked.is_well()
    wrong = [f"{attempt}: {found}" for attempt in CLASSES[kind] if (found := asked.wrong(attempt))]
    assert wrong == []
    assert asked.is_well()
