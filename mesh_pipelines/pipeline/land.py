"""Kafka to the log: every event of a stream, decoded, with its coordinates, exactly once.

A landing reads from the log's stored position to the end offsets taken when it began, in chunks. Each chunk is one
commit that carries the rows and the position they bring the log to, so a crash at any point leaves a log that knows
exactly where it stands. Three threads overlap: one drains the broker, this one decodes, one writes; the queues
between them hold one item each, so memory depends on the chunk and never on the backlog.

A consumer group was ruled out: its offsets are committed apart from the rows, so the two can disagree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from queue import Queue
from threading import Event, Thread
from typing import TYPE_CHECKING

import pyarrow as pa

from mesh_pipelines.audit.divert import Diverter
from mesh_pipelines.collector import collecting_what_is_new
from mesh_pipelines.contract.envelope import FATE, OFFSET, PARTITION, REASON, Fate
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import log_schema
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import TopicMissing, Undecodable, UsageError
from mesh_pipelines.formats.format import ID_HEADERS
from mesh_pipelines.formats.registered import format_of
from mesh_pipelines.kafka import continuity
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.pipeline.attempts import remembered
from mesh_pipelines.pipeline.race import outlast
from mesh_pipelines.pipeline.report import landed_bytes, reported
from mesh_pipelines.platform import Platform, by_applied_contract
from mesh_pipelines.positions import Position, is_same_id

if TYPE_CHECKING:
    from mesh_pipelines.kafka.drain import RawBatch
    from mesh_pipelines.openlineage.facts import Done

Progress = Callable[[int, int], None]

# Fewer events than this are not evidence of more than a few bad ones.
_JUDGED_EVENTS = 100
# A chunk of large events ends before its number of rows: this much in memory, decoded.
_CHUNK_BYTES = 256 << 20
# The first chunk of a landing, so that writing begins while a whole one would still be read; each later one is twice
# as large as the one before, up to ``chunk_rows``. Smaller ones towards the end, too, cost a tenth of the rate: each is
# a commit.
_FIRST_ROWS = 65_536


@dataclass(frozen=True)
class Landed:
    """What one landing did: events by fate, commits, where the log stands now, and how far that is from the end.

    ``redriven`` counts the events that redrives have brought back so far, ``races`` the commits that another landing
    won: what it landed is not counted here.
    """

    product: str
    rows: int
    quarantined: int
    commits: int
    position: Position
    lag: int
    redriven: int
    seconds: float
    races: int = 0

    @property
    def by_another(self) -> bool:
        """Whether other runs landed all that there was."""
        return bool(self.races) and not self.commits

    def done(self, platform: Platform, product: DataProduct) -> Done:
        """What the landing tells of itself (``report.Tells``)."""
        from mesh_pipelines.openlineage.facts import Done

        return Done(self.rows, landed_bytes(platform, product, self.commits), position=self.position)


@by_applied_contract
@reported("land")
@remembered("land")
@over_storage
@collecting_what_is_new()
def land(platform: Platform, product: DataProduct, *, on_progress: Progress | None = None) -> Landed:
    """Land everything on the product's topic up to its current end; what another run lands meanwhile counts as done.

    ``on_progress`` is called with (offsets landed, offsets to land) after each commit.

    Raises:
        StreamDiscontinuity: the topic is not the one the log was read from, or lost offsets; see ``repair.resume``.
        BrokerUnreachable, RegistryUnreachable: transient; nothing is lost, land again.
        Undecodable: more of a chunk's events cannot be decoded than the contract allows; it was not landed.
        ConcurrentWriter: other landings committed first, again and again; transient.
        TopicMissing, TableMissing: the product was not applied.
    """
    started = time.monotonic()
    if product.topic and format_of(product.topic).registered:
        Thread(target=platform.registry.prepare, args=(product.topic.subject,), name="prepare", daemon=True).start()
    landing = _Landing(platform, product, on_progress or (lambda _at, _total: None))
    (position, end), races = outlast(landing.go_on)
    return Landed(
        product.fqn,
        landing.rows,
        landing.quarantined,
        landing.commits,
        position,
        position.lag_to(end),
        landing.log.redriven(),
        time.monotonic() - started,
        races,
    )


class _Landing:
    """One landing and what it has committed so far, over as many attempts as it takes."""

    def __init__(self, platform: Platform, product: DataProduct, on_progress: Progress) -> None:
        self.log = platform.tables_of(product).log
        self.rows = self.quarantined = self.commits = 0
        self._platform, self._product, self._on_progress = platform, product, on_progress
        self._asked: Position | None = None

    def go_on(self) -> tuple[Position, Position]:
        """Land from where the log stands to the end; gives where the log stands then, and that end."""
        stored = self.log.position()
        begin, end = stream_bounds(self._platform, self._product)
        if stored:
            continuity.check(self._product, stored, begin, end)
            if self._asked and not stored.lag_to(self._asked):
                return stored, self._asked
        self._asked = self._asked or end
        return self._land(stored, stored.named(end) if stored else begin, end), end

    def _land(self, at: Position | None, start: Position, end: Position) -> Position:
        total = start.lag_to(end)
        with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:
            pending: Future[None] | None = None
            with closing(decoded(self._platform, self._product, start, end)) as chunks:
                for chunk, after in chunks:
                    if pending:
                        pending.result()
                    if chunk.num_rows == 0 and after == at:
                        continue
                    _check_decodable(self._product, chunk)
                    check_same_topic(self._platform, self._product, after)
                    pending = writer.submit(self._commit, chunk, at, after)
                    at = after
                    self._on_progress(start.lag_to(after), total)
            if pending:
                pending.result()
        return at or start

    def _commit(self, chunk: pa.Table, before: Position | None, after: Position) -> None:
        self.log.append(chunk, before, after)
        self.commits += 1
        self.rows += chunk.num_rows
        self.quarantined += _quarantined(chunk)


def stream_bounds(platform: Platform, product: DataProduct) -> tuple[Position, Position]:
    """The current first and next offsets of the product's topic.

    Raises:
        UsageError: the product is derived.
        TopicMissing: it was not applied.
    """
    if product.topic is None:
        raise UsageError(f"{product.fqn} is derived: it has no stream to land", next_step=f"mesh run {product.fqn}")
    topic = product.topic.name
    begins, ends = platform.streams.start_offsets([topic]), platform.streams.end_offsets([topic])
    if topic not in begins or topic not in ends:
        raise TopicMissing(
            f"{product.fqn}: the topic {topic} is not on {platform.settings.brokers}", next_step="mesh apply"
        )
    return begins[topic], ends[topic]


def check_same_topic(platform: Platform, product: DataProduct, read: Position) -> None:
    """Check, after reading and before committing, that all of it came from the topic whose id the position has.

    Ids are never used again, so a topic that still has its id was not deleted and created again meanwhile.
    """
    cluster, topic = platform.streams.identity(read.topic)
    if topic is None or not (is_same_id(read.cluster_id, cluster) and is_same_id(read.topic_id, topic)):
        continuity.check(product, read, *stream_bounds(platform, product))


def _check_decodable(product: DataProduct, chunk: pa.Table) -> None:
    """Check that no more of a chunk's events are undecodable than the contract allows; few events prove nothing."""
    from mesh_pipelines.arrow_compute import pc

    assert product.topic is not None
    wrong = chunk.filter(pc.equal(chunk[FATE], str(Fate.UNDECODABLE)))
    allowed = product.topic.max_undecodable_share
    if chunk.num_rows < _JUDGED_EVENTS or wrong.num_rows <= allowed * chunk.num_rows:
        return
    first = wrong.select([PARTITION, OFFSET, REASON]).slice(0, 3).to_pylist()
    named = "; ".join(f"{row[PARTITION]}:{row[OFFSET]} {row[REASON]}" for row in first)
    raise Undecodable(
        f"{product.fqn}: {wrong.num_rows:,} of {counted(chunk.num_rows, 'event')} cannot be decoded, "
        f"more than mesh.maxUndecodableShare ({allowed:g}) allows; none of them were landed. The first ones: {named}",
        next_step=f"fix the producer or the schema; to quarantine them all, set mesh.maxUndecodableShare to 1, then "
        f"mesh land {product.fqn}",
    )


