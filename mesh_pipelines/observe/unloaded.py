"""What Dagster could not load, written down by the processes that found out, for status, pages and incidents.

A domain that does not load runs nothing, and its products look well until they are late. Who loads a domain writes down
the products of which it could make nothing; the daemon writes down the domains that did not load at all, every few
seconds. Of domains only what was said lately counts: with nobody to look, nothing is known.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mesh_pipelines.confidential import masked
from mesh_pipelines.contract.names import location, parts
from mesh_pipelines.settings import Settings

_LATELY_S = 300.0
_LONGEST = 300


def note_domains(settings: Settings, reasons: Mapping[str, str]) -> None:
    """Write down which domains, by the name of their location, did not load, and why."""
    _write(_folder(settings) / "domains.json", reasons)


def note_products(settings: Settings, domain: str, reasons: Mapping[str, str]) -> None:
    """Write down of which products of a domain nothing could be made, and why."""
    _write(_folder(settings) / f"of_{location(domain)}.json", reasons)


def unloaded(settings: Settings, products: Iterable[str]) -> dict[str, str]:
    """Why products, as ``domain.name``, do not run in Dagster; those that do are left out."""
    folder = _folder(settings)
    domains = _read(folder / "domains.json", _LATELY_S)
    found: dict[str, str] = {}
    alone: dict[str, Mapping[str, str]] = {}
    for name in products:
        domain = location(parts(name)[0])
        if domain not in alone:
            alone[domain] = _read(folder / f"of_{domain}.json")
        if reason := domains.get(domain) or alone[domain].get(name):
            found[name] = reason
    return found


def _folder(settings: Settings) -> Path:
    return settings.home / "dagster" / "unloaded"


def _write(file: Path, reasons: Mapping[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_text(json.dumps({name: _short(reason) for name, reason in reasons.items()}), encoding="utf-8")
    os.replace(new, file)


def _read(file: Path, at_most_s: float | None = None) -> dict[str, str]:
    with suppress(FileNotFoundError, ValueError):
        if at_most_s is None or time.time() - file.stat().st_mtime < at_most_s:
            return json.loads(file.read_text(encoding="utf-8"))
    return {}


def _short(reason: str) -> str:
    lines = [line.strip() for line in masked(reason).splitlines() if line.strip()]
    return " ".join(lines)[:_LONGEST]
