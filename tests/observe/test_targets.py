"""Which addresses are asked: by the operator's list, by where they lead, and by how they are written."""

from __future__ import annotations

import socket
from typing import Any

import psutil
import pytest

from mesh_pipelines.observe.targets import NotAllowed, Targets, is_public

PUBLIC = "93.184.216.34"


def leads_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name resolve to these."""

    def resolved(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


def may_ask(targets: Targets, url: str) -> bool:
    try:
        targets.resolve(*targets.check(url))
    except NotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
        ),
        *(
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
        ),
        *("fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::", "2001:db8::1"),
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ],
)
def test_an_address_that_is_not_public(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_public(address)
    leads_to(monkeypatch, PUBLIC, address)
    assert not may_ask(Targets(()), "https://hooks.example.org/x")
    assert not may_ask(Targets(["*.example.org"]), "https://hooks.example.org/x")
    assert may_ask(Targets(["hooks.example.org"]), "https://hooks.example.org/x")


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700:4700::1111"])
def test_an_address_that_is_public(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_public(address)
    leads_to(monkeypatch, address)
    assert may_ask(Targets(()), "https://hooks.example.org/x")


def test_this_machine_s_own_address_is_not_public(monkeypatch: pytest.MonkeyPatch) -> None:
    own = type("Own", (), {"address": PUBLIC})
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"eth0": [own]})
    assert not is_public(PUBLIC)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.1/", "http://0177.0.0.1/", "http://0x7f.0.0.1/", "http://0x7f000001/", "http://2130706433/"),
        *("http://127.0.0.1./", "http://127.0.0.01/", "http://[::ffff:7f00:1%25lo]/", "http://[0:0:0:0:0:0:0:1]/"),
        *("http://[::1", "http://①②⑦.0.0.1/", "http://ⓔxample.org/", "http://exa mple.org/", "http://example.org\\@x/"),
        *("http:\\\\example.org/", "http://example.org:0x50/", "http://example.org:99999/", "http://", "http:///x"),
        *("http://example.org\t/", "http://example.org/\r\nX: y", "http://.example.org/", "http://example..org/"),
        *(
            "ftp://example.org/",
            "file:///etc/passwd",
            "gopher://example.org/",
            "http://-x.org/",
            "http://0/",
            "http://x.0/",
        ),
    ],
)
def test_an_address_in_an_unusual_form_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leads_to(monkeypatch, PUBLIC)
    with pytest.raises(NotAllowed):
        Targets(()).check(url)


@pytest.mark.parametrize("url", ["http://ann@example.org/", "http://ann:secret@example.org/", "http://:x@example.org/"])
def test_a_user_or_password_needs_an_entry_of_the_list(url: str) -> None:
    with pytest.raises(NotAllowed, match="MESH_NOTIFY_ALLOW"):
        Targets(()).check(url)
    assert Targets(["example.org"]).check(url) == ("example.org", 80)


@pytest.mark.parametrize(
    ("entry", "url", "fits"),
    [
        ("hooks.example.org", "https://hooks.example.org/x", True),
        ("Hooks.Example.org", "https://HOOKS.example.ORG:8443/x", True),
        ("hooks.example.org", "https://x.hooks.example.org/", False),
        ("hooks.example.org", "https://hooks.example.org.evil.example/", False),
        ("hooks.example.org", "https://evil.example/hooks.example.org", False),
        ("hooks.example.org", "https://hooks.example.org@evil.example/", False),
        ("hooks.example.org:8443", "https://hooks.example.org:8443/x", True),
        ("hooks.example.org:8443", "https://hooks.example.org/x", False),
        ("*.example.org", "https://a.b.example.org/", True),
        ("*.example.org", "https://example.org/", False),
        ("*.example.org", "https://evilexample.org/", False),
        ("https://chat.example.org/hooks/", "https://chat.example.org/hooks/abc?x=y", True),
        ("https://chat.example.org/hooks", "https://chat.example.org/hooks", True),
        ("https://chat.example.org/hooks", "https://chat.example.org:443/hooks/x", True),
        ("https://chat.example.org/hooks", "http://chat.example.org/hooks/x", False),
        ("https://chat.example.org/hooks", "https://chat.example.org/hooksevil", False),
        ("https://chat.example.org/hooks", "https://chat.example.org:8443/hooks/x", False),
        ("https://chat.example.org/hooks", "https://chat.example.org/hooks/../admin", False),
        ("https://chat.example.org/hooks", "https://chat.example.org/hooks/%2e%2e/admin", False),
        ("https://chat.example.org/hooks", "https://chat.example.org/hooks/..%2fadmin", False),
        ("https://chat.example.org/", "https://chat.example.org/x", True),
        ("127.0.0.1", "http://127.0.0.1:9000/", True),
        ("127.0.0.1", "http://127.0.0.2:9000/", False),
        ("[::1]:9000", "http://[::1]:9000/", True),
        ("@example.org", "https://example.org/", False),
        ("", "https://example.org/", False),
    ],
)
def test_the_list(entry: str, url: str, fits: bool) -> None:
    targets = Targets([entry])
    if fits:
        targets.check(url)
    else:
        with pytest.raises(NotAllowed, match="MESH_NOTIFY_ALLOW"):
            targets.check(url)


@pytest.mark.parametrize(
    ("allowed", "recipients", "fits"),
    [
        ([], "ann@example.org", True),
        ([], "", False),
        ([], "ann", False),
        (["@example.org"], "Ann@Example.org", True),
        (["ann@example.org"], "ann@example.org", True),
        (["ann@example.org"], "bob@example.org", False),
        (["@example.org"], "ann@example.org,x@evil.example", False),
        (["@example.org"], "ann@evil.example", False),
        (["@example.org"], '"ann@example.org" <x@evil.example>', False),
        (["@example.org"], "ann@example.org.evil.example", False),
        (["hooks.example.org"], "ann@hooks.example.org", False),
    ],
)
def test_recipients_of_mail(allowed: list[str], recipients: str, fits: bool) -> None:
    if fits:
        Targets(allowed).check_mail(recipients)
    else:
        with pytest.raises(NotAllowed):
            Targets(allowed).check_mail(recipients)
