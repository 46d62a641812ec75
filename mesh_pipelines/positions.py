"""Where a table stands in a topic, and what a version of a product is: pure values, shared by streams and lake.

A position is the only truth about how far a topic was read. Consumer groups, cursors and run keys are hints: they live
apart from the rows and so can disagree with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from mesh_pipelines.errors import WrittenByNewer

T = TypeVar("T", "PartitionOffset", "Position", "Verdict", "Version")

UNKNOWN_EPOCH = -1
# Of a cluster or topic whose broker gives it no id. It says nothing, and is never taken for the id of something.
UNKNOWN_ID = ""
# How none is written: Python's word for it, which earlier releases stored, and the id with all bits zero.
_NO_IDS = ("None", "A" * 22, "00000000-0000-0000-0000-000000000000")


def known_id(given: object) -> str:
    """An id as a broker gave it, or as it was stored; ``UNKNOWN_ID`` where it is none."""
    text = str(given)
    return UNKNOWN_ID if text in _NO_IDS else text


def is_same_id(stored: str, now: str) -> bool:
    """Whether a cluster or topic is the one of a stored id, as far as ids tell.

    Where there was none nothing can be told, and nothing is held up; where there was one, to have none is a change.
    """
    return stored in (UNKNOWN_ID, now)


@dataclass(frozen=True)
class PartitionOffset:
    """The next offset to read of one partition, and the leader epoch it was seen under (-1: unknown)."""

    next_offset: int
    leader_epoch: int = UNKNOWN_EPOCH


@dataclass(frozen=True)
class Position:
    """How far a table has read a topic: ``partition -> next offset``, for one topic id on one cluster.

    ``generation`` counts the incarnations of the topic that one log has read (0 for the first). A later generation
    follows an operator's explicit choice to go on after the topic was recreated; all rows of earlier generations
    belong to every position of a later one. ``redrives`` counts the redrives of quarantined events it includes: what a
    later redrive brought back is not part of it, though it lies before its offsets. ``rebuilds`` counts how often the
    log was replaced by one read again from the topic: a position belongs to the log as it was under its count.
    The ids are ``UNKNOWN_ID`` where the broker gives none.
    """

    cluster_id: str
    topic: str
    topic_id: str
    partitions: Mapping[int, PartitionOffset] = field(default_factory=dict[int, PartitionOffset])
    generation: int = 0
    redrives: int = 0
    rebuilds: int = 0

    def next_offset(self, partition: int) -> int:
        """The next offset to read of a partition; 0 for one never read."""
        known = self.partitions.get(partition)
        return known.next_offset if known else 0

    def advance(self, partitions: Mapping[int, PartitionOffset]) -> Position:
        """This position moved forward in some partitions.

        Raises:
            ValueError: a partition would move backwards.
        """
        for number, offset in partitions.items():
            if offset.next_offset < self.next_offset(number):
                raise ValueError(
                    f"{self.topic}[{number}] would go back from {self.next_offset(number)} to {offset.next_offset}"
                )
        return replace(self, partitions={**self.partitions, **partitions})

    def covers(self, other: Position) -> bool:
        """Whether every event before ``other`` is also before this position, or was before it when last read."""
        if self.rebuilds != other.rebuilds:
            return self.rebuilds > other.rebuilds
        if self.redrives < other.redrives:
            return False
        if self.generation != other.generation:
            return self.generation > other.generation
        return all(self.next_offset(number) >= offset.next_offset for number, offset in other.partitions.items())

    def continues(self, other: Position) -> bool:
        """Whether what was folded up to ``other`` can be folded on up to this position."""
        return self.rebuilds == other.rebuilds and self.covers(other)

    def follows(self, other: Position) -> bool:
        """Whether all that lies between ``other`` and this position lies at later offsets of the same stream."""
        marks = (self.generation, self.redrives, self.rebuilds)
        return marks == (other.generation, other.redrives, other.rebuilds) and self.covers(other)

    def is_in(self, end: Position) -> bool:
        """Whether this position was read from the topic that ``end`` is of, as far as their ids tell."""
        return is_same_id(self.cluster_id, end.cluster_id) and is_same_id(self.topic_id, end.topic_id)

    def named(self, end: Position) -> Position:
        """This position with the ids that its topic has by now, where it had none: they are compared from then on."""
        return replace(self, cluster_id=self.cluster_id or end.cluster_id, topic_id=self.topic_id or end.topic_id)

    @property
    def lacks_epochs(self) -> bool:
        """Whether events were read and none of them came with a leader epoch."""
        read = [offset for offset in self.partitions.values() if offset.next_offset]
        return bool(read) and all(offset.leader_epoch == UNKNOWN_EPOCH for offset in read)

    def lag_to(self, end: Position) -> int:
        """Offsets between this position and ``end``: an upper bound of the events not yet read (gaps are legal)."""
        return sum(max(0, offset.next_offset - self.next_offset(number)) for number, offset in end.partitions.items())

    def to_json(self) -> str:
        """Compact JSON, keys sorted: equal positions give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Position:
        """The position ``to_json`` wrote."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Position:
        """The position of a decoded JSON object."""
        partitions = {int(number): _made(PartitionOffset, offset) for number, offset in raw["partitions"].items()}
        ids = {name: known_id(raw[name]) for name in ("cluster_id", "topic_id")}
        known: dict[str, Any] = {**raw, **ids, "partitions": partitions}
        return _made(cls, known)


@dataclass(frozen=True)
class Bounds:
    """What a topic holds: the first offset that is kept and the next one to be written, of every partition."""

    begin: Position
    end: Position


@dataclass(frozen=True)
class Verdict:
    """The outcome of one audit of one candidate: what ``publish`` asks for.

    ``candidate_id`` and ``contract_hash`` say what exactly was audited. Counts are of rules.
    """

    candidate_id: str
    contract_hash: str
    passed: bool
    rules: int
    failed: int
    warned: int
    errors: int
    vacuous: int
    at: str
    blocking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Version:
    """What readers see: state = fold(base snapshot, log rows between the base's position and ``position``).

    A candidate is a version that is not published yet (``published_at`` is None). Times are ISO 8601 in UTC;
    ``input_versions`` maps the inputs' names to the version numbers read, for derived products, whose ``position``
    is None. ``withdrawn`` says when, by whom and why readers were taken back to an earlier version.

    ``overlay`` is the address of what says which rows of base and tail were replaced. ``bad`` counts the bad rows by
    rule, where all rules that count any could be computed; with ``miskeyed``, the rows whose message key is not their
    contract's, it is what the next version's counts may be added to. ``mask`` is the fingerprint of what was counted.
    ``run`` is the id of the orchestrator's run that made it; None for one made by hand. ``input_extents`` are the
    ``extent`` of each input version, so that what came after it can be counted; empty in versions of earlier releases.
    """

    product: str
    number: int
    candidate_id: str
    contract_version: str
    contract_hash: str
    created_at: str
    rows: int
    quarantined: int = 0
    position: Position | None = None
    base_snapshot_id: int | None = None
    input_versions: Mapping[str, int] = field(default_factory=dict[str, int])
    verdict: Verdict | None = None
    published_at: str | None = None
    withdrawn: str | None = None
    overlay: str | None = None
    bad: Mapping[str, int] | None = None
    miskeyed: int | None = None
    mask: str | None = None
    run: str | None = None
    input_extents: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def extent(self) -> int:
        """How much was read up to here: offsets of the stream, or the rows of a product without one."""
        if self.position is None:
            return self.rows
        return sum(offset.next_offset for offset in self.position.partitions.values())

    def to_json(self) -> str:
        """Compact JSON, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Version:
        """The version ``to_json`` wrote."""
        raw = json.loads(text)
        if raw["position"] is not None:
            raw["position"] = Position.from_dict(raw["position"])
        if raw["verdict"] is not None:
            raw["verdict"] = _made(Verdict, raw["verdict"] | {"blocking": tuple(raw["verdict"]["blocking"])})
        return _made(cls, raw)


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    """A value of stored fields.

    Raises:
        WrittenByNewer: some are not known.
    """
    if unknown := values.keys() - {one.name for one in fields(kind)}:
        raise WrittenByNewer(f"a stored {kind.__name__.lower()}", unknown)
    return kind(**values)
