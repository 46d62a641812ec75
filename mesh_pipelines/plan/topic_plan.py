"""What has to be changed of topics, and which changes could lose events or their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct, TopicSettings
from mesh_pipelines.errors import ApplyRefused
from mesh_pipelines.lake.applied import APPLIED, TOPIC
from mesh_pipelines.lake.standing import standings
from mesh_pipelines.lake.versions import NEWEST
from mesh_pipelines.plan.actions import (
    Action,
    AddPartitions,
    AlterTopic,
    CreateTopic,
    Refuse,
    describe,
    topic_config,
    unsafe,
)
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Position

if TYPE_CHECKING:
    from mesh_pipelines.kafka.admin import TopicDescription


def positions(platform: Platform, products: Iterable[DataProduct]) -> list[tuple[DataProduct, Position]]:
    """The products that have landed anything, and how far."""
    streamed = [product for product in products if product.topic]
    standing = standings(platform.tables, streamed) if streamed else {}
    return [(product, position) for product in streamed if (position := standing[product.fqn].position)]


def plan_names(platform: Platform, products: tuple[DataProduct, ...], refuse: Refuse) -> list[Action]:
    """Nothing to do; refuses another topic's name while the former topic has events that are not landed."""
    for product, position in positions(platform, products):
        if product.topic is None or product.topic.name == position.topic:
            continue
        bounds, _ = platform.streams.bounds([position.topic])
        former = bounds[position.topic].end if position.topic in bounds else None
        same = former and (former.cluster_id, former.topic_id) == (position.cluster_id, position.topic_id)
        if former and same and (behind := position.lag_to(former)):
            reason = (
                f"{product.fqn}: mesh.topic changes from {position.topic} to {product.topic.name}, but {behind} "
                f"offsets of {position.topic} are not landed yet (first mesh land {product.fqn} with the former name)"
            )
            refuse(product.fqn, unsafe(reason))
    return []


def is_own(platform: Platform, product: DataProduct, topic_id: str) -> bool:
    """Whether a topic is a product's own: ``mesh apply`` created it, or was told to take it over.

    Applied contracts have a record of that; of those from before there was one, the topic that they name is theirs.
    """
    table = (product.domain, product.name, "versions")
    properties = platform.tables.of([table]).get(table)
    if properties is None:
        return False
    if TOPIC in properties:
        return properties[TOPIC] == topic_id
    was_applied = APPLIED in properties or NEWEST in properties
    before = platform.product(product.fqn).topic if was_applied else None
    return bool(before and product.topic and before.name == product.topic.name)


def plan_topics(
    platform: Platform, products: tuple[DataProduct, ...], refuse: Refuse, *, take_over: bool = False
) -> list[Action]:
    """What is missing of the topics and their settings; refuses what could lose events or their order.

    A topic that is not the product's own is left as it is, unless it is taken over: others rely on how it is.
    """
    streamed = [(product, product.topic) for product in products if product.topic]
    if not streamed:
        return []
    admin = platform.streams
    existing, hidden = admin.describe([topic.name for _, topic in streamed])
    actions: list[Action] = []
    for product, topic in streamed:
        found = existing.get(topic.name)
        if topic.name in hidden:
            refuse(product.fqn, hidden[topic.name])
        elif found is None:
            actions.append(CreateTopic(product.fqn, topic))
        else:
            changes = [
                *_plan_partitions(product, topic, found, refuse),
                *_plan_config(platform, product, topic, found, refuse),
            ]
            if changes and not is_own(platform, product, found.topic_id):
                if not take_over:
                    refuse(product.fqn, _not_own(product, changes))
                    continue
                changes = [replace(change, takes_over=True) for change in changes]
            actions += changes
    return actions


def _not_own(product: DataProduct, changes: Sequence[AddPartitions | AlterTopic]) -> ApplyRefused:
    """The refusal of changes to a topic that others made."""
    wanted = "; ".join(describe(change) for change in changes)
    return ApplyRefused(
        f"{product.fqn}: mesh apply did not create its topic, so it does not {wanted}",
        next_step=f"write in the contract what the topic has, or mesh apply {product.fqn} --take-over",
    )


def _plan_partitions(
    product: DataProduct, topic: TopicSettings, found: TopicDescription, refuse: Refuse
) -> list[AddPartitions]:
    if topic.partitions == found.partitions:
        return []
    if topic.partitions < found.partitions:
        reason = (
            f"{product.fqn}: mesh.partitions must be at least {found.partitions}, as topic {topic.name} has, got "
            f"{topic.partitions}; Kafka cannot drop any, so set mesh.partitions to {found.partitions}"
        )
        refuse(product.fqn, unsafe(reason))
        return []
    if product.event_type.folds_by_key:
        reason = (
            f"{product.fqn}: more partitions for {topic.name} ({found.partitions} -> {topic.partitions}) send known "
            "keys to other partitions, and Kafka orders events within a partition only; docs/reliability.md says how "
            "to add them without losing the order of a key's events"
        )
        refuse(product.fqn, unsafe(reason))
        return []
    return [AddPartitions(product.fqn, topic.name, found.partitions, topic.partitions)]


# A smaller retention or a switch to compaction lets the broker drop events; that is safe once they are landed.
_DROPS_EVENTS = ("cleanup.policy", "retention.ms", "retention.bytes")


def _plan_config(
    platform: Platform,
    product: DataProduct,
    topic: TopicSettings,
    found: TopicDescription,
    refuse: Refuse,
) -> list[AlterTopic]:
    differs = {
        name: (found.config.get(name, "unset"), wanted)
        for name, wanted in topic_config(topic).items()
        if found.config.get(name) != wanted
    }
    if not differs:
        return []
    if any(name in _DROPS_EVENTS for name in differs) and (behind := _not_landed(platform, product, topic)):
        reason = (
            f"{product.fqn}: {', '.join(differs)} of {topic.name} may make the broker drop events, but {behind} "
            f"offsets are not landed yet (first mesh land {product.fqn})"
        )
        refuse(product.fqn, unsafe(reason))
        return []
    return [AlterTopic(product.fqn, topic.name, differs)]


def _not_landed(platform: Platform, product: DataProduct, topic: TopicSettings) -> int:
    end = platform.streams.end_offsets([topic.name])[topic.name]
    landed: Position | None = None
    tables = platform.tables_of(product)
    if tables.exist():
        landed = tables.log.position()
    return (landed or platform.streams.start_offsets([topic.name])[topic.name]).lag_to(end)
