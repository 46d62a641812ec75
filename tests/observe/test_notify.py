"""Owners are told, by real servers: once, of what is over too, and again where a message did not arrive."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from mesh_pipelines.contract.model import SupportChannel
from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.observe.measure import Memory
from mesh_pipelines.observe.notify import Courier, notify
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.writer import Finding
from mesh_pipelines.settings import Settings
from tests.hostile import Answer, answering, endless_body

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


class Web:
    """An HTTP server that keeps what is posted to it and answers as it is told."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.status = 200
        self.hold = threading.Event()
        self.hold.set()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.hold.wait(20)
                web.posted.append({"path": self.path, **json.loads(body)})
                self.send_response(web.status)
                self.send_header("Location", f"{web.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Mails:
    """What a mail server took in, and who signed in to it."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, list[str], Message]] = []
        self.signed_in: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.taken.append((envelope.mail_from, envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.signed_in.append(f"{data.login.decode()}:{data.password.decode()}")
        return AuthResult(success=True)


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.hold.set()
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def mails() -> Iterator[tuple[Mails, int]]:
    handler, [port] = Mails(), free_ports(1)
    controller = Controller(
        handler, hostname="127.0.0.1", port=port, authenticator=handler.authenticate, auth_require_tls=False
    )
    controller.start()
    yield handler, port
    controller.stop()


@pytest.fixture
def local_settings(local_settings: Settings) -> Settings:
    """With hooks on this machine, which have to be allowed by name."""
    return local_settings.model_copy(update={"notify_allow": "127.0.0.1, @example.com, @example.org, @b.c"})


@pytest.fixture
def history(local_settings: Settings) -> Iterator[History]:
    opened = History.open(local_settings)
    yield opened
    opened.close()


def named(history: History, *channels: SupportChannel, product: str = "shop.orders") -> None:
    """Channels as the observer notes them."""
    with history.writing() as writer:
        writer.memory(product, msgspec.json.encode(Memory(channels=channels)).decode())


def webhook(url: str, scope: str = "notifications", tool: str = "webhook") -> SupportChannel:
    return SupportChannel("ops", url, tool, scope)


def opened(history: History, subject: str = "some", product: str = "shop.orders", severity: Any = "bad") -> int:
    title = f"version 2 is blocked by {subject}"
    finding = Finding("blocked", subject, title, "3 of 9 rows", severity, NOW - timedelta(minutes=1), 2)
    with history.writing() as writer:
        return writer.open(product, finding, NOW)


def closed(history: History, number: int, at: datetime) -> None:
    with history.writing() as writer:
        writer.close(number, at)


def test_an_incident_is_told_once_with_a_link_and_so_is_its_end(
    web: Web, history: History, local_settings: Settings
) -> None:
    named(history, webhook(f"{web.url}/hook"))
    number = opened(history)
    settings = local_settings.model_copy(update={"portal_url": "https://portal.example/"})
    for seconds in (0, 10, 3600):
        notify(history, settings, NOW + timedelta(seconds=seconds))
    [told] = web.posted
    assert told["path"] == "/hook"
    assert told["link"] == f"https://portal.example/incidents/{number}"
    assert told["link"] in told["text"]
    assert "version 2 is blocked by some" in told["text"]
    assert [one["state"] for one in told["incidents"]] == ["open"]
    assert history.incident(number).told_at == NOW  # type: ignore[union-attr]
    closed(history, number, NOW + timedelta(hours=2))
    for hours in (2, 3):
        notify(history, settings, NOW + timedelta(hours=hours))
    assert [one["state"] for one in web.posted[1]["incidents"]] == ["closed"]
    assert "over: version 2" in web.posted[1]["text"]
    assert len(web.posted) == 2


def test_what_goes_on_is_told_again_after_a_day_until_somebody_says_they_know(
    web: Web, history: History, local_settings: Settings
) -> None:
    named(history, webhook(web.url))
    number = opened(history)
    for hours in (0, 23, 25, 30, 50):
        notify(history, local_settings, NOW + timedelta(hours=hours))
    assert len(web.posted) == 3
    history.acknowledge(number, "ann", "on it")
    notify(history, local_settings, NOW + timedelta(hours=100))
    assert len(web.posted) == 3


def test_many_incidents_of_a_product_are_one_message_to_each_of_its_channels_only(
    web: Web, history: History, local_settings: Settings
) -> None:
    named(history, webhook(f"{web.url}/a"), webhook(f"{web.url}/b"), webhook(f"{web.url}/chat", scope="interactive"))
    named(history, webhook(f"{web.url}/other"), product="shop.items")
    for subject in ("one", "two", "three"):
        opened(history, subject)
    opened(history, "warns", severity="warning")
    notify(history, local_settings, NOW)
    assert sorted(one["path"] for one in web.posted) == ["/a", "/b"]
    assert all(len(one["incidents"]) == 3 for one in web.posted)
    assert web.posted[0]["link"].endswith("/products/shop/orders")


def test_what_did_not_arrive_is_tried_again_later_and_later(
    web: Web, history: History, local_settings: Settings
) -> None:
    named(history, webhook(web.url))
    number = opened(history)
    web.status = 500
    tried = [bool(notify(history, local_settings, NOW + timedelta(seconds=10 * rounds))) for rounds in range(40)]
    assert [rounds for rounds, one in enumerate(tried) if one] == [0, 3, 9, 21]
    [delivery] = history.deliveries()
    assert (delivery.said, delivery.tries, delivery.problem) == (None, 4, "answered 500")
    web.status = 204
    notify(history, local_settings, NOW + timedelta(hours=1))
    [delivery] = history.deliveries()
    assert (delivery.said, delivery.tries, delivery.problem) == ("opened", 0, None)
    assert history.incident(number).told_at == NOW + timedelta(hours=1)  # type: ignore[union-attr]


def test_an_incident_that_was_never_told_of_is_not_told_to_be_over(
    web: Web, history: History, local_settings: Settings
) -> None:
    named(history, webhook(web.url))
    closed(history, opened(history), NOW)
    assert notify(history, local_settings, NOW) == []


def test_one_that_comes_back_is_told_of_again_but_not_every_time(
    web: Web, history: History, local_settings: Settings
) -> None:
    named(history, webhook(web.url))
    number = opened(history)
    finding = Finding("blocked", "some", "again", "", "bad", NOW)
    for minutes in range(0, 50, 10):
        notify(history, local_settings, NOW + timedelta(minutes=minutes))
        closed(history, number, NOW + timedelta(minutes=minutes + 1))
        notify(history, local_settings, NOW + timedelta(minutes=minutes + 1))
        with history.writing() as writer:
            writer.update(number, finding)
    assert [one["incidents"][0]["state"] for one in web.posted] == ["open", "closed"]
    notify(history, local_settings, NOW + timedelta(minutes=62))
    assert web.posted[-1]["incidents"][0]["state"] == "open"


def test_redirects_are_not_followed(web: Web, history: History, local_settings: Settings) -> None:
    named(history, webhook(web.url))
    opened(history)
    web.status = 307
    [delivery] = notify(history, local_settings, NOW)
    assert delivery.problem == "answered 307"
    assert [one["path"] for one in web.posted] == ["/"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "//127.0.0.1", "http://[", "ops@x.y", ""])
def test_other_addresses_are_left_alone(history: History, local_settings: Settings, url: str) -> None:
    named(history, webhook(url))
    opened(history)
    assert notify(history, local_settings, NOW) == []


def test_an_address_that_cannot_be_reached_keeps_its_secret(history: History, local_settings: Settings) -> None:
    named(history, webhook("http://127.0.0.1:1/services/s3cret"))
    opened(history)
    [delivery] = notify(history, local_settings, NOW)
    assert delivery.problem
    assert "s3cret" not in delivery.problem


def test_a_server_that_does_not_answer_holds_up_neither_the_others_nor_the_observer(
    web: Web, history: History, local_settings: Settings
) -> None:
    named(history, webhook(f"{web.url}/slow"))
    opened(history)
    web.hold.clear()
    courier = Courier(history, local_settings)
    for _ in range(5):
        courier.send()
    assert [thread.name for thread in threading.enumerate()].count("notify") == 1
    with history.writing() as writer:
        writer.note("written", 1)
    assert history.noted("written") == 1
    web.hold.set()
    courier.close()
    assert [one["path"] for one in web.posted] == ["/slow"]


def test_mail_comes_from_whom_it_should_and_says_what_is_wrong(
    mails: tuple[Mails, int], history: History, local_settings: Settings
) -> None:
    handler, port = mails
    named(history, SupportChannel("mail", "mailto:ann@example.com,bob%40example.org", "email", "notifications"))
    number = opened(history, "no ünïcode")
    assert notify(history, local_settings, NOW) == []
    settings = local_settings.model_copy(
        update={"smtp_url": f"smtp://mesh:p%40ss@127.0.0.1:{port}", "mail_from": "mesh@example.com"}
    )
    [delivery] = notify(history, settings, NOW)
    assert delivery.problem is None
    [(sender, recipients, mail)] = handler.taken
    assert (sender, recipients) == ("mesh@example.com", ["ann@example.com", "bob@example.org"])
    assert mail["Subject"] == "shop.orders: version 2 is blocked by no ünïcode"
    assert f"/incidents/{number}" in mail.get_content()  # type: ignore[attr-defined]
    assert handler.signed_in == ["mesh:p@ss"]


def test_an_address_cannot_add_headers_to_a_mail(
    mails: tuple[Mails, int], history: History, local_settings: Settings
) -> None:
    handler, port = mails
    named(history, SupportChannel("mail", "mailto:a@b.c%0D%0ABcc:all@b.c", "email", "notifications"))
    opened(history)
    settings = local_settings.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{port}"})
    [delivery] = notify(history, settings, NOW)
    assert delivery.problem
    assert handler.taken == []


def test_a_mail_server_that_is_not_there_is_a_failure_that_is_noted(history: History, local_settings: Settings) -> None:
    named(history, SupportChannel("mail", "mailto:a@b.c", "email", "notifications"))
    opened(history)
    settings = local_settings.model_copy(update={"smtp_url": "smtp://127.0.0.1:1"})
    [delivery] = notify(history, settings, NOW)
    assert delivery.problem == "ConnectionRefusedError"


def told(history: History, settings: Settings, url: str) -> list[str | None]:
    """What became of a message to an address."""
    named(history, webhook(url))
    opened(history)
    return [one.problem for one in notify(history, settings, NOW)]


def test_a_hook_on_this_machine_is_asked_only_if_it_is_listed(
    history: History, local_settings: Settings, web: Web
) -> None:
    [problem] = told(history, local_settings.model_copy(update={"notify_allow": ()}), f"{web.url}/hook")
    assert problem is not None
    assert "MESH_NOTIFY_ALLOW" in problem
    assert web.url not in problem
    assert web.posted == []


def test_a_name_that_is_resolved_again_is_not_another_host(
    history: History, local_settings: Settings, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that has a public address when it is judged, and one of this machine a moment later."""
    asked: list[str] = []
    resolved = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "hooks.example.org":
            return resolved(host, port, *args, **kwargs)
        asked.append(host)
        address = "203.0.113.7" if len(asked) > 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    port = web.server.server_port
    settings = local_settings.model_copy(update={"notify_allow": "hooks.example.org"})
    assert told(history, settings, f"http://hooks.example.org:{port}/hook") == [None]
    assert asked == ["hooks.example.org"]
    assert [one["path"] for one in web.posted] == ["/hook"]


def test_an_answer_without_end_is_not_read(history: History, local_settings: Settings) -> None:
    with answering(endless_body) as address:
        assert told(history, local_settings, address) == [None]


def test_mail_goes_only_to_recipients_that_are_listed(
    history: History, local_settings: Settings, mails: tuple[Mails, int]
) -> None:
    server, port = mails
    settings = local_settings.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{port}"})
    for recipient in ("x@evil.example", "a@example.com,x@evil.example", "x@evil.example%2Ca@example.com"):
        named(history, SupportChannel("ops", f"mailto:{recipient}", "email", "notifications"), product=recipient)
        opened(history, recipient)
    assert all("MESH_NOTIFY_ALLOW" in str(one.problem) for one in notify(history, settings, NOW))
    assert server.taken == []


def endless_replies(client: socket.socket) -> None:
    while True:
        client.sendall(b"220-hello\r\n" * 10_000)


def dripped_reply(client: socket.socket) -> None:
    client.sendall(b"220-")
    while True:
        client.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("replies", [endless_replies, dripped_reply])
def test_a_mail_server_without_end_is_given_up_on(
    history: History, local_settings: Settings, replies: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_pipelines.observe.notify._DEADLINE_S", 2.0)
    named(history, SupportChannel("mail", "mailto:a@b.c", "email", "notifications"))
    opened(history)
    with answering(replies, reads=False) as address:
        settings = local_settings.model_copy(update={"smtp_url": address.replace("http", "smtp")})
        [delivery] = notify(history, settings, NOW)
        assert delivery.problem
        deadline = time.monotonic() + 20
        while "message" in {one.name for one in threading.enumerate()}:
            assert time.monotonic() < deadline, "a thread goes on"
            time.sleep(0.05)
