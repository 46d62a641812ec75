"""One look at every product: three questions for all of them, to the broker, the catalog and the tables' properties."""

from __future__ import annotations

from datetime import datetime

from mesh_pipelines.confidential import masked
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import MeshError
from mesh_pipelines.lake.storage import fault_of
from mesh_pipelines.observe.health import Observed
from mesh_pipelines.observe.measure import Seen
from mesh_pipelines.observe.status import status_of
from mesh_pipelines.observe.unloaded import unloaded
from mesh_pipelines.pipeline.level import Streams, ask, levels, unreadable
from mesh_pipelines.platform import Platform, discreet


def look(platform: Platform, now: datetime) -> list[Seen]:
    """Every sound product as it is now, each after its inputs; one whose tables cannot be read says so itself.

    The streams are asked first: what a version was made of lies before the end that is known then, or is covered by it.
    """
    sound = [product for product in platform.in_order if product.fqn not in platform.broken]
    streams = ask(platform, sound)
    try:
        found = levels(platform, sound, streams)
    except Exception:
        return [_alone(platform, product, streams, now) for product in sound]
    reasons = unloaded(platform.settings, found)
    return [Seen(level, status_of(level, now, Observed(unloaded=reasons.get(name)))) for name, level in found.items()]


def told(error: Exception) -> str:
    """An error in one line: its code and message, or what kind it is."""
    fault = fault_of(error) or error
    if isinstance(fault, MeshError):
        return f"{fault.code} {fault.message}"
    return masked(f"{type(fault).__name__}: {next(iter(str(fault).splitlines()), '')}")


def _alone(platform: Platform, product: DataProduct, streams: Streams, now: datetime) -> Seen:
    """One product, looked at by itself, since looking at all together failed."""
    try:
        with discreet(platform, product):
            [level] = levels(platform, [product], streams).values()
    except Exception as error:
        level = unreadable(product, told(error), streams)
        return Seen(level, status_of(level, now), level.standing.missing)
    reason = unloaded(platform.settings, [product.fqn]).get(product.fqn)
    return Seen(level, status_of(level, now, Observed(unloaded=reason)))
