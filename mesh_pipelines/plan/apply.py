"""Make the broker, the registry and the catalog match the contracts: plan first, then carry the plan out.

A plan is a tuple of frozen actions with two readers, ``describe`` and ``execute``, so what a dry run prints is what
would be done. A change that could lose data or break readers is not an action at all: planning refuses it. A refusal
or a fault stops its own product and what is computed from it, and no other.

The last action of a product records its contract as applied: from then on it rules, and not before everything else of
it is there. What is compared with what: the file's contract with the one that was applied last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, TypeAlias, assert_never

from mesh_pipelines.contract.compare import changes
from mesh_pipelines.contract.model import DataProduct, TopicSettings
from mesh_pipelines.contract.read.load import ContractFiles, hash_of, read_files
from mesh_pipelines.errors import ApplyRefused, ConcurrentWriter, MeshError
from mesh_pipelines.formats.format import Schemas
from mesh_pipelines.formats.registered import format_of
from mesh_pipelines.pipeline.attempts import forget
from mesh_pipelines.plan.bind import Binder
from mesh_pipelines.plan.lint import refusal
from mesh_pipelines.platform import Platform, operator, ordered
from mesh_pipelines.positions import Position

if TYPE_CHECKING:
    from mesh_pipelines.kafka.admin import TopicDescription


# Told of a product and why nothing may be done for it.
Refuse: TypeAlias = Callable[[str, str], None]


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


@dataclass(frozen=True)
class RecordContract:
    """A contract that is to rule from now on: its version, hash and texts, and the version that rules now."""

    product: str
    version: str
    before: str | None
    contract_hash: str
    files: ContractFiles


@dataclass(frozen=True)
class Plan:
    """What has to be done, and the products for which nothing may be done, each with the errors that say why."""

    actions: tuple[Action, ...]
    refused: Mapping[str, tuple[MeshError, ...]]


Action = (
    CreateTopic
    | AddPartitions
    | AlterTopic
    | RegisterSchema
    | SetCompatibility
    | CreateTables
    | EvolveTables
    | RecordContract
)


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
        case RecordContract(product=product, version=version, before=before):
            return f"apply contract {version} of {product}" + (f", after {before}" if before else "")
        case EvolveTables(product=product, changes=changes):
            return f"evolve tables of {product}: {'; '.join(changes)}"
        case _:
            assert_never(action)


def draft(platform: Platform, names: Iterable[str]) -> Plan:
    """What has to be done so that everything the files of these products promise exists, and what is refused.

    Raises:
        BrokerUnreachable, RegistryUnreachable, StorageUnavailable: what is there could not be looked at; transient.
    """
    wanted = sorted(set(names))
    refused: dict[str, list[MeshError]] = {}

    def refuse(name: str, error: MeshError) -> None:
        refused.setdefault(name, []).append(error)

    for name in wanted:
        if name in platform.broken:
            refuse(name, platform.broken[name])
    proposals = [one for one in ordered(platform.proposed) if one.fqn in wanted]
    # What is read by then: the contracts that are applied, and those of this plan.
    ruling = {**platform.products, **{one.fqn: one for one in proposals}}
    binder = Binder(ruling, platform.settings.sql_timeout_s)
    for product in proposals:
        if cannot_run := refusal(binder, product):
            refuse(product.fqn, cannot_run)
        for error in _breaking_changes(platform, product):
            refuse(product.fqn, error)
    _refuse_cycles(ruling, proposals, refuse)
    sound = tuple(one for one in proposals if one.fqn not in refused)
    actions: list[Action] = []
    for part in (_plan_names, _plan_topics, _plan_subjects, _plan_tables):
        actions += part(platform, sound, lambda name, reason: refuse(name, ApplyRefused(reason, next_step=_MEND)))
    actions += _plan_contracts(platform, sound, refuse)
    _refuse_derived(platform, proposals, refused)
    kept = tuple(action for action in actions if action.product not in refused)
    return Plan(kept, {name: tuple(errors) for name, errors in refused.items()})


def plan(platform: Platform, products: Iterable[DataProduct]) -> tuple[Action, ...]:
    """The actions of a draft in which nothing is refused.

    Raises:
        ContractInvalid, TransformInvalid: a rule or a transform could never run, so nothing is made for it.
        ApplyRefused: a change would lose data or break readers; every such change of all products is named.
    """
    found = draft(platform, (product.fqn for product in products))
    errors = [error for each in found.refused.values() for error in each]
    for error in errors:
        if not isinstance(error, ApplyRefused):
            raise error
    if errors:
        raise ApplyRefused(
            "nothing was changed; these changes would lose data or break readers:\n"
            + "\n".join(f"  {error.message}" for error in errors),
            next_step=_MEND,
        )
    return found.actions


def stopped(platform: Platform, products: Iterable[DataProduct]) -> list[str]:
    """The products whose landing is stopped by what happened to their topic, and what goes on: a sentence each.

    Applying a contract does not change that; ``mesh resume`` does.
    """
    from mesh_pipelines.kafka.continuity import broken_off

    positions = _positions(platform, products)
    ends = platform.streams.end_offsets([product.topic.name for product, _ in positions if product.topic])
    found = [
        broken_off(product, position, ends[product.topic.name])
        for product, position in positions
        if product.topic and product.topic.name in ends
    ]
    return [f"{error.code} {error.message} (next: {error.next_step})" for error in found if error]


def _positions(platform: Platform, products: Iterable[DataProduct]) -> list[tuple[DataProduct, Position]]:
    """The products that have landed anything, and how far."""
    from mesh_pipelines.lake.standing import standings

    streamed = [product for product in products if product.topic]
    standing = standings(platform.tables, streamed) if streamed else {}
    return [(product, position) for product in streamed if (position := standing[product.fqn].position)]


def execute(platform: Platform, actions: Iterable[Action], on_done: Callable[[Action], None] | None = None) -> None:
    """Carry out a plan, in order; ``on_done`` is called after each action."""
    for action in actions:
        _execute(platform, action)
        if on_done:
            on_done(action)
    # Whatever failed may work now.
    forget(platform.settings)


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
            platform.tables_of(platform.proposed[product]).create()
        case EvolveTables(product=product):
            evolve(platform.tables_of(platform.proposed[product]))
        case RecordContract(product=product, files=files):
            _record(platform, platform.proposed[product], files)
        case _:
            assert_never(action)


def _record(platform: Platform, product: DataProduct, files: ContractFiles) -> None:
    """Record a contract as applied; another apply that does the same at the same time is no fault."""
    tables = platform.tables_of(product)
    try:
        tables.apply(files, operator())
    except ConcurrentWriter:
        if platform.applied_hashes([product.fqn])[product.fqn] != product.contract_hash:
            tables.apply(files, operator())
    platform.contracts_changed()


_MEND = "mend the contract, or publish the change as a product of a new name"


def _breaking_changes(platform: Platform, product: DataProduct) -> Iterator[MeshError]:
    """What the file changes in the applied contract that earlier events or readers would not survive."""
    if not platform.applied_hashes([product.fqn]).get(product.fqn):
        return
    before = platform.product(product.fqn)
    found = [str(change) for change in changes(before.fields, product.fields) if not change.is_safe]
    if before.event_type is not product.event_type:
        found.append(f"change its events from {before.event_type} to {product.event_type}: rows would be other rows")
    if bool(before.topic) is not bool(product.topic):
        found.append("change its source between a topic and a transform: rows would be other rows")
    if found:
        said = "; ".join(found)
        yield ApplyRefused(f"{product.fqn}: contract {product.contract_version} would {said}", next_step=_MEND)


def _refuse_cycles(
    ruling: Mapping[str, DataProduct],
    proposals: Sequence[DataProduct],
    refuse: Callable[[str, MeshError], None],
) -> None:
    """Refuse what would be computed from itself, by way of contracts that are applied and of files that are not."""
    try:
        TopologicalSorter({name: one.inputs for name, one in ruling.items()}).prepare()
    except CycleError as error:
        path: list[str] = error.args[1]
        for name in {*path} & {one.fqn for one in proposals}:
            problem = f"{name}: it would be computed from itself: {' -> '.join(path)}"
            refuse(name, ApplyRefused(problem, next_step="break the cycle"))


def _refuse_derived(platform: Platform, proposals: Sequence[DataProduct], refused: dict[str, list[MeshError]]) -> None:
    """Refuse what is computed from a product that is refused or has faults; ``proposals`` come after their inputs."""
    for product in proposals:
        stopped = [name for name in product.inputs if name in refused or name in platform.broken]
        if stopped and product.fqn not in refused:
            problem = f"{product.fqn}: its input {stopped[0]} cannot be applied"
            refused[product.fqn] = [ApplyRefused(problem, next_step=f"mesh plan {stopped[0]}")]


def _plan_contracts(
    platform: Platform, products: tuple[DataProduct, ...], refuse: Callable[[str, MeshError], None]
) -> list[Action]:
    applied = platform.applied_hashes([product.fqn for product in products])
    actions: list[Action] = []
    for product in products:
        if applied.get(product.fqn) == product.contract_hash:
            continue
        files = read_files(product.folder)
        if hash_of(product.folder, files) != product.contract_hash:
            error = ApplyRefused(f"{product.fqn}: its files changed while they were read", next_step="mesh plan")
            refuse(product.fqn, error)
            continue
        before = platform.product(product.fqn).contract_version if applied.get(product.fqn) else None
        version = product.contract_version
        actions.append(RecordContract(product.fqn, version, before, product.contract_hash, files))
    return actions


def _plan_names(platform: Platform, products: tuple[DataProduct, ...], refuse: Refuse) -> list[Action]:
    """Nothing to do; refuses another topic's name while the former topic has events that are not landed."""
    for product, position in _positions(platform, products):
        if product.topic is None or product.topic.name == position.topic:
            continue
        former = platform.streams.end_offsets([position.topic]).get(position.topic)
        same = former and (former.cluster_id, former.topic_id) == (position.cluster_id, position.topic_id)
        if former and same and (behind := position.lag_to(former)):
            refuse(
                product.fqn,
                f"{product.fqn}: mesh.topic changes from {position.topic} to {product.topic.name}, and {behind} "
                f"offsets of {position.topic} are not landed yet (mesh land {product.fqn} with the former name first)",
            )
    return []


