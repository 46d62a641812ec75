"""Make the broker, the registry and the catalog match the contracts, by a plan that was drafted before.

What cannot be done for one product stops that product and what is computed from it, and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import assert_never

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import ConcurrentWriter, MeshError, NotAuthorized
from mesh_pipelines.kafka.continuity import broken_off
from mesh_pipelines.lake.applied import FOREIGN
from mesh_pipelines.lake.evolve import evolve
from mesh_pipelines.pipeline.attempts import forget
from mesh_pipelines.plan.actions import (
    Action,
    AddPartitions,
    AlterTopic,
    CreateTables,
    CreateTopic,
    EvolveTables,
    RecordContract,
    RegisterSchema,
    SetCompatibility,
)
from mesh_pipelines.plan.draft import plan
from mesh_pipelines.plan.topic_plan import is_own, positions
from mesh_pipelines.platform import Platform, operator


def apply_contracts(
    platform: Platform, products: Iterable[DataProduct], *, take_over: bool = False
) -> tuple[Action, ...]:
    """Do all that these products lack; gives what was done. ``take_over``: topics of others are changed as well.

    Raises:
        ContractInvalid, TransformInvalid, ApplyRefused: nothing was changed (``draft.plan``).
        EnvironmentFault: a service refused a change; what could be done for other products is done.
    """
    actions = plan(platform, products, take_over=take_over)
    for error in execute(platform, actions).values():
        raise error
    return actions


def execute(
    platform: Platform, actions: Iterable[Action], on_done: Callable[[Action], None] | None = None
) -> dict[str, MeshError]:
    """Carry out a plan, in order; ``on_done`` is called after each action. Gives the products that a service refused.

    Raises:
        BrokerUnreachable, RegistryUnreachable, StorageUnavailable: a service is away; what was done stays done.
    """
    failed: dict[str, MeshError] = {}
    for action in actions:
        if action.product in failed or _rests_on(platform, action.product, failed):
            continue
        try:
            done = _execute(platform, action)
        except MeshError as error:
            if error.transient:
                raise
            failed[action.product] = error
        else:
            if on_done:
                on_done(done)
    # Whatever failed may work now.
    forget(platform.settings)
    return failed


def _rests_on(platform: Platform, name: str, failed: Collection[str]) -> bool:
    """Whether a product is computed from one of these, over any number of levels."""
    product = platform.proposed.get(name)
    inputs = product.inputs if product else ()
    return any(one in failed or _rests_on(platform, one, failed) for one in inputs)


def stopped(platform: Platform, products: Iterable[DataProduct]) -> list[str]:
    """The products whose landing is stopped by what happened to their topic, and what goes on: a sentence each.

    Applying a contract does not change that; ``mesh resume`` does.
    """
    landed = positions(platform, products)
    bounds, _ = platform.streams.bounds([product.topic.name for product, _ in landed if product.topic])
    found = [
        broken_off(product, position, bounds[product.topic.name].end)
        for product, position in landed
        if product.topic and product.topic.name in bounds
    ]
    return [f"{error.code} {error.message} (next: {error.next_step})" for error in found if error]


def _execute(platform: Platform, action: Action) -> Action:
    """Do what an action says; gives what was done."""
    match action:
        case CreateTopic(product=product, topic=topic):
            platform.streams.create(topic)
            _own(platform, product, topic.name)
        case AddPartitions(product=product, topic=name, after=after, takes_over=takes_over):
            platform.streams.add_partitions(name, after)
            if takes_over:
                _own(platform, product, name)
        case AlterTopic(product=product, topic=name, config=config, takes_over=takes_over):
            platform.streams.alter(name, {key: new for key, (_, new) in config.items()})
            if takes_over:
                _own(platform, product, name)
        case RegisterSchema(subject=subject, schema=schema, schema_type=schema_type):
            platform.registry.register(subject, schema, schema_type)
        case SetCompatibility(subject=subject, after=after, is_stated=is_stated):
            try:
                platform.registry.set_compatibility(subject, after)
            except NotAuthorized:
                if is_stated:
                    raise
                return replace(action, is_left=True)
        case CreateTables(product=product):
            platform.tables_of(platform.proposed[product]).create()
        case EvolveTables(product=product):
            evolve(platform.tables_of(platform.proposed[product]))
        case RecordContract(product=product):
            _record(platform, platform.proposed[product], action)
        case _:
            assert_never(action)
    return action


def _own(platform: Platform, name: str, topic: str) -> None:
    """Record a topic as a product's own, where its tables are there; where not, recording its contract does it."""
    tables = platform.tables_of(platform.proposed[name])
    if "versions" in tables.missing():
        return
    if topic_id := platform.streams.identity(topic)[1]:
        tables.versions.own_topic(topic_id)


def _record(platform: Platform, product: DataProduct, action: RecordContract) -> None:
    """Record a contract as applied; another apply that does the same at the same time is not a fault."""
    tables = platform.tables_of(product)
    topic = _topic_record(platform, product, owns=action.owns)
    try:
        tables.apply(action.files, operator(), topic)
    except ConcurrentWriter:
        if platform.applied_hashes([product.fqn])[product.fqn] != product.contract_hash:
            tables.apply(action.files, operator(), topic)
    platform.contracts_changed()


def _topic_record(platform: Platform, product: DataProduct, *, owns: bool) -> str | None:
    """What is recorded of a product's topic with its contract: its id, or that it is not the product's own."""
    if product.topic is None:
        return None
    topic_id = platform.streams.identity(product.topic.name)[1] or None
    if owns or (topic_id and is_own(platform, product, topic_id)):
        # Not known where the broker does not show a topic yet that it just created, or gives none an id: then the
        # contract's name counts.
        return topic_id
    return FOREIGN
