"""How fast a topic is landed, beside the limit: a drain of the same topic that stores nothing.

Whole processes, measured in turn, several rounds in one run, the order turning from round to round; what was landed is
compared with what was produced each time, to the hash of every column. Watch the ratios: absolute rates move with the
machine, and more with what else runs on it, the broker first of all.

    python benchmarks/land.py                                # 1,000,000 events, 5 rounds
    python benchmarks/land.py --rows 200000 --rounds 3 --json land.json
    python benchmarks/land.py --backlog 4000000              # that peak memory does not depend on the backlog

Memory depends on the chunk (200,000 events), so with fewer rows than a few chunks a backlog says nothing.

- C drain: `drain.c`, librdkafka's batches in C, the library of confluent-kafka's wheel. The limit.
- Python drain: `consume(10000)`, messages untouched. What any Python consumer pays before it does anything.
  Both drains end by the number of events; the platform, which does not know it, by the end offsets.
- land avro, land json: `land` to the log table. "plain" is without the native extension (MESH_NATIVE=off).
- run avro: land, fold, audit and publish; with `--with-run`.

The drains are of the Avro topic; JSON is compared with them all the same, since its events are the same.

Seconds run from the making of the consumer (for landing: the call, before the catalog is opened) to the last commit,
after all imports; "process s" is the whole process, imports included. CPU is that of all threads after the imports;
the broker's is in none of the figures, though it runs on the same cores.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from meter import Meter
from orders import AVRO, JSON, PARTITIONS, Expected, Orders, applied, check, check_published, produce
from report import Report

from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.settings import Settings


class Failed(Exception):
    """A measured process failed; with what it said."""


Measured = Mapping[str, float]
Found = dict[str, list[Measured]]

# What is imported before the clock starts: modules, and packages (with a dot) with all that is in them. The platform
# imports most of it where it is first needed.
_LANDING = (
    "mesh_pipelines.pipeline.land",
    "mesh_pipelines.lake.",
    "mesh_pipelines.kafka.",
    "mesh_pipelines.formats.",
    "mesh_pipelines.audit.divert",
    "confluent_kafka.schema_registry",
    "encodings.idna",
    "httpcore2",
    "polars_avro",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
    "sqlalchemy.dialects.sqlite",
)
_IMPORTED = {
    "drain": ("confluent_kafka",),
    "land": _LANDING,
    "run": (
        *_LANDING,
        "mesh_pipelines.pipeline.",
        "mesh_pipelines.serve.",
        "mesh_pipelines.rules.",
        "mesh_pipelines.audit.",
    ),
}
# A drain's batch waits to be full: a longer wait would be paid once more at the end of the topic.
_WAIT_S = 0.01


def fetching(settings: Settings) -> dict[str, str]:
    """The properties of a drain: those with which landing fetches, and a queue that is never what holds it up."""
    return {
        "group.id": "mesh-benchmark",
        "enable.auto.commit": "false",
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": "65536",
        "fetch.queue.backoff.ms": "5",
        "queued.min.messages": "500000",
        "fetch.message.max.bytes": str(4 * 1024 * 1024),
        "bootstrap.servers": settings.brokers,
    }


def compiled(folder: Path) -> Path | None:
    """The drain in C, compiled; None if there is no compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program = folder / "drain"
    source = Path(__file__).with_name("drain.c")
    subprocess.run([compiler, "-O2", "-o", program, source, "-ldl"], check=True)
    return program


def librdkafka() -> Path:
    """The library that confluent-kafka's wheel carries; its name has a hash."""
    import confluent_kafka

    package = Path(confluent_kafka.__file__).parent
    folders = (package.with_name("confluent_kafka.libs"), package / ".dylibs")
    return next(path for folder in folders for path in sorted(folder.glob("librdkafka*")))


def c_drain(program: Path, settings: Settings, fqn: str, events: int) -> Measured:
    """One drain in C; see ``measured``."""
    properties = [f"{name}={value}" for name, value in fetching(settings).items()]
    return measured([program, librdkafka(), fqn, PARTITIONS, events, *properties], {})


def in_child(what: str, fqn: str, settings: Settings, events: int, native: str = "auto") -> Measured:
    """One measurement in a process of its own, which gets its settings by the environment."""
    given = {
        f"MESH_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.model_dump(mode="json", exclude_none=True).items()
    }
    command = [sys.executable, __file__, "--child", what, fqn, events]
    return measured(command, {**given, "MESH_NATIVE": native})


