"""Brokers that speak the protocol and lack parts of its admin API: they work, and what cannot be promised is said once.

A real broker answers; what others do not tell is taken out of its answers.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, Uuid
from confluent_kafka.admin import AdminClient, NewTopic

from mesh_pipelines.errors import ClusterChanged, TopicRecreated
from mesh_pipelines.kafka.admin import StreamAdmin
from mesh_pipelines.observe.doctor import doctor
from mesh_pipelines.observe.status import status
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.plan.draft import draft
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("services")]

JSON = "- {property: mesh.wireFormat, value: json}"
FIELDS = "- {name: page, logicalType: string}"


def changed(future: Future[Any], change: Callable[[Any], Any]) -> Future[Any]:
    made: Future[Any] = Future()
    made.set_result(change(future.result(30)))
    return made


def failed(code: int) -> Future[Any]:
    made: Future[Any] = Future()
    made.set_exception(KafkaException(KafkaError(code, "not here")))
    return made


class Silent:
    """An admin client whose broker gives no ids, and tells nobody of settings."""

    def __init__(self, real: AdminClient) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def describe_cluster(self, **options: Any) -> Future[Any]:
        return changed(self._real.describe_cluster(**options), lambda _: SimpleNamespace(cluster_id=None))

    def describe_topics(self, topics: Any, **options: Any) -> dict[str, Future[Any]]:
        def without(topic: Any) -> Any:
            return SimpleNamespace(topic_id=Uuid(0, 0), partitions=topic.partitions)

        found = self._real.describe_topics(topics, **options)
        return {name: _or_error(future, without) for name, future in found.items()}

    def describe_configs(self, resources: Any, **options: Any) -> dict[Any, Future[Any]]:
        return {resource: failed(KafkaError.UNSUPPORTED_VERSION) for resource in resources}


def _or_error(future: Future[Any], change: Callable[[Any], Any]) -> Future[Any]:
    try:
        return changed(future, change)
    except KafkaException:
        return future


def silent(settings: Settings) -> Platform:
    platform = Platform.open(settings)
    platform.streams.__dict__["_client"] = Silent(StreamAdmin(settings)._client)
    return platform


def send(settings: Settings, topic: str) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers})
    producer.produce(topic, value='{"page": "/"}')
    assert producer.flush(30) == 0


def test_a_broker_without_ids_and_settings_works_and_the_doctor_says_what_falls_away(
    settings: Settings, contract: Any
) -> None:
    name = contract("clicks", FIELDS, kind="measurement", more=JSON)
    others = AdminClient({"bootstrap.servers": settings.brokers})
    others.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    platform = silent(settings)
    drafted = draft(platform, [name])
    [note] = drafted.notes
    assert "how long the broker keeps events" in note
    apply_contracts(platform, [platform.proposed[name]])
    for rows in range(1, 3):
        send(settings, name)
        assert [one.error for one in run(platform, [name])] == [None]
        [one] = status(platform)
        assert (one.rows, one.problem) == (rows, None)
    position = platform.tables_of(platform.product(name)).log.position()
    assert position
    assert (position.cluster_id, position.topic_id) == ("", "")
    found = {one.what: one.found for one in doctor(platform)}
    assert "without a cluster id: that topics are those of another cluster (M303) is not noticed" in found["broker"]
    assert found["topics"].count(f"{name} without an id: that one was deleted and created again (M301)") == 1
    assert found["topics"].count("how long the broker keeps events") == 1


def test_ids_count_from_when_a_broker_gives_them(settings: Settings, contract: Any) -> None:
    name = contract("clicks", FIELDS, kind="measurement", more=JSON)
    platform = silent(settings)
    apply_contracts(platform, [platform.proposed[name]])
    send(settings, name)
    land(platform, platform.product(name))
    upgraded = Platform.open(settings)
    send(settings, name)
    landed = land(upgraded, upgraded.product(name))
    assert landed.rows == 1
    assert (landed.position.cluster_id, landed.position.topic_id) == upgraded.streams.identity(name)
    send(settings, name)
    with pytest.raises(ClusterChanged, match="one that does not say which cluster it is"):
        land(platform, platform.product(name))
    client = AdminClient({"bootstrap.servers": settings.brokers})
    client.delete_topics([name])[name].result(30)
    client.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    with pytest.raises(TopicRecreated):
        land(upgraded, upgraded.product(name))
