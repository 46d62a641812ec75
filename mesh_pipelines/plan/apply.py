"""Make the broker, the registry and the catalog match the contracts: plan first, then carry the plan out.

A plan is a tuple of frozen actions with two readers, ``describe`` and ``execute``, so what a dry run prints is what
would be done. A change that could lose data or break readers is not an action at all: planning refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from mesh_pipelines.contract.model import DataProduct, TopicSettings
from mesh_pipelines.errors import ApplyRefused
from mesh_pipelines.formats.format import Schemas
from mesh_pipelines.formats.registered import format_of
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Position

if TYPE_CHECKING:
    from mesh_pipelines.kafka.admin import StreamAdmin, TopicDescription


@dataclass(frozen=True)
class CreateTopic:
    """A topic that does not exist yet, with all its settings."""

    product: str
    topic: TopicSettings


@dataclass(frozen=True)
class AddPartitions:
    """More partitions for a topic whose events are not ordered by key."""

    product: str
    topic: str
    before: int
    after: int


@dataclass(frozen=True)
class AlterTopic:
    """Topic configuration that differs from the contract: name to (value now, value wanted)."""

    product: str
    topic: str
    config: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class RegisterSchema:
    """A value schema that the registry does not have under the subject; ``schema_type`` is its name for the kind."""

    product: str
    subject: str
    schema: str
    schema_type: str


@dataclass(frozen=True)
class SetCompatibility:
    """The subject's compatibility mode."""

    product: str
    subject: str
    before: str | None
    after: str


@dataclass(frozen=True)
class CreateTables:
    """The product's tables that do not exist yet."""

    product: str
    tables: tuple[str, ...]


@dataclass(frozen=True)
class EvolveTables:
    """Columns to add, rename or widen; one sentence a change."""

    product: str
    changes: tuple[str, ...]


Action = CreateTopic | AddPartitions | AlterTopic | RegisterSchema | SetCompatibility | CreateTables | EvolveTables


def describe(action: Action) -> str:
    """One line that says what the action does."""
    match action:
        case CreateTopic(topic=topic):
            config = ", ".join(f"{name}={value}" for name, value in topic_config(topic).items())
            return f"create topic {topic.name} with {topic.partitions} partitions ({config})"
        case AddPartitions(topic=name, before=before, after=after):
            return f"add partitions to topic {name}: {before} -> {after}"
        case AlterTopic(topic=name, config=config):
            return f"alter topic {name}: " + ", ".join(f"{key} {old} -> {new}" for key, (old, new) in config.items())
        case RegisterSchema(subject=subject):
            return f"register the schema of subject {subject}"
        case SetCompatibility(subject=subject, before=before, after=after):
            return f"set compatibility of subject {subject}: {before or 'registry default'} -> {after}"
        case CreateTables(product=product, tables=tables):
            return f"create tables of {product}: {', '.join(tables)}"
        case EvolveTables(product=product, changes=changes):
            return f"evolve tables of {product}: {'; '.join(changes)}"
        case _:
            assert_never(action)


def plan(platform: Platform, products: Iterable[DataProduct]) -> tuple[Action, ...]:
    """What has to be done so that everything the contracts promise exists; empty when all is as it should be.

    Raises:
        ContractInvalid, TransformInvalid: a rule or a transform could never run, so nothing is made for it.
        ApplyRefused: a change would lose data or break readers; every such change of all products is named.
    """
    products = tuple(products)
    for product in products:
        _check_sql(product)
    refused: list[str] = []
    actions: list[Action] = []
    for part in (_plan_topics, _plan_subjects, _plan_tables):
        actions += part(platform, products, refused.append)
    if refused:
        raise ApplyRefused(
            "nothing was changed; these changes would lose data or break readers:\n"
            + "\n".join(f"  {reason}" for reason in refused),
            next_step="mend the contract, or publish the change as a product of a new name",
        )
    return tuple(actions)


def execute(platform: Platform, actions: Iterable[Action], on_done: Callable[[Action], None] | None = None) -> None:
    """Carry out a plan, in order; ``on_done`` is called after each action."""
    for action in actions:
        _execute(platform, action)
        if on_done:
            on_done(action)


def topic_config(topic: TopicSettings) -> dict[str, str]:
    """The topic's configuration in Kafka's names."""
    return {
        "cleanup.policy": topic.cleanup_policy,
        "retention.ms": str(topic.retention_ms),
        **topic.config,
    }


def _execute(platform: Platform, action: Action) -> None:
    from mesh_pipelines.lake.evolve import evolve

    match action:
        case CreateTopic(topic=topic):
            platform.streams.create(topic)
        case AddPartitions(topic=name, after=after):
            platform.streams.add_partitions(name, after)
        case AlterTopic(topic=name, config=config):
            platform.streams.alter(name, {key: new for key, (_, new) in config.items()})
        case RegisterSchema(subject=subject, schema=schema, schema_type=schema_type):
            platform.registry.register(subject, schema, schema_type)
        case SetCompatibility(subject=subject, after=after):
            platform.registry.set_compatibility(subject, after)
        case CreateTables(product=product):
            platform.tables_of(platform.product(product)).create()
        case EvolveTables(product=product):
            evolve(platform.tables_of(platform.product(product)))
        case _:
            assert_never(action)