def decoded(
    platform: Platform, product: DataProduct, start: Position, end: Position
) -> Generator[tuple[pa.Table, Position]]:
    """Decoded tables of about ``chunk_rows`` events, fewer where they are large or first, and the position after.

    The last one's position is ``end``.
    """
    from mesh_pipelines.formats.decode import Decoder

    settings = platform.settings
    decoder = Decoder.of(product, platform.registry, settings)
    held_bytes = 0
    gathered: list[pa.Table] = []
    rows, wanted = 0, min(_FIRST_ROWS, settings.chunk_rows)
    position = start
    with closing(Diverter(product)) as diverter:
        for batch in _read_ahead(platform, product, start, end):
            position = batch.position
            if batch.table.num_rows:
                gathered.append(diverter.divert(decoder.decode(batch.table, batch.position.generation)))
                rows += batch.table.num_rows
                held_bytes += gathered[-1].nbytes
            if rows >= wanted or held_bytes >= _CHUNK_BYTES:
                yield pa.concat_tables(gathered), position
                gathered, rows, held_bytes = [], 0, 0
                wanted = min(2 * wanted, settings.chunk_rows)
    yield pa.concat_tables(gathered) if gathered else log_schema(product).empty_table(), position


def _read_ahead(platform: Platform, product: DataProduct, start: Position, end: Position) -> Generator[RawBatch]:
    """The drain, one batch ahead in a thread of its own; its error is raised here."""
    from mesh_pipelines.kafka.drain import drain

    # Headers are looked at only where an event is read by the schema that its id names.
    by_writer = product.topic is not None and format_of(product.topic).by_writer
    headers = ID_HEADERS if by_writer else ()
    queue: Queue[RawBatch | BaseException | None] = Queue(maxsize=2)
    abandoned = Event()

    def read() -> None:
        try:
            with closing(drain(platform.settings, product.fqn, start, end, headers)) as batches:
                for batch in batches:
                    queue.put(batch)
                    if abandoned.is_set():
                        return
            queue.put(None)
        except BaseException as error:
            queue.put(error)

    reader = Thread(target=read, name="drain", daemon=True)
    reader.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        abandoned.set()
        while not queue.empty():
            queue.get()
        reader.join(timeout=platform.settings.timeout_s)


def _quarantined(chunk: pa.Table) -> int:
    from mesh_pipelines.arrow_compute import pc

    return pc.sum(pc.not_equal(chunk[FATE], Fate.OK)).as_py() or 0
