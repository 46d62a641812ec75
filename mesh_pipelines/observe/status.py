"""Where every product stands: its published version, its rules, its quarantine, and how far it is behind its stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import BrokerUnreachable
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Position, Version

if TYPE_CHECKING:
    from mesh_pipelines.lake.standing import Standing


@dataclass(frozen=True)
class ProductStatus:
    """One product's state. Counts of rules are of its newest audit; ``lag`` is offsets of its stream not yet published.

    ``quarantined`` and ``redriven`` are the events its log holds back now, and those that redrives brought back.
    ``version`` is None where nothing is published; ``lag`` is None for derived products and where the broker or the
    topic cannot be asked. ``problem`` says what is wrong, if anything is.
    """

    product: str
    alignment: str
    version: int | None = None
    rows: int | None = None
    rules_passed: int | None = None
    rules_failed: int | None = None
    rules_warned: int | None = None
    quarantined: int | None = None
    redriven: int | None = None
    lag: int | None = None
    published_at: str | None = None
    problem: str | None = None


def status(platform: Platform) -> list[ProductStatus]:
    """The state of every product of the assets folder, broken ones included; asks the broker once for all topics."""
    from mesh_pipelines.lake.standing import standings

    ends, problem = stream_ends(platform)
    standing = standings(platform.tables, platform.in_order)
    sound = [status_of(product, standing[product.fqn], ends, problem) for product in platform.in_order]
    broken = [
        ProductStatus(name, "", problem=f"{error.code} {len(error.faults)} faults in its contract (mesh lint)")
        for name, error in platform.broken.items()
    ]
    return sorted([*sound, *broken], key=lambda one: one.product)


def stream_ends(platform: Platform) -> tuple[Mapping[str, Position], str | None]:
    """The ends of all topics that exist, asked for in one call; where the broker does not answer, why."""
    topics = [product.topic.name for product in platform.in_order if product.topic]
    if not topics:
        return {}, None
    try:
        return platform.streams.end_offsets(topics), None
    except BrokerUnreachable as error:
        return {}, f"{error.code} {error.message}"


def status_of(
    product: DataProduct, standing: Standing, ends: Mapping[str, Position], problem: str | None
) -> ProductStatus:
    """One product's state, with the ends of the topics or the problem of asking for them."""
    if standing.missing:
        return ProductStatus(product.fqn, product.alignment, problem=standing.missing)
    published, newest = standing.published, standing.newest
    if product.topic is None:
        problem = None
    elif not problem and product.topic.name not in ends:
        problem = f"the topic {product.topic.name} does not exist (mesh apply)"
    elif not problem and standing.position:
        problem = _broken_off(product, standing.position, ends[product.topic.name])
    if not problem and newest and newest.verdict and not newest.verdict.passed:
        problem = f"version {newest.number} blocked by {', '.join(newest.verdict.blocking)}"
    if not problem and newest and newest.withdrawn and published:
        problem = f"readers were taken back to version {published.number}, {newest.withdrawn}"
    verdict = newest.verdict if newest else None
    return ProductStatus(
        product=product.fqn,
        alignment=product.alignment,
        version=published.number if published else None,
        rows=published.rows if published else None,
        rules_passed=verdict.rules - verdict.failed - verdict.warned - verdict.errors if verdict else None,
        rules_failed=verdict.failed + verdict.errors if verdict else None,
        rules_warned=verdict.warned if verdict else None,
        quarantined=standing.quarantined,
        redriven=standing.redriven,
        lag=_lag(product, published, ends),
        published_at=published.published_at if published else None,
        problem=problem,
    )


def _broken_off(product: DataProduct, stored: Position, end: Position) -> str | None:
    """Why landing is stopped, as far as the topic's identity tells."""
    from mesh_pipelines.kafka.continuity import broken_off

    error = broken_off(product, stored, end)
    return f"{error.code} {error.message} ({error.next_step})" if error else None


def _lag(product: DataProduct, published: Version | None, ends: Mapping[str, Position]) -> int | None:
    if product.topic is None or product.topic.name not in ends:
        return None
    end = ends[product.topic.name]
    if published is None or published.position is None:
        return sum(offset.next_offset for offset in end.partitions.values())
    return published.position.lag_to(end)