def _check_sql(product: DataProduct) -> None:
    from mesh_pipelines.pipeline import transform
    from mesh_pipelines.rules.compile import compile_product

    compile_product(product)
    if product.transform:
        transform.reads(product)


def _plan_topics(platform: Platform, products: tuple[DataProduct, ...], refuse: Callable[[str], None]) -> list[Action]:

    streamed = [(product, product.topic) for product in products if product.topic]
    if not streamed:
        return []
    admin = platform.streams
    existing = admin.describe([topic.name for _, topic in streamed])
    actions: list[Action] = []
    for product, topic in streamed:
        found = existing.get(topic.name)
        if found is None:
            actions.append(CreateTopic(product.fqn, topic))
        else:
            actions += _plan_partitions(product, topic, found, refuse)
            actions += _plan_config(platform, admin, product, topic, found, refuse)
    return actions


def _plan_partitions(
    product: DataProduct, topic: TopicSettings, found: TopicDescription, refuse: Callable[[str], None]
) -> list[Action]:
    if topic.partitions == found.partitions:
        return []
    if topic.partitions < found.partitions:
        refuse(f"{product.fqn}: topic {topic.name} has {found.partitions} partitions; Kafka cannot drop any")
        return []
    if product.event_type.folds_by_key:
        refuse(
            f"{product.fqn}: more partitions for {topic.name} ({found.partitions} -> {topic.partitions}) would send "
            "known keys to other partitions, and with that lose the order of their events"
        )
        return []
    return [AddPartitions(product.fqn, topic.name, found.partitions, topic.partitions)]


# A smaller retention or a switch to compaction lets the broker drop events; that is safe once they are landed.
_DROPS_EVENTS = ("cleanup.policy", "retention.ms", "retention.bytes")


def _plan_config(
    platform: Platform,
    admin: StreamAdmin,
    product: DataProduct,
    topic: TopicSettings,
    found: TopicDescription,
    refuse: Callable[[str], None],
) -> list[Action]:
    differs = {
        name: (found.config.get(name, "unset"), wanted)
        for name, wanted in topic_config(topic).items()
        if found.config.get(name) != wanted
    }
    if not differs:
        return []
    if any(name in _DROPS_EVENTS for name in differs) and (behind := _not_landed(platform, admin, product, topic)):
        refuse(
            f"{product.fqn}: {', '.join(differs)} of {topic.name} may make the broker drop events, and {behind} "
            f"offsets are not landed yet (mesh land {product.fqn} first)"
        )
        return []
    return [AlterTopic(product.fqn, topic.name, differs)]


def _not_landed(platform: Platform, admin: StreamAdmin, product: DataProduct, topic: TopicSettings) -> int:
    end = admin.end_offsets([topic.name])[topic.name]
    landed: Position | None = None
    tables = platform.tables_of(product)
    if tables.exist():
        landed = tables.log.position()
    return (landed or admin.start_offsets([topic.name])[topic.name]).lag_to(end)


def _plan_subjects(
    platform: Platform, products: tuple[DataProduct, ...], refuse: Callable[[str], None]
) -> list[Action]:
    actions: list[Action] = []
    for product in products:
        schemas = format_of(product.topic).schemas if product.topic else None
        if product.topic is None or schemas is None:
            continue
        subject = product.topic.subject
        actions += _plan_schema(platform, product, subject, schemas, refuse)
        before, after = platform.registry.compatibility(subject), str(product.topic.compatibility)
        if before != after:
            actions.append(SetCompatibility(product.fqn, subject, before, after))
    return actions


def _plan_schema(
    platform: Platform, product: DataProduct, subject: str, schemas: Schemas, refuse: Callable[[str], None]
) -> list[Action]:
    """Register the contract's schema where the subject does not have it, as its latest version or an earlier one.

    Producers may register other schemas at any time, also older ones, so which is the latest says nothing.
    """
    registry, schema = platform.registry, product.value_schema
    if registry.registered_id(subject, schema, schemas.type) is not None:
        return []
    if registry.latest(subject) is not None and (reasons := registry.objections(subject, schema, schemas)):
        listed = "; ".join(reasons)
        refuse(f"{product.fqn}: the schema is not compatible with what subject {subject} has: {listed}")
        return []
    return [RegisterSchema(product.fqn, subject, schema, schemas.type)]


def _plan_tables(platform: Platform, products: tuple[DataProduct, ...], refuse: Callable[[str], None]) -> list[Action]:
    from mesh_pipelines.lake.evolve import plan_evolution

    actions: list[Action] = []
    for product in products:
        tables = platform.tables_of(product)
        if missing := tables.missing():
            actions.append(CreateTables(product.fqn, tuple(missing)))
        try:
            changes = plan_evolution(tables)
        except ApplyRefused as error:
            refuse(error.message)
            continue
        if changes:
            actions.append(EvolveTables(product.fqn, tuple(str(change) for change in changes)))
    return actions
