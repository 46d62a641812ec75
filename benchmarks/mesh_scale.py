"""What a mesh of many products costs: loading its definitions, a sensor's tick, ``mesh lint`` and ``mesh status``.

    python benchmarks/mesh_scale.py --products 100 1000

The products are generated: 20 columns and 5 rules each, in one code location, each with a topic on a real broker, with
tables, and with a published version. Making a thousand of them takes some minutes. Each measurement is a process of its
own, from its start to its end, imports included. "Anew" is without the contracts kept from an earlier process. Beside
them stands what cannot be less: importing dagster, parsing the same YAML, asking for the offsets of the same topics.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import generated
from report import Report

from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.settings import Settings

EVENTS = 5
_SET = ("home", "assets", "kafka_port")
Laps = dict[str, float]


def build(settings: Settings) -> Laps:
    """Topics, tables, events, and a published version of each product."""
    from confluent_kafka import Producer

    from mesh_pipelines.pipeline.run import run
    from mesh_pipelines.plan.apply import apply_contracts
    from mesh_pipelines.platform import Platform

    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    producer = Producer({"bootstrap.servers": settings.brokers})
    for product in platform.in_order:
        for number in range(EVENTS):
            producer.produce(product.fqn, key=str(number).encode(), value=generated.event(str(number)))
        producer.poll(0)
    assert producer.flush(60) == 0, "events were not acknowledged"
    failed = [done.error for done in run(platform) if done.error]
    assert not failed, failed[0]
    return {}


def nothing(_: Settings) -> Laps:
    """An interpreter with the settings read."""
    return {}


def bare_dagster(_: Settings) -> Laps:
    """The limit of loading definitions: the import."""
    importlib.import_module("dagster")
    return {}


def bare_yaml(settings: Settings) -> Laps:
    """The limit of reading contracts: the parser in C, and nothing made of what it says."""
    import yaml

    for file in settings.assets.glob("*/*/contract.yaml"):
        yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)
    return {}


def bare_offsets(settings: Settings) -> Laps:
    """The limit of a tick: the offsets of all topics, in one call."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec

    client = AdminClient({"bootstrap.servers": settings.brokers})
    topics = [f"{file.parents[1].name}.{file.parent.name}" for file in settings.assets.glob("*/*/contract.yaml")]
    client.list_topics(timeout=30)
    wanted: dict[TopicPartition, Any] = {TopicPartition(topic, 0): OffsetSpec.latest() for topic in topics}

    def ask() -> None:
        for future in client.list_offsets(wanted, request_timeout=30).values():
            future.result()

    return lap(ask, 3)


def definitions(settings: Settings) -> Laps:
    """What a code location does before it answers."""
    from mesh_pipelines.orchestration.definitions import of_folder

    found = of_folder(str(settings.assets / generated.DOMAIN / "definitions.py")).get_repository_def()
    found.load_all_definitions()
    return {}


def snapshot(settings: Settings) -> Laps:
    """The same, and what Dagster's processes then ask of it: all definitions as text."""
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster_shared.serdes import serialize_value

    from mesh_pipelines.orchestration.definitions import of_folder

    found = of_folder(str(settings.assets / generated.DOMAIN / "definitions.py")).get_repository_def()
    found.load_all_definitions()
    return {"MB of text": len(serialize_value(RepositorySnap.from_def(found))) / 1e6}


def tick(settings: Settings) -> Laps:
    """The question of a sensor's tick, three times over: the first one reads every table."""
    from mesh_pipelines.pipeline.due import due
    from mesh_pipelines.platform import Platform

    platform = Platform.open(settings)

    def ask() -> None:
        assert due(platform, platform.in_order) == [], "not all is quiet"

    return lap(ask, 3)


def lap(work: Callable[[], object], times: int) -> Laps:
    """Seconds, elapsed and of CPU, of the first and the last of some rounds."""
    rounds: list[tuple[float, float]] = []
    for _ in range(times):
        began, used = time.perf_counter(), time.process_time()
        work()
        rounds.append((time.perf_counter() - began, time.process_time() - used))
    (first, first_cpu), (last, last_cpu) = rounds[0], rounds[-1]
    return {"first s": first, "first CPU s": first_cpu, "later s": last, "later CPU s": last_cpu}


MEASURED = (build, nothing, bare_dagster, bare_yaml, bare_offsets, definitions, snapshot, tick)
BY_NAME = {one.__name__: one for one in MEASURED}


def measure(argv: list[str], settings: Settings) -> Laps:
    """The cost of one process, with the figures it prints.

    A child's peak of memory is never told as less than its parent's: nothing heavy is imported in this one.
    """
    given = {f"MESH_{name.upper()}": str(value) for name, value in settings if name in _SET}
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *argv], env={**os.environ, **given}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if process.returncode is None:
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(argv)} failed: {printed}")
    laps = json.loads(printed) if "--measure" in argv else {}
    return {"seconds": seconds, "CPU s": used.ru_utime + used.ru_stime, "peak MB": used.ru_maxrss / 1024, **laps}


def look(settings: Settings) -> dict[str, Laps]:
    """Everything that is measured of one mesh."""
    mesh = ["-c", "from mesh_pipelines.cli.main import main; main()"]
    script = [__file__, "--measure"]
    kept = settings.home / "contracts.json"
    found = {
        name: measure([*script, name], settings) for name in ("nothing", "bare_dagster", "bare_yaml", "bare_offsets")
    }
    for name, argv in (
        ("definitions", [*script, "definitions"]),
        ("mesh lint", [*mesh, "lint"]),
        ("mesh status", [*mesh, "status"]),
    ):
        kept.unlink(missing_ok=True)
        found[f"{name}, anew"] = measure(argv, settings)
        found[name] = measure(argv, settings)
    found["snapshot"] = measure([*script, "snapshot"], settings)
    found["tick"] = measure([*script, "tick"], settings)
    return found


def reported(found: Mapping[int, Mapping[str, Laps]]) -> Report:
    """A row for everything that was measured, and how its CPU grows, the interpreter's own start left aside."""
    report = Report("mesh_scale")
    for products, measured in found.items():
        for name, laps in measured.items():
            report.add(f"{products:,} products: {name}", laps)
    few, many = min(found), max(found)
    for name in found[few] if few < many else ():
        before, after = (found[size][name]["CPU s"] - found[size]["nothing"]["CPU s"] for size in (few, many))
        if before > 0.01:
            report.ratio(f"{name}: CPU at {many:,} products to {few:,}", [after / before], "lower")
    return report


def main() -> None:
    """Parse the options and measure."""
    options = argparse.ArgumentParser(description="What a mesh of many products costs.")
    options.add_argument("--products", type=int, nargs="+", default=[100, 1000])
    options.add_argument("--json", type=Path, help="write the report there")
    options.add_argument("--measure", choices=BY_NAME, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        print(json.dumps(BY_NAME[given.measure](Settings.load())))
        return
    found: dict[int, dict[str, Laps]] = {}
    for products in given.products:
        # A broker of its own: a thousand topics of another mesh would be part of what is measured.
        with tempfile.TemporaryDirectory() as folder:
            kafka, controller = free_ports(2)
            home = Path(folder)
            settings = Settings(
                home=home / "home", assets=home / "assets", kafka_port=kafka, controller_port=controller
            )
            with Services(settings, registry=False):
                generated.write(settings.assets, products)
                measure([__file__, "--measure", "build"], settings)
                found[products] = look(settings)
    reported(found).give(given.json)


if __name__ == "__main__":
    main()
