"""How far a product's published version is behind what is there for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mesh_pipelines.pipeline.due import waiting
from mesh_pipelines.pipeline.level import Level


@dataclass(frozen=True)
class Lag:
    """What readers do not see yet; ``rows`` is None where it is not known.

    For a product with a topic ``rows`` counts offsets. For a derived one it counts what its inputs read meanwhile
    (offsets, or rows of inputs without a stream), ``versions`` their versions that it was not made from, and ``since``
    says when the first of them was published.
    """

    rows: int | None
    versions: int | None = None
    since: datetime | None = None


def lag(level: Level) -> Lag:
    """How far one product is behind; pure."""
    if level.product.transform:
        return _behind_inputs(level)
    published = level.standing.published
    position = published.position if published else None
    return Lag(waiting(position, level.bounds) if level.bounds else None)


def _behind_inputs(level: Level) -> Lag:
    published = level.standing.published
    used = published.input_versions if published else {}
    extents = published.input_extents if published else dict.fromkeys(level.inputs, 0)
    rows: int | None = 0
    versions = 0
    since: list[datetime] = []
    for name, standing in level.inputs.items():
        seen = standing.published
        if seen is None or seen.number == used.get(name):
            continue
        versions += max(1, seen.number - used.get(name, 0))
        rows = None if rows is None or name not in extents else rows + max(0, seen.extent - extents[name])
        at = standing.left_at(used.get(name, 0)) or datetime.fromisoformat(seen.published_at or seen.created_at)
        since.append(at)
    if published is None:
        # Before all of its inputs have a version there is nothing that it could be late with.
        is_ready = len(since) == len(level.product.inputs)
        return Lag(rows, versions, max(since) if is_ready and since else None)
    return Lag(rows, versions, min(since, default=None))
