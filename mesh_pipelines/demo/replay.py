"""Produce the demo's events to its topics, in the order they happened, each exactly once however often it is stopped.

All events have one deterministic order. Each Kafka transaction carries a run of them together with how many of each
product have been sent, as committed offsets of a group of the replay's own; so a replay that was killed goes on with
the first event whose transaction was not committed, and nobody who reads committed events sees one twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mesh_pipelines.demo import nyc
from mesh_pipelines.errors import UsageError
from mesh_pipelines.formats.encode import Encoder
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

_GROUP = "mesh-replay"
# Events per transaction at full speed: large enough to hide a commit's milliseconds, small enough to redo.
_RUN = 20_000
# With a speed given, a transaction covers this many seconds, so that readers see events soon after they happen.
_TICK_S = 0.5

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Replayed:
    """Events produced by this call, and in all by now, by product."""

    produced: Mapping[str, int]
    total: Mapping[str, int]
    seconds: float


@dataclass
class _Source:
    """One product's events and how many of them have been sent."""

    product: str
    topic: str
    encoder: Encoder
    times: npt.NDArray[np.int64]
    rows: pa.Table
    sent: int


def replay(
    platform: Platform,
    *,
    speed: float | None = None,
    until: date | None = None,
    on_progress: OnProgress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Replayed:
    """Produce all events before ``until`` (default: all) that have not been produced yet.

    ``speed`` is how many seconds of 2013 pass in one second (default: as fast as it goes). ``on_progress`` gets
    (events produced by this call, events to produce). ``stop`` is asked between transactions.

    Raises:
        UsageError: the demo's contracts are not in the assets folder.
        BrokerUnreachable, RegistryUnreachable: transient; run it again.
    """
    started = time.monotonic()
    sources = _sources(platform, until)
    before = {source.product: source.sent for source in sources}
    total = sum(len(source.times) - source.sent for source in sources)
    with _Transactions(platform.settings) as transactions:
        done = 0
        for run in _runs(sources, speed):
            if stop():
                break
            transactions.send(run)
            done += sum(upto - source.sent for source, upto in run)
            for source, upto in run:
                source.sent = upto
            if on_progress:
                on_progress(done, total)
        transactions.settle([source.topic for source in sources])
    return Replayed(
        {source.product: source.sent - before[source.product] for source in sources},
        {source.product: source.sent for source in sources},
        time.monotonic() - started,
    )


def _sources(platform: Platform, until: date | None) -> list[_Source]:
    import duckdb

    missing = [name for name in nyc.products() if name not in platform.products]
    if missing:
        raise UsageError(
            f"{platform.settings.assets} has no contract of {', '.join(missing)}, which the replay needs",
            next_step="run mesh demo in an empty folder, it writes them",
        )
    topics = {name: stream.name for name in nyc.products() if (stream := platform.products[name].topic)}
    sent = _sent(platform.settings, topics)
    limit = int(datetime(until.year, until.month, until.day, tzinfo=UTC).timestamp() * 1e6) if until else None
    sources: list[_Source] = []
    with duckdb.connect() as connection:
        nyc.load_tables(connection)
        for name, topic in topics.items():
            events = nyc.events(connection, name)
            times = events.times.cast("int64").to_numpy()
            count = len(times) if limit is None else int(np.searchsorted(times, limit))
            encoder = Encoder(platform.products[name], platform.registry)
            sources.append(_Source(name, topic, encoder, times[:count], events.rows, sent[name]))
    return [source for source in sources if source.sent <= len(source.times)]


def _sent(settings: Settings, topics: Mapping[str, str]) -> dict[str, int]:
    """How many events of each product the committed transactions hold."""
    from confluent_kafka import KafkaException, TopicPartition

    from mesh_pipelines.kafka.client import Reasons, consumer, unreachable

    reasons = Reasons()
    client = consumer(settings, reasons, **{"group.id": _GROUP})
    try:
        committed = client.committed([TopicPartition(topic, 0) for topic in topics.values()], settings.timeout_s)
    except KafkaException as error:
        raise unreachable(settings, reasons.last()) from error
    finally:
        client.close()
    counts = {one.topic: max(0, one.offset) for one in committed}
    return {name: counts[topic] for name, topic in topics.items()}


def _runs(sources: Sequence[_Source], speed: float | None) -> Iterator[list[tuple[_Source, int]]]:
    """The events still to send as runs: for each source, up to which of its events (in time) a run goes."""
    pending = [source.times[source.sent :] for source in sources]
    times = np.sort(np.concatenate(pending)) if pending else np.zeros(0, np.int64)
    if not len(times):
        return
    begun, first, at = time.monotonic(), int(times[0]), 0
    while at < len(times):
        if speed is None:
            at = min(at + _RUN, len(times))
        else:
            due = first + int((time.monotonic() - begun) * speed * 1e6)
            reached = int(np.searchsorted(times, due, side="right"))
            if reached <= at:
                time.sleep(min(_TICK_S, max(0.0, (int(times[at]) - due) / speed / 1e6)))
                continue
            at = min(reached, at + _RUN)
            time.sleep(_TICK_S if at == reached else 0)
        bound = int(times[at - 1])
        # Events of one instant stay together, so a run never splits a tie between products.
        at = int(np.searchsorted(times, bound, side="right"))
        yield [(source, int(np.searchsorted(source.times, bound, side="right"))) for source in sources]


class _Transactions:
    """A transactional producer; each ``send`` is one transaction of events and the counts that go with them."""

    def __init__(self, settings: Settings) -> None:
        from mesh_pipelines.kafka.client import Reasons, consumer, producer

        self._settings = settings
        self._reasons = Reasons()
        self._producer = producer(settings, **{"transactional.id": _GROUP, "error_cb": self._reasons.note})
        self._consumer = consumer(settings, self._reasons, **{"group.id": _GROUP})

    def __enter__(self) -> _Transactions:
        self._guarded(lambda: self._producer.init_transactions(self._settings.timeout_s * 3))
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.flush(self._settings.timeout_s)
        self._consumer.close()

    def send(self, run: Sequence[tuple[_Source, int]]) -> None:
        """Commit the events of a run; where that fails nothing of it is there."""
        from confluent_kafka import TopicPartition

        self._guarded(self._producer.begin_transaction)
        for source, upto in run:
            self._produce(source, upto)
        counts = [TopicPartition(source.topic, 0, upto) for source, upto in run]
        group = self._consumer.consumer_group_metadata()
        self._guarded(lambda: self._producer.send_offsets_to_transaction(counts, group))
        self._guarded(self._producer.commit_transaction)

    def settle(self, topics: Sequence[str]) -> None:
        """Wait until readers of committed events see all of them.

        A commit returns when the coordinator has decided it, before the partitions have its markers.

        Raises:
            BrokerUnreachable: they do not become visible in time.
        """
        from confluent_kafka import IsolationLevel

        from mesh_pipelines.kafka.admin import StreamAdmin
        from mesh_pipelines.kafka.client import unreachable

        admin = StreamAdmin(self._settings)
        written = admin.end_offsets(topics, IsolationLevel.READ_UNCOMMITTED)
        deadline = time.monotonic() + self._settings.timeout_s
        while any(end.lag_to(written[topic]) for topic, end in admin.end_offsets(topics).items()):
            if time.monotonic() > deadline:
                raise unreachable(self._settings, "a committed transaction has not become visible")
            time.sleep(0.02)

    def _produce(self, source: _Source, upto: int) -> None:
        produce, poll = self._producer.produce, self._producer.poll
        key, value = source.encoder.key, source.encoder.value
        rows = source.rows.slice(source.sent, upto - source.sent).to_pylist()
        stamps = (source.times[source.sent : upto] // 1000).tolist()
        for row, stamp in zip(rows, stamps, strict=True):
            arguments: dict[str, Any] = {"key": key(row), "value": value(row), "timestamp": stamp}
            try:
                produce(source.topic, **arguments)
            except BufferError:
                poll(1.0)
                produce(source.topic, **arguments)
        poll(0)

    def _guarded(self, call: Callable[[], Any]) -> None:
        from confluent_kafka import KafkaException

        from mesh_pipelines.kafka.client import is_unreachable, unreachable

        try:
            call()
        except KafkaException as error:
            if is_unreachable(error.args[0]):
                raise unreachable(self._settings, self._reasons.last()) from error
            raise