def measured(command: Sequence[object], environment: Mapping[str, str], timeout_s: float | None = None) -> Measured:
    """What a process says of itself in its last line, and ``process``: its seconds from start to end.

    Raises:
        Failed: it did not end well, or not within ``timeout_s``.
    """
    began = time.perf_counter()
    words = [str(word) for word in command]
    given = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")} | dict(environment)
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=given, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{Path(words[1]).name}: not done after {timeout_s:,.0f} s") from error
    if done.returncode:
        raise Failed(f"{Path(words[1]).name}: exit {done.returncode}\n{done.stderr}")
    return {**json.loads(done.stdout.splitlines()[-1]), "process": time.perf_counter() - began}


def import_for(what: str) -> None:
    """Import what a measurement needs, so that its clock starts after it."""
    for name in _IMPORTED[what]:
        module = import_module(name.rstrip("."))
        if name.endswith("."):
            for found in pkgutil.iter_modules(module.__path__, name):
                import_module(found.name)


def child(what: str, fqn: str, events: str) -> None:
    """One measurement, printed as JSON: imports first, then the clock."""
    import_for(what)
    CHILDREN[what](fqn, Settings.load(), int(events))


def _drain(fqn: str, settings: Settings, events: int) -> None:
    from confluent_kafka import Consumer, TopicPartition

    meter = Meter()
    client = Consumer(fetching(settings))
    client.assign([TopicPartition(fqn, number, 0) for number in range(PARTITIONS)])
    messages = 0
    while messages < events:
        messages += len(client.consume(10_000, timeout=_WAIT_S))
    meter.stop(messages)


def _land(fqn: str, settings: Settings, _: int) -> None:
    from mesh_pipelines.pipeline.land import land
    from mesh_pipelines.platform import Platform

    platform = Platform.open(settings)
    meter = Meter()
    meter.stop(land(platform, platform.product(fqn)).rows)


def _run(fqn: str, settings: Settings, _: int) -> None:
    from mesh_pipelines.pipeline.run import run
    from mesh_pipelines.platform import Platform

    platform = Platform.open(settings)
    meter = Meter()
    [done] = run(platform, [fqn])
    if done.error or done.landed is None:
        raise SystemExit(str(done.error))
    meter.stop(done.landed.rows)


CHILDREN: dict[str, Callable[[str, Settings, int], None]] = {"drain": _drain, "land": _land, "run": _run}


def landing(broker: Settings, home: Path, fqn: str, expected: Expected, what: str, native: str = "auto") -> Measured:
    """Land or run a product into tables of their own, compare them with what was produced, and drop them."""
    settings = broker.model_copy(update={"home": home})
    platform = applied(settings, fqn)
    found = in_child(what, fqn, settings, expected.events, native)
    check(platform, fqn, expected)
    if what == "run":
        check_published(platform, fqn, expected)
    shutil.rmtree(home)
    return found


def take_rounds(broker: Settings, folder: Path, expected: Expected, rounds: int, *, with_run: bool) -> Found:
    """What each round measured, by name; the order turns, so that none always comes first."""
    program = compiled(folder)
    home = folder / "landed"
    takes: dict[str, Callable[[], Measured]] = {
        "Python drain": lambda: in_child("drain", AVRO, broker, expected.events),
        "land avro": lambda: landing(broker, home, AVRO, expected, "land"),
        "land avro, plain": lambda: landing(broker, home, AVRO, expected, "land", "off"),
        "land json": lambda: landing(broker, home, JSON, expected, "land"),
    }
    if program:
        takes = {"C drain": lambda: c_drain(program, broker, AVRO, expected.events), **takes}
    if with_run:
        takes["run avro"] = lambda: landing(broker, home, AVRO, expected, "run")
    found: Found = {name: [] for name in takes}
    names = list(takes)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            one = takes[name]()
            assert one["rows"] == expected.events, f"{name}: {one['rows']:,} of {expected.events:,} events"
            found[name].append(one)
            say(f"round {number + 1}: {name} {one['rows'] / one['seconds']:,.0f} rows/s")
    return found


def figures(one: Measured) -> dict[str, float]:
    """The figures of a row, from what was measured."""
    return {
        "rows/s": one["rows"] / one["seconds"],
        "CPU s/M": one["cpu"] / one["rows"] * 1e6,
        "peak MB": one["peak_mb"],
        "seconds": one["seconds"],
        "process s": one["process"],
    }