def _plan_topics(platform: Platform, products: tuple[DataProduct, ...], refuse: Refuse) -> list[Action]:

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
            actions += _plan_config(platform, product, topic, found, refuse)
    return actions


def _plan_partitions(
    product: DataProduct, topic: TopicSettings, found: TopicDescription, refuse: Refuse
) -> list[Action]:
    if topic.partitions == found.partitions:
        return []
    if topic.partitions < found.partitions:
        refuse(
            product.fqn,
            f"{product.fqn}: topic {topic.name} has {found.partitions} partitions, mesh.partitions is "
            f"{topic.partitions}, and Kafka cannot drop any; set mesh.partitions to {found.partitions}",
        )
        return []
    if product.event_type.folds_by_key:
        refuse(
            product.fqn,
            f"{product.fqn}: more partitions for {topic.name} ({found.partitions} -> {topic.partitions}) send known "
            "keys to other partitions, and Kafka orders events within a partition only; docs/reliability.md says how "
            "to add them without losing the order of a key's events",
        )
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
) -> list[Action]:
    differs = {
        name: (found.config.get(name, "unset"), wanted)
        for name, wanted in topic_config(topic).items()
        if found.config.get(name) != wanted
    }
    if not differs:
        return []
    if any(name in _DROPS_EVENTS for name in differs) and (behind := _not_landed(platform, product, topic)):
        refuse(
            product.fqn,
            f"{product.fqn}: {', '.join(differs)} of {topic.name} may make the broker drop events, and {behind} "
            f"offsets are not landed yet (mesh land {product.fqn} first)",
        )
        return []
    return [AlterTopic(product.fqn, topic.name, differs)]


