"""A bounded read of a topic: from a stored position to end offsets taken beforehand, as Arrow batches.

The end is reached at the end-of-partition event, at a message at or past it, or when the client's own position is
there; never by counting, and never by the last offset, because transaction markers and compaction leave gaps.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from confluent_kafka import KafkaError

from mesh_pipelines.errors import OffsetsTrimmed, StreamTruncated
from mesh_pipelines.formats.format import IdHeader
from mesh_pipelines.kafka.client import Reasons, Right, is_of_the_group, is_unreachable, refused, unreachable
from mesh_pipelines.kafka.native_source import NativeSource
from mesh_pipelines.kafka.source import ROWS, SCHEMA, Assigned, ClientSource, Event, Source
from mesh_pipelines.positions import UNKNOWN_EPOCH, PartitionOffset, Position
from mesh_pipelines.settings import Settings


@dataclass(frozen=True)
class RawBatch:
    """Messages as columns (``SCHEMA``; a null value is a tombstone), and the position after them."""

    table: pa.Table
    position: Position


def drain(
    settings: Settings, product: str, start: Position, end: Position, id_headers: Sequence[IdHeader] = ()
) -> Generator[RawBatch]:
    """Read every committed message from ``start`` to before ``end``; the last batch carries ``end``.

    The id that the first of ``id_headers`` holds is put in front of a message's value.

    Raises:
        OffsetsTrimmed: the broker no longer has an offset that was to be read.
        StreamTruncated: what lies before ``start`` is not what was read there.
        BrokerUnreachable: it stopped answering; transient.
    """
    return _Drain(settings, product, start, end, id_headers).batches()


class _Drain:
    """A read under way: the position it is at, and the partitions whose end it is still waiting for."""

    def __init__(
        self, settings: Settings, product: str, start: Position, end: Position, id_headers: Sequence[IdHeader]
    ) -> None:
        self._id_headers = id_headers
        self._settings = settings
        self._product = product
        self._position = start
        self._end = end
        self._reasons = Reasons()
        self._waiting = {
            number for number, offset in end.partitions.items() if offset.next_offset > start.next_offset(number)
        }

    def batches(self) -> Generator[RawBatch]:
        """What there is to read; the last batch carries the end."""
        if not self._waiting:
            yield RawBatch(SCHEMA.empty_table(), self._at_end())
            return
        source = open_source(self._settings, self._position.topic, self._reasons, self._id_headers)
        try:
            source.assign([self._assigned(number) for number in self._waiting])
            yield from self._read(source)
        finally:
            source.close()

    def _assigned(self, number: int) -> Assigned:
        start = self._position
        known = start.partitions.get(number)
        epoch = known.leader_epoch if known else UNKNOWN_EPOCH
        return Assigned(number, start.next_offset(number), self._end.next_offset(number), epoch)

    def _read(self, source: Source) -> Iterator[RawBatch]:
        heard = time.monotonic()
        rows_at_once = min(ROWS, self._settings.chunk_rows)
        while self._waiting:
            messages = source.read(rows_at_once)
            events = [event for event in messages.events if not is_of_the_group(event.error)]
            for event in events:
                self._handle(event)
            self._waiting -= messages.done
            self._position = self._position.advance(messages.reached)
            if messages.rows.num_rows or events or messages.done:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._settings.timeout_s:
                self._give_up(source)
            if not self._waiting:
                self._position = self._at_end()
            if messages.rows.num_rows or not self._waiting:
                yield RawBatch(messages.rows, self._position)

    def _give_up(self, source: Source) -> None:
        """Take the broker for unreachable, unless the client has read past every end, though no event said so."""
        end = self._end
        self._waiting -= {number for number, offset in source.positions().items() if offset >= end.next_offset(number)}
        if self._waiting:
            raise unreachable(self._settings, self._reasons.last())

    def _at_end(self) -> Position:
        """The end, with the leader epochs that messages were read under."""
        read = self._position.partitions
        return self._position.advance(
            {
                number: PartitionOffset(offset.next_offset, read[number].leader_epoch) if number in read else offset
                for number, offset in self._end.partitions.items()
            }
        )

    def _handle(self, event: Event) -> None:
        error, number, position = event.error, event.partition, self._position
        if error.code() == KafkaError._PARTITION_EOF:
            if event.offset >= self._end.next_offset(number):
                self._waiting.discard(number)
            return
        topic = position.topic
        at = f"partition {number} at offset {position.next_offset(number)}: {error.str()}"
        # Under auto.offset.reset=error the client reports a truncation as a reset, too; only its text tells them apart.
        if error.code() == KafkaError._LOG_TRUNCATION or "truncation" in error.str():
            raise StreamTruncated(self._product, f"the broker lost events of {topic} that were landed ({at})")
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise OffsetsTrimmed(self._product, f"the broker dropped offsets of {topic} while they were landed ({at})")
        if is_unreachable(error):
            self._reasons.note(error)
            return
        raise refused(self._settings, error, Right("Read", topic))


def open_source(settings: Settings, topic: str, reasons: Reasons, id_headers: Sequence[IdHeader] = ()) -> Source:
    """The fastest source there is; why the broker does not answer goes to ``reasons``.

    Raises:
        EnvironmentFault: the settings insist on the native extension, and it is not there.
    """
    if settings.uses_native():
        return NativeSource(settings, topic, reasons, id_headers)
    return ClientSource(settings, topic, reasons, id_headers)
