"""Messages as columns straight from librdkafka, in C (``mesh_pipelines/native/kafka.c``): no object for any of them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from confluent_kafka import KafkaError

from mesh_pipelines import native
from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.formats.format import IdHeader
from mesh_pipelines.kafka.client import Reasons, consumer_config
from mesh_pipelines.kafka.oauth import refused_token, token
from mesh_pipelines.kafka.source import BYTES, SCHEMA, TIMEOUT_S, Assigned, Event, Messages, instants
from mesh_pipelines.positions import PartitionOffset
from mesh_pipelines.settings import Settings


class NativeSource:
    """Reads a topic's partitions to columns; the buffers are those that C filled, without a copy."""

    def __init__(self, settings: Settings, topic: str, reasons: Reasons, id_headers: Sequence[IdHeader] = ()) -> None:
        config = {name: _text(value) for name, value in consumer_config(settings).items()}
        try:
            self._consumer = native.consumer(topic, config, [(one.name, one.front, one.skipped) for one in id_headers])
        except ValueError as error:
            raise SettingInvalid(f"MESH_KAFKA_CONFIG: {error}", next_step="see docs/settings.md") from error
        self._reasons = reasons
        self._settings = settings
        self._renew_at = 0.0 if settings.kafka_oauth else math.inf
        self._sign_in()

    def assign(self, partitions: Sequence[Assigned]) -> None:
        """Begin to read these partitions."""
        self._consumer.assign([(one.number, one.next_offset, one.end_offset, one.leader_epoch) for one in partitions])

    def read(self, max_rows: int) -> Messages:
        """Wait a moment for messages and take those that are there."""
        self._sign_in()
        rows, buffers, reached, events = self._consumer.read(max_rows, BYTES, int(TIMEOUT_S * 1000))
        for code, text in self._consumer.failures():
            self._reasons.note(KafkaError(code, text))
        return Messages(
            _table(rows, buffers),
            {number: PartitionOffset(offset, epoch) for number, (offset, epoch, _) in reached.items()},
            frozenset(number for number, (*_, done) in reached.items() if done),
            [Event(KafkaError(code, text), number, offset) for code, number, offset, text in events],
        )

    def _sign_in(self) -> None:
        """Give the client a token, where it needs one and has none that is good for a while yet."""
        if time.time() < self._renew_at or (found := token(self._settings)) is None:
            return
        extensions = tuple(part for pair in found.extensions.items() for part in pair)
        try:
            self._consumer.set_token(found.value, int(found.expires_at * 1000), found.principal, extensions)
        except ValueError as error:
            raise refused_token(self._settings, str(error)) from error
        self._renew_at = found.renew_at

    def positions(self) -> Mapping[int, int]:
        """The offset that the client will give next, by partition; negative where it does not know yet."""
        return self._consumer.position()

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: int, buffers: Sequence[Any]) -> pa.Table:
    if not rows:
        return SCHEMA.empty_table()
    partitions, offsets, stamped, stamps, *rest = map(_buffer, buffers)
    known = pa.Array.from_buffers(pa.bool_(), rows, [None, stamped]).to_numpy(zero_copy_only=False) if stamped else None
    return pa.Table.from_arrays(
        [
            pa.Array.from_buffers(pa.int32(), rows, [None, partitions]),
            pa.Array.from_buffers(pa.int64(), rows, [None, offsets]),
            instants(pa.Array.from_buffers(pa.int64(), rows, [None, stamps]).to_numpy(), known),
            pa.Array.from_buffers(pa.large_binary(), rows, rest[:3]),
            pa.Array.from_buffers(pa.large_binary(), rows, rest[3:]),
        ],
        schema=SCHEMA,
    )


def _buffer(held: Any) -> pa.Buffer | None:
    return None if held is None else pa.py_buffer(held)
