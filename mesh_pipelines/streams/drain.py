"""A bounded read of a topic: from a stored position to end offsets taken beforehand, as Arrow batches.

The end is reached at the end-of-partition event, at a message at or past it, or when the client's own position is
there; never by counting, and never by the last offset, because transaction markers and compaction leave gaps. Fields
are taken from messages in list comprehensions with the cyclic collector off: scanning the message objects costs about
as much as making them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, KafkaError, TopicPartition

from mesh_pipelines.errors import EnvironmentFault, OffsetsTrimmed, StreamTruncated
from mesh_pipelines.positions import UNKNOWN_EPOCH, PartitionOffset, Position
from mesh_pipelines.settings import Settings
from mesh_pipelines.streams.client import Reasons, consumer, is_unreachable, unreachable

# Messages asked for at once: enough to spread the cost of a call, few enough that their objects stay near 20 MB.
_BATCH = 20_000
# The years 1 to 9999 in milliseconds: a broker takes any 64 bits, Python and the engines that read the tables do not.
_INSTANTS = pa.array([-62_135_596_800_000, 253_402_300_799_999], pa.int64())

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
class RawBatch:
    """Messages as columns (``SCHEMA``; a null value is a tombstone), and the position after them."""

    table: pa.Table
    position: Position


def drain(settings: Settings, product: str, start: Position, end: Position) -> Generator[RawBatch]:
    """Read every committed message from ``start`` to before ``end``; the last batch carries ``end``.

    Raises:
        OffsetsTrimmed: the broker no longer has an offset that was to be read.
        StreamTruncated: what lies before ``start`` is not what was read there.
        BrokerUnreachable: it stopped answering; transient.
    """
    waiting = {
        number: offset.next_offset
        for number, offset in end.partitions.items()
        if offset.next_offset > start.next_offset(number)
    }
    if not waiting:
        yield RawBatch(SCHEMA.empty_table(), _at_end(start, end))
        return
    reasons = Reasons()
    client = consumer(settings, reasons)
    try:
        client.assign([_start_at(start, number) for number in waiting])
        yield from _read(settings, product, client, reasons, start, end, waiting)
    finally:
        client.close()


def _start_at(start: Position, number: int) -> TopicPartition:
    known = start.partitions.get(number)
    epoch: dict[str, Any] = {"leader_epoch": known.leader_epoch} if known and known.leader_epoch >= 0 else {}
    return TopicPartition(start.topic, number, start.next_offset(number), **epoch)


def _read(
    settings: Settings,
    product: str,
    client: Consumer,
    reasons: Reasons,
    position: Position,
    end: Position,
    waiting: dict[int, int],
) -> Iterator[RawBatch]:
    heard = time.monotonic()
    while waiting:
        with _without_collector():
            messages = client.consume(min(_BATCH, settings.chunk_rows), timeout=0.2)
            batch, position = _take(product, client, reasons, messages, position, end, waiting)
        if messages:
            heard = time.monotonic()
        elif time.monotonic() - heard > settings.timeout_s:
            _finish_quiet(client, position, waiting)
            if waiting:
                raise unreachable(settings, reasons.last())
        if not waiting:
            position = _at_end(position, end)
        if batch.num_rows or not waiting:
            yield RawBatch(batch, position)


def _at_end(position: Position, end: Position) -> Position:
    """The end, with the leader epochs that messages were read under."""
    return position.advance(
        {
            number: PartitionOffset(offset.next_offset, known.leader_epoch)
            if (known := position.partitions.get(number))
            else offset
            for number, offset in end.partitions.items()
        }
    )


def _finish_quiet(client: Consumer, position: Position, waiting: dict[int, int]) -> None:
    """Take partitions for done that the client has read past, though no event said so."""
    for at in client.position([TopicPartition(position.topic, number) for number in waiting]):
        if at.offset >= waiting[at.partition]:
            del waiting[at.partition]


def _take(
    product: str,
    client: Consumer,
    reasons: Reasons,
    messages: list[Any],
    position: Position,
    end: Position,
    waiting: dict[int, int],
) -> tuple[pa.Table, Position]:
    """The messages that lie before the end, as a table, and the position after them."""
    events = [message for message in messages if message.error() is None]
    if len(events) < len(messages):
        for message in messages:
            if message.error() is not None:
                _handle(product, reasons, message, position, waiting)
    if not events:
        return SCHEMA.empty_table(), position
    partitions = [message.partition() for message in events]
    offsets = [message.offset() for message in events]
    reached: dict[int, int] = dict(zip(partitions, offsets, strict=True))
    past = [number for number, offset in reached.items() if offset >= end.next_offset(number) - 1]
    if past:
        ends = {number: end.next_offset(number) for number in reached}
        kept = [index for index, offset in enumerate(offsets) if offset < ends[partitions[index]]]
        if len(kept) < len(events):
            events = [events[index] for index in kept]
            partitions, offsets = [partitions[index] for index in kept], [offsets[index] for index in kept]
            reached = dict(zip(partitions, offsets, strict=True))
        client.pause([TopicPartition(position.topic, number) for number in past if waiting.pop(number, None)])
    if not events:
        return SCHEMA.empty_table(), position
    last = dict(zip(partitions, range(len(events)), strict=True))
    position = position.advance(
        {number: PartitionOffset(offset + 1, _epoch(events[last[number]])) for number, offset in reached.items()}
    )
    table = pa.table(
        [
            pa.array(partitions, pa.int32()),
            pa.array(offsets, pa.int64()),
            _instants([message.timestamp()[1] for message in events]),
            pa.array([message.key() for message in events], pa.large_binary()),
            pa.array([message.value() for message in events], pa.large_binary()),
        ],
        schema=SCHEMA,
    )
    return table, position


def _instants(milliseconds: list[int]) -> pa.Array:
    """The producers' timestamps; null where one is no instant of the years 1 to 9999."""
    array = pa.array(milliseconds, pa.int64())
    held = pc.and_(pc.greater_equal(array, _INSTANTS[0]), pc.less_equal(array, _INSTANTS[1]))
    return pc.if_else(held, array, None).cast(pa.timestamp("ms", tz="UTC")).cast(SCHEMA.field("timestamp").type)


def _epoch(message: Any) -> int:
    epoch = message.leader_epoch()
    return UNKNOWN_EPOCH if epoch is None else epoch


def _handle(product: str, reasons: Reasons, message: Any, position: Position, waiting: dict[int, int]) -> None:
    error: KafkaError = message.error()
    number = message.partition()
    if error.code() == KafkaError._PARTITION_EOF:
        if number in waiting and message.offset() >= waiting[number]:
            del waiting[number]
        return
    at = f"partition {number} at offset {position.next_offset(number)}: {error.str()}"
    # Under auto.offset.reset=error the client reports a truncation as a reset, too; only its text tells them apart.
    if error.code() == KafkaError._LOG_TRUNCATION or "truncation" in error.str():
        raise StreamTruncated(product, f"the broker lost events of {position.topic} that were landed ({at})")
    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        raise OffsetsTrimmed(product, f"the broker dropped offsets of {position.topic} while they were landed ({at})")
    if is_unreachable(error):
        reasons.note(error)
        return
    raise EnvironmentFault(f"{position.topic}: Kafka refused the read: {error.str()}", next_step="mesh status")


@contextmanager
def _without_collector() -> Generator[None]:
    """The cyclic collector off: messages hold no cycles, and scanning them costs about a microsecond each."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
