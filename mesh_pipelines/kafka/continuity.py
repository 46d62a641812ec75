"""Whether a stream still is the one a log was read from; and where to go on when it is not and the loss is accepted.

Names and offsets alone prove nothing: a topic deleted and created again has both, and librdkafka reads on in it at the
old offset without a word. So the ids of topic and cluster are compared, the offsets that are left, and the leader
epochs that events were written under (KIP-320): a history that was cut off and continued has later epochs at offsets
that were landed under earlier ones.

The number of partitions is compared, too, where a product folds by key: producers choose a key's partition by it, and
Kafka orders events within a partition only (docs/decisions/0022-partitions-added.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import (
    ClusterChanged,
    OffsetsTrimmed,
    PartitionsAdded,
    StreamDiscontinuity,
    StreamTruncated,
    TopicRecreated,
    TopicRenamed,
)
from mesh_pipelines.positions import UNKNOWN_EPOCH, PartitionOffset, Position, is_same_id
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import Consumer


# Partitions that a message names.
_NAMED = 3


def check(product: DataProduct, stored: Position, begin: Position, end: Position) -> None:
    """Check a stored position against the stream as it is now; ``begin`` and ``end`` are its first and next offsets.

    Raises:
        StreamDiscontinuity: the stream broke off; the kind of error says how, its message what is lost.
    """
    check_identity(product, stored, end)
    # A partition that was added since the last landing has been read up to its offset 0.
    trimmed = {
        number: (stored.next_offset(number), offset.next_offset - 1)
        for number, offset in begin.partitions.items()
        if offset.next_offset > stored.next_offset(number)
    }
    if trimmed:
        lost = _listed([f"partition {number}: {first} to {last}" for number, (first, last) in trimmed.items()])
        raise OffsetsTrimmed(
            product.fqn, f"the broker dropped offsets of {stored.topic} before they were landed ({lost})"
        )
    cut = {
        number: end.next_offset(number)
        for number, offset in stored.partitions.items()
        if offset.next_offset > end.next_offset(number)
    }
    if cut:
        raise truncation(product.fqn, stored, cut)


def check_identity(product: DataProduct, stored: Position, end: Position) -> None:
    """Check that a topic is the one a position was read from, with the partitions it had then.

    Raises:
        ClusterChanged, TopicRenamed, TopicRecreated: it is another one.
        PartitionsAdded: it has more partitions, and the product folds by key.
    """
    if not is_same_id(stored.cluster_id, end.cluster_id):
        raise ClusterChanged(
            product.fqn,
            f"the broker is {_cluster(end.cluster_id)}, but the log was read from cluster {stored.cluster_id}; an "
            f"offset means different events in the two. Events of {stored.topic} past {_offsets(stored)} there are not "
            "landed",
        )
    if stored.topic != end.topic:
        raise TopicRenamed(
            product.fqn,
            f"the contract now names the topic {end.topic}, but the log was read from {stored.topic}; "
            f"events of {stored.topic} past {_offsets(stored)} are not landed",
        )
    if not is_same_id(stored.topic_id, end.topic_id):
        raise TopicRecreated(
            product.fqn,
            f"the topic {stored.topic} was deleted and created again (id {stored.topic_id} is now "
            f"{end.topic_id or 'none'}); events of the old one past {_offsets(stored)} are lost",
        )
    added = end.partitions.keys() - stored.partitions.keys()
    if added and product.event_type.folds_by_key and any(one.next_offset for one in stored.partitions.values()):
        raise PartitionsAdded(
            product.fqn,
            f"the topic {stored.topic} now has {counted(len(end.partitions), 'partition')}, but the log was read from "
            f"{len(stored.partitions)}. Keys may have moved to another partition, and Kafka orders events within a "
            "partition only. Nothing is lost; once you accept, everything landed from then on counts as later than "
            f"everything landed up to {_offsets(stored)}",
        )


def _cluster(name: str) -> str:
    return f"cluster {name}" if name else "one that does not say which cluster it is"


def broken_off(product: DataProduct, stored: Position, end: Position) -> StreamDiscontinuity | None:
    """Why landing would stop, as far as the topic's identity and number of partitions tell."""
    try:
        check_identity(product, stored, end)
    except StreamDiscontinuity as error:
        return error
    return None


