"""Messages of assigned partitions as columns, and what else the client has to say: the edge that faces Kafka.

Two sources do the same: one through the Kafka client's message objects, which runs everywhere, and one in C that makes
no objects (``native_source``). Both give what lies before the ends they were assigned, and nothing of what lies behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, TopicPartition

from mesh_pipelines.collector import without_collector
from mesh_pipelines.formats.format import IdHeader
from mesh_pipelines.kafka.client import Reasons, consumer
from mesh_pipelines.positions import UNKNOWN_EPOCH, PartitionOffset
from mesh_pipelines.settings import Settings

# Rows of a read: enough to spread the cost of decoding a batch, few enough that their bytes stay near 20 MB.
ROWS = 65_536
BYTES = 32 << 20
TIMEOUT_S = 0.2
# The client's call waits for as many messages as it was asked for, so a longer wait would hold up every read's end.
_CLIENT_ROWS = 20_000
_CLIENT_TIMEOUT_S = 0.05
# The years 1 to 9999 in milliseconds: a broker takes any 64 bits, Python and the engines that read the tables do not.
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999

SCHEMA = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("key", pa.large_binary()),
        pa.field("value", pa.large_binary()),
    ]
)


@dataclass(frozen=True)
class Assigned:
    """A partition to read: from an offset, of an event of this leader epoch or later, to before an end."""

    number: int
    next_offset: int
    end_offset: int
    leader_epoch: int = UNKNOWN_EPOCH


@dataclass(frozen=True)
class Event:
    """What a client says of a partition in place of a message; its end is one."""

    error: KafkaError
    partition: int
    offset: int


@dataclass(frozen=True)
class Messages:
    """What one read gave: ``rows`` (``SCHEMA``; a null value is a tombstone), and how far it brought the partitions.

    ``reached`` has the offset after the last row of each partition with rows and the leader epoch of that row; ``done``
    are those of which a message at or behind the last offset before the end was seen.
    """

    rows: pa.Table
    reached: Mapping[int, PartitionOffset] = field(default_factory=dict[int, PartitionOffset])
    done: frozenset[int] = frozenset()
    events: Sequence[Event] = ()


class Source(Protocol):
    """A reader of one topic's partitions; it has one thread.

    The id that the first of its ``id_headers`` holds is put in front of a message's value.
    """

    def assign(self, partitions: Sequence[Assigned]) -> None:
        """Begin to read these partitions."""
        ...

    def read(self, max_rows: int) -> Messages:
        """Wait a moment for messages and take those that are there."""
        ...

    def positions(self) -> Mapping[int, int]:
        """The offset that the client will give next, by partition; negative where it does not know yet."""
        ...

    def close(self) -> None:
        """Let go of the broker."""
        ...


class ClientSource:
    """Reads through the Kafka client's message objects.

    Fields are taken from messages in list comprehensions with the cyclic collector off: scanning the message objects
    costs about as much as making them.
    """

    def __init__(self, settings: Settings, topic: str, reasons: Reasons, id_headers: Sequence[IdHeader] = ()) -> None:
        self._topic = topic
        self._id_headers = id_headers
        self._client = consumer(settings, reasons)
        self._ends: dict[int, int] = {}
        self._paused: set[int] = set()

    def assign(self, partitions: Sequence[Assigned]) -> None:
        """Begin to read these partitions."""
        self._ends = {partition.number: partition.end_offset for partition in partitions}
        self._client.assign([_topic_partition(self._topic, partition) for partition in partitions])

    def read(self, max_rows: int) -> Messages:
        """Wait a moment for messages and take those that are there."""
        with without_collector():
            return self._columns(self._client.consume(min(max_rows, _CLIENT_ROWS), timeout=_CLIENT_TIMEOUT_S))

    def positions(self) -> Mapping[int, int]:
        """The offset that the client will give next, by partition; negative where it does not know yet."""
        asked = [TopicPartition(self._topic, number) for number in self._ends]
        return {at.partition: at.offset for at in self._client.position(asked)}

    def close(self) -> None:
        """Let go of the broker."""
        self._client.close()

    def _columns(self, messages: list[Any]) -> Messages:
        events = tuple(
            Event(message.error(), message.partition(), message.offset())
            for message in messages
            if message.error() is not None
        )
        if events:
            messages = [message for message in messages if message.error() is None]
        partitions = [message.partition() for message in messages]
        offsets = [message.offset() for message in messages]
        seen = dict(zip(partitions, offsets, strict=True))
        done = frozenset(number for number, offset in seen.items() if offset + 1 >= self._ends[number])
        if done:
            kept = [at for at, offset in enumerate(offsets) if offset < self._ends[partitions[at]]]
            messages = [messages[at] for at in kept]
            partitions, offsets = [partitions[at] for at in kept], [offsets[at] for at in kept]
            self._pause(done)
        last = dict(zip(partitions, messages, strict=True))
        reached = {number: PartitionOffset(message.offset() + 1, _epoch(message)) for number, message in last.items()}
        return Messages(_table(partitions, offsets, messages, self._values(messages)), reached, done, events)

    def _values(self, messages: list[Any]) -> list[bytes | None]:
        if not self._id_headers:
            return [message.value() for message in messages]
        return [_with_id(message, self._id_headers) for message in messages]

    def _pause(self, done: frozenset[int]) -> None:
        fresh = done - self._paused
        self._paused |= fresh
        self._client.pause([TopicPartition(self._topic, number) for number in fresh])


def instants(milliseconds: npt.NDArray[np.int64], known: npt.NDArray[np.bool_] | None) -> pa.Array:
    """Producers' timestamps as instants; null if there is none, or it is outside the years 1 to 9999."""
    bad = (milliseconds < _FIRST_MS) | (milliseconds > _LAST_MS)
    if known is not None:
        bad |= ~known
    plain = pa.array(np.where(bad, 0, milliseconds) * 1000, mask=bad if bad.any() else None)
    return plain.view(pa.timestamp("us", tz="UTC"))


def _with_id(message: Any, id_headers: Sequence[IdHeader]) -> bytes | None:
    """A message's value, with the id in front that a header of it holds, if one does."""
    value: bytes | None = message.value()
    headers = message.headers() if value is not None else None
    if value is None or not headers:
        return value
    held = dict(headers)
    for wanted in id_headers:
        found = held.get(wanted.name)
        if found is not None and len(found) >= wanted.skipped:
            return wanted.front + found[wanted.skipped :] + value
    return value


def _table(partitions: list[int], offsets: list[int], messages: list[Any], values: Sequence[bytes | None]) -> pa.Table:
    stamps = [message.timestamp() for message in messages]
    known = np.array([kind != TIMESTAMP_NOT_AVAILABLE for kind, _ in stamps], np.bool_)
    return pa.table(
        [
            pa.array(partitions, pa.int32()),
            pa.array(offsets, pa.int64()),
            instants(np.array([stamp for _, stamp in stamps], np.int64), known),
            pa.array([message.key() for message in messages], pa.large_binary()),
            pa.array(values, pa.large_binary()),
        ],
        schema=SCHEMA,
    )


def _topic_partition(topic: str, partition: Assigned) -> TopicPartition:
    epoch: dict[str, Any] = {"leader_epoch": partition.leader_epoch} if partition.leader_epoch >= 0 else {}
    return TopicPartition(topic, partition.number, partition.next_offset, **epoch)


def _epoch(message: Any) -> int:
    epoch = message.leader_epoch()
    return UNKNOWN_EPOCH if epoch is None else epoch
