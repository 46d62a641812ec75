"""Whether the ratios of the benchmarks are still what was recorded: `make bench-check`.

    python benchmarks/check.py                  # run them at a modest size and compare with recorded.json
    python benchmarks/check.py land poison      # these only
    python benchmarks/check.py --record         # run them and write the record

Ratios only: both sides of one are measured in the same run, so a record made on one machine holds roughly on another,
which no rate does. A ratio fails where it is worse than 80 % of what was recorded. One that is recorded and is not
measured fails, too, and so does a benchmark of which nothing is recorded. Small runs differ from full ones, so the
record is of runs at the sizes of ``SIZES``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORD = HERE / "recorded.json"
TOLERATED = 0.8
# The benchmarks that have ratios of the platform's own, and the options of a run of a minute or two.
SIZES = {
    "land": ("--rows", "300000", "--rounds", "3"),
    "poison": ("--events", "100000", "--rounds", "3"),
    "upkeep": ("--commits", "110"),
    "publish": ("--keys", "200000", "--deltas", "0", "--commits", "0"),
    "audit": ("--rows", "2000000"),
}

Report = dict[str, Any]


def run(name: str) -> Report:
    """A benchmark's report; its progress goes to standard error.

    Raises:
        CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, str(HERE / f"{name}.py"), *SIZES[name], "--json", str(path)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return json.loads(path.read_text(encoding="utf-8"))


def faults(recorded: Report, found: Report) -> list[str]:
    """The ratios of a benchmark that are worse than is tolerated, or missing, each as a sentence."""
    wrong: list[str] = []
    for name, before in recorded["ratios"].items():
        now = found["ratios"].get(name)
        if now is None:
            wrong.append(f"{recorded['benchmark']}: {name} was recorded and not measured")
            continue
        share = now["value"] / before["value"]
        if (share if before["better"] == "higher" else 1 / share) < TOLERATED:
            wrong.append(f"{recorded['benchmark']}: {name} is {now['value']:.3f}, was {before['value']:.3f}")
    return wrong


def main() -> None:
    """Parse the options, run, and compare or record."""
    there = [name for name in SIZES if (HERE / f"{name}.py").exists()]
    options = argparse.ArgumentParser(description="Compare the benchmarks' ratios with the record.")
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(there)}; default: all")
    options.add_argument("--record", action="store_true", help="write the record instead")
    given = options.parse_args()
    if unknown := sorted(set(given.names) - set(there)):
        options.error(f"no such benchmark: {', '.join(unknown)}")
    record: dict[str, Report] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    wrong: list[str] = []
    for name in given.names or there:
        if not given.record and name not in record:
            wrong.append(f"{name}: nothing is recorded; benchmarks/check.py --record {name}")
            continue
        found = run(name)
        if given.record:
            record[name] = {part: found[part] for part in ("benchmark", "machine", "at", "ratios")}
            RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        else:
            wrong += faults(record[name], found)
    print("\n".join(wrong) or ("recorded" if given.record else "every ratio is within 80 % of what was recorded"))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
