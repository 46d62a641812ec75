"""What it costs to publish a delta: time, growth with the table, bytes written, reading, memory, growth with commits.

Generated orders (12 columns, a contract of 20 rules, keys at random, 2 % tombstones) go through a Kafka that this
starts itself: each measurement is from events already in the topic to the published version, in a process of its own,
without its imports. Tables of different sizes take turns, so that a busy machine is busy for all of them. In the same
run a whole-table rewrite by hand in DuckDB, then a scan with the same rules, stands for what one would do otherwise.

    .venv/bin/python benchmarks/publish.py                          # 1 and 10 million keys
    .venv/bin/python benchmarks/publish.py --keys 200000 --deltas 60 --commits 0 --json out.json
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import Report

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

EVENTS = 10_000
# Of a round, into a table of one size.
DELTAS = 3
# How often upkeep runs, in deltas: hourly, where a delta comes every minute or so.
UPKEEP = 50
SCAN = "SELECT sum(amount_cents), max(created_at), count(status), count(note), sum(items) FROM {0}"
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: shop.orders{keys}
name: orders{keys}
domain: shop
version: "1.0.0"
status: active
team: {{members: [{{username: ann@example.com, role: owner}}]}}
customProperties:
  - {{property: mesh.alignment, value: source-aligned}}
  - {{property: mesh.eventType, value: state}}
  - {{property: mesh.partitions, value: 4}}
schema:
  - name: orders{keys}
    quality: [{{metric: rowCount, mustBeGreaterThan: 0}}]
    properties:
      - {{name: order_id, logicalType: string, primaryKey: true, required: true,
          logicalTypeOptions: {{pattern: "^order-[0-9]+$", minLength: 7, maxLength: 40}}}}
      - {{name: customer_id, logicalType: integer, required: true, logicalTypeOptions: {{minimum: 0}}}}
      - {{name: status, logicalType: string, required: true,
          quality: [{{metric: invalidValues, arguments: {{validValues: [new, paid, sent, done]}}, mustBe: 0}}]}}
      - {{name: currency, logicalType: string, logicalTypeOptions: {{minLength: 3, maxLength: 3}}}}
      - {{name: amount_cents, logicalType: integer, required: true,
          logicalTypeOptions: {{minimum: 0, maximum: 100000000}}}}
      - {{name: items, logicalType: integer, logicalTypeOptions: {{minimum: 0, maximum: 1000}}}}
      - {{name: country, logicalType: string, logicalTypeOptions: {{maxLength: 2}}}}
      - {{name: note, logicalType: string, logicalTypeOptions: {{maxLength: 200}}}}
      - {{name: created_at, logicalType: timestamp, required: true}}
      - {{name: shipped_at, logicalType: timestamp}}
      - {{name: discount, logicalType: number}}
      - {{name: gift, logicalType: boolean}}
"""


def order(number: int, chance: random.Random) -> dict[str, Any]:
    """One order, by chance but for its key."""
    created = 1_700_000_000_000_000 + chance.randrange(10**13)
    return {
        "order_id": f"order-{number:012}",
        "customer_id": chance.randrange(100_000),
        "status": chance.choice(("new", "paid", "sent", "done")),
        "currency": chance.choice(("EUR", "USD", "GBP")),
        "amount_cents": chance.randrange(1_000_000),
        "items": chance.randrange(20),
        "country": chance.choice(("DE", "FR", "US", "IT")),
        "note": f"note {chance.randrange(100_000)}",
        "created_at": created,
        "shipped_at": created + 10**9 if chance.random() < 0.5 else None,
        "discount": chance.randrange(100) / 100,
        "gift": chance.random() < 0.1,
    }


@dataclass
class Producer:
    """Produces orders of one product; a few thousand different ones are encoded, for their keys and no more."""

    platform: Platform
    product: DataProduct

    def produce(self, numbers: Iterator[int] | list[int], chance: random.Random) -> None:
        """One event for each of these keys."""
        import io

        import fastavro
        from confluent_kafka import Producer as Client

        assert self.product.topic is not None
        topic = self.product.topic.name
        latest = self.platform.registry.latest(f"{topic}-value")
        assert latest is not None
        schema = fastavro.parse_schema(json.loads(latest[1].text))
        header = b"\0" + latest[0].to_bytes(4, "big")
        bodies: list[tuple[bytes, bytes]] = []
        for _ in range(5_000):
            buffer = io.BytesIO()
            one = order(0, chance)
            fastavro.schemaless_writer(buffer, schema, one)
            # The key comes first, as a string of known length: all that differs between orders of one body.
            bodies.append((header + buffer.getvalue()[:1], buffer.getvalue()[1 + len(one["order_id"]) :]))
        client = Client(
            {**self.platform.settings.client_config(), "linger.ms": 50, "queue.buffering.max.messages": 10**6}
        )
        for number in numbers:
            key = f"order-{number:012}".encode()
            start, end = bodies[chance.randrange(len(bodies))]
            value = None if chance.random() < 0.02 else start + key + end
            while True:
                try:
                    client.produce(topic, value, key)
                    break
                except BufferError:
                    client.poll(0.1)
        client.flush()


