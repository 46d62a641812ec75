"""Any sequence of what producers, writers, operators and crashes do: after each step ledger and tables agree."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mesh_pipelines.failpoints import POINTS
from mesh_pipelines.lake.versions import Versions
from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.repair import upkeep
from mesh_pipelines.repair.quarantine import redrive
from mesh_pipelines.repair.rollback import rollback
from mesh_pipelines.selftest import subject as subjects
from mesh_pipelines.selftest.bench import RUN_S, Bench
from mesh_pipelines.selftest.subject import Subject
from mesh_pipelines.selftest.verify import compare, digest, state
from mesh_pipelines.selftest.workers import Job, Workers
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]


class Life(RuleBasedStateMachine):
    """One product through everything that can happen to it; the bench is set by the test."""

    bench: Bench

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.bench.rng = random.Random(seed)
        self.subject: Subject = self.bench.subject("life")
        self.minor = 0
        self.read: dict[int, str] = {}

    @rule(events=st.integers(1, 150), bad=st.booleans())
    def produce(self, events: int, bad: bool) -> None:
        self.subject.producer.send(events, bad=bad)

    @rule(events=st.integers(1, 5))
    @precondition(lambda self: self.minor == 0)
    def produce_what_cannot_be_decoded(self, events: int) -> None:
        self.subject.producer.send_held(events)

    @rule()
    def correct(self) -> None:
        self.subject.producer.correct()

    @rule()
    def land(self) -> None:
        land(self.subject.platform(), self.subject.product)

    @rule()
    def run(self) -> None:
        assert self.bench.run(self.subject)[0] in ("", "M103", "M203")

    @rule(point=st.sampled_from(POINTS), passes=st.integers(0, 1))
    def kill(self, point: str, passes: int) -> None:
        job = Job(self.subject.settings, self.subject.product, once=True, point=point, passes=passes)
        self.bench.workers.start(job).process.join(RUN_S)

    @rule(writers=st.integers(2, 4))
    def race(self, writers: int) -> None:
        job = Job(self.subject.settings, self.subject.product, once=True)
        for worker in [self.bench.workers.start(job) for _ in range(writers)]:
            worker.result(RUN_S)

    @rule()
    def compact(self) -> None:
        upkeep.compact(self.subject.platform(), self.subject.product)

    @rule(keep=st.integers(1, 3))
    def expire(self, keep: int) -> None:
        upkeep.expire(self.subject.platform(), self.subject.product, keep=keep)

    @rule()
    @precondition(lambda self: self.is_published())
    def rebuild(self) -> None:
        assert upkeep.rebuild(self.subject.platform(), self.subject.product).identical is not False

    @rule()
    def evolve(self) -> None:
        self.minor += 1
        self.subject = subjects.evolve(self.subject, self.minor)

    @rule()
    def redrive(self) -> None:
        platform, product = self.subject.platform(), self.subject.product
        came_back = redrive(platform, product).came_back
        position = platform.tables_of(product).log.position()
        entries = self.subject.ledger.entries
        waiting = [
            at
            for at, entry in entries.items()
            if entry.held and entry.redrive is None and position and at[2] < position.next_offset(at[1])
        ]
        assert came_back == (len(waiting) if self.minor else 0)
        for at in waiting if self.minor else []:
            assert position is not None
            entries[at] = replace(entries[at], redrive=position.redrives)
        assert redrive(platform, product).came_back == 0

    @rule(chance=st.randoms(use_true_random=False))
    @precondition(lambda self: self.is_published())
    def roll_back(self, chance: random.Random) -> None:
        numbers = [version.number for version in self.versions().all()]
        rollback(self.subject.platform(), self.subject.product, chance.choice(numbers))

    @rule()
    def restart_the_broker(self) -> None:
        self.bench.own_services.kill_broker()
        self.bench.own_services.stop()
        self.bench.own_services.start()

    @invariant()
    def ledger_and_tables_agree(self) -> None:
        assert compare(self.subject).clean

    @invariant()
    def every_version_reads_as_ever(self) -> None:
        from mesh_pipelines.selftest.verify import COLUMNS
        from mesh_pipelines.serve.reading import read_version

        catalog = self.subject.platform().catalog
        for version in self.versions().all():
            assert state(self.subject, version).clean
            rows = read_version(catalog, self.subject.product, version=version.number).arrow().select(list(COLUMNS))
            text = digest(rows.to_pylist())
            assert self.read.setdefault(version.number, text) == text

    def teardown(self) -> None:
        if hasattr(self, "subject"):
            assert self.bench.settle(self.subject).clean

    def versions(self) -> Versions:
        return self.subject.platform().tables_of(self.subject.product).versions

    def is_published(self) -> bool:
        return self.versions().published() is not None


def test_any_life_of_a_product(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("life")
    kafka, controller = free_ports(2)
    own = Settings(home=home, assets=home / "assets", kafka_port=kafka, controller_port=controller)
    with Services(own, registry=False) as services, Workers() as workers:
        Life.bench = Bench(own, workers, random.Random(0), services)
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=6,
                stateful_step_count=15,
                deadline=None,
                derandomize=True,
                # A step takes a second: an example that fails is shown as it is.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
