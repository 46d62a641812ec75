"""From an event's acknowledgement by the broker until it is visible in queries, with the products run by Dagster.

    python benchmarks/freshness.py

Webserver, daemon, sensors and runs are those that ``mesh up`` starts. Events are produced at a fixed rate over some
products of one domain. An event is visible once the published version's position is past it, which is what every query
reads; at the end a query counts the keys. Each event's time is split at two moments of the run that published it: when
the sensor asked for it, and when its process began to work. The limit beside it is the same steps called one after
the other, without Dagster, in one process that never ends.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import generated
from confluent_kafka import Producer
from report import Report

from mesh_pipelines.errors import AuditBlocked, NothingPublished
from mesh_pipelines.lake.standing import standings
from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import Supervisor, free_ports
from mesh_pipelines.orchestration.instance import children
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.serve.query import query
from mesh_pipelines.settings import Settings

_LOOK_S = 0.1
_DRAIN_S = 180


@dataclass
class Seen:
    """When each event was acknowledged and became visible, by product and offset, in seconds since the epoch."""

    acknowledged: dict[tuple[str, int], float] = field(default_factory=dict)
    visible: dict[tuple[str, int], float] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)

    def look(self, platform: Platform) -> None:
        """Note what has become visible."""
        for fqn, standing in standings(platform.tables, platform.in_order).items():
            position = standing.published.position if standing.published else None
            end = position.next_offset(0) if position else 0
            now = time.time()
            for offset in range(self.published.get(fqn, 0), end):
                self.visible[fqn, offset] = now
            self.published[fqn] = end

    def is_complete(self) -> bool:
        """Whether everything that was acknowledged is visible."""
        return self.acknowledged.keys() <= self.visible.keys()


def produce(platform: Platform, seen: Seen, count: int, per_second: float) -> None:
    """Send events at a rate, one product after the other; the same thousand keys again and again."""
    producer = Producer({"bootstrap.servers": platform.settings.brokers, "linger.ms": 0})

    def acknowledged(error: Any, message: Any) -> None:
        assert error is None, error
        seen.acknowledged[message.topic(), message.offset()] = time.time()

    began = time.monotonic()
    topics = [product.topic.name for product in platform.in_order if product.topic]
    for number in range(count):
        while (wait := began + number / per_second - time.monotonic()) > 0:
            producer.poll(wait)
        key = f"key {number // len(topics) % 1000}"
        topic, value = topics[number % len(topics)], generated.event(key)
        producer.produce(topic, key=key.encode(), value=value, callback=acknowledged)
        producer.poll(0)
    assert producer.flush(60) == 0, "events were not acknowledged"


def measure(platform: Platform, count: int, per_second: float) -> Seen:
    """Produce, and watch until everything is visible."""
    seen = Seen()
    seen.look(platform)
    producing = threading.Thread(target=produce, args=(platform, seen, count, per_second))
    producing.start()
    deadline = time.monotonic() + count / per_second + _DRAIN_S
    while producing.is_alive() or not seen.is_complete():
        assert time.monotonic() < deadline, f"{len(seen.acknowledged) - len(seen.visible)} events are still not visible"
        seen.look(platform)
        time.sleep(_LOOK_S)
    producing.join()
    return seen


def check(platform: Platform, count: int) -> None:
    """Count the keys by a query: what is called visible is there to be read."""
    for number, product in enumerate(platform.in_order):
        sent = len(range(number, count, len(platform.in_order)))
        rows = query(platform.settings, platform.products, platform.catalog, f"SELECT count(*) AS n FROM {product.fqn}")
        assert rows.read_all()["n"].to_pylist() == [min(1000, sent)], product.fqn


@contextmanager
def dagster(platform: Platform) -> Generator[None]:
    """Dagster as ``mesh up`` runs it."""
    with Supervisor() as supervisor:
        supervisor.start(children(platform.settings))
        yield


@contextmanager
def bare(platform: Platform) -> Generator[None]:
    """The same steps in a thread, over and over."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            errors = [done.error for done in run(platform) if done.error]
            failed = [error for error in errors if not isinstance(error, NothingPublished | AuditBlocked)]
            assert not failed, failed

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()