def platform_of(settings: Settings, keys: int) -> tuple[Platform, DataProduct]:
    """The platform with the product of this many keys."""
    home = settings.assets / "shop" / f"orders{keys}"
    home.mkdir(parents=True, exist_ok=True)
    (home / "contract.yaml").write_text(CONTRACT.format(keys=keys))
    platform = Platform.open(settings)
    return platform, platform.product(f"shop.orders{keys}")


def publish(platform: Platform, product: DataProduct) -> dict[str, float]:
    """Land, fold, audit and publish what is in the topic; wall and CPU seconds."""
    from mesh_pipelines.pipeline.run import run

    began, used = time.perf_counter(), time.process_time()
    [done] = run(platform, [product.fqn])
    if done.error:
        raise done.error
    assert done.snapshot is not None
    return {
        "wall": time.perf_counter() - began,
        "cpu": time.process_time() - used,
        "whole": done.snapshot.whole,
        "rewrote": done.snapshot.rewrote_base,
    }


def rewritten_by_hand(platform: Platform, product: DataProduct, folder: Path) -> dict[str, float]:
    """What one would do otherwise: fold the table and a delta into a new file, and count the rules' bad rows in it."""
    from mesh_pipelines.engine import connect
    from mesh_pipelines.rules.compile import compile_product
    from mesh_pipelines.serve.reading import read_version

    target = folder / "by_hand.parquet"
    state = read_version(platform.catalog, product)
    with closing(connect(platform.settings)) as engine:
        engine.register("state", state.duckdb(engine))
        engine.execute(f"CREATE TEMP TABLE delta AS FROM state USING SAMPLE {EVENTS} ROWS")
        began, used = time.perf_counter(), time.process_time()
        folded = "FROM state ANTI JOIN delta USING (order_id) UNION ALL FROM delta"
        reader = engine.sql(folded).to_arrow_reader(100_000)
        _write(reader, target)
        counts = ", ".join(f"count(*) FILTER (WHERE {one.predicate})" for one in compile_product(product).row_rules)
        import pyarrow.dataset as ds

        engine.register("written", ds.dataset(target))
        engine.execute(f"SELECT {counts}, count(*) - count(DISTINCT order_id) FROM written").fetchall()
    found = {"wall": time.perf_counter() - began, "cpu": time.process_time() - used}
    target.unlink()
    return found


