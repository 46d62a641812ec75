"""What is measured of a product, from one look at it and what was remembered of the looks before: pure values.

No stream is read. When an event came is taken from when the end of its topic was seen to have moved: exact to one
interval of observing, and free of what producers write as their events' time. That time was ruled out as the measure of
freshness and latency: a replay of old data is late by years from its first event on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from mesh_pipelines.contract.model import DataProduct, SupportChannel
from mesh_pipelines.observe.status import ProductStatus
from mesh_pipelines.positions import Position, Version

if TYPE_CHECKING:
    from mesh_pipelines.lake.standing import Standing
    from mesh_pipelines.pipeline.level import Level

# Of a list that grows while a product is behind: beyond this many, every second of the older half is left out.
_KEPT = 64
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
# Rates are those of the last ten minutes: one landing takes longer than an interval.
RATE_OVER = timedelta(minutes=10)


@dataclass(frozen=True)
class Seen:
    """One look at a product; ``error`` is what went wrong with looking at its tables, which are then not known."""

    level: Level
    status: ProductStatus
    error: str | None = None

    @property
    def product(self) -> DataProduct:
        """The product that was looked at."""
        return self.level.product

    @property
    def standing(self) -> Standing | None:
        """What its tables say."""
        return None if self.error else self.level.standing

    @property
    def end(self) -> Position | None:
        """The end of its topic; None where the topic or the broker was not there."""
        return self.level.bounds.end if self.level.bounds else None

    @property
    def published(self) -> Version | None:
        """The version that readers see."""
        return self.standing.published if self.standing else None

    @property
    def newest(self) -> Version | None:
        """The newest candidate."""
        return self.standing.newest if self.standing else None


@dataclass(frozen=True)
class Move:
    """A topic's end was seen to have moved to these offsets."""

    at: datetime
    offsets: Mapping[int, int]


@dataclass(frozen=True)
class Mark:
    """A version that was seen published: since when, and when the newest data in it came."""

    version: int
    at: datetime
    fresh_at: datetime


@dataclass(frozen=True)
class Count:
    """Events that had landed, and those held back of them, at a moment and until the next count."""

    at: datetime
    landed: int
    held: int


@dataclass(frozen=True)
class Memory:
    """What is kept of a product from one look to the next: where its topic ended and its log stood, by partition.

    ``moves`` are those that are not published yet, ``marks`` published versions, both oldest first. ``content`` says
    what data the published version is made of, ``new_at`` when it last changed. ``newest`` has the greatest value of
    fields by name, of the version and fields ``newest_of``;
    ``oldest`` is the time of the first event of the log, as it was rebuilt ``oldest_of`` times. ``calm`` counts the
    looks since an open incident's cause was last found. ``channels`` are those of the last sound contract.
    """

    topic: str = ""
    end: Mapping[int, int] | None = None
    position: Mapping[int, int] = field(default_factory=dict[int, int])
    moves: tuple[Move, ...] = ()
    marks: tuple[Mark, ...] = ()
    counts: tuple[Count, ...] = ()
    content: str = ""
    new_at: datetime | None = None
    newest: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    newest_of: str = ""
    oldest: datetime | None = None
    oldest_of: int | None = None
    calm: Mapping[str, int] = field(default_factory=dict[str, int])
    channels: tuple[SupportChannel, ...] = ()


@dataclass(frozen=True)
class Measured:
    """The measures of one look; None is what could not be measured. Durations are seconds.

    ``ages`` are those of the newest value of fields. ``error_rate`` is the percentage held back of what landed in the
    last 24 hours, ``throughput`` the events landed a second in the last ten minutes.
    """

    lag: int | None = None
    freshness: float | None = None
    latency: float | None = None
    rows: int | None = None
    quarantined: int | None = None
    landing_rate: float | None = None
    available: bool | None = None
    ages: Mapping[str, float] = field(default_factory=dict[str, float])
    frequency: float | None = None
    retention: float | None = None
    error_rate: float | None = None
    throughput: float | None = None
    landed: int = 0
    held: int = 0


T = TypeVar("T")
Marks = Mapping[str, tuple[Mark, ...]]


def remember(seen: Seen, memory: Memory, marks: Marks, now: datetime) -> Memory:
    """What is known after a look. ``marks`` are those of the products looked at before, its inputs among them."""
    memory = replace(memory, channels=seen.product.about.support)
    memory, reached = _moved(seen, memory, now)
    memory = _published(seen, memory, _fresh_at(seen, reached, marks))
    return _counted(seen, memory, now)


