"""What the broker knows of topics: identity, offsets, settings; and changing them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec

from mesh_pipelines.contract.model import TopicSettings
from mesh_pipelines.errors import EnvironmentFault, MeshError, NotAuthorized
from mesh_pipelines.kafka.client import Reasons, Right, admin, is_unreachable, refused, unreachable
from mesh_pipelines.positions import Bounds, PartitionOffset, Position, known_id
from mesh_pipelines.settings import Settings

T = TypeVar("T")

# As asked for with a timestamp: the first offset kept, and the next one to be written.
_EARLIEST: Any = OffsetSpec.earliest()
_LATEST: Any = OffsetSpec.latest()


@dataclass(frozen=True)
class TopicDescription:
    """A topic as it is on the broker; ``config`` has every setting that it tells, defaults included.

    Where the broker does not tell, ``config`` is empty, and ``hidden`` says why.
    """

    name: str
    topic_id: str
    partitions: int
    config: Mapping[str, str]
    hidden: MeshError | None = None


class StreamAdmin:
    """Asks and changes topics.

    Every method raises BrokerUnreachable when the broker does not answer in time, and NotAuthorized when it refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reasons = Reasons()

    @cached_property
    def _client(self) -> Any:
        return admin(self._settings, self._reasons)

    def cluster_id(self) -> str:
        """The cluster's id; ``UNKNOWN_ID`` where the broker gives none."""
        call = self._call(lambda: self._client.describe_cluster(request_timeout=self._settings.timeout_s))
        return known_id(self._result(call, Right("Describe")).cluster_id)

    def topic_ids(self, topics: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Id (``UNKNOWN_ID`` where the broker gives none) and number of partitions of the topics that exist."""
        found, hidden = self._seen(topics)
        for error in hidden.values():
            raise error
        return found

    def _seen(self, topics: Sequence[str]) -> tuple[dict[str, tuple[str, int]], dict[str, NotAuthorized]]:
        """The same, and of the topics that this client may not see the error."""
        if not topics:
            return {}, {}
        futures = self._call(
            lambda: self._client.describe_topics(
                TopicCollection(list(topics)), request_timeout=self._settings.timeout_s
            )
        )
        found: dict[str, tuple[str, int]] = {}
        hidden: dict[str, NotAuthorized] = {}
        for name, future in futures.items():
            try:
                described = future.result()
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue
                fault = self._fault(error, Right("Describe", name))
                if not isinstance(fault, NotAuthorized):
                    raise fault from error
                hidden[name] = fault
            else:
                found[name] = (known_id(described.topic_id), len(described.partitions))
        return found, hidden

    def identity(self, topic: str) -> tuple[str, str | None]:
        """The cluster's id and the topic's, None for a topic that does not exist."""
        known = self.topic_ids([topic])
        return self.cluster_id(), known[topic][0] if topic in known else None

    def describe(self, topics: Sequence[str]) -> tuple[dict[str, TopicDescription], dict[str, NotAuthorized]]:
        """The topics that exist, with their settings; and of those that this client may not see the error.

        To read a topic takes no right to its settings, and some brokers tell them to nobody.
        """
        known, hidden = self._seen(topics)
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in known]
        if not resources:
            return {}, hidden
        futures = self._call(lambda: self._client.describe_configs(resources, request_timeout=self._settings.timeout_s))
        found: dict[str, TopicDescription] = {}
        for resource, future in futures.items():
            name = resource.name
            try:
                entries = self._result(future, Right("DescribeConfigs", name))
            except EnvironmentFault as error:
                if error.transient:
                    raise
                found[name] = TopicDescription(name, *known[name], {}, error)
            else:
                config = {key: str(entry.value) for key, entry in entries.items() if entry.value is not None}
                found[name] = TopicDescription(name, *known[name], config)
        return found, hidden

    def start_offsets(self, topics: Sequence[str]) -> dict[str, Position]:
        """The first offset of every partition of the topics that exist."""
        return self._offsets(topics, _EARLIEST, IsolationLevel.READ_COMMITTED)

    def end_offsets(
        self, topics: Sequence[str], isolation: IsolationLevel = IsolationLevel.READ_COMMITTED
    ) -> dict[str, Position]:
        """The next offset of every partition, as a reader of committed events sees it (the last stable offset);
        with the other isolation, as the broker has written it (the high watermark).
        """
        return self._offsets(topics, _LATEST, isolation)

    def bounds(self, topics: Sequence[str]) -> tuple[dict[str, Bounds], dict[str, NotAuthorized]]:
        """The first and the next committed offset of every partition of the topics that exist, first ones first; and of
        the topics that this client may not see the error.
        """
        known, hidden = self._seen(topics)
        if not known:
            return {}, hidden
        cluster = self.cluster_id()
        begins = self._positions(cluster, known, _EARLIEST, IsolationLevel.READ_COMMITTED)
        ends = self._positions(cluster, known, _LATEST, IsolationLevel.READ_COMMITTED)
        return {name: Bounds(begins[name], ends[name]) for name in known}, hidden

    def create(self, topic: TopicSettings) -> None:
        """Create a topic with the settings of its contract; one that somebody else made meanwhile is left as it is."""
        new = NewTopic(
            topic.name,
            num_partitions=topic.initial_partitions,
            replication_factor=self._settings.replication_factor,
            config=topic.initial,
        )
        self._each(
            Right("Create", topic.name),
            lambda: self._client.create_topics([new], request_timeout=self._settings.timeout_s),
            but=KafkaError.TOPIC_ALREADY_EXISTS,
        )

    def add_partitions(self, topic: str, total: int) -> None:
        """Bring a topic to this number of partitions."""
        self._each(
            Right("Alter", topic),
            lambda: self._client.create_partitions(
                [NewPartitions(topic, total)], request_timeout=self._settings.timeout_s
            ),
        )

    def alter(self, topic: str, config: Mapping[str, str]) -> None:
        """Set these topic settings and leave the others as they are."""
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        self._each(
            Right("AlterConfigs", topic),
            lambda: self._client.incremental_alter_configs([resource], request_timeout=self._settings.timeout_s),
        )

    def _offsets(self, topics: Sequence[str], spec: OffsetSpec, isolation: IsolationLevel) -> dict[str, Position]:
        known = self.topic_ids(topics)
        return self._positions(self.cluster_id(), known, spec, isolation) if known else {}

    def _positions(
        self, cluster: str, known: Mapping[str, tuple[str, int]], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[str, Position]:
        wanted = [KafkaPartition(name, number) for name, (_, count) in known.items() for number in range(count)]
        offsets = self._list_offsets(wanted, spec, isolation)
        return {
            name: Position(
                cluster,
                name,
                topic_id,
                {number: PartitionOffset(*offsets[name, number]) for number in range(count)},
            )
            for name, (topic_id, count) in known.items()
        }

    def _list_offsets(
        self, wanted: Iterable[KafkaPartition], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """Offset and leader epoch by partition. Straight after a topic's creation single partitions have no leader
        yet; those are asked again, on their own, until the timeout.
        """
        pending = list(wanted)
        found: dict[tuple[str, int], tuple[int, int]] = {}
        tries = max(1, int(self._settings.timeout_s / 0.5))
        failed: MeshError | None = None
        for _ in range(tries):
            request = dict.fromkeys(pending, spec)
            futures = self._call(
                lambda request=request: self._client.list_offsets(
                    request,
                    isolation_level=isolation,
                    request_timeout=self._settings.timeout_s,
                )
            )
            pending = []
            for partition, future in futures.items():
                try:
                    info = future.result()
                except KafkaException as error:
                    failed = self._fault(error, Right("Describe", partition.topic))
                    if not error.args[0].retriable():
                        raise failed from error
                    pending.append(KafkaPartition(partition.topic, partition.partition))
                else:
                    found[partition.topic, partition.partition] = (info.offset, -1)
            if not pending:
                return found
            self._client.poll(0.5)
        assert failed is not None
        raise failed

    def _each(self, right: Right, call: Callable[[], Mapping[Any, Future[Any]]], but: int | None = None) -> None:
        """Wait for each of an answer's parts, which take this right; ``but`` is the error that does not count."""
        for future in self._call(call).values():
            if but is None or _error_of(future, self._settings.timeout_s * 2) != but:
                self._result(future, right)

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except KafkaException as error:
            raise self._fault(error, Right("")) from error

    def _result(self, future: Future[T], right: Right) -> T:
        try:
            return future.result(timeout=self._settings.timeout_s * 2)
        except KafkaException as error:
            raise self._fault(error, right) from error
        except TimeoutError as error:
            raise unreachable(self._settings, self._reasons.last()) from error

    def _fault(self, error: KafkaException, right: Right) -> MeshError:
        fault: KafkaError = error.args[0]
        self._client.poll(0)
        if is_unreachable(fault):
            return unreachable(self._settings, self._reasons.last())
        return refused(self._settings, fault, right)


def _error_of(future: Future[Any], timeout_s: float) -> int | None:
    """The code of the error that a broker answered with, once it has."""
    try:
        future.result(timeout=timeout_s)
    except KafkaException as error:
        return error.args[0].code()
    except TimeoutError:
        pass
    return None
