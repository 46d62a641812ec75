"""What of a mesh is open to others: listeners, files, sign-in, secrets; read from settings and files alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping

from pydantic import SecretStr

from mesh_pipelines.confidential import Address
from mesh_pipelines.local.private import open_to_others
from mesh_pipelines.observe.doctor import Finding
from mesh_pipelines.settings import Settings

_SHOWN = 3


def exposure(settings: Settings, is_loopback: Callable[[str], bool]) -> Iterator[Finding]:
    """Look at each way in; ``next_step`` is empty where nothing is open."""
    yield _listeners("portal and Dagster", "MESH_HOST", is_loopback(settings.host), settings.host)
    local = settings.services_host
    yield _listeners("broker and registry", "MESH_SERVICES_HOST", is_loopback(local), local)
    yield _sign_in(settings, is_local=is_loopback(settings.host))
    yield _files(settings)
    yield _settings_file(settings)
    yield _environment(settings)
    yield _network(settings)


def _listeners(what: str, setting: str, is_local: bool, host: str) -> Finding:
    if is_local:
        return Finding(what, f"reached from this machine alone, at {host}")
    return Finding(what, f"reached from the network, at {host}", f"unset {setting}, or let a firewall decide who may")


def _sign_in(settings: Settings, *, is_local: bool) -> Finding:
    if settings.oidc_issuer:
        return Finding("sign-in", f"by {settings.oidc_issuer}")
    if is_local:
        return Finding("sign-in", "by a link that only the owner of the home folder can read")
    return Finding("sign-in", "none: nobody is told from anybody", "set MESH_OIDC_ISSUER and MESH_OIDC_CLIENT_ID")


def _files(settings: Settings) -> Finding:
    found = open_to_others(settings)
    if not found:
        who = f"its owner and the group {settings.files_group}" if settings.files_group else "its owner"
        return Finding("home folder", f"only {who} can read {settings.home}")
    named = ", ".join(map(str, found[:_SHOWN]))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return Finding("home folder", f"others can read {named}{more}", f"chmod -R go-rwx {settings.home}")


def _settings_file(settings: Settings) -> Finding:
    file = settings.config
    if file is None or not file.is_file():
        return Finding("settings file", "none")
    if any(settings.secrets()) and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return Finding("settings file", f"others can read {file}, and there are secrets", f"chmod go-rwx {file}")
    return Finding("settings file", f"{file}: others cannot read it, or it has no secret")


def _environment(settings: Settings) -> Finding:
    variables = {f"MESH_{name.upper()}": value for name, value in settings}
    named = [name for name, value in variables.items() if name in os.environ and _has_secret(value)]
    if not named:
        return Finding("secrets in the environment", "none")
    step = "put them into a mesh.toml that only its owner can read: what starts this process sees its environment"
    return Finding("secrets in the environment", ", ".join(named), step)


def _network(settings: Settings) -> Finding:
    addresses = {f"MESH_{name.upper()}": value for name, value in settings if isinstance(value, Address)}
    plain = [
        name
        for name, address in addresses.items()
        if address.reveal().startswith(("http://", "smtp://")) and any(address.secrets())
    ]
    if not plain:
        return Finding("secrets on the network", "none in an address without TLS")
    return Finding("secrets on the network", f"without TLS: {', '.join(plain)}", "use https or smtps")


def _has_secret(value: object) -> bool:
    match value:
        case Address():
            return any(value.secrets())
        case SecretStr():
            return bool(value.get_secret_value())
        case Mapping():
            return bool(value)
        case _:
            return False
