"""Who may do what in Dagster's pages: view, launch or administer, by the fields that a GraphQL document mutates.

A mutation that is not listed needs ``administer``: a new version of Dagster may bring some that nobody has judged.
Documents are parsed as Dagster parses them; names are those of the fields, whatever they are called in the answer, and
all operations of a document count, whichever is chosen to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    parse,
)

from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.security import is_loopback
from mesh_pipelines.web.sessions import User

_EVERYBODY = "*"
# The largest document of Dagster's own pages has about 4,000.
_MOST_TOKENS = 20_000


class Role(IntEnum):
    """What someone may do; each includes those before it."""

    VIEW = 1
    LAUNCH = 2
    ADMINISTER = 3


# What the pages send by themselves, and what tells others nothing.
_VIEWING = frozenset({"logTelemetry", "setNuxSeen"})
_LAUNCHING = frozenset(
    {
        *("launchRun", "launchMultipleRuns", "launchRunReexecution", "terminateRun", "terminateRuns"),
        *("launchPipelineExecution", "launchPipelineReexecution", "terminatePipelineExecution"),
        *("launchPartitionBackfill", "resumePartitionBackfill", "reexecutePartitionBackfill"),
        "cancelPartitionBackfill",
    }
)


class Unreadable(Exception):
    """A document is not GraphQL, or is too large to be looked at."""


def needed(query: str) -> Role:
    """The role that a document of queries and mutations needs.

    Raises:
        Unreadable: it cannot be classified.
    """
    document = _parsed(query)
    found = Role.VIEW
    for operation in _operations(document):
        if operation.operation is OperationType.MUTATION:
            for name in _fields(operation.selection_set, _fragments(document), frozenset()):
                found = max(found, _of_mutation(name))
    return found


def only_subscribes(query: str) -> bool:
    """Whether a document has subscriptions and nothing else.

    Raises:
        Unreadable: it cannot be classified.
    """
    return all(one.operation is OperationType.SUBSCRIPTION for one in _operations(_parsed(query)))


def role_of(user: User, settings: Settings) -> Role:
    """The role of someone who signed in."""
    for role, allowed in ((Role.ADMINISTER, settings.dagster_administer), (Role.LAUNCH, settings.dagster_launch)):
        if user.everything or _EVERYBODY in allowed or user.names & {name.lower() for name in allowed}:
            return role
    return Role.VIEW


def check_reach(settings: Settings) -> None:
    """Check that who can reach Dagster's pages has to sign in, or is on this machine.

    Raises:
        SettingInvalid: neither.
    """
    if not settings.oidc_issuer and not is_loopback(settings.host):
        raise SettingInvalid(
            f"MESH_HOST is {settings.host}, so others could reach Dagster's pages, and nobody has to sign in",
            next_step="set MESH_OIDC_ISSUER and MESH_OIDC_CLIENT_ID, or MESH_HOST to 127.0.0.1",
        )


def _of_mutation(name: str) -> Role:
    if name in _VIEWING:
        return Role.VIEW
    return Role.LAUNCH if name in _LAUNCHING else Role.ADMINISTER


def _parsed(query: str) -> DocumentNode:
    try:
        return parse(query, no_location=True, max_tokens=_MOST_TOKENS)
    except (GraphQLError, RecursionError) as error:
        raise Unreadable(str(error)) from error


def _operations(document: DocumentNode) -> list[OperationDefinitionNode]:
    return [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)}


def _fields(
    selected: SelectionSetNode, fragments: dict[str, FragmentDefinitionNode], within: frozenset[str]
) -> Iterator[str]:
    """The names of the fields that a selection asks for at its top, through fragments."""
    for one in selected.selections:
        match one:
            case FieldNode():
                yield one.name.value
            case InlineFragmentNode():
                yield from _fields(one.selection_set, fragments, within)
            case FragmentSpreadNode() if one.name.value in fragments and one.name.value not in within:
                name = one.name.value
                yield from _fields(fragments[name].selection_set, fragments, within | {name})
            case _:
                # Not valid GraphQL, so Dagster refuses it; until then it is something unknown.
                yield ""
