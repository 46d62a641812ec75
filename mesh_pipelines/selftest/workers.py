"""Processes that run a product's steps and can be killed, paused or stopped at a fail point.

They are forked from a server process that has imported everything and started no thread, so that a kill costs a tenth
of a second and not the seconds of an import.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from typing import Any

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import EnvironmentFault, MeshError
from mesh_pipelines.settings import Settings

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
    "mesh_pipelines.lake.serving",
    "mesh_pipelines.quality.divert",
    "mesh_pipelines.quality.history",
    "mesh_pipelines.quality.run",
    "mesh_pipelines.selftest.workers",
    "mesh_pipelines.steps.run",
    "mesh_pipelines.streams.continuity",
    "mesh_pipelines.streams.decode",
    "mesh_pipelines.streams.drain",
]


@dataclass(frozen=True)
class Job:
    """What a worker does: run the product over and over (``once``: one time), sending itself ``signal`` at ``point``.

    ``passes`` is how often it gets past the point first.
    """

    settings: Settings
    product: DataProduct
    once: bool = False
    point: str | None = None
    passes: int = 0
    signal: signal.Signals = signal.SIGKILL


@dataclass
class Worker:
    """A started worker."""

    process: ForkServerProcess
    _answers: Any

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    def kill(self) -> None:
        """Kill it outright and wait until it is gone."""
        self.process.kill()
        self.process.join()

    def result(self, timeout_s: float) -> list[str]:
        """Wait for its end: the codes of the errors its runs ended with.

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

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        self._started: list[Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._started:
            if worker.process.is_alive():
                worker.kill()

    def start(self, job: Job) -> Worker:
        """Start a worker on a job."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(job, theirs), daemon=True)
        process.start()
        theirs.close()
        worker = Worker(process, ours)
        self._started = [one for one in self._started if one.process.is_alive()] + [worker]
        return worker


def _work(job: Job, answers: Any) -> None:
    from mesh_pipelines import failpoints
    from mesh_pipelines.steps.platform import Platform
    from mesh_pipelines.steps.run import run

    platform = Platform(job.settings, {job.product.fqn: job.product})
    if job.point:
        failpoints.arm(job.point, _send_self(job.signal), passes=job.passes)
        _watch_catalog(platform)
    codes: list[str] = []
    while True:
        try:
            [done] = run(platform)
        except MeshError as error:
            codes.append(error.code)
        else:
            codes.append(done.error.code if done.error else "")
        if job.once:
            answers.send(codes)
            return


def _send_self(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def _watch_catalog(platform: Any) -> None:
    """Make the moment before the catalog's own statement a fail point: the new metadata is written, not yet named."""
    from sqlalchemy import event

    from mesh_pipelines import failpoints

    def before(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("UPDATE iceberg_tables"):
            kind = next((one for one in ("log", "base", "checks", "versions") if one in parameters), None)
            if kind:
                failpoints.reach(f"{kind}.catalog")

    event.listen(platform.catalog.engine, "before_cursor_execute", before)
