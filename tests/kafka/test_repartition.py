"""The order of a key's events when partitions are added: a reference that knows when each event was produced."""

from __future__ import annotations

import random
import tempfile
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.types import log_schema
from mesh_pipelines.engine import create_view
from mesh_pipelines.errors import OffsetsTrimmed, PartitionsAdded, StreamTruncated, TopicRecreated, TopicRenamed
from mesh_pipelines.kafka import continuity
from mesh_pipelines.lake.log import losses_in
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import PartitionOffset, Position
from mesh_pipelines.settings import Settings
from tests.building import contract_text, log_row, log_table, written

PROPERTIES = """
- {name: id, logicalType: string, primaryKey: true}
- {name: price, logicalType: integer}
"""
KEYS = "abcdefgh"


def platform_of(folder: Path, kind: str = "state") -> Platform:
    settings = Settings(home=folder, assets=folder / "assets", base_tail_rows=10)
    product = written(settings.assets, contract_text("shop.prices", PROPERTIES, kind=kind))
    platform = Platform(settings, {"shop.prices": product})
    platform.tables_of(platform.product("shop.prices")).create()
    return platform


@dataclass
class Topic:
    """A topic whose producers hash keys to as many partitions as there are, and what each key was last set to."""

    seed: int
    logs: list[list[tuple[str, int | None]]] = field(default_factory=lambda: [[], []])
    truth: dict[str, int | None] = field(default_factory=dict)
    produced: int = 0

    def produce(self, key: str, *, dead: bool = False) -> None:
        self.produced += 1
        price = None if dead else self.produced
        number = random.Random(f"{self.seed}{key}").randrange(1_000_000) % len(self.logs)
        self.logs[number].append((key, price))
        self.truth[key] = price

    def ends(self) -> Position:
        return self.position(lambda log: len(log))

    def begins(self) -> Position:
        return self.position(lambda _: 0)

    def position(self, offset: Any) -> Position:
        partitions = {number: PartitionOffset(offset(log)) for number, log in enumerate(self.logs)}
        return Position("cluster", "shop.prices", "topic", partitions)


class Mesh:
    """A product that lands such a topic, without a broker, by the rules of ``continuity``."""

    def __init__(self, folder: Path, topic: Topic) -> None:
        self.topic = topic
        self.platform = platform_of(folder)
        self.product = self.platform.product("shop.prices")
        self.log = self.platform.tables_of(self.product).log
        self.repartitions = 0

    def land(self) -> None:
        """Land to the end; where partitions were added, stop, and go on as an operator who accepts that would."""
        stored, begin, end = self.log.position(), self.topic.begins(), self.topic.ends()
        try:
            if stored:
                continuity.check(self.product, stored, begin, end)
        except PartitionsAdded as error:
            after = continuity.go_on(error, stored, begin, end, {})
            self.repartitions += 1
            self._begin(stored, after)
            self._land(after, begin, end)
            after = after.advance(end.partitions)
            self._begin(after, replace(after, generation=after.generation + 1))
        else:
            self._land(stored, begin, end)

    def _begin(self, stored: Position, after: Position) -> None:
        """Begin a generation, as ``mesh resume`` does: once before what waits, and once after it."""
        self.log.append(log_schema(self.product).empty_table(), stored, after)

    def _land(self, stored: Position | None, begin: Position, end: Position) -> None:
        start = stored or begin
        rows = [
            log_row(
                offset,
                {} if price is None else {"id": key, "price": price},
                partition=number,
                generation=start.generation,
                key=key.encode(),
                op="delete" if price is None else "upsert",
            )
            for number, log in enumerate(self.topic.logs)
            for offset, (key, price) in enumerate(log)
            if offset >= start.next_offset(number)
        ]
        after = start.advance(end.partitions)
        self.log.append(log_table(self.product, rows), stored, after)

    def produce(self, events: list[tuple[str, bool]]) -> set[str]:
        for key, dead in events:
            self.topic.produce(key, dead=dead)
        return {key for key, _ in events}

    def unlanded(self) -> set[str]:
        stored = self.log.position() or self.topic.begins()
        return {key for number, log in enumerate(self.topic.logs) for key, _ in log[stored.next_offset(number) :]}

    def read(self) -> dict[str, int]:
        """What readers see of the newest candidate; by its base and overlay, and by the whole log, the same."""
        taken = snapshot(self.platform, self.product).candidate
        assert taken
        found: list[dict[str, int]] = []
        tables = self.platform.tables_of(self.product)
        with closing(duckdb.connect()) as engine:
            for from_log in (False, True):
                create_view(engine, "now", tables.state.sql(taken, from_log=from_log))
                found.append(dict(engine.execute("SELECT id, price FROM now").fetchall()))
        assert found[0] == found[1]
        return found[0]


