"""The whole matrix: every fault, its rounds, and what was lost, doubled or seen unaudited.

Rounds scale with one number, the kills of the first fault; the others are as many as give them comparable time. A fault
that needs a broker to kill is left out, and says so, where the broker is the user's.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from mesh_pipelines.errors import MeshError, UsageError
from mesh_pipelines.local.services import Services
from mesh_pipelines.selftest.bench import Bench, Outcome
from mesh_pipelines.selftest.faults import crashes, readers, scheduler, storage, streams, writers
from mesh_pipelines.selftest.verify import Findings
from mesh_pipelines.selftest.workers import Workers
from mesh_pipelines.settings import Settings

ROUNDS = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """A fault of the matrix: its name, what injects it, and how many rounds go with this many kills.

    ``own_broker``: it kills or changes the broker, so that only the test's own will do.
    """

    name: str
    inject: Callable[[Bench, int], Outcome]
    per_kills: float
    own_broker: bool = False

    def rounds(self, kills: int) -> int:
        """Its rounds; at least one."""
        return max(1, round(kills * self.per_kills))


FAULTS = (
    Fault("kills", crashes.kills, 1),
    Fault("steps", crashes.steps, 0.01),
    Fault("two-writers", writers.two, 0.05),
    Fault("four-writers", writers.four, 0.05),
    Fault("zombie", writers.zombie, 0.06),
    Fault("broker", crashes.broker, 0.02, own_broker=True),
    Fault("recreated", streams.recreated, 0.02),
    Fault("trimmed", streams.trimmed, 0.02),
    Fault("truncated", streams.truncated, 0.02, own_broker=True),
    Fault("partitions", streams.partitions, 0.02),
    Fault("transactions", streams.transactions, 0.02),
    Fault("compacted", streams.compacted, 0.01),
    Fault("moved", streams.moved, 0.005, own_broker=True),
    Fault("locked", storage.locked, 0.002),
    Fault("full", storage.full, 0.05),
    Fault("reader", readers.reader, 0.2),
    Fault("dagster", scheduler.dagster, 0.003),
)

OnRound = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trial:
    """How faults are injected: the number of kills of the first one, the seed of all chances, and the modules that
    workers import first.
    """

    rounds: int = ROUNDS
    seed: int = 0
    preload: Sequence[str] = ()


def run(
    settings: Settings, names: Iterable[str] = (), trial: Trial | None = None, *, on_round: OnRound | None = None
) -> Iterator[Outcome]:
    """Inject the named faults (default: all), one after another; gives each outcome as it comes.

    The home folder of the settings should be a fresh one. Where they name no broker, one is started on it.
    ``on_round`` gets (fault, rounds done, rounds).

    Raises:
        UsageError: a fault of that name does not exist.
        MeshError: the services do not start.
    """
    trial = trial or Trial()
    wanted = set(names)
    unknown = wanted - {fault.name for fault in FAULTS}
    if unknown:
        raise UsageError(
            f"no fault is named {', '.join(sorted(unknown))}",
            next_step=f"name some of {', '.join(fault.name for fault in FAULTS)}",
        )
    with ExitStack() as stack:
        services = Services(settings, registry=False) if settings.uses_local_broker else None
        if services:
            stack.enter_context(services)
        workers = stack.enter_context(Workers(trial.preload))
        for fault in FAULTS:
            if wanted and fault.name not in wanted:
                continue
            times = fault.rounds(trial.rounds)
            # Each fault has chances of its own, so that one alone repeats what it did among the others.
            bench = Bench(settings, workers, random.Random(f"{trial.seed} {fault.name}"), services)
            if on_round:
                bench.on_round = lambda at, of, name=fault.name: on_round(name, at, of)
            yield _outcome(fault, bench, times)


def _outcome(fault: Fault, bench: Bench, rounds: int) -> Outcome:
    if fault.own_broker and bench.services is None:
        return Outcome(fault.name, 0, 0, Findings(), skipped="it needs a broker of its own")
    if fault.inject is storage.full and not storage.can_mount():
        return Outcome(fault.name, 0, 0, Findings(), skipped="it needs the right to mount a small file system")
    started = time.monotonic()
    try:
        outcome = fault.inject(bench, rounds)
    except MeshError as error:
        outcome = Outcome(fault.name, rounds, 0, Findings(), problem=f"{error.code} {error.message}")
    except Exception as error:
        # A fault of the test's own: the others are still worth their time, and this one did not hold.
        _log.exception("%s ended in an error", fault.name)
        outcome = Outcome(fault.name, rounds, 0, Findings(), problem=f"{type(error).__name__}: {error}")
    return replace(outcome, seconds=time.monotonic() - started)
