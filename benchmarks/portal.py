"""The portal over a mesh of many products with months behind them: what a page takes, from request to last byte.

    python benchmarks/portal.py                        # 1,000 products; 100 days of history, then 365
    python benchmarks/portal.py --days 365 --rounds 50

``mesh portal`` runs as it always does, in a process of its own, over generated contracts and a drawn history; none of
its products was ever applied. Pages are asked for one after the other over one connection. Beside the
time stands the processor's, which other work on the machine moves less. The first page is the first that the process
makes, with its templates and contracts read for it.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import generated
import psutil
from meter import high_water_mb
from report import Report
from synthetic import synthetic

from mesh_pipelines.local.supervisor import answers, free_ports
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

DOMAINS = 20
FIRST_MS, SEARCH_MS, PEAK_MB = 150, 100, 300
FIRST, SEARCH = "catalog", "search with a typing error"
_PRODUCT = "/products/domain03/product_0003"
PAGES = {
    FIRST: "/",
    SEARCH: "/?q=prodcut_0007+txet_1",
    "search by a prefix": "/?q=domain0",
    "catalog by a facet": "/?domain=domain03&sort=health",
    "quality of the mesh": "/quality",
    "quality of the mesh, a year": "/quality?days=365",
    "quality of an owner": "/quality?owner=domain03@example.com",
    "incidents": "/incidents?state=all",
    "product": _PRODUCT,
    "product, schema": f"{_PRODUCT}/schema",
    "product, quality": f"{_PRODUCT}/quality",
    "product, lineage": f"{_PRODUCT}/lineage",
    "product, contract": f"{_PRODUCT}/contract",
    "all products as JSON": "/api/v1/products",
    "metrics": "/metrics",
}


@dataclass(frozen=True)
class Served:
    """A portal that runs: its address, its process, and how long it took to answer."""

    settings: Settings
    process: psutil.Process
    started_s: float


def prepare(home: Path, products: int, days: int) -> Settings:
    """Write contracts in twenty domains, each with an owner of its own, and a history of them."""
    settings = Settings(home=home, assets=home / "assets", portal_port=free_ports(1)[0])
    names: list[str] = []
    for number in range(products):
        domain, name = f"domain{number % DOMAINS:02}", f"product_{number:04}"
        file = settings.assets / domain / name / "contract.yaml"
        file.parent.mkdir(parents=True)
        text = generated.contract(name, domain).replace("ann@example.com", f"{domain}@example.com")
        file.write_text(text, encoding="utf-8")
        names.append(f"{domain}.{name}")
    history = History.open(settings)
    synthetic(history, names, days)
    history.close()
    # Contracts that were read once are kept; how long the first time takes is mesh_scale.py's.
    Platform.open(settings)
    return settings


@contextmanager
def serving(settings: Settings) -> Generator[Served]:
    """``mesh portal``, until it is no longer needed."""
    own = {
        "MESH_HOME": str(settings.home),
        "MESH_ASSETS": str(settings.assets),
        "MESH_PORTAL_PORT": str(settings.portal_port),
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh_pipelines", "portal", "--no-observe"],
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
    )
    try:
        while not answers(settings.host, settings.portal_port):
            assert process.poll() is None, "the portal ended"
            time.sleep(0.01)
        yield Served(settings, psutil.Process(process.pid), time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(30)


def ask(connection: http.client.HTTPConnection, path: str) -> int:
    """Ask for a page as browsers do; gives the size of what came."""
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, (path, answer.status)
    return len(body)


def measure(portal: Served, rounds: int) -> Mapping[str, Mapping[str, float]]:
    """What each page took, and what the first one did."""
    connection = http.client.HTTPConnection(portal.settings.host, portal.settings.portal_port)
    found = {f"{FIRST}, the first time": _times(portal, connection, PAGES[FIRST], 1)}
    for name, path in PAGES.items():
        found[name] = _times(portal, connection, path, rounds)
    connection.close()
    return found


def _times(portal: Served, connection: http.client.HTTPConnection, path: str, rounds: int) -> Mapping[str, float]:
    times: list[float] = []
    before = sum(portal.process.cpu_times()[:2])
    size = 0
    for _ in range(rounds):
        began = time.perf_counter()
        size = ask(connection, path)
        times.append(1000 * (time.perf_counter() - began))
    cpu = 1000 * (sum(portal.process.cpu_times()[:2]) - before) / rounds
    p95 = quantiles(times, n=20, method="inclusive")[-1] if rounds > 1 else times[0]
    return {"ms": median(times), "p95 ms": p95, "CPU ms": cpu, "kB": size / 1000}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--products", type=int, default=1000)
    parser.add_argument("--days", type=int, nargs="*", default=[100, 365])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    report = Report("portal")
    for days in given.days:
        with tempfile.TemporaryDirectory() as folder:
            settings = prepare(Path(folder), given.products, days)
            with serving(settings) as portal:
                found = measure(portal, given.rounds)
                peak = high_water_mb(portal.process.pid)
        history = f"{days} days"
        report.add(f"{history}: start", {"ms": 1000 * portal.started_s})
        for name, figures in found.items():
            report.add(f"{history}: {name}", figures)
        report.add(f"{history}: peak memory", {"MB": peak})
        report.ratio(f"{history}: first page, of {FIRST_MS} ms", [found[FIRST]["ms"] / FIRST_MS], "lower", 1)
        report.ratio(f"{history}: search, of {SEARCH_MS} ms", [found[SEARCH]["ms"] / SEARCH_MS], "lower", 1)
        report.ratio(f"{history}: peak memory, of {PEAK_MB} MB", [peak / PEAK_MB], "lower", 1)
    report.give(given.json)


if __name__ == "__main__":
    main()
