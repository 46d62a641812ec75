"""``mesh selftest``: the fault matrix as a table, in a home folder of its own."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mesh_pipelines.cli.output import Output, record
from mesh_pipelines.counted import counted
from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.selftest.bench import Outcome
from mesh_pipelines.selftest.matrix import Trial, run
from mesh_pipelines.settings import Settings

_COLUMNS = ("fault", "rounds", "took_effect", "lost", "doubled", "unaudited", "seconds", "verdict")


def run_selftest(
    output: Output, faults: Sequence[str], *, rounds: int, seed: int | None, bootstrap_servers: str | None
) -> int:
    """Run the matrix; gives the exit code: 1 where a promise did not hold."""
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    output.say(f"seed {seed}")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="mesh-selftest-") as folder, output.progress() as bars:
        task = bars.add_task("starting", total=None)
        for outcome in run(
            _settings(Path(folder), bootstrap_servers),
            faults,
            Trial(rounds, seed),
            on_round=lambda name, at, of: bars.update(task, description=name, completed=at, total=of),
        ):
            outcomes.append(outcome)
            output.say(f"{outcome.fault}: {_row(outcome, seed)['verdict']}, {outcome.seconds:.0f} s")
            bars.update(task, description="next", completed=0, total=None)
    output.records([_row(outcome, seed) for outcome in outcomes], _COLUMNS)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        output.say(f"{outcome.fault}: {outcome.problem or 'the ledger and the tables differ'}")
    if failed:
        output.say(
            f"{len(failed)} of {counted(len(outcomes), 'fault')} broke a promise; repeat: mesh selftest --seed {seed}"
        )
        return 1
    injected = [outcome for outcome in outcomes if not outcome.skipped]
    nothing = "nothing was lost, doubled or unaudited"
    output.say(f"{counted(len(injected), 'fault')} injected; {nothing}; {_left_out(outcomes)}seed {seed}")
    return 0


def _settings(home: Path, bootstrap_servers: str | None) -> Settings:
    """The user's settings with tables, contracts and ports of the test's own."""
    settings = Settings.load()
    own: dict[str, Any] = {"home": home, "assets": home / "assets", "catalog_uri": None, "warehouse": None}
    if bootstrap_servers:
        own["bootstrap_servers"] = bootstrap_servers
    names = ("kafka_port", "controller_port", "registry_port", "dagster_port")
    return settings.model_copy(update={**own, **dict(zip(names, free_ports(len(names)), strict=True))})


def _row(outcome: Outcome, seed: int) -> dict[str, Any]:
    found = record(outcome.findings)
    return {
        "fault": outcome.fault,
        "rounds": outcome.rounds,
        "took_effect": outcome.progress,
        **found,
        "seconds": round(outcome.seconds, 1),
        "verdict": f"skipped: {outcome.skipped}" if outcome.skipped else "held" if outcome.passed else "BROKEN",
        "seed": seed,
    }


def _left_out(outcomes: Sequence[Outcome]) -> str:
    skipped = [outcome.fault for outcome in outcomes if outcome.skipped]
    return f"skipped: {', '.join(skipped)}; " if skipped else ""
