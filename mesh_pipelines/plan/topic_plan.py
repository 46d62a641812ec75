"""What has to be changed of topics, and which changes could lose events or their order.

A topic is compared with what its contract states. What it does not state is the topic's own affair: others made it so,
or rely on it, and a default of the mesh is no promise of anybody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct, TopicSettings
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import ApplyRefused
from mesh_pipelines.lake.applied import APPLIED, TOPIC
from mesh_pipelines.lake.standing import standings
from mesh_pipelines.lake.versions import NEWEST
from mesh_pipelines.plan.actions import (
    Action,
    AddPartitions,
    AlterTopic,
    CreateTopic,
    Findings,
    describe,
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


def plan_names(platform: Platform, products: tuple[DataProduct, ...], found: Findings) -> list[Action]:
    """Nothing to do; refuses another topic's name while the former topic has events that are not landed."""
    for product, position in positions(platform, products):
        if product.topic is None or product.topic.name == position.topic:
            continue
        bounds, _ = platform.streams.bounds([position.topic])
        former = bounds[position.topic].end if position.topic in bounds else None
        if former and position.is_in(former) and (behind := position.lag_to(former)):
            reason = (
                f"{product.fqn}: mesh.topic changes from {position.topic} to {product.topic.name}, but {behind} "
                f"offsets of {position.topic} are not landed yet"
            )
            step = f"write mesh.topic: {position.topic}, and change it once they are landed"
            found.refuse(product.fqn, ApplyRefused(reason, next_step=step))
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
    platform: Platform, products: tuple[DataProduct, ...], found: Findings, *, take_over: bool = False
) -> list[Action]:
    """What is missing of the topics and their settings; refuses what could lose events or their order.

    A topic that is not the product's own is left as it is, unless it is taken over: others rely on how it is.
    """
    streamed = [(product, product.topic) for product in products if product.topic]
    if not streamed:
        return []
    existing, hidden = platform.streams.describe([topic.name for _, topic in streamed])
    actions: list[Action] = []
    for product, topic in streamed:
        if topic.name in hidden:
            found.refuse(product.fqn, hidden[topic.name])
        elif topic.name not in existing:
            actions.append(CreateTopic(product.fqn, topic))
        else:
            actions += _plan_existing(platform, product, existing[topic.name], found, take_over=take_over)
    return actions


def _plan_existing(
    platform: Platform, product: DataProduct, topic: TopicDescription, found: Findings, *, take_over: bool
) -> list[Action]:
    """The changes of a topic that exists; what its owner should know of it is noted."""
    assert product.topic is not None
    for text in _worth_a_word(product, product.topic, topic):
        found.note(product.fqn, text)
    changes = [
        *_plan_partitions(product, product.topic, topic, found),
        *_plan_config(platform, product, product.topic, topic, found),
    ]
    if not changes or is_own(platform, product, topic.topic_id):
        return [*changes]
    if not take_over:
        found.refuse(product.fqn, _not_own(product, changes))
        return []
    return [replace(change, takes_over=True) for change in changes]


def _not_own(product: DataProduct, changes: Sequence[AddPartitions | AlterTopic]) -> ApplyRefused:
    """The refusal of changes to a topic that others made."""
    wanted = "; ".join(describe(change) for change in changes)
    return ApplyRefused(
        f"{product.fqn}: mesh apply did not create its topic, so it does not {wanted}",
        next_step=f"write in the contract what the topic has, or mesh apply {product.fqn} --take-over",
    )


def _plan_partitions(
    product: DataProduct, topic: TopicSettings, existing: TopicDescription, found: Findings
) -> list[AddPartitions]:
    if topic.partitions is None or topic.partitions == existing.partitions:
        return []
    if topic.partitions < existing.partitions:
        reason = (
            f"{product.fqn}: mesh.partitions must be at least {existing.partitions}, as topic {topic.name} has, got "
            f"{topic.partitions}; Kafka cannot drop any, so set mesh.partitions to {existing.partitions}"
        )
        found.refuse(product.fqn, unsafe(reason))
        return []
    if product.event_type.folds_by_key:
        reason = (
            f"{product.fqn}: more partitions for {topic.name} ({existing.partitions} -> {topic.partitions}) send known "
            "keys to other partitions, and Kafka orders events within a partition only; docs/reliability.md says how "
            "to add them without losing the order of a key's events"
        )
        found.refuse(product.fqn, unsafe(reason))
        return []
    return [AddPartitions(product.fqn, topic.name, existing.partitions, topic.partitions)]


