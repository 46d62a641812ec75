"""What poison costs a landing: the rate with 1 % and 100 % of undecodable events, beside the rate with none.

Three topics of the same number of events, landed in turn, each time on tables of its own and in a process of its own;
the ratios are what to watch, that of the CPU seconds where the machine has other work. The poison is of every kind at
once: random bytes, truncated and grown events, text that is not UTF-8, ids that the registry does not know, bytes put
in between, and plain text.

    python benchmarks/poison.py --events 500000 --rounds 3 --json poison.json
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from land import import_for, local
from report import Report

from mesh_pipelines.local.services import Services
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

SHARES = {"none": 0.0, "one": 0.01, "all": 1.0}
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: poison.{name}
name: {name}
domain: poison
version: "1.0.0"
status: active
team: {{members: [{{username: ann@example.com, role: owner}}]}}
customProperties:
  - {{property: mesh.alignment, value: source-aligned}}
  - {{property: mesh.eventType, value: measurement}}
  - {{property: mesh.maxUndecodableShare, value: 1}}
schema:
  - name: {name}
    properties:
      - {{name: id, logicalType: string}}
      - {{name: at, logicalType: timestamp}}
      - {{name: price, logicalType: number, physicalType: "decimal(10,2)"}}
      - {{name: city, logicalType: string}}
      - {{name: count, logicalType: integer}}
      - {{name: ratio, logicalType: number}}
      - {{name: note, logicalType: string}}
      - {{name: tags, logicalType: array, items: {{logicalType: string}}}}
"""


def good(schema: Any, number: int) -> bytes:
    """One event, without its header."""
    from datetime import UTC, datetime, timedelta
    from decimal import Decimal

    row = {
        "id": f"event-{number:08}",
        "at": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
        "price": Decimal(number % 1_000_000) / 100,
        "city": ("Zürich", "New York", "東京")[number % 3],
        "count": number,
        "ratio": number / 7,
        "note": None if number % 5 else "a few words that somebody wrote",
        "tags": ["a", "b", "c"][: number % 4],
    }
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, row)
    return buffer.getvalue()


def poison(rng: random.Random, header: bytes, datum: bytes) -> bytes:
    """An event that cannot be decoded, made of one that can."""
    at = rng.randrange(1, len(datum))
    match rng.randrange(7):
        case 0:
            return rng.randbytes(rng.randrange(100))
        case 1:
            return header + datum[:at]
        case 2:
            return header + datum + rng.randbytes(3)
        case 3:
            return header + datum.replace(b"event", b"ev\xffnt")
        case 4:
            return b"\0" + rng.randrange(10**6, 10**6 + 20).to_bytes(4, "big") + datum
        case 5:
            return header + datum[:17] + b"\x02" + b"\xff" * 9 + b"\x7f" + datum[17:]
        case _:
            return b"not an event at all, but a line of a log"


def fill(settings: Settings, name: str, share: float, events: int) -> None:
    """Produce the events of one topic."""
    registry = SchemaRegistryClient({"url": settings.registry_url.reveal()})
    latest = registry.get_latest_version(f"poison.{name}-value")
    schema = fastavro.parse_schema(json.loads(latest.schema.schema_str or ""))
    header = b"\0" + (latest.schema_id or 0).to_bytes(4, "big")
    rng = random.Random(2013)
    producer = Producer({"bootstrap.servers": settings.brokers, "queue.buffering.max.messages": 1_000_000})
    for number in range(events):
        datum = good(schema, number)
        value = poison(rng, header, datum) if rng.random() < share else header + datum
        producer.produce(f"poison.{name}", value)
        if not number % 1000:
            producer.poll(0)
    producer.flush()


def measure(name: str, settings: Settings) -> dict[str, float]:
    """Land one topic in a process of its own: ``seconds``, CPU seconds (``cpu``), ``rows`` and ``quarantined``."""
    fresh = Platform.open(settings)
    apply_contracts(fresh, [fresh.product(f"poison.{name}")])
    command = [sys.executable, __file__, "--measure", name, "--settings", settings.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def child(name: str, settings: Settings) -> None:
    """One landing, printed as JSON; the clock runs without the imports, which are the same for all."""
    platform = Platform.open(settings)
    product = platform.product(f"poison.{name}")
    import_for("land")

    began, used = time.perf_counter(), time.process_time()
    landed = land(platform, product)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu": cpu, "rows": landed.rows, "quarantined": landed.quarantined}))


def rounds(settings: Settings, folder: Path, count: int) -> Iterator[dict[str, dict[str, float]]]:
    """What each round measured; the order turns, so that none always comes first."""
    names = list(SHARES)
    for number in range(count):
        turned = names[number % 3 :] + names[: number % 3]
        found: dict[str, dict[str, float]] = {}
        for name in turned:
            home = settings.model_copy(update={"home": folder / f"{name}{number}"})
            found[name] = measure(name, home)
            print(f"round {number + 1}: {name} {found[name]['seconds']:.2f} s", file=sys.stderr, flush=True)
        yield found


def reported(found: list[dict[str, dict[str, float]]]) -> Report:
    """Rows by share of poison, and how fast each is beside none."""
    report = Report("poison")
    for name in SHARES:
        report.add(
            name,
            *(
                {
                    "events/s": one[name]["rows"] / one[name]["seconds"],
                    "CPU s/M": one[name]["cpu"] / one[name]["rows"] * 1e6,
                    "quarantined": one[name]["quarantined"],
                }
                for one in found
            ),
        )
    for name in ("one", "all"):
        report.ratio(f"{name} of none", [one["none"]["seconds"] / one[name]["seconds"] for one in found])
        report.ratio(f"CPU: none of {name}", [one["none"]["cpu"] / one[name]["cpu"] for one in found])
    return report


def main() -> None:
    """Parse the options and measure."""
    options = argparse.ArgumentParser(description="Landing with none, 1 % and 100 % of poison.")
    options.add_argument("--events", type=int, default=500_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path, help="write the report there")
    options.add_argument("--measure", choices=SHARES, help=argparse.SUPPRESS)
    options.add_argument("--settings", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        child(given.measure, Settings.model_validate_json(given.settings))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for product in SHARES:
            path = folder / "assets" / "poison" / product / "contract.yaml"
            path.parent.mkdir(parents=True)
            path.write_text(CONTRACT.format(name=product))
        settings = local(folder)
        with Services(settings):
            platform = Platform.open(settings)
            apply_contracts(platform, platform.in_order)
            for product, share in SHARES.items():
                fill(settings, product, share, given.events)
            found = list(rounds(settings, folder, given.rounds))
    reported(found).give(given.json)


if __name__ == "__main__":
    main()
