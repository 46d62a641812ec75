"""Run a fault of the self-test with one guard broken on purpose: python broken_guard.py GUARD FAULT ROUNDS.

The matrix has to notice. Workers import this module before anything else, so that the guard is broken in them, too.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyiceberg.exceptions import CommitFailedException, ValidationException

from mesh_pipelines.errors import ConcurrentWriter
from mesh_pipelines.kafka import continuity
from mesh_pipelines.lake import commit, log, versions
from mesh_pipelines.lake.versions import Versions
from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.pipeline import publish
from mesh_pipelines.selftest.matrix import Trial, run
from mesh_pipelines.settings import Settings


def retries() -> None:
    """A losing commit is tried again on the winner's state, as the table library does by default."""

    @contextmanager
    def transaction(table: Any) -> Generator[Any]:
        table.metadata.properties["commit.retry.num-retries"] = "10"
        try:
            with table.transaction() as opened:
                yield opened
        except (CommitFailedException, ValidationException) as error:
            raise ConcurrentWriter(".".join(table.name())) from error

    commit.transaction = transaction


def topic_id() -> None:
    """A stream of the same name is taken for the same stream."""
    continuity.check = lambda *_: None


def verdict() -> None:
    """Whatever is the newest candidate is published."""
    Versions._require_verdict = lambda *_: None
    publish._refuse_blocked = lambda *_: None


def position() -> None:
    """Rows are committed first and the position after them, as a consumer group would."""

    def append(table: Any, rows: Any, properties: Any, *, summary: Any = ()) -> None:
        with commit.transaction(table) as opened:
            for part in rows if isinstance(rows, list) else [rows]:
                opened.append(part)
        table.refresh()
        with commit.transaction(table) as opened:
            opened.set_properties(dict(properties))

    log.append = append
    versions.append = append


GUARDS: dict[str, Callable[[], None]] = {one.__name__: one for one in (retries, topic_id, verdict, position)}

if "BROKEN_GUARD" in os.environ:
    GUARDS[os.environ["BROKEN_GUARD"]]()


def main(guard: str, fault: str, rounds: int) -> int:
    """Print what the fault found; 1 where it found something."""
    os.environ["BROKEN_GUARD"] = guard
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    GUARDS[guard]()
    kafka, controller = free_ports(2)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = Settings(home=home, assets=home / "assets", kafka_port=kafka, controller_port=controller)
        [outcome] = run(settings, [fault], Trial(rounds, seed=1, preload=["broken_guard"]))
    print(outcome)
    return int(not outcome.passed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