EVENTS = st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=8)
# Events that are landed, events that wait, partitions added then, and events hashed to those, too.
ROUNDS = st.lists(st.tuples(EVENTS, EVENTS, st.integers(0, 2), EVENTS), min_size=2, max_size=4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(rounds=ROUNDS, seed=st.integers(0, 10_000))
def test_a_keys_newest_event_counts_whatever_partitions_are_added(
    rounds: list[tuple[Any, Any, int, Any]], seed: int
) -> None:
    """Right for every key that had no event waiting when partitions were added, and for every key from its next event
    on: the promise of docs/reliability.md.
    """
    with tempfile.TemporaryDirectory() as folder:
        mesh = Mesh(Path(folder), Topic(seed))
        mesh.topic.produce("a")
        unsure: set[str] = set()
        for landed, waiting, added, later in rounds:
            unsure -= mesh.produce(landed)
            mesh.land()
            check(mesh, unsure)
            mesh.produce(waiting)
            unsure |= mesh.unlanded() if added else set()
            mesh.topic.logs += [[] for _ in range(added)]
            mesh.produce(later)
            mesh.land()
            check(mesh, unsure)
        event(f"repartitions: {mesh.repartitions}")


def check(mesh: Mesh, unsure: set[str]) -> None:
    seen, truth = mesh.read(), mesh.topic.truth
    for key in truth.keys() - unsure:
        assert seen.get(key) == truth[key], key


def test_the_newest_event_of_a_key_that_moved_to_a_lower_partition_counts(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, Topic(0))
    mesh.topic.logs[1].append(("a", 58))
    mesh.land()
    mesh.topic.logs.append([])
    mesh.topic.logs[0].append(("a", 900))
    mesh.land()
    assert mesh.read() == {"a": 900}


def test_added_partitions_stop_keyed_products_only(tmp_path: Path) -> None:
    read = Position("cluster", "shop.prices", "topic", {0: PartitionOffset(3), 1: PartitionOffset(0)})
    begin = replace(read, partitions=dict.fromkeys(range(3), PartitionOffset(0)))
    end = replace(begin, partitions={**read.partitions, 2: PartitionOffset(5)})
    keyed = platform_of(tmp_path / "keyed").product("shop.prices")
    with pytest.raises(PartitionsAdded, match=r"now has 3 partitions, but the log was read from 2.*\[0\] 3, \[1\] 0"):
        continuity.check(keyed, read, begin, end)
    unread = replace(read, partitions=dict.fromkeys(range(2), PartitionOffset(0)))
    continuity.check(keyed, unread, begin, end)
    unkeyed = platform_of(tmp_path / "unkeyed", kind="measurement").product("shop.prices")
    continuity.check(unkeyed, read, begin, end)


def test_one_break_does_not_hide_another(tmp_path: Path) -> None:
    """Partitions added, and then the first events of the new one dropped before they were landed."""
    product = platform_of(tmp_path).product("shop.prices")
    stored = Position("cluster", "shop.prices", "topic", {0: PartitionOffset(3, 1)})
    begin = replace(stored, partitions={0: PartitionOffset(0), 1: PartitionOffset(7)})
    end = replace(stored, partitions={0: PartitionOffset(2), 1: PartitionOffset(9)})
    with pytest.raises(PartitionsAdded) as added:
        continuity.check(product, stored, begin, end)
    stored = continuity.go_on(added.value, stored, begin, end, {})
    assert (stored.generation, dict(stored.partitions)) == (1, {0: PartitionOffset(3, 1), 1: PartitionOffset(0)})
    with pytest.raises(OffsetsTrimmed, match="partition 1: 0 to 6") as trimmed:
        continuity.check(product, stored, begin, end)
    stored = continuity.go_on(trimmed.value, stored, begin, end, {})
    with pytest.raises(StreamTruncated, match="partition 0: 2 to 2") as truncated:
        continuity.check(product, stored, begin, end)
    stored = continuity.go_on(truncated.value, stored, begin, end, {0: 2})
    continuity.check(product, stored, begin, end)


def test_another_topic_is_told_from_one_made_again(tmp_path: Path) -> None:
    product = platform_of(tmp_path).product("shop.prices")
    stored = Position("cluster", "shop.prices", "topic", {0: PartitionOffset(3)})
    begin = replace(stored, topic_id="other", partitions={0: PartitionOffset(0)})
    with pytest.raises(TopicRecreated, match="deleted and created again"):
        continuity.check(product, stored, begin, begin)
    renamed = replace(begin, topic="shop.rates")
    with pytest.raises(
        TopicRenamed, match="now names the topic shop.rates, but the log was read from shop.prices"
    ) as error:
        continuity.check(product, stored, renamed, renamed)
    after = continuity.go_on(error.value, stored, renamed, renamed, {})
    assert (after.topic, after.topic_id, after.generation) == ("shop.rates", "other", 1)


def test_added_partitions_count_as_no_loss(tmp_path: Path) -> None:
    platform = platform_of(tmp_path)
    log = platform.tables_of(platform.product("shop.prices")).log
    position = Position("cluster", "shop.prices", "topic", {0: PartitionOffset(0)})
    rows = log_schema(platform.product("shop.prices")).empty_table()
    log.append(rows, None, position, loss={"accepted": "repartitioned"})
    log.append(rows, position, replace(position, generation=1), loss={"accepted": "recreated"})
    assert losses_in(platform.tables_of(platform.product("shop.prices")).load("log").properties) == 1
