"""Dagster's own processes under faults: the daemon, a run, and the same product asked for twice."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from mesh_pipelines.errors import EnvironmentFault
from mesh_pipelines.local.supervisor import Supervisor
from mesh_pipelines.orchestration import graphql
from mesh_pipelines.orchestration.instance import children
from mesh_pipelines.selftest.bench import Bench, Outcome
from mesh_pipelines.selftest.subject import Subject, create
from mesh_pipelines.selftest.verify import Findings, compare

# Run monitoring looks every 30 s, the sensor as often; a run takes some 10 s to start.
_CONVERGED_S = 240.0
_DAEMON = "Dagster's daemon"


def dagster(bench: Bench, rounds: int) -> Outcome:
    """Each round: the daemon killed between tick and run, a run killed in its middle, a product asked for twice."""
    # In a home of its own: each product of the other faults would be a code location to load.
    home = bench.settings.home / "scheduled"
    settings = bench.settings.model_copy(update={"home": home, "assets": home / "assets"})
    subject = create(settings, "dagster", bench.rng)
    found, done, problems = Findings(), 0, list[str]()
    with Supervisor() as supervisor:
        supervisor.start(children(subject.settings))
        for at in range(rounds):
            for fault in (_kill_daemon, _kill_run, _ask_twice):
                subject.producer.send(200)
                problems += fault(supervisor, subject)
                _await(f"{subject.name} to be published", lambda: _is_published(subject))
                found += compare(subject, settled=True)
                done += 1
                bench.on_round(at * 3 + done, rounds * 3)
    return Outcome("Dagster killed, asked twice", rounds * 3, done, found, "; ".join(problems))


def _kill_daemon(supervisor: Supervisor, subject: Subject) -> list[str]:
    _await("a run to be asked for", lambda: any(run.is_under_way for run in graphql.runs(subject.settings)))
    supervisor.kill(_DAEMON)
    supervisor.restart(_DAEMON)
    return []


def _kill_run(supervisor: Supervisor, subject: Subject) -> list[str]:
    _await("a run to start", lambda: any(run.status == "STARTED" for run in graphql.runs(subject.settings)))
    started = {run.run_id for run in graphql.runs(subject.settings) if run.status == "STARTED"}
    workers = _run_workers(supervisor)
    for process in workers:
        process.kill()
    if not workers:
        return ["no run's process was found to kill"]
    _await("the killed run to be noticed", lambda: not _under_way(subject, started))
    return []


def _ask_twice(supervisor: Supervisor, subject: Subject) -> list[str]:
    del supervisor
    domain, name = subject.product.domain, subject.product.name
    parts = [[domain, name, part] for part in ("log", "snapshot")] + [[domain, name]]
    asked = {graphql.launch(subject.settings, domain, parts) for _ in range(2)}
    _await("both runs to end", lambda: not _under_way(subject, asked))
    return []


def _under_way(subject: Subject, ids: set[str]) -> bool:
    return any(run.is_under_way for run in graphql.runs(subject.settings) if run.run_id in ids)


def _run_workers(supervisor: Supervisor) -> list[psutil.Process]:
    """The processes of runs: what the daemon's fork server has forked."""
    daemon = psutil.Process(supervisor.pid(_DAEMON))
    servers = [process for process in daemon.children() if "multiprocessing.forkserver" in " ".join(process.cmdline())]
    return [child for server in servers for child in server.children()]


def _is_published(subject: Subject) -> bool:
    tables = subject.platform().tables_of(subject.product)
    version, position = tables.versions.published(), tables.log.position()
    if version is None or version.position is None or position is None:
        return False
    end = subject.platform().streams.end_offsets([subject.name])[subject.name]
    return version.position.lag_to(end) == 0


def _await(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _CONVERGED_S
    while not holds():
        if time.monotonic() > deadline:
            raise EnvironmentFault(f"waited {_CONVERGED_S:.0f} s for {what}, without success")
        time.sleep(0.2)
