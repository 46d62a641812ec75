"""What every fault is handed: settings, workers, a seeded source of chance, and the broker if it is the test's own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from mesh_pipelines.errors import EnvironmentFault
from mesh_pipelines.local.services import Services
from mesh_pipelines.selftest import subject as subjects
from mesh_pipelines.selftest.subject import Subject
from mesh_pipelines.selftest.verify import Findings, compare
from mesh_pipelines.selftest.workers import Job, Workers
from mesh_pipelines.settings import Settings

# A run of a few hundred events takes under a second; this is for a machine that does ten other things.
RUN_S = 120.0


@dataclass(frozen=True)
class Outcome:
    """One fault class: what was found, and whether the faults fell on work (``progress``: rounds that moved it on).

    ``problem`` says what else was not as promised, ``skipped`` why the fault could not be injected.
    """

    fault: str
    rounds: int
    progress: int
    findings: Findings
    problem: str = ""
    skipped: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the promise held, and was put to the test."""
        return self.findings.clean and not self.problem


@dataclass
class Bench:
    """The place where faults happen. ``services`` is None for a broker that is not the test's to kill."""

    settings: Settings
    workers: Workers
    rng: random.Random
    services: Services | None = None
    on_round: Callable[[int, int], None] = field(default=lambda _at, _rounds: None)

    @property
    def own_services(self) -> Services:
        """The broker that may be killed."""
        assert self.services is not None, "a fault that kills the broker runs on a broker of its own only"
        return self.services

    def subject(self, name: str, *, partitions: int = subjects.PARTITIONS) -> Subject:
        """A new product."""
        return subjects.create(self.settings, name, self.rng, partitions=partitions)

    def run(self, subject: Subject, **job: object) -> list[str]:
        """Run the product once in a worker; the codes of its errors ("" for none)."""
        return self.workers.start(Job(subject.settings, subject.product, once=True, **job)).result(RUN_S)  # pyright: ignore[reportArgumentType]

    def settle(self, subject: Subject) -> Findings:
        """Correct what was planted, run the product to its end, and compare everything.

        Raises:
            EnvironmentFault: the product does not run clean though nothing disturbs it.
        """
        subject.producer.correct()
        codes = self.run(subject)
        found = compare(subject, settled=True)
        if codes != [""] and found.clean:
            raise EnvironmentFault(f"{subject.name} does not run clean though nothing disturbs it: {codes}")
        return found


def progress(subject: Subject) -> tuple[object, ...]:
    """Where a product stands; a change of it is a commit that happened."""
    tables = subject.platform().tables_of(subject.product)
    newest = tables.versions.newest()
    return tables.log.position(), newest and (newest.candidate_id, newest.published_at)
