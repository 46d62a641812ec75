"""Runs in processes that are forked with their imports done.

Dagster's own launcher starts a Python for each run, which imports Dagster and all that the steps need: some five
seconds of CPU, where the steps of a small product take half a second. Here a server process imports them once and forks
a process a run. What that process does is what Dagster's launchers for containers do, ``dagster api execute_run``, so
what a run is stays Dagster's matter. The server only imports and forks: it has no connection and no lock that a fork
could spoil.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from typing import Any, Self

import psutil
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, ConfigurableClassData

_PROCESS = "mesh/process"
_PRELOAD = "mesh_pipelines.orchestration.preload"


class ForkingRunLauncher(RunLauncher, ConfigurableClass):
    """Dagster's run launcher of this mesh, named in ``dagster.yaml``."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([_PRELOAD])
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """Where this launcher was configured."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """It has no settings."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """The launcher that a ``dagster.yaml`` names."""
        return cls(inst_data, **config_value)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Fork a process that executes the run."""
        run = context.dagster_run
        assert context.job_code_origin is not None, "a run of a code location has the origin of its code"
        arguments = ExecuteRunArgs(context.job_code_origin, run.run_id, self._instance.get_ref())
        process = self._context.Process(target=execute, args=(arguments.get_command_args(),), name=f"run {run.run_id}")
        process.start()
        self._instance.add_run_tags(run.run_id, {_PROCESS: _identity(process.pid)})
        threading.Thread(target=self._watch, args=(run.run_id, process), daemon=True).start()

    def terminate(self, run_id: str) -> bool:
        """Ask a run's process to end; the run is then canceled."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        process = _process_of(run)
        if process is None:
            self._instance.report_run_canceled(run, message="its process had already ended")
            return False
        process.terminate()
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks for it."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether a run's process is alive."""
        if _PROCESS not in run.tags:
            return CheckRunHealthResult(WorkerStatus.UNKNOWN)
        if _process_of(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "the run's process no longer exists")

    def _watch(self, run_id: str, process: BaseProcess) -> None:
        """Say at once of a run whose process died that it failed, rather than when run monitoring comes by."""
        process.join()
        run = self._instance.get_run_by_id(run_id)
        if process.exitcode and run and not run.is_finished:
            self._instance.report_run_failed(run, message=f"the run's process ended with {process.exitcode}")


def execute(command: Sequence[str]) -> None:
    """Execute a run, in the process that was forked for it."""
    from dagster._cli import main

    # Before its own words stands how else it would be started, such as python -m dagster.
    sys.argv = ["dagster", *command[command.index("api") :]]
    main()


def _identity(pid: int | None) -> str:
    """A process's number and start, since numbers come again."""
    try:
        return f"{pid} {psutil.Process(pid).create_time()}"
    except psutil.NoSuchProcess:
        return f"{pid} 0"


def _process_of(run: DagsterRun) -> psutil.Process | None:
    """The live process of a run."""
    pid, _, started = run.tags.get(_PROCESS, "0 0").partition(" ")
    try:
        process = psutil.Process(int(pid))
        alive = process.create_time() == float(started) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if alive else None
