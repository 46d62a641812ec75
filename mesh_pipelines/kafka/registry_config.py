"""The properties of the registry's client, in the types that it wants.

Settings are text wherever they come from, and the client takes numbers and one truth value. What it would only stumble
over when it asks something, such as a line break in a token, is found here: a wrong setting is never a registry that
does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.settings import Settings, revealed

_SETTING = "MESH_SCHEMA_REGISTRY_CONFIG"
# The least value that each may have.
_NUMBERS: Mapping[str, float] = {
    "timeout": 0.001,
    "cache.capacity": 1,
    "cache.latest.ttl.sec": 0,
    "max.retries": 0,
    "retries.wait.ms": 0,
    "retries.max.wait.ms": 0,
}
_MOST = 1e9
_CA = "ssl.ca.location"
_FUNCTIONS = ("bearer.auth.custom.provider.function", "bearer.auth.custom.provider.config")


def registry_config(settings: Settings) -> dict[str, Any]:
    """What the registry's client is made with.

    Raises:
        SettingInvalid: a property cannot have its value, which is not shown.
    """
    given = {name: _typed(name, value) for name, value in revealed(settings.schema_registry_config).items()}
    return {"url": settings.registry_url.reveal(), "timeout": settings.timeout_s, "max.retries": 1, **given}


def _typed(name: str, text: str) -> Any:
    if name in _FUNCTIONS:
        raise _invalid(
            name, "is a function, which a setting cannot hold", "set bearer.auth.* to a source that it names"
        )
    if name in _NUMBERS:
        return _number(name, text)
    if name == _CA and text.lower() in ("false", "true"):
        if text.lower() == "true":
            raise _invalid(name, "must be the file of a CA, or false for no check", "leave it out to check as usual")
        return False
    if not text.isprintable() or (name.startswith("bearer.") and not text.isascii()):
        raise _invalid(name, "must be text without line breaks, and a token plain ASCII", "remove what is not")
    return text


def _number(name: str, text: str) -> float:
    least = _NUMBERS[name]
    try:
        number = float(text)
    except ValueError:
        number = least - 1
    if not least <= number <= _MOST:
        raise _invalid(name, f"must be a number from {least:g} to {_MOST:g}", "write one, with or without quotes")
    return int(number) if number.is_integer() else number


def _invalid(name: str, problem: str, fix: str) -> SettingInvalid:
    return SettingInvalid(f"{_SETTING}: {name} {problem}", next_step=fix)
