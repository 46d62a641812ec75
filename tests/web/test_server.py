"""A client that holds on to a server: it goes on answering others. Raw sockets, against the real server."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from mesh_pipelines.local.supervisor import answers, free_ports

ROOT = Path(__file__).parents[2]
_SERVE = """
import sys
from fastapi import FastAPI, Request
from fastapi.responses import Response
from mesh_pipelines.web.server import Limits, server_of
from mesh_pipelines.web.security import Guard, HEADERS, Rules

app = FastAPI()

@app.get("/")
def home(): return "here"

@app.get("/large")
def large(): return Response(b"x" * 16_000_000)

@app.post("/")
async def take(request: Request): return len(await request.body())

app.add_middleware(Guard, rules=Rules(frozenset(), HEADERS, most_body=100_000))
limits = Limits(head_s=float(sys.argv[2]), body_s=2.0, write_s=2.0)
server_of(app, "127.0.0.1", int(sys.argv[1]), limits).run()
"""


class Server:
    """A running server, its port and its process."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def get(self) -> int:
        """Ask as another client does; gives the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        finally:
            connection.close()

    def post(self, size: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("POST", "/", b"x" * size, {"Origin": f"http://127.0.0.1:{self.port}"})
            return connection.getresponse().status
        finally:
            connection.close()

    @property
    def memory(self) -> int:
        """Bytes of its memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(head_s: float = 30.0) -> Iterator[Server]:
    [port] = free_ports(1)
    with serving([sys.executable, "-c", _SERVE, str(port), str(head_s)], port, os.environ) as found:
        yield found


@contextmanager
def serving(argv: list[str], port: int, environment: Mapping[str, str]) -> Iterator[Server]:
    """A process that serves at a port, and may open 256 files."""
    argv = ["bash", "-c", 'ulimit -n 256; exec "$@"', "limited", *argv]
    process = subprocess.Popen(argv, cwd=ROOT, close_fds=True, env=environment)
    try:
        deadline = time.monotonic() + 60
        while not answers("127.0.0.1", port):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
        yield Server(port, process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    """A server that gives a head one second."""
    with running(1.0) as found:
        yield found


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The portal's own process, which may open 256 files."""
    folder = tmp_path_factory.mktemp("portal")
    (folder / "assets").mkdir()
    [port] = free_ports(1)
    environment = {
        **os.environ,
        "MESH_CONFIG": os.devnull,
        "MESH_HOME": str(folder / "home"),
        "MESH_ASSETS": str(folder / "assets"),
        "MESH_PORTAL_PORT": str(port),
    }
    argv = [sys.executable, "-m", "mesh_pipelines", "portal", "--no-observe"]
    with serving(argv, port, environment) as found:
        yield found


def test_the_portal_goes_on_answering_whatever_is_held(portal: Server) -> None:
    with ExitStack() as stack:
        for number in range(900):
            attacker = stack.enter_context(portal.connect())
            with suppress(OSError):
                attacker.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " if number % 3 else b"")
            if number % 100 == 99:
                assert portal.get() == 200
    with portal.connect() as attacker, pytest.raises((ConnectionError, TimeoutError)):
        attacker.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(300):
            attacker.sendall(b"X: " + b"x" * 1_000_000)
    assert portal.get() == 200


def read_all(connection: socket.socket) -> bytes:
    """What is answered until the server hangs up."""
    found = b""
    try:
        while piece := connection.recv(65_536):
            found += piece
    except ConnectionError:
        pass
    return found


def test_a_head_without_end_is_refused_at_once(server: Server) -> None:
    before, sent = server.memory, 0
    with server.connect() as attacker:
        attacker.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        with pytest.raises((ConnectionError, TimeoutError)):
            while sent < 300_000_000:
                sent += attacker.send(b"X: " + b"x" * 1_000_000)
    assert sent < 10_000_000
    assert server.memory - before < 20_000_000
    assert server.get() == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(200)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 60_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 60_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
    ids=["many headers", "a long header", "a long address"],
)
def test_a_large_head_is_refused_with_its_status(server: Server, head: bytes) -> None:
    with server.connect() as client:
        client.sendall(head)
        assert read_all(client).startswith(b"HTTP/1.1 431 ")
    assert server.get() == 200


def test_one_of_a_sensible_size_is_answered(server: Server) -> None:
    with server.connect() as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 200) for n in range(90))
            + b"\r\n"
        )
        assert read_all(client).startswith(b"HTTP/1.1 200 ")


def test_half_sent_requests_leave_it_answering_others(server: Server) -> None:
    with ExitStack() as stack:
        held = 0
        for _ in range(900):
            attacker = stack.enter_context(server.connect())
            try:
                attacker.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
                held += 1
            except OSError:
                continue
            if held % 100 == 0:
                assert server.get() == 200
        assert server.get() == 200


def test_open_sockets_that_say_nothing_leave_it_answering_others(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(server.connect())
        for _ in range(5):
            assert server.get() == 200


def test_clients_that_do_not_read_leave_it_answering_others(server: Server) -> None:
    with ExitStack() as stack:
        for number in range(140):
            attacker = stack.enter_context(server.connect())
            try:
                attacker.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            except OSError:
                continue
            if number % 30 == 0:
                assert server.get() == 200
        assert server.get() == 200


def test_a_client_that_does_not_read_is_cut_off(hasty: Server) -> None:
    with hasty.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        deadline = time.monotonic() + 20
        received = client.recv(100)
        time.sleep(4)
        while time.monotonic() < deadline:
            try:
                piece = client.recv(1_000_000)
            except ConnectionError:
                break
            if not piece:
                break
            received += piece
        assert len(received) < 16_000_000


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", b"x"),
        (b"", b""),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nContent-Length: 1000\r\n\r\n", b"x"),
    ],
    ids=["a head by the byte", "nothing", "a body by the byte"],
)
def test_a_request_that_takes_too_long_is_ended(hasty: Server, begin: bytes, drip: bytes) -> None:
    with hasty.connect() as client:
        client.sendall(begin)
        client.settimeout(0.2)
        began, answer = time.monotonic(), b""
        while time.monotonic() - began < 15:
            try:
                client.sendall(drip)
                piece = client.recv(1000)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            answer += piece
            if not piece:
                break
        assert time.monotonic() - began < 15
        assert not answer or answer.startswith(b"HTTP/1.1 408 ")


def test_a_body_has_a_limit_whatever_it_says_of_its_length(server: Server) -> None:
    assert server.post(100_000) == 200
    assert server.post(100_001) == 413
    with server.connect() as client:
        origin = b"Origin: http://127.0.0.1\r\n"
        client.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + origin + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(200):
                client.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        except ConnectionError:
            pass
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_several_requests_of_one_connection_are_answered(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    for _ in range(3):
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b'"here"')
    connection.close()