@dataclass(frozen=True)
class Round:
    """A look at all products: when it was, when the one before was, and the versions that were seen of each product."""

    now: datetime
    last: datetime | None
    marks: Marks


def measure(seen: Seen, before: Memory, memory: Memory, at: Round) -> Measured:
    """The measures of a look at a product, with what was known before and after it."""
    now, last, marks = at.now, at.last, at.marks
    published, derived = seen.published, seen.product.transform is not None
    log = seen.standing if seen.standing and not seen.standing.missing and not derived else None
    behind = _behind(seen, marks, now) if derived else None
    landed, held = _landed_since(before, memory)
    return Measured(
        lag=seen.status.lag,
        freshness=_freshness(memory, behind, now) if published else None,
        latency=behind if derived else _latency(seen, memory, now),
        rows=published.rows if published else None,
        quarantined=log.quarantined if log else None,
        landing_rate=_rate(landed, last, now) if log and before.counts else None,
        available=_available(seen, before),
        ages={name: _age(value, now) for name, value in memory.newest.items()} if published else {},
        frequency=_age(memory.new_at, now) if memory.new_at else None,
        retention=_age(memory.oldest, now) if memory.oldest else None,
        error_rate=None if derived else _error_rate(memory, now),
        throughput=None if derived else _throughput(memory, now),
        landed=landed,
        held=held,
    )


def topic_of(end: Position) -> str:
    """The topic that offsets are of, told apart from another of its name."""
    return f"{end.cluster_id}/{end.topic_id}"


def _moved(seen: Seen, memory: Memory, now: datetime) -> tuple[Memory, list[Move]]:
    """The memory with how the topic's end moved, and the moves that are published by now."""
    end = seen.end
    if end is None:
        return memory, []
    topic = topic_of(end)
    if topic != memory.topic:
        memory = replace(memory, topic=topic, end=None, moves=())
    offsets = {number: offset.next_offset for number, offset in end.partitions.items()}
    position = seen.published.position if seen.published else None
    if position and not position.is_in(end):
        # It was read from another topic: nothing of this one is published, whatever its offsets are.
        position = None
    moves = list(memory.moves)
    if offsets != memory.end and any(offsets.values()):
        moves.append(Move(now, offsets))
    reached = [move for move in moves if _covers(position, move)]
    waiting = [move for move in moves if not _covers(position, move)]
    current = Move(now, offsets)
    if not waiting and any(offsets.values()) and not _covers(position, current):
        # Readers were taken back to an earlier version.
        waiting = [current]
    # At the first look it is not known when the end moved.
    known = reached if memory.end is not None else []
    return replace(memory, end=offsets, position=_landed(seen), moves=_thinned(waiting)), known


def _landed(seen: Seen) -> dict[int, int]:
    position = seen.standing.position if seen.standing else None
    return {number: offset.next_offset for number, offset in position.partitions.items()} if position else {}


def _covers(position: Position | None, move: Move) -> bool:
    return position is not None and all(
        position.next_offset(number) >= offset for number, offset in move.offsets.items()
    )


def _fresh_at(seen: Seen, reached: list[Move], marks: Marks) -> datetime | None:
    """When the newest data of the published version came; None where nothing says more than before."""
    published = seen.published
    if published is None:
        return None
    made = datetime.fromisoformat(published.created_at)
    if seen.product.transform:
        found = [
            mark.fresh_at
            for name, version in published.input_versions.items()
            if (mark := _mark_of(marks.get(name, ()), version))
        ]
        return min(max(found), made) if found else made
    # It was there when the version was made, however late the topic's end was asked for.
    return min(reached[-1].at, made) if reached else None


def _published(seen: Seen, memory: Memory, fresh_at: datetime | None) -> Memory:
    """The memory with the published version's mark, and whether its data is new."""
    published = seen.published
    if published is None:
        return memory
    at = datetime.fromisoformat(published.published_at or published.created_at)
    kept = [mark for mark in memory.marks if mark.version < published.number]
    same = _mark_of(memory.marks, published.number)
    if same and same.version == published.number:
        known = same.fresh_at
    elif kept and kept[-1] is memory.marks[-1]:
        known = kept[-1].fresh_at
    else:
        # The first look, or a version that readers were taken back to.
        known = datetime.fromisoformat(published.created_at)
    if fresh_at:
        # What a derived product was made of is known; of a stream more may have been known before.
        known = fresh_at if seen.product.transform else max(known, fresh_at)
    mark = Mark(published.number, at, known)
    content = published.position.to_json() if published.position else str(sorted(published.input_versions.items()))
    new_at = memory.new_at if content == memory.content else at
    return replace(memory, marks=_thinned([*kept, mark]), content=content, new_at=new_at)