def _write(reader: Any, target: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(target, reader.schema, compression="zstd", compression_level=1) as writer:
        for batch in reader:
            writer.write_batch(batch)


def read_cost(platform: Platform, product: DataProduct, rounds: int = 5) -> dict[str, float]:
    """A scan of five columns of the published version, and of the same rows in one compacted file; CPU seconds."""
    import duckdb

    from mesh_pipelines.serve.reading import read_version

    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        compacted = Path(folder) / "compacted.parquet"
        rows = read_version(platform.catalog, product).duckdb(engine).order("order_id")
        _write(rows.to_arrow_reader(100_000), compacted)
        view = read_version(platform.catalog, product).duckdb(engine)
        engine.register("version", view)
        queries = {"version": SCAN.format("version"), "compacted": SCAN.format(f"read_parquet('{compacted}')")}
        taken: dict[str, list[float]] = {name: [] for name in queries}
        for _ in range(rounds):
            for name, query in queries.items():
                used = time.process_time()
                engine.execute(query).fetchall()
                taken[name].append(time.process_time() - used)
    return {name: min(times) for name, times in taken.items()}


def written(settings: Settings, product: DataProduct, seen: dict[Path, int]) -> dict[str, int]:
    """The bytes of files that are new since the last call, by table; what was removed since has been written, too."""
    found: dict[str, int] = {}
    for file in (settings.home / "warehouse").rglob("*"):
        if file.is_file() and file not in seen and product.name in str(file):
            seen[file] = file.stat().st_size
            parts = [*file.relative_to(settings.home / "warehouse").parts]
            kind = f"{parts[-3] if len(parts) > 2 else parts[0]}/{parts[-2]}"
            found[kind] = found.get(kind, 0) + seen[file]
    return found


def upkeep(platform: Platform, product: DataProduct) -> None:
    """Compaction and expiry, as their schedules run them."""
    from mesh_pipelines.repair import upkeep

    upkeep.compact(platform, product)
    upkeep.expire(platform, product)


# What a child process does: each gets the settings, its keys and a number of deltas, and prints a JSON object.
def fill(settings: Settings, keys: int, _: int) -> dict[str, Any]:
    """Every key once, landed and published; gives the peak memory of it."""
    platform, product = platform_of(settings, keys)
    found = publish(platform, product)
    return {**found, "peak_mb": _peak()}


def delta(settings: Settings, keys: int, deltas: int) -> dict[str, Any]:
    """Deltas, one after the other, each of keys at random; the first one is not counted."""
    platform, product = platform_of(settings, keys)
    producer, chance = Producer(platform, product), random.Random(deltas)
    found: list[dict[str, float]] = []
    for _ in range(deltas + 1):
        producer.produce([chance.randrange(keys) for _ in range(EVENTS)], chance)
        found.append(publish(platform, product))
    return {"deltas": found[1:], "peak_mb": _peak()}


def by_hand(settings: Settings, keys: int, _: int) -> dict[str, Any]:
    """The whole-table rewrite."""
    platform, product = platform_of(settings, keys)
    return {**rewritten_by_hand(platform, product, settings.home), "peak_mb": _peak()}


def amplification(settings: Settings, keys: int, deltas: int) -> dict[str, Any]:
    """Many deltas with upkeep: bytes written, and reading when the tail is at its longest."""
    platform, product = platform_of(settings, keys)
    producer, chance = Producer(platform, product), random.Random(1)
    # What filling the table left to upkeep is not the deltas'.
    upkeep(platform, product)
    seen: dict[Path, int] = {}
    written(settings, product, seen)
    bytes_by: dict[str, int] = {}
    log_bytes = rewrites = since = 0
    reading: list[dict[str, float]] = []
    for number in range(1, deltas + 1):
        producer.produce([chance.randrange(keys) for _ in range(EVENTS)], chance)
        done = publish(platform, product)
        new = written(settings, product, seen)
        log_bytes += new.get("log/data", 0)
        rewrites += bool(done["rewrote"])
        since = 0 if done["rewrote"] else since + 1
        for kind, size in new.items():
            bytes_by[kind] = bytes_by.get(kind, 0) + size
        if number % UPKEEP == 0:
            upkeep(platform, product)
            for kind, size in written(settings, product, seen).items():
                bytes_by[kind] = bytes_by.get(kind, 0) + size
        if number > deltas / 2 and _is_longest(platform, product):
            reading.append(read_cost(platform, product))
    return {
        "log_bytes": log_bytes,
        "rewrites": rewrites,
        "bytes": bytes_by,
        "amplification": sum(bytes_by.values()) / log_bytes,
        "reading": reading,
        "peak_mb": _peak(),
    }


def _is_longest(platform: Platform, product: DataProduct) -> bool:
    """Whether the base takes in the tail with the next delta."""
    from mesh_pipelines.lake.base import worth_taking_in

    tables = platform.tables_of(product)
    version = tables.versions.published()
    base = version and tables.state.usable_base(version)
    if not base or not version or not version.position:
        return False
    tail = base.position.lag_to(version.position) + EVENTS
    return worth_taking_in(tables.base.size(base), tail, platform.settings.base_tail_rows)


def commits(settings: Settings, keys: int, count: int) -> dict[str, Any]:
    """Small commits with upkeep: CPU seconds of the 10th and of the last, each the median of ten."""
    platform, product = platform_of(settings, keys)
    producer, chance = Producer(platform, product), random.Random(2)
    taken: list[float] = []
    for number in range(1, count + 1):
        producer.produce([chance.randrange(keys) for _ in range(100)], chance)
        taken.append(publish(platform, product)["cpu"])
        if number % UPKEEP == 0:
            upkeep(platform, product)
    return {"tenth": statistics.median(taken[5:15]), "last": statistics.median(taken[-10:])}


CHILDREN: dict[str, Callable[[Settings, int, int], dict[str, Any]]] = {
    "fill": fill,
    "delta": delta,
    "by_hand": by_hand,
    "amplification": amplification,
    "commits": commits,
}


def measure(name: str, settings: Settings, keys: int, number: int = 0) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, __file__, "--child", name, "--settings", settings.model_dump_json()]
    done = subprocess.run(
        [*command, "--keys", str(keys), "--deltas", str(number)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(settings: Settings, sizes: list[int], rounds: int, deltas: int, small: int) -> dict[str, Any]:
    """Fill a table of each size, then measure them in turns."""
    from mesh_pipelines.plan.apply import apply_contracts

    found: dict[str, Any] = {"filled": {}, "delta": {keys: [] for keys in sizes}, "by_hand": {}}
    peaks: list[float] = []
    for keys in sizes:
        platform, product = platform_of(settings, keys)
        apply_contracts(platform, [product])
        Producer(platform, product).produce(iter(range(keys)), random.Random(0))
        found["filled"][keys] = measure("fill", settings, keys)
        peaks.append(found["filled"][keys]["peak_mb"])
    for _ in range(rounds):
        for keys in sizes:
            done = measure("delta", settings, keys, DELTAS)
            found["delta"][keys] += done["deltas"]
            peaks.append(done["peak_mb"])
    for keys in sizes:
        found["by_hand"][keys] = measure("by_hand", settings, keys)
    if deltas:
        found["amplification"] = measure("amplification", settings, sizes[0], deltas)
        peaks.append(found["amplification"]["peak_mb"])
    if small:
        found["commits"] = measure("commits", settings, sizes[0], small)
    found["peak_mb"] = max(peaks)
    return found


def reported(found: dict[str, Any]) -> Report:
    """Rows for each size of table, and the ratios that are asked for."""
    report = Report("publish")
    deltas: dict[int, list[dict[str, float]]] = found["delta"]
    for keys, done in deltas.items():
        report.add(f"a delta into {keys:,} keys", *({"CPU s": one["cpu"], "seconds": one["wall"]} for one in done))
        report.add(f"the whole table by hand, {keys:,} keys", {"CPU s": found["by_hand"][keys]["cpu"]})
    few, many = min(deltas), max(deltas)
    by_hand = found["by_hand"][few]["cpu"]
    report.ratio("CPU of a delta to the whole table by hand", [one["cpu"] / by_hand for one in deltas[few]], "lower")
    if few < many:
        for figure, what, goals in (("wall", "time", (1.5, 1.15)), ("cpu", "CPU", ())):
            rounds = zip(_medians(deltas[many], figure), _medians(deltas[few], figure), strict=True)
            report.ratio(f"{what} at {many:,} keys to {few:,}", [a / b for a, b in rounds], "lower", *goals)
    if more := found.get("amplification"):
        report.ratio("bytes written to bytes of delta", [more["amplification"]], "lower", 6, 3)
        if more["reading"]:
            read = [one["version"] / one["compacted"] for one in more["reading"]]
            report.ratio("reading at the longest tail to compacted", read, "lower", 2.0, 1.5)
    if grown := found.get("commits"):
        report.ratio("the last small commit to the 10th", [grown["last"] / grown["tenth"]], "lower", 2)
    report.add("peak memory", {"MB": found["peak_mb"]})
    return report


def _medians(deltas: list[dict[str, float]], figure: str) -> list[float]:
    """Of each round the delta in the middle: the base takes in its tail after every few, at different ones."""
    return [
        statistics.median(one[figure] for one in deltas[start : start + DELTAS])
        for start in range(0, len(deltas), DELTAS)
    ]


def main() -> None:
    """Parse the options and measure."""
    options = argparse.ArgumentParser(description="What it costs to publish a delta.")
    options.add_argument("--keys", type=int, nargs="+", default=[1_000_000, 10_000_000])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--deltas", type=int, default=200, help="deltas over which bytes are counted; 0 leaves it out")
    options.add_argument("--commits", type=int, default=1_000, help="small commits; 0 leaves them out")
    options.add_argument("--json", type=Path, help="write what was found here")
    options.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    options.add_argument("--settings", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        settings = Settings.model_validate_json(given.settings)
        print(json.dumps(CHILDREN[given.child](settings, given.keys[0], given.deltas)))
        return
    with tempfile.TemporaryDirectory() as folder:
        kafka, controller, registry, dagster = free_ports(4)
        settings = Settings(
            home=Path(folder) / "home",
            assets=Path(folder) / "assets",
            kafka_port=kafka,
            controller_port=controller,
            registry_port=registry,
            dagster_port=dagster,
        )
        with Services(settings):
            found = compare(settings, given.keys, given.rounds, given.deltas, given.commits)
    reported(found).give(given.json)


if __name__ == "__main__":
    main()
