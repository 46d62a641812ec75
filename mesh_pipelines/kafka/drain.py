"""A bounded read of a topic: from a stored position to end offsets taken beforehand, as Arrow batches.

The end is reached at the end-of-partition event, at a message at or past it, or when the client's own position is
there; never by counting, and never by the last offset, because transaction markers and compaction leave gaps.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import pyarrow as pa
from confluent_kafka import KafkaError

from mesh_pipelines.errors import EnvironmentFault, OffsetsTrimmed, StreamTruncated
from mesh_pipelines.kafka.client import Reasons, is_unreachable, unreachable
from mesh_pipelines.kafka.source import ROWS, SCHEMA, Assigned, Event, Source, open_source
from mesh_pipelines.positions import UNKNOWN_EPOCH, PartitionOffset, Position
from mesh_pipelines.settings import Settings


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
    source = open_source(settings, start.topic, reasons)
    try:
        source.assign([_assigned(start, number, before) for number, before in waiting.items()])
        yield from _read(settings, product, source, reasons, start, end, set(waiting))
    finally:
        source.close()


def _assigned(start: Position, number: int, end_offset: int) -> Assigned:
    known = start.partitions.get(number)
    return Assigned(number, start.next_offset(number), end_offset, known.leader_epoch if known else UNKNOWN_EPOCH)


def _read(
    settings: Settings,
    product: str,
    source: Source,
    reasons: Reasons,
    position: Position,
    end: Position,
    waiting: set[int],
) -> Iterator[RawBatch]:
    """Read until none of the partitions is ``waiting`` for its end."""
    heard = time.monotonic()
    while waiting:
        messages = source.read(min(ROWS, settings.chunk_rows))
        for event in messages.events:
            _handle(product, reasons, event, position, end, waiting)
        waiting -= messages.done
        position = position.advance(messages.reached)
        if messages.rows.num_rows or messages.events or messages.done:
            heard = time.monotonic()
        elif time.monotonic() - heard > settings.timeout_s:
            # Partitions that the client has read past are done, though no event said so.
            waiting -= {number for number, offset in source.positions().items() if offset >= end.next_offset(number)}
            if waiting:
                raise unreachable(settings, reasons.last())
        if not waiting:
            position = _at_end(position, end)
        if messages.rows.num_rows or not waiting:
            yield RawBatch(messages.rows, position)


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


def _handle(product: str, reasons: Reasons, event: Event, position: Position, end: Position, waiting: set[int]) -> None:
    error, number = event.error, event.partition
    if error.code() == KafkaError._PARTITION_EOF:
        if event.offset >= end.next_offset(number):
            waiting.discard(number)
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