def _counted(seen: Seen, memory: Memory, now: datetime) -> Memory:
    standing = seen.standing
    if standing is None or standing.missing or not seen.product.has_log:
        return memory
    counts = list(memory.counts)
    if counts and (counts[-1].landed, counts[-1].held) == (standing.landed, standing.quarantined):
        return memory
    if len(counts) > 1 and now - counts[-2].at < _MINUTE:
        counts.pop()
    counts.append(Count(now, standing.landed, standing.quarantined))
    return replace(memory, counts=tuple(_by_hour(counts, now)))


def _by_hour(counts: list[Count], now: datetime) -> list[Count]:
    """The counts of the last quarter of an hour, the last of each hour before, and one of a day before."""
    kept: list[Count] = []
    for count, after in zip(counts, [*counts[1:], None], strict=True):
        recent = after is None or now - count.at <= timedelta(minutes=15)
        last_of_day = after is not None and count.at <= now - _DAY - _HOUR < after.at
        last_of_hour = after is not None and count.at > now - _DAY - _HOUR and _hour(count.at) != _hour(after.at)
        if recent or last_of_day or last_of_hour:
            kept.append(count)
    return kept


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _thinned(items: list[T]) -> tuple[T, ...]:
    """At most ``_KEPT`` of a list: every second of the older half is left out, and the oldest is kept."""
    if len(items) <= _KEPT:
        return tuple(items)
    half = len(items) // 2
    return (*items[:half:2], *items[half:])


def _mark_of(marks: tuple[Mark, ...], version: int) -> Mark | None:
    """The mark of a version, or of the last one before it that was seen."""
    return next((mark for mark in reversed(marks) if mark.version <= version), None)


def _behind(seen: Seen, marks: Marks, now: datetime) -> float | None:
    """How long the first version of an input waits that a derived product was not computed from."""
    if seen.published is None:
        return None
    waiting = [
        _age(newer.at, now)
        for name, version in seen.published.input_versions.items()
        if (newer := next((mark for mark in marks.get(name, ()) if mark.version > version), None))
    ]
    return max(waiting, default=0.0)


def _freshness(memory: Memory, behind: float | None, now: datetime) -> float | None:
    return max(_age(memory.marks[-1].fresh_at, now), behind or 0.0) if memory.marks else None


def _latency(seen: Seen, memory: Memory, now: datetime) -> float | None:
    if memory.moves:
        return _age(memory.moves[0].at, now)
    return None if seen.end is None or seen.published is None else 0.0


def _available(seen: Seen, before: Memory) -> bool | None:
    """Whether readers can open the published version; None where there never was one."""
    if seen.published is not None:
        return True
    return False if before.marks else None


def _landed_since(before: Memory, memory: Memory) -> tuple[int, int]:
    if not before.counts or not memory.counts:
        return 0, 0
    then, now = before.counts[-1], memory.counts[-1]
    return max(0, now.landed - then.landed), max(0, now.held - then.held)


def _rate(landed: int, last: datetime | None, now: datetime) -> float | None:
    seconds = (now - last).total_seconds() if last else 0.0
    return landed / seconds if seconds > 0 else None


def _error_rate(memory: Memory, now: datetime) -> float | None:
    if not memory.counts or not memory.counts[-1].landed:
        return None
    newest = memory.counts[-1]
    then = _count_at(memory.counts, now - _DAY) or Count(now, 0, 0)
    landed = newest.landed - then.landed
    return 100 * max(0, newest.held - then.held) / landed if landed > 0 else 0.0


def _throughput(memory: Memory, now: datetime) -> float | None:
    if not memory.counts:
        return None
    then = _count_at(memory.counts, now - RATE_OVER) or memory.counts[0]
    since = max(then.at, now - RATE_OVER)
    return _rate(max(0, memory.counts[-1].landed - then.landed), since, now)


def _count_at(counts: tuple[Count, ...], at: datetime) -> Count | None:
    return next((count for count in reversed(counts) if count.at <= at), None)


def _age(at: datetime, now: datetime) -> float:
    return max(0.0, (now - at).total_seconds())
