"""What a command would meet: the interpreter, how landing is done, and whether broker, registry and catalog answer."""

from __future__ import annotations

import platform as machine
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from mesh_pipelines import native
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import MeshError
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.observe.status import status
from mesh_pipelines.plan.actions import Findings
from mesh_pipelines.plan.topic_plan import plan_topics, positions
from mesh_pipelines.platform import Platform

# Unhealthy products that are named; `mesh status` lists all.
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One thing looked at, what was found, and what to do where it is not as needed (empty where it is)."""

    what: str
    found: str
    next_step: str = ""


def doctor(platform: Platform) -> Iterator[Finding]:
    """Look at all that landing and publishing need, one thing after another, and at products; nothing is changed."""
    import confluent_kafka
    import duckdb

    yield Finding("Python", f"{machine.python_version()} on {machine.platform()}")
    yield Finding(
        "libraries",
        f"librdkafka {confluent_kafka.libversion()[0]}, Arrow {pa.__version__}, DuckDB {duckdb.__version__}",
    )
    usable, why = native.in_use(platform.settings.native)
    without = "" if usable else "; landing works without it, at less than half the speed"
    yield Finding(
        "native extension",
        why + without,
        "unset MESH_NATIVE" if platform.settings.native == "on" and not usable else "",
    )
    yield _asked("contracts", lambda: _contracts(platform))
    yield _asked("catalog", lambda: f"{counted(len(_namespaces(platform)), 'domain')} in {platform.settings.catalog}")
    yield _asked("broker", lambda: _broker(platform))
    yield _asked("topics", lambda: _topics(platform))
    yield _asked("schema registry", lambda: _registry(platform))
    yield _products(platform)


def _asked(what: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(what, ask())
    except MeshError as error:
        return Finding(what, f"{error.code} {error.message}", error.next_step or "")


def _products(platform: Platform) -> Finding:
    """Whether products are healthy; where they cannot be looked at, the lines above say why."""
    try:
        found = status(platform)
    except MeshError as error:
        return Finding("products", f"{error.code} {error.message}", error.next_step or "mesh status")
    ill = [one for one in found if not one.is_well]
    if not ill:
        return Finding("products", f"{len(found)}, none of them unhealthy")
    named = "; ".join(f"{one.product}: {one.problem}" for one in ill[:_NAMED])
    more = f"; and {len(ill) - _NAMED} more" if len(ill) > _NAMED else ""
    return Finding("products", f"{len(ill)} of {len(found)} are not healthy: {named}{more}", "mesh status")


def _contracts(platform: Platform) -> str:
    broken = len(platform.broken)
    sound = f"{len(platform.products)} sound in {platform.settings.assets}"
    return f"{sound}, {broken} with faults (mesh lint)" if broken else sound


def _broker(platform: Platform) -> str:
    cluster = platform.streams.cluster_id()
    at = f"at {platform.settings.brokers}"
    if cluster:
        return f"cluster {cluster} {at}"
    return f"answers {at}, without a cluster id: that topics are those of another cluster (M303) is not noticed"


@over_storage
def _topics(platform: Platform) -> str:
    """What owners should know of topics as they are, and which promises fall away with what is not told of them."""
    streamed = [product for product in platform.products.values() if product.topic]
    found = Findings()
    plan_topics(platform, tuple(streamed), found)
    ids, _ = platform.streams.describe([product.topic.name for product in streamed if product.topic])
    nameless = sorted(name for name, topic in ids.items() if not topic.topic_id)
    said = [text for texts in found.notes.values() for text in texts]
    if nameless:
        said.append(f"{_several(nameless)} without an id: that one was deleted and created again (M301) is not noticed")
    epochless = sorted(position.topic for _, position in positions(platform, streamed) if position.lacks_epochs)
    if epochless:
        what = f"{_several(epochless)} without leader epochs"
        said.append(f"{what}: that history was cut off and written anew (M304) is not noticed")
    return "; ".join([f"{len(ids)} of {len(streamed)} on the broker", *said])


def _several(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


@over_storage
def _namespaces(platform: Platform) -> list[tuple[str, ...]]:
    return platform.catalog.list_namespaces()


def _registry(platform: Platform) -> str:
    # Any question will do; "no such subject" is an answer.
    platform.registry.latest("mesh-doctor")
    return f"answers at {platform.settings.registry_url}"
