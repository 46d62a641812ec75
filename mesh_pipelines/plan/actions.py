"""The single changes that applying a contract may take, each a frozen value that says what it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from mesh_pipelines.contract.model import TopicSettings
from mesh_pipelines.contract.read.load import ContractFiles
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import ApplyRefused, MeshError

_TAKEN = " (it is taken over: mesh apply did not create it)"
MEND = "fix the contract, or publish the change as a product with a new name"


@dataclass(frozen=True)
class Findings:
    """What is found of products while a plan is drafted: why nothing may be done for one, and what is worth a word."""

    refused: dict[str, list[MeshError]] = field(default_factory=dict[str, list[MeshError]])
    notes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def refuse(self, product: str, error: MeshError) -> None:
        """Say why nothing may be done for a product."""
        self.refused.setdefault(product, []).append(error)

    def note(self, product: str, text: str) -> None:
        """Say what its owner should know, though it holds nothing up."""
        self.notes.setdefault(product, []).append(f"{product}: {text}")


@dataclass(frozen=True)
class CreateTopic:
    """A topic that does not exist yet, with all its settings."""

    product: str
    topic: TopicSettings


@dataclass(frozen=True)
class AddPartitions:
    """More partitions for a topic whose events are not ordered by key; it may be taken over with that."""

    product: str
    topic: str
    before: int
    after: int
    takes_over: bool = False


@dataclass(frozen=True)
class AlterTopic:
    """Topic configuration that differs from the contract: name to (value now, value wanted).

    ``takes_over``: apply did not create the topic, and treats it as the product's own from then on.
    """

    product: str
    topic: str
    config: Mapping[str, tuple[str, str]]
    takes_over: bool = False


@dataclass(frozen=True)
class RegisterSchema:
    """A value schema that the registry does not have under the subject; ``schema_type`` is its name for the kind."""

    product: str
    subject: str
    schema: str
    schema_type: str


@dataclass(frozen=True)
class SetCompatibility:
    """The subject's compatibility mode; a new subject gets one also where the contract does not state any.

    ``is_left``: the registry did not let this client set that one, and its own default holds.
    """

    product: str
    subject: str
    before: str | None
    after: str
    is_stated: bool = True
    is_left: bool = False


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
    """A contract that is to rule from now on: its version, hash and texts, and the version that rules now.

    ``owns``: its topic is created or taken over by this plan.
    """

    product: str
    version: str
    before: str | None
    contract_hash: str
    files: ContractFiles
    owns: bool = False


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
            config = ", ".join(f"{name}={value}" for name, value in topic.initial.items())
            return f"create topic {topic.name} with {counted(topic.initial_partitions, 'partition')} ({config})"
        case AddPartitions(topic=name, before=before, after=after, takes_over=taken):
            return f"add partitions to topic {name}: {before} -> {after}{_TAKEN if taken else ''}"
        case AlterTopic(topic=name, config=config, takes_over=taken):
            changes = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in config.items())
            return f"alter topic {name}: {changes}{_TAKEN if taken else ''}"
        case RegisterSchema(subject=subject):
            return f"register the schema of subject {subject}"
        case SetCompatibility(subject=subject, is_left=True):
            return f"leave compatibility of subject {subject} at the registry's default, which is not ours to change"
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


def unsafe(reason: str) -> ApplyRefused:
    """The refusal of a change that would lose data or break readers."""
    return ApplyRefused(reason, next_step=MEND)