def truncation(product: str, stored: Position, cut: Mapping[int, int]) -> StreamTruncated:
    """The error for a history that was cut off at these offsets, after more of it had been landed."""
    gone = _listed(
        [f"partition {number}: {first} to {stored.next_offset(number) - 1}" for number, first in sorted(cut.items())]
    )
    return StreamTruncated(
        product,
        f"the broker lost events of {stored.topic} that were landed, or was restored from an older copy ({gone}); "
        "the log still has them, and the stream goes on without them",
    )


def go_on(
    broken: StreamDiscontinuity, stored: Position, begin: Position, end: Position, cut: Mapping[int, int]
) -> Position:
    """The position to land on from, once the loss is accepted. ``cut``: where a truncated history was cut off.

    What comes after a break that makes offsets mean other events is a new generation, so no two events of the log
    ever have the same coordinates. Added partitions begin one, too: its events are later than all before it.
    """
    match broken:
        case OffsetsTrimmed():
            left = {
                number: PartitionOffset(offset.next_offset)
                for number, offset in begin.partitions.items()
                if offset.next_offset > stored.next_offset(number)
            }
            return stored.advance(left)
        case PartitionsAdded():
            added = dict.fromkeys(end.partitions.keys() - stored.partitions.keys(), PartitionOffset(0))
            return replace(stored, partitions={**stored.partitions, **added}, generation=stored.generation + 1)
        case StreamTruncated():
            kept = {**stored.partitions, **{number: PartitionOffset(first) for number, first in cut.items()}}
            return replace(stored, partitions=kept, generation=stored.generation + 1)
        case _:
            return replace(
                stored,
                cluster_id=end.cluster_id,
                topic=end.topic,
                topic_id=end.topic_id,
                partitions=begin.partitions,
                generation=stored.generation + 1,
            )


def find_cut(settings: Settings, stored: Position, begin: Position, end: Position) -> dict[int, int]:
    """Where landed history was cut off: by partition, the first offset that does not hold what was landed.

    Epochs never fall along a partition, so the first event of a later epoch than the last landed one is found by
    bisection, some twenty single reads a partition.

    Raises:
        BrokerUnreachable: it stopped answering; transient.
    """
    from mesh_pipelines.kafka.client import Reasons, consumer

    cut: dict[int, int] = {}
    with closing(consumer(settings, Reasons(), **{"auto.offset.reset": "earliest"})) as client:
        for number, offset in stored.partitions.items():
            first, last = begin.next_offset(number), min(offset.next_offset, end.next_offset(number))
            if offset.leader_epoch != UNKNOWN_EPOCH and first < last:
                epochs = _Epochs(settings, client, end.topic, number)
                last = epochs.first_after(offset.leader_epoch, first, last)
            if last < offset.next_offset:
                cut[number] = last
    return cut


class _Epochs:
    """The leader epochs along one partition of a topic."""

    def __init__(self, settings: Settings, client: Consumer, topic: str, number: int) -> None:
        self._settings = settings
        self._client = client
        self._topic = topic
        self._number = number

    def first_after(self, epoch: int, first: int, last: int) -> int:
        """The first offset from ``first`` on of a later epoch; ``last`` where none before it has one."""
        while first < last:
            middle = (first + last) // 2
            if self._at(middle) > epoch:
                last = middle
            else:
                first = middle + 1
        return first

    def _at(self, offset: int) -> int:
        """The leader epoch of the first event at or past an offset; a partition that ends there tells of none."""
        from confluent_kafka import KafkaError, TopicPartition

        from mesh_pipelines.kafka.client import is_of_the_group, unreachable

        self._client.assign([TopicPartition(self._topic, self._number, offset)])
        message = self._client.poll(self._settings.timeout_s)
        error = message.error() if message else None
        if error and is_of_the_group(error):
            # Said once, before anything else.
            message = self._client.poll(self._settings.timeout_s)
            error = message.error() if message else None
        if message is None:
            raise unreachable(self._settings, "no answer in time")
        if error is None:
            epoch = message.leader_epoch()
            return UNKNOWN_EPOCH if epoch is None else epoch
        if error.code() == KafkaError._PARTITION_EOF:
            return UNKNOWN_EPOCH
        raise unreachable(self._settings, error.str())


def _offsets(position: Position) -> str:
    return _listed([f"[{number}] {offset.next_offset}" for number, offset in sorted(position.partitions.items())])


def _listed(parts: Sequence[str]) -> str:
    """The first of what is said of partitions, and how many more there are: a topic may have thousands."""
    more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return ", ".join(parts[:_NAMED]) + more
