"""Which services of a home folder do not run, as who runs them wrote it down: for the portal's ``/healthz``.

Only the word of a process that is alive counts: one that was killed outright leaves its last words behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

_FILE = "troubles.json"


def identity() -> str:
    """This process: its number and its start, since numbers come again."""
    return f"{os.getpid()} {psutil.Process().create_time()}"


def is_alive(identified: str) -> bool:
    """Whether a process is the one that was identified so, and runs."""
    pid, _, started = identified.partition(" ")
    with suppress(ValueError, psutil.Error):
        process = psutil.Process(int(pid))
        return process.create_time() == float(started) and process.status() != psutil.STATUS_ZOMBIE
    return False


def note(home: Path, troubles: Mapping[str, str]) -> None:
    """Write down which services do not run, and why."""
    home.mkdir(parents=True, exist_ok=True)
    new = home / f"{_FILE}.{os.getpid()}"
    new.write_text(json.dumps({"by": identity(), "troubles": dict(troubles)}), encoding="utf-8")
    os.replace(new, home / _FILE)


def noted(home: Path) -> dict[str, str]:
    """The services that do not run, and why; none where nobody who is alive runs any."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((home / _FILE).read_text(encoding="utf-8"))
        if is_alive(found["by"]):
            return dict(found["troubles"])
    return {}
