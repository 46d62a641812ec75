"""Processes that run a product's steps and can be killed, paused or stopped at a fail point.

They are forked from a server process that has imported everything and started no thread, so that a kill costs a tenth
of a second and not the seconds of an import.
"""

from __future__ import annotations

import logging
import multiprocessing
import random
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.context import ForkServerProcess
from typing import TYPE_CHECKING, Any

from mesh_pipelines import failpoints
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import EnvironmentFault, MeshError
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    from mesh_pipelines.platform import Platform

# Imported once, before any fork; none of them starts a thread.
_PRELOAD = [
    "confluent_kafka.admin",
    "duckdb",
    "pyarrow.compute",
    "pyarrow.parquet",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
    "mesh_pipelines.lake.base",
    "mesh_pipelines.lake.checks",
    "mesh_pipelines.serve.bi_file",
    "mesh_pipelines.audit.divert",
    "mesh_pipelines.audit.history",
    "mesh_pipelines.audit.audit",
    "mesh_pipelines.selftest.workers",
    "mesh_pipelines.pipeline.run",
    "mesh_pipelines.kafka.continuity",
    "mesh_pipelines.formats.decode",
    "mesh_pipelines.kafka.drain",
]


RACED = "raced"


@dataclass(frozen=True)
class Job:
    """Run the product over and over (``once``: one time), sending itself ``signal`` at a fail point if one is named.

    ``passes`` is how often it gets past the point first. Answers with the codes of its runs' errors: "" for none,
    and ``RACED`` for a run that went on after another one's commit.
    """

    settings: Settings
    product: DataProduct
    once: bool = False
    point: str | None = None
    passes: int = 0
    signal: signal.Signals = signal.SIGKILL

    def work(self, platform: Platform, stopped: Callable[[], bool]) -> list[str]:
        """The codes of the errors that its runs ended with."""
        from mesh_pipelines.pipeline.run import run

        if self.point:
            # To this thread: sent to the process, another thread might take it while this one goes on to its commit.
            failpoints.arm(
                self.point, lambda: signal.pthread_kill(threading.get_ident(), self.signal), passes=self.passes
            )
            _watch_catalog(platform)
        codes: list[str] = []
        while not codes or not (self.once or stopped()):
            codes += [one.error.code if one.error else RACED if one.races else "" for one in run(platform)]
        return codes


@dataclass(frozen=True)
class Reading:
    """Read the published version, and now and then an older one, until told to stop. Answers with what it saw."""

    settings: Settings
    product: DataProduct

    def work(self, platform: Platform, stopped: Callable[[], bool]) -> list[tuple[int, str]]:
        """Version number and digest of the rows, for each reading."""
        from mesh_pipelines.selftest.verify import COLUMNS, digest
        from mesh_pipelines.serve.reading import read_version

        rng = random.Random(0)
        seen: list[tuple[int, str]] = []
        while not stopped():
            reading = read_version(platform.catalog, self.product)
            if rng.random() < 0.3:
                number = rng.randint(1, reading.version.number)
                reading = read_version(platform.catalog, self.product, version=number)
            rows = reading.arrow().select(list(COLUMNS)).to_pylist()
            seen.append((reading.version.number, digest(rows)))
        return seen


@dataclass(frozen=True)
class Upkeep:
    """Compact, expire and rebuild the product in turn until told to stop. Answers with the codes of errors."""

    settings: Settings
    product: DataProduct

    def work(self, platform: Platform, stopped: Callable[[], bool]) -> list[str]:
        """The codes of the errors that upkeep ended with; "differs" for a rebuild that gave other rows."""
        from mesh_pipelines.repair import upkeep

        codes: list[str] = []
        turns = [
            lambda: upkeep.compact(platform, self.product),
            lambda: upkeep.expire(platform, self.product),
            lambda: upkeep.rebuild(platform, self.product),
        ]
        for turn in cycle(turns):
            if stopped():
                return codes
            try:
                done = turn()
            except MeshError as error:
                codes.append(error.code)
            else:
                if isinstance(done, upkeep.Rebuilt) and done.identical is False:
                    codes.append("differs")
        return codes


Task = Job | Reading | Upkeep


@dataclass
class Worker:
    """A started worker."""

    process: ForkServerProcess
    _answers: Any
    _asks: Any

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    def kill(self) -> None:
        """Kill it outright and wait until it is gone."""
        self.process.kill()
        self.process.join()

    def stop(self) -> None:
        """Ask it to end after what it is at."""
        with suppress(BrokenPipeError):
            self._asks.send(None)

    def result(self, timeout_s: float) -> list[Any]:
        """Wait for its end; gives its answer.

        Raises:
            EnvironmentFault: it does not end in time, or ended without an answer.
        """
        try:
            if self._answers.poll(timeout_s):
                return self._answers.recv()
        except EOFError:
            pass
        finally:
            self.process.join(1.0)
        raise EnvironmentFault(f"worker {self.pid} gave no answer (exit code {self.process.exitcode})")


class Workers:
    """Starts workers. Close it to end the server that they are forked from."""

    def __init__(self, preload: Sequence[str] = ()) -> None:
        """``preload``: more modules for the server to import, first."""
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*preload, *_PRELOAD])
        self._started: list[Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._started:
            if worker.process.is_alive():
                worker.kill()

    def start(self, task: Task) -> Worker:
        """Start a worker on a task."""
        answers, answering = self._context.Pipe(duplex=False)
        asked, asks = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(task, answering, asked), daemon=True)
        process.start()
        answering.close()
        asked.close()
        worker = Worker(process, answers, asks)
        self._started = [one for one in self._started if one.process.is_alive()] + [worker]
        return worker


def _work(task: Task, answering: Any, asked: Any) -> None:
    from mesh_pipelines.platform import Platform

    # Writers that race remove the same old metadata files, which the table library reports as a failure.
    logging.getLogger("pyiceberg").setLevel(logging.ERROR)
    platform = Platform(task.settings, {task.product.fqn: task.product})
    answering.send(task.work(platform, asked.poll))


def _watch_catalog(platform: Platform) -> None:
    """Make the moment before the catalog's own statement a fail point: the new metadata is written, not yet named."""
    from sqlalchemy import event

    def before(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("UPDATE iceberg_tables"):
            kind = next((one for one in ("log", "base", "checks", "versions") if one in parameters), None)
            if kind:
                failpoints.reach(f"{kind}.catalog")

    catalog: Any = platform.catalog
    event.listen(catalog.engine, "before_cursor_execute", before)
