"""Where messages may go: contracts name the addresses, and the operator says which of them are asked.

Whoever writes a contract could otherwise have this machine post to what only it can reach: services on loopback, hosts
of a private network, the address at which clouds hand out credentials. So without a list only public addresses are
taken, and with one only what is on it. A name is resolved once, all its addresses are judged, and the connection goes
to one of these: a name that is resolved again may have become another. Forms that readers take for different hosts are
refused.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from email.utils import getaddresses
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, unquote, urlsplit

import psutil

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_LABELS = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
_ESCAPED = re.compile(r"%2e|%2f|%5c", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
# Of IPv6, with an address of IPv4 in the last four bytes: translated, and the deprecated compatible ones.
_EMBEDDING = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
_TRANSLATED_LOCALLY = IPv6Network("64:ff9b:1::/48")
_SETTING = "MESH_NOTIFY_ALLOW"


class NotAllowed(Exception):
    """A message may not go there; the reason names no address."""


class Targets:
    """The targets that an operator allows: hosts, prefixes of addresses, and recipients of mail."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = tuple(one.strip() for one in allowed)

    def check(self, url: str) -> tuple[str, int]:
        """Check an http(s) address; gives its host and port.

        Raises:
            NotAllowed: it is not one that may be asked.
        """
        place, host, port = _read(url)
        entry = next((one for one in self._allowed if _fits(one, place, host, port)), None)
        if self._allowed and entry is None:
            raise NotAllowed(f"its address is not one of {_SETTING}")
        if (place.username is not None or place.password is not None) and entry is None:
            raise NotAllowed(f"its address has a user or a password, and is not one of {_SETTING}")
        return host, port

    def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host that was checked, to connect to as they are.

        Raises:
            NotAllowed: one of them is not public, and the host is not allowed by its own name; or there is none.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NotAllowed("its host has no address") from error
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        if host not in {_host_of(one) for one in self._allowed} and not all(map(is_public, addresses)):
            raise NotAllowed(f"its host is on this machine or in a private network, and not named in {_SETTING}")
        return addresses

    def check_mail(self, recipients: str) -> None:
        """Check the recipients of a mail.

        Raises:
            NotAllowed: one of them is not allowed.
        """
        addresses = [address.lower() for _, address in getaddresses([recipients])]
        if not addresses or not all("@" in one for one in addresses):
            raise NotAllowed("it names no recipient")
        allowed = {one.lower() for one in self._allowed}
        if allowed and not all({one, f"@{one.rpartition('@')[2]}"} & allowed for one in addresses):
            raise NotAllowed(f"a recipient is not one of {_SETTING}")


def is_public(address: str) -> bool:
    """Whether an address is the same everywhere: not this machine's, not of a private network, not reserved."""
    plain = ip_address(address.partition("%")[0])
    for one in (plain, *_embedded(plain)):
        if not one.is_global or one.is_multicast or one.is_reserved or one.is_unspecified or _is_own(one):
            return False
    return not (isinstance(plain, IPv6Address) and (plain.is_site_local or plain in _TRANSLATED_LOCALLY))


def _embedded(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """The addresses of IPv4 that one of IPv6 leads to."""
    if isinstance(address, IPv4Address):
        return []
    teredo = address.teredo or ()
    found = [one for one in (address.ipv4_mapped, address.sixtofour, *teredo) if one is not None]
    if any(address in network for network in _EMBEDDING):
        found.append(IPv4Address(address.packed[-4:]))
    return found


def _is_own(address: IPv4Address | IPv6Address) -> bool:
    own = (one.address.partition("%")[0] for family in psutil.net_if_addrs().values() for one in family)
    return str(address) in set(own)


def _read(url: str) -> tuple[SplitResult, str, int]:
    """An address, its host and its port, if everybody reads it alike.

    Raises:
        NotAllowed: it may be read in more than one way.
    """
    odd = NotAllowed("its address is written in an unusual form: write https://host/path")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise odd
    try:
        place = urlsplit(url)
        host, port = (place.hostname or "").lower(), place.port or _PORTS[place.scheme.lower()]
    except (ValueError, KeyError) as error:
        raise odd from error
    if place.netloc.rpartition("@")[2].lower().startswith("[") or _NUMERIC.fullmatch(
        host.rstrip(".").rpartition(".")[2]
    ):
        plain = _is_address(host)
    else:
        plain = bool(_LABELS.fullmatch(host))
    if not plain:
        raise odd
    return place, host, port


def _is_address(host: str) -> bool:
    """Whether it is an IP address in its usual form."""
    try:
        return str(ip_address(host)) == host and "%" not in host
    except ValueError:
        return False


def _fits(entry: str, place: SplitResult, host: str, port: int) -> bool:
    """Whether an address is what an entry of the list allows."""
    if "://" in entry:
        return _begins(urlsplit(entry), place, host, port)
    if entry.startswith("*."):
        return host.endswith(entry[1:].lower())
    if "@" in entry:
        return False
    name, of_port = _host_and_port(entry)
    return host == name and of_port in (None, port)


def _begins(allowed: SplitResult, place: SplitResult, host: str, port: int) -> bool:
    """Whether an address is below another: the same scheme, host and port, and a path that stays below its path."""
    scheme = allowed.scheme.lower()
    if (scheme, (allowed.hostname or "").lower()) != (place.scheme.lower(), host):
        return False
    if (allowed.port or _PORTS.get(scheme)) != port:
        return False
    path, below = place.path or "/", allowed.path.rstrip("/")
    if _ESCAPED.search(path) or {"..", "."} & set(path.split("/")):
        return False
    return path == below or path.startswith(f"{below}/")


def _host_of(entry: str) -> str | None:
    """The host that an entry names; None of one that allows many, or mail."""
    if "://" in entry:
        return (urlsplit(entry).hostname or "").lower()
    return None if entry.startswith("*.") or "@" in entry else _host_and_port(entry)[0]


def _host_and_port(entry: str) -> tuple[str, int | None]:
    try:
        place = urlsplit(f"//{entry}")
        return (place.hostname or "").lower(), place.port
    except ValueError:
        return "", None


def recipients_of(url: str) -> str:
    """The recipients of a mailto address."""
    return unquote(urlsplit(url).path)
