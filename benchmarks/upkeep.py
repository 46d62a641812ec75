"""A thousand small commits with and without upkeep: how many files there are, and what a commit costs.

    .venv/bin/python benchmarks/upkeep.py

Each commit lands a hundred events in a product's log and publishes them, as a busy stream would over a day; with
upkeep, compaction and expiry run after every fifty. Printed at the 10th, 100th and last commit: the log's data files,
the files of all the product's tables, and the median milliseconds of the ten commits before. The gate is the ratio of
the last median to that at the 10th commit.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from report import Report

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.contract.types import log_schema
from mesh_pipelines.lake.commit import current_files
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import PartitionOffset, Position
from mesh_pipelines.repair.upkeep import compact, expire
from mesh_pipelines.settings import Settings

CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: shop.clicks
name: clicks
domain: shop
version: "1.0.0"
status: active
team: {members: [{username: ann@example.com, role: owner}]}
customProperties:
  - {property: mesh.alignment, value: source-aligned}
  - {property: mesh.eventType, value: state}
schema:
  - name: clicks
    properties:
      - {name: page, logicalType: string, primaryKey: true}
      - {name: ms, logicalType: integer, logicalTypeOptions: {minimum: 0}}
"""
EVENTS = 100
KEYS = 5_000
EVERY = 50


def measure(folder: Path, commits: int, *, upkeep: bool) -> list[dict[str, float]]:
    """Land and publish again and again; gives what there was at the marks."""
    home = folder / "assets" / "shop" / "clicks"
    home.mkdir(parents=True)
    (home / "contract.yaml").write_text(CONTRACT)
    product = load_product(home)
    platform = Platform(Settings(home=folder, assets=folder / "assets"), {product.fqn: product})
    platform.tables_of(product).create()
    taken: list[float] = []
    found: list[dict[str, float]] = []
    for number in range(1, commits + 1):
        taken.append(commit(platform, product))
        if upkeep and number % EVERY == 0:
            compact(platform, product)
            expire(platform, product)
        if number in (10, 100, commits):
            found.append(
                {
                    "upkeep": upkeep,
                    "commit": number,
                    "log_files": len(current_files(platform.tables_of(product).load("log"))),
                    "all_files": sum(1 for file in (folder / "warehouse").rglob("*") if file.is_file()),
                    "commit_ms": statistics.median(taken[-10:]) * 1000,
                }
            )
    return found


def commit(platform: Platform, product: DataProduct) -> float:
    """One landing of events and its publishing; seconds."""
    log = platform.tables_of(product).log
    stored = log.position()
    start = stored or Position("cluster", product.fqn, "topic")
    first = start.next_offset(0)
    rows = [
        {
            "_generation": 0,
            "_partition": 0,
            "_offset": first + at,
            "_op": "upsert",
            "_fate": "ok",
            "_key": str((first + at) % KEYS).encode(),
            "page": str((first + at) % KEYS),
            "ms": at,
        }
        for at in range(EVENTS)
    ]
    table = pa.Table.from_pylist(rows, schema=log_schema(product))
    began = time.perf_counter()
    log.append(table, stored, start.advance({0: PartitionOffset(first + EVENTS)}))
    snapshot(platform, product)
    publish(platform, product)
    return time.perf_counter() - began


def main() -> None:
    """Parse the options and measure."""
    options = argparse.ArgumentParser(description="Commits and files with and without upkeep.")
    options.add_argument("--commits", type=int, default=1_000)
    options.add_argument("--json", type=Path, help="write the report there")
    given = options.parse_args()
    report = Report("upkeep")
    grown: dict[bool, float] = {}
    for upkeep in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), given.commits, upkeep=upkeep)
        for one in found:
            figures = {name: value for name, value in one.items() if name not in ("upkeep", "commit")}
            report.add(f"{'with' if upkeep else 'without'}, commit {one['commit']:,}", figures)
        grown[upkeep] = found[-1]["commit_ms"] / found[0]["commit_ms"]
    report.ratio("with upkeep: last commits of the first", [grown[True]], "lower")
    report.ratio("growth of a commit: with upkeep of without", [grown[True] / grown[False]], "lower")
    report.give(given.json)


if __name__ == "__main__":
    main()
