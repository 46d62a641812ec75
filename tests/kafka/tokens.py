"""What a setting may name as the function that gives tokens: one that works, and some that do not.

The broker of these tests takes unsecured tokens (JWS without a signature), so that no service has to be asked for one.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

calls: list[str] = []
never = threading.Event()
NOT_A_FUNCTION = 5


def made(seconds: float, principal: str = "mesh") -> tuple[str, float]:
    """A token of the principal that ends in so many seconds."""
    now = time.time()
    parts = ({"alg": "none"}, {"sub": principal, "iat": now, "exp": now + seconds})
    text = ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts)
    return f"{text}.", now + seconds


def good(config: str) -> tuple[str, float]:
    calls.append(config)
    return made(3600)


def short(config: str) -> tuple[str, float, str]:
    calls.append(config)
    return (*made(3), "mesh")


def stranger(config: str) -> tuple[str, float]:
    return made(3600, "stranger")


def extended(config: str) -> tuple[str, float, str, dict[str, str]]:
    return (*made(3600), "mesh", {"logicalCluster": "lkc-1"})


def fails(config: str) -> Any:
    raise PermissionError("no role is attached")


def hangs(config: str) -> Any:
    never.wait()


def milliseconds(config: str) -> tuple[str, float]:
    return "text", (time.time() + 3600) * 1000


def over(config: str) -> tuple[str, float]:
    return "text", time.time() - 100


def text(config: str) -> Any:
    return "only a text"


def odd(config: str) -> tuple[str, float]:
    return "with a blank", time.time() + 3600