def _not_landed(platform: Platform, product: DataProduct, topic: TopicSettings) -> int:
    end = platform.streams.end_offsets([topic.name])[topic.name]
    landed: Position | None = None
    tables = platform.tables_of(product)
    if tables.exist():
        landed = tables.log.position()
    return (landed or platform.streams.start_offsets([topic.name])[topic.name]).lag_to(end)


def _plan_subjects(platform: Platform, products: tuple[DataProduct, ...], refuse: Refuse) -> list[Action]:
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
    platform: Platform, product: DataProduct, subject: str, schemas: Schemas, refuse: Refuse
) -> list[Action]:
    """Register the contract's schema where the subject does not have it, as its latest version or an earlier one.

    Producers may register other schemas at any time, also older ones, so which is the latest says nothing.
    """
    registry, schema = platform.registry, product.value_schema
    if registry.registered_id(subject, schema, schemas.type) is not None:
        return []
    if registry.latest(subject) is not None and (reasons := registry.objections(subject, schema, schemas)):
        listed = "; ".join(reasons)
        reason = f"{product.fqn}: the schema is not compatible with what subject {subject} has: {listed}"
        refuse(product.fqn, reason)
        return []
    return [RegisterSchema(product.fqn, subject, schema, schemas.type)]


def _plan_tables(platform: Platform, products: tuple[DataProduct, ...], refuse: Refuse) -> list[Action]:
    from mesh_pipelines.lake.evolve import plan_evolution

    actions: list[Action] = []
    for product in products:
        tables = platform.tables_of(product)
        if missing := tables.missing():
            actions.append(CreateTables(product.fqn, tuple(missing)))
        try:
            changes = plan_evolution(tables)
        except ApplyRefused as error:
            refuse(product.fqn, error.message)
            continue
        if changes:
            actions.append(EvolveTables(product.fqn, tuple(str(change) for change in changes)))
    return actions