RUNNERS: dict[str, Callable[[Platform], Any]] = {"dagster": dagster, "bare": bare}


def percentiles(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum."""
    return {"p50": statistics.median(values), "p95": statistics.quantiles(values, n=20)[-1], "max": max(values)}


def parts(seen: Seen, settings: Settings) -> dict[str, dict[str, float]]:
    """Where the time of the events went, by the runs that published them."""
    import dagster as dg

    os.environ["DAGSTER_HOME"] = str(settings.home / "dagster")
    with dg.DagsterInstance.get() as instance:
        records = instance.get_run_records()
    runs = [
        (record.create_timestamp.timestamp(), record.start_time, record.end_time)
        for record in reversed(records)
        if record.start_time and record.end_time
    ]
    names = ("until a run was asked for", "until it worked", "until it had published")
    found: dict[str, list[float]] = {name: [] for name in names}
    for event, acknowledged in seen.acknowledged.items():
        visible = seen.visible[event]
        asked, started, _ = next((one for one in reversed(runs) if one[1] <= visible), runs[0])
        moments = [acknowledged, max(asked, acknowledged), max(started, acknowledged), visible]
        for name, (begin, end) in zip(found, pairwise(moments), strict=True):
            found[name].append(end - begin)
    return {
        **{name: percentiles(values) for name, values in found.items()},
        "a run, to its start": percentiles([start - asked for asked, start, _ in runs]),
        "a run, from its start": percentiles([end - start for _, start, end in runs]),
    }


def compare(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure with Dagster and without, each with topics and tables of its own on one broker."""
    generated.write(folder / "assets", given.products)
    names = ("kafka_port", "controller_port", "registry_port", "dagster_port")
    ports: dict[str, Any] = dict(zip(names, free_ports(4), strict=True))
    found: dict[str, Any] = {"products": given.products, "events per second": given.rate, "seconds": given.seconds}
    for name, runner in RUNNERS.items():
        settings = Settings(home=folder / name, assets=folder / "assets", **ports)
        with Services(settings, registry=False):
            platform = Platform.open(settings)
            apply_contracts(platform, platform.in_order)
            with runner(platform):
                # The first run of everything, so that what is measured is a mesh at work.
                measure(platform, given.products, 50)
                seen = measure(platform, int(given.rate * given.seconds), given.rate)
            check(platform, int(given.rate * given.seconds))
            latencies = [seen.visible[event] - at for event, at in seen.acknowledged.items()]
            found[name] = {"events": len(latencies), "latency": percentiles(latencies)}
            if name == "dagster":
                found[name]["parts"] = parts(seen, settings)
    return found


def reported(found: Mapping[str, Any]) -> Report:
    """A row for each runner, and for where the time of Dagster's goes."""
    report = Report("freshness")
    for name in RUNNERS:
        report.add(name, {"events": found[name]["events"], **found[name]["latency"]})
    for name, values in found["dagster"]["parts"].items():
        report.add(f"  {name}", values)
    report.ratio(
        "p95 under Dagster to without", [found["dagster"]["latency"]["p95"] / found["bare"]["latency"]["p95"]], "lower"
    )
    return report


def main() -> None:
    """Parse the options and measure."""
    options = argparse.ArgumentParser(description="From acknowledged to visible, under Dagster and without.")
    options.add_argument("--products", type=int, default=8)
    options.add_argument("--rate", type=float, default=50.0, help="events per second over all products")
    options.add_argument("--seconds", type=float, default=120.0)
    options.add_argument("--json", type=Path, help="write the report there")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reported(compare(Path(folder), given)).give(given.json)


if __name__ == "__main__":
    main()
