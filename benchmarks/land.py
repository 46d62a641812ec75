"""How fast a topic of the demo's flights is landed and published, beside a bare drain of the same topic.

Each measurement runs in a process of its own and is repeated; the ratio of the two is what to watch, since absolute
rates move with the machine. The topic is filled by the demo's replay: about a million Avro events, 14 columns.

    python benchmarks/land.py --rounds 3
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from mesh_pipelines.local.services import Services
from mesh_pipelines.settings import Settings
from mesh_pipelines.steps import apply
from mesh_pipelines.steps.platform import Platform

PRODUCT = "operations.flights"
ASSETS = Path(__file__).parents[1] / "assets"


def drain(settings: Settings) -> int:
    """A bare ``consume()`` loop to the end of the topic: messages untouched, nothing stored."""
    from confluent_kafka import TopicPartition

    from mesh_pipelines.streams.admin import StreamAdmin
    from mesh_pipelines.streams.client import Reasons, consumer

    start = StreamAdmin(settings).start_offsets([PRODUCT])[PRODUCT]
    client = consumer(settings, Reasons())
    client.assign([TopicPartition(PRODUCT, number, start.next_offset(number)) for number in start.partitions])
    left, messages = len(start.partitions), 0
    while left:
        for message in client.consume(10_000, timeout=1.0):
            if message.error() is None:
                messages += 1
            else:
                left -= 1
    client.close()
    return messages


def land(settings: Settings) -> int:
    """Topic to committed log table."""
    from mesh_pipelines.steps.land import land as step

    platform = Platform.open(settings)
    return step(platform, platform.product(PRODUCT)).rows


def run(settings: Settings) -> int:
    """Topic to published, audited version."""
    from mesh_pipelines.steps.run import run as step

    [done] = step(Platform.open(settings), [PRODUCT])
    assert done.error is None, done.error
    assert done.landed is not None
    return done.landed.rows


MEASURED: dict[str, Callable[[Settings], int]] = {"drain": drain, "land": land, "run": run}


def measure(name: str, settings: Settings) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, "--settings", settings.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def child(name: str, settings: Settings) -> None:
    """One measurement, printed as JSON; the clock runs from before the imports it needs."""
    began, used = time.perf_counter(), time.process_time()
    rows = MEASURED[name](settings)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu": cpu, "peak_mb": peak}))


def compare(broker: Settings, folder: Path, rounds: int, until: date | None) -> None:
    """Fill the topic, then measure drain, land and run in turn, each on tables of its own."""
    from mesh_pipelines.demo.replay import replay

    platform = Platform.open(broker)
    apply.execute(platform, apply.plan(platform, platform.in_order))
    replay(platform, until=until)
    print(f"{'':>6} {'rows/s':>10} {'CPU s/M':>8} {'peak MB':>8} {'of drain':>9}")
    for number in range(rounds):
        base = 0.0
        for name in MEASURED:
            settings = broker.model_copy(update={"home": folder / f"{name}{number}"})
            if name != "drain":
                fresh = Platform.open(settings)
                apply.execute(fresh, apply.plan(fresh, [fresh.product(PRODUCT)]))
            found = measure(name, settings)
            rate = found["rows"] / found["seconds"]
            base = base or rate
            cpu = found["cpu"] / found["rows"] * 1e6
            print(f"{name:>6} {rate:>10,.0f} {cpu:>8.2f} {found['peak_mb']:>8,.0f} {rate / base:>9.2f}", flush=True)


def main() -> None:
    """Parse the options and measure."""
    options = argparse.ArgumentParser(description="Landing beside a bare drain of the same topic.")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--until", type=date.fromisoformat, help="replay up to this day only")
    options.add_argument("--measure", choices=MEASURED, help=argparse.SUPPRESS)
    options.add_argument("--settings", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        child(given.measure, Settings.model_validate_json(given.settings))
        return
    with tempfile.TemporaryDirectory() as folder:
        broker = Settings(home=Path(folder) / "broker", assets=ASSETS)
        with Services(broker):
            compare(broker, Path(folder), given.rounds, given.until)


if __name__ == "__main__":
    main()