def faster(found: Found, name: str, than: str) -> list[float]:
    """How many times as fast, round by round."""
    return [than_one["seconds"] / one["seconds"] for one, than_one in _pairs(found, name, than)]


def thriftier(found: Found, name: str, than: str) -> list[float]:
    """How many times less CPU, round by round."""
    return [than_one["cpu"] / one["cpu"] for one, than_one in _pairs(found, name, than)]


def _pairs(found: Found, name: str, than: str) -> list[tuple[Measured, Measured]]:
    return list(zip(found.get(name, ()), found.get(than, ()), strict=False))


def reported(found: Found) -> Report:
    """Rows and ratios; a landing's row has its ratios to both drains, too."""
    report = Report("land")
    for name, rounds in found.items():
        drains = {f"of {drain}": faster(found, name, drain) for drain in ("C drain", "Python drain") if drain in found}
        report.add(
            name,
            *(
                {**figures(one), **{drain: ratios[at] for drain, ratios in drains.items()}}
                for at, one in enumerate(rounds)
            ),
        )
    if "C drain" not in found:
        report.add("C drain", note="left out: there is no C compiler (cc, gcc, clang or $CC)")
    report.ratio("land avro of C drain", faster(found, "land avro", "C drain"), must=0.30, aim=0.50)
    report.ratio("land avro of Python drain", faster(found, "land avro", "Python drain"), must=0.70, aim=1.1)
    report.ratio("land avro, plain, of Python drain", faster(found, "land avro, plain", "Python drain"))
    report.ratio("land json of Python drain", faster(found, "land json", "Python drain"))
    report.ratio("native of plain", faster(found, "land avro", "land avro, plain"))
    report.ratio("run of land", faster(found, "run avro", "land avro"))
    report.ratio("CPU: C drain of land avro", thriftier(found, "land avro", "C drain"))
    report.ratio("CPU: Python drain of land avro", thriftier(found, "land avro", "Python drain"))
    report.ratio("CPU: Python drain of land json", thriftier(found, "land json", "Python drain"))
    return report


def add_backlog(report: Report, broker: Settings, folder: Path, orders: Orders, backlog: int, before: float) -> None:
    """Let the topic grow to ``backlog`` events and land it once; the peak is compared with the one ``before``."""
    grown = Orders(backlog, orders.seed)
    say(f"producing up to {backlog:,} events")
    produce(applied(broker, AVRO), AVRO, grown, orders.events)
    one = landing(broker, folder / "backlog", AVRO, grown.expected(), "land")
    report.add(f"land avro, {backlog:,} events", figures(one))
    report.ratio("peak memory of the backlog", [one["peak_mb"] / before], "lower", must=1.15, aim=1.05)


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def local(folder: Path) -> Settings:
    """Settings of services of a benchmark's own, on free ports, whatever broker the environment names."""
    kafka, controller, registry = free_ports(3)
    return Settings(
        home=folder / "broker",
        assets=folder / "assets",
        bootstrap_servers=None,
        schema_registry_url=None,
        catalog_uri=None,
        warehouse=None,
        kafka_config={},
        host="127.0.0.1",
        kafka_port=kafka,
        controller_port=controller,
        registry_port=registry,
    )


def main() -> None:
    """Parse the options and measure."""
    options = argparse.ArgumentParser(description="Landing beside drains of the same topic.")
    options.add_argument("--rows", type=int, default=1_000_000, help="events on each topic")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--backlog", type=int, default=0, help="land a topic of so many events, too")
    options.add_argument("--with-run", action="store_true", help="measure landing, auditing and publishing, too")
    options.add_argument("--compression", default="none", help="of the topics: none, lz4, zstd, ...")
    options.add_argument("--seed", type=int, default=2013)
    options.add_argument("--json", type=Path, help="write the report there")
    options.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        child(*given.child)
        return
    orders = Orders(given.rows, given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = local(folder)
        with Services(broker):
            platform = applied(broker, AVRO, JSON)
            for fqn in (AVRO, JSON):
                say(f"producing {given.rows:,} events to {fqn}")
                produce(platform, fqn, orders, **{"compression.type": given.compression})
            found = take_rounds(broker, folder, orders.expected(), given.rounds, with_run=given.with_run)
            report = reported(found)
            if given.backlog > given.rows:
                before = max(one["peak_mb"] for one in found["land avro"])
                add_backlog(report, broker, folder, orders, given.backlog, before)
    report.give(given.json)


if __name__ == "__main__":
    main()
