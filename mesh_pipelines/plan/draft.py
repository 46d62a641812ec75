"""What has to be changed so that broker, registry and catalog match the contracts, and what may not be changed.

A plan is a tuple of actions with two readers, ``describe`` and ``execute``, so what a dry run prints is what would be
done. A change that could lose data or break readers is not an action: it is refused. A refusal or a fault stops its
own product and what is computed from it, and no other.

The last action of a product records its contract as applied: from then on it rules, and not before everything else of
it is there. What is compared with what: the file's contract with the one that was applied last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from graphlib import CycleError, TopologicalSorter

from mesh_pipelines.contract.compare import changes
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.load import hash_of, read_files
from mesh_pipelines.errors import ApplyRefused, MeshError, TablesLost
from mesh_pipelines.lake.evolve import plan_evolution
from mesh_pipelines.lake.lost import refuse_over_lost
from mesh_pipelines.plan.actions import (
    MEND,
    Action,
    CreateTables,
    CreateTopic,
    EvolveTables,
    Findings,
    RecordContract,
    unsafe,
)
from mesh_pipelines.plan.bind import Binder
from mesh_pipelines.plan.lint import refusal
from mesh_pipelines.plan.subject_plan import plan_subjects
from mesh_pipelines.plan.topic_plan import plan_names, plan_topics
from mesh_pipelines.platform import Platform, ordered


@dataclass(frozen=True)
class Plan:
    """What has to be done, and the products for which nothing may be done, each with the errors that say why.

    ``notes`` are what owners should know and what could not be looked at; they hold nothing up.
    """

    actions: tuple[Action, ...]
    refused: Mapping[str, tuple[MeshError, ...]]
    notes: tuple[str, ...] = ()


def draft(platform: Platform, names: Iterable[str], *, take_over: bool = False) -> Plan:
    """What has to be done so that everything the files of these products promise exists, and what is refused.

    ``take_over``: topics that apply did not create for these products are theirs from now on, and changed as well.

    Raises:
        BrokerUnreachable, RegistryUnreachable, StorageUnavailable: what is there could not be looked at; transient.
    """
    wanted = sorted(set(names))
    found = Findings()
    refused = found.refused
    for name in wanted:
        if name in platform.broken:
            found.refuse(name, platform.broken[name])
    proposals = [one for one in ordered(platform.proposed) if one.fqn in wanted]
    # What is read by then: the contracts that are applied, and those of this plan.
    ruling = {**platform.products, **{one.fqn: one for one in proposals}}
    binder = Binder(ruling)
    for product in proposals:
        if cannot_run := refusal(binder, product):
            found.refuse(product.fqn, cannot_run)
        for error in _breaking_changes(platform, product):
            found.refuse(product.fqn, error)
    _refuse_cycles(ruling, proposals, found)
    sound = tuple(one for one in proposals if one.fqn not in refused)
    actions: list[Action] = []
    for part in (plan_names, partial(plan_topics, take_over=take_over), plan_subjects, _plan_tables):
        actions += part(platform, sound, found)
    owning = {product.fqn for product in sound if take_over}
    owning |= {action.product for action in actions if isinstance(action, CreateTopic)}
    actions += _plan_contracts(platform, sound, owning, found)
    _refuse_derived(platform, proposals, refused)
    kept = tuple(action for action in actions if action.product not in refused)
    notes = tuple(text for name, texts in found.notes.items() if name not in refused for text in texts)
    return Plan(kept, {name: tuple(errors) for name, errors in refused.items()}, notes)


def plan(platform: Platform, products: Iterable[DataProduct], *, take_over: bool = False) -> tuple[Action, ...]:
    """The actions of a draft in which nothing is refused.

    Raises:
        ContractInvalid, TransformInvalid: a rule or a transform could never run, so nothing is made for it.
        ApplyRefused: a change would lose data or break readers; every such change of all products is named.
    """
    found = draft(platform, (product.fqn for product in products), take_over=take_over)
    errors = [error for each in found.refused.values() for error in each]
    for error in errors:
        if not isinstance(error, ApplyRefused):
            raise error
    if errors:
        raise ApplyRefused(
            "nothing was changed; these changes would lose data or break readers:\n"
            + "\n".join(f"  {error.message}" for error in errors),
            next_step=MEND,
        )
    return found.actions


def _breaking_changes(platform: Platform, product: DataProduct) -> Iterator[MeshError]:
    """What the file changes in the applied contract that earlier events or readers would not survive."""
    if not platform.applied_hashes([product.fqn]).get(product.fqn):
        return
    before = platform.product(product.fqn)
    found = [str(change) for change in changes(before.fields, product.fields) if not change.is_safe]
    if before.event_type is not product.event_type:
        found.append(f"change its events from {before.event_type} to {product.event_type}: existing rows would change")
    if bool(before.topic) is not bool(product.topic):
        found.append("change its source between a topic and a transform: existing rows would change")
    if found:
        said = "; ".join(found)
        yield unsafe(f"{product.fqn}: contract {product.contract_version} would {said}")


def _refuse_cycles(
    ruling: Mapping[str, DataProduct],
    proposals: Sequence[DataProduct],
    found: Findings,
) -> None:
    """Refuse what would be computed from itself, by way of contracts that are applied and of files that are not."""
    try:
        TopologicalSorter({name: one.inputs for name, one in ruling.items()}).prepare()
    except CycleError as error:
        path: list[str] = error.args[1]
        for name in {*path} & {one.fqn for one in proposals}:
            problem = f"{name}: it would depend on itself: {' -> '.join(path)}"
            found.refuse(name, ApplyRefused(problem, next_step="break the cycle"))


def _refuse_derived(platform: Platform, proposals: Sequence[DataProduct], refused: dict[str, list[MeshError]]) -> None:
    """Refuse what is computed from a product that is refused or has faults; ``proposals`` come after their inputs."""
    for product in proposals:
        stopped = [name for name in product.inputs if name in refused or name in platform.broken]
        if stopped and product.fqn not in refused:
            problem = f"{product.fqn}: its input {stopped[0]} cannot be applied"
            refused[product.fqn] = [ApplyRefused(problem, next_step=f"mesh plan {stopped[0]}")]


def _plan_contracts(
    platform: Platform, products: tuple[DataProduct, ...], owning: Collection[str], found: Findings
) -> list[Action]:
    applied = platform.applied_hashes([product.fqn for product in products])
    actions: list[Action] = []
    for product in products:
        if applied.get(product.fqn) == product.contract_hash:
            continue
        files = read_files(product.folder)
        if hash_of(product.folder, files) != product.contract_hash:
            error = ApplyRefused(f"{product.fqn}: its files changed while they were read", next_step="mesh plan")
            found.refuse(product.fqn, error)
            continue
        before = platform.product(product.fqn).contract_version if applied.get(product.fqn) else None
        version = product.contract_version
        owns = product.fqn in owning
        actions.append(RecordContract(product.fqn, version, before, product.contract_hash, files, owns))
    return actions


def _plan_tables(platform: Platform, products: tuple[DataProduct, ...], found: Findings) -> list[Action]:
    actions: list[Action] = []
    for product in products:
        tables = platform.tables_of(product)
        if missing := tables.missing():
            try:
                refuse_over_lost(platform.catalog, product.fqn, missing)
            except TablesLost as error:
                found.refuse(product.fqn, error)
                continue
            actions.append(CreateTables(product.fqn, tuple(missing)))
        try:
            changes = plan_evolution(tables)
        except ApplyRefused as error:
            found.refuse(product.fqn, error)
            continue
        if changes:
            actions.append(EvolveTables(product.fqn, tuple(str(change) for change in changes)))
    return actions