# By how long, or how much, the broker keeps what lies in a topic; a negative value is without limit.
_LIMITS = ("retention.ms", "retention.bytes", "delete.retention.ms", "min.compaction.lag.ms", "max.compaction.lag.ms")
_CLEANUP = "cleanup.policy"


def _plan_config(
    platform: Platform, product: DataProduct, topic: TopicSettings, existing: TopicDescription, found: Findings
) -> list[AlterTopic]:
    if existing.hidden:
        return []
    differs = {
        name: (existing.config.get(name, "unset"), wanted)
        for name, wanted in topic.stated.items()
        if not _is_same(name, existing.config.get(name), wanted)
    }
    dropping = {name: now for name, (now, wanted) in differs.items() if _may_drop(name, now, wanted)}
    if dropping and (behind := _not_landed(platform, product, topic)):
        waiting = counted(behind, "offset is", "offsets are")
        reason = (
            f"{product.fqn}: {', '.join(f'{name} {differs[name][0]} -> {differs[name][1]}' for name in dropping)} of "
            f"{topic.name} may make the broker drop events, and {waiting} not landed yet"
        )
        settings = ", ".join(_as_setting(name, now) for name, now in dropping.items())
        step = f"write {settings}, as the topic has it, and change it once they are landed"
        found.refuse(product.fqn, ApplyRefused(reason, next_step=step))
        return []
    return [AlterTopic(product.fqn, topic.name, differs)] if differs else []


def _is_same(name: str, now: str | None, wanted: str) -> bool:
    if now is not None and name == _CLEANUP:
        return _policies(now) == _policies(wanted)
    return now == wanted


def _may_drop(name: str, now: str, wanted: str) -> bool:
    """Whether the broker may drop, under this value, what it keeps under the one that a setting has now."""
    if name == _CLEANUP:
        return bool(_policies(wanted) - _policies(now))
    if name not in _LIMITS:
        return False
    try:
        before, after = int(now), int(wanted)
    except ValueError:
        return True
    return after >= 0 and (before < 0 or after < before)


def _policies(text: str) -> set[str]:
    """The ways in which a topic is cleaned up; the order that they are written in says nothing."""
    return {one.strip() for one in text.split(",")}


def _as_setting(name: str, value: str) -> str:
    """What a contract says for a topic that has this."""
    if name == "retention.ms":
        return f"mesh.retention: {duration(int(value))}" if value.lstrip("-").isdigit() else "no mesh.retention"
    if name == _CLEANUP:
        return f"mesh.cleanupPolicy: {value}"
    return f"{name}: {value} in mesh.topicConfig"


def duration(milliseconds: int) -> str:
    """Milliseconds as a contract writes them, in the largest unit that fits; ``forever`` where there is no limit."""
    if milliseconds < 0:
        return "forever"
    units = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))
    return next(
        (f"{milliseconds // size}{unit}" for unit, size in units if not milliseconds % size), f"{milliseconds}ms"
    )


def _worth_a_word(product: DataProduct, topic: TopicSettings, existing: TopicDescription) -> Iterator[str]:
    """What an owner should know of how a topic is kept, where the contract does not say that it is meant to be so."""
    if existing.hidden:
        wanted = ", ".join(topic.stated)
        compared = f", so {wanted} of the contract could not be compared with it" if wanted else ""
        why = existing.hidden.message
        yield f"how long the broker keeps events of {topic.name} could not be looked at{compared} ({why})"
        return
    for how in _ways_out(product, topic, existing.config):
        yield f"events of {topic.name} go unless they are landed before: {how}"


def _ways_out(product: DataProduct, topic: TopicSettings, config: Mapping[str, str]) -> Iterator[str]:
    """How events leave a topic without the contract's saying so."""
    policies = _policies(config.get(_CLEANUP, "delete"))
    if "delete" in policies and "retention.ms" not in topic.stated:
        kept = config.get("retention.ms", "-1")
        if kept.isdigit():
            yield f"the broker keeps them for {duration(int(kept))} (mesh.retention)"
    if "delete" in policies and "retention.bytes" not in topic.stated:
        kept = config.get("retention.bytes", "-1")
        if kept.isdigit():
            yield f"the broker keeps {int(kept):,} bytes of a partition (retention.bytes)"
    if "compact" in policies and not product.event_type.folds_by_key:
        yield "the topic is compacted, which keeps the newest event of a key, and every event of this product is a row"


def _not_landed(platform: Platform, product: DataProduct, topic: TopicSettings) -> int:
    end = platform.streams.end_offsets([topic.name])[topic.name]
    landed: Position | None = None
    tables = platform.tables_of(product)
    if tables.exist():
        landed = tables.log.position()
    return (landed or platform.streams.start_offsets([topic.name])[topic.name]).lag_to(end)
