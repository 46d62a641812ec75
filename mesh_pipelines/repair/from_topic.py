"""Rebuild a log from its topic: for a log whose files were lost or damaged, or whose events were read wrongly.

The topic is read again from its first offset to where the log stands, under the contract and the schemas as they are
now, into files beside the log's; then both are compared, and the log rewritten in one commit. It is refused where the
topic no longer has what the log has: the log outlives its topic, and is then the only place that history is in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.counted import counted
from mesh_pipelines.engine import connect
from mesh_pipelines.errors import NothingPublished, PartitionsAdded, RebuildRefused
from mesh_pipelines.kafka import continuity
from mesh_pipelines.lake.log import Log
from mesh_pipelines.lake.rewrite import Differences, Rewrite
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.pipeline.land import check_same_topic, decoded, stream_bounds
from mesh_pipelines.platform import Platform, by_applied_contract
from mesh_pipelines.positions import Position
from mesh_pipelines.repair.upkeep import publish_anew

_NAMED = 5


@dataclass(frozen=True)
class Reread:
    """What reading a log's topic again found and did.

    ``events`` were read; the log lacked ``lacking`` of them, had ``changed`` of them otherwise, and ``damaged`` of its
    files could not be read. ``published_as`` is the version published from the rewritten log.
    """

    product: str
    events: int
    lacking: int
    changed: int
    damaged: int
    published_as: int | None
    seconds: float


@by_applied_contract
@over_storage
def reread(
    platform: Platform, product: DataProduct, *, on_progress: Callable[[int, int], None] | None = None
) -> Reread:
    """Read the product's topic again up to where its log ends; if the two differ, repair the log.

    Where only unreadable files were filled in, every version reads again as it did. Otherwise the log was replaced,
    earlier versions keep reading the former one, and the next version is published.

    ``on_progress`` is called with (offsets read, offsets to read).

    Raises:
        RebuildRefused: the topic no longer has all that the log has; nothing was changed.
        StreamDiscontinuity: it is not the topic that the log was read from.
        AuditBlocked: the log was repaired, but its rows now break a blocking rule; the published version stays.
        ConcurrentWriter: another writer committed to the log meanwhile; nothing was changed. Transient.
        BrokerUnreachable, RegistryUnreachable: transient; nothing was changed.
    """
    started = time.monotonic()
    begin, end = stream_bounds(platform, product)
    tables = platform.tables_of(product)
    stored = tables.log.position()
    if stored is None:
        raise NothingPublished(f"{product.fqn}: nothing has been landed yet", next_step=f"mesh land {product.fqn}")
    continuity.check(product, stored, begin, end)
    with closing(connect(platform.settings)) as engine:
        rewrite = Rewrite(tables, engine)
        events = _read(platform, product, rewrite, begin, on_progress)
        differences = rewrite.compare()
        _refuse_lost(product, rewrite, differences, events)
        if differences.none:
            return _reread(product, events, differences, None, started)
        rewrite.swap(differences)
    published_as = None if differences.only_damaged else publish_anew(platform, product)
    return _reread(product, events, differences, published_as, started)


def _reread(
    product: DataProduct, events: int, differences: Differences, published_as: int | None, started: float
) -> Reread:
    return Reread(
        product.fqn,
        events,
        differences.lacking,
        differences.changed,
        differences.damaged,
        published_as,
        time.monotonic() - started,
    )


def _read(
    platform: Platform,
    product: DataProduct,
    rewrite: Rewrite,
    begin: Position,
    on_progress: Callable[[int, int], None] | None,
) -> int:
    """Write the topic's events up to where the log stands; gives how many.

    Events get the generations they were landed under: each repartition that was accepted began one. Landing goes on
    meanwhile, so what it adds is read, too, until both stand at the same offsets.
    """
    at, events = begin, 0
    turns = _repartitions(platform.tables_of(product).log)
    while (until := rewrite.reload()) and (until.generation, until.partitions) != (at.generation, at.partitions):
        _refuse_shorter(product, rewrite, until, begin, generations=len(turns))
        before, after = turns[at.generation] if at.generation < until.generation else (until, until)
        total = begin.lag_to(until)
        with closing(decoded(platform, product, at, replace(before, generation=at.generation))) as chunks:
            for rows, reached in chunks:
                rewrite.add(rows)
                events += rows.num_rows
                if on_progress:
                    on_progress(begin.lag_to(reached), total)
        check_same_topic(platform, product, until)
        at = replace(at, partitions=after.partitions, generation=after.generation)
    return events


def _repartitions(log: Log) -> list[tuple[Position, Position]]:
    """The log's positions before and after each accepted repartition, oldest first."""
    return [
        (Position.from_json(loss["before"]), Position.from_json(loss["after"]))
        for loss in log.losses()
        if loss["accepted"] == PartitionsAdded.accept
    ]


def _refuse_shorter(
    product: DataProduct, rewrite: Rewrite, stored: Position, begin: Position, *, generations: int
) -> None:
    """Refuse at once what can be known without reading the topic; ``generations`` are those that repartitions began."""
    if stored.generation != generations:
        raise _refused(product, "the log has events of an earlier stream that the topic does not have")
    dropped = {
        number: (first, begin.next_offset(number) - 1)
        for number, first in sorted(rewrite.first_offsets().items())
        if first < begin.next_offset(number)
    }
    if dropped:
        named = ", ".join(f"partition {number}: {first} to {last}" for number, (first, last) in dropped.items())
        raise _refused(product, f"the topic no longer has offsets that the log has ({named})")


def _refuse_lost(product: DataProduct, rewrite: Rewrite, differences: Differences, events: int) -> None:
    if differences.lost:
        named = ", ".join(f"{partition}:{offset}" for partition, offset in rewrite.lost(_NAMED))
        more = ", ..." if differences.lost > _NAMED else ""
        raise _refused(
            product, f"the topic no longer has {counted(differences.lost, 'event')} of the log ({named}{more})"
        )
    if differences.damaged and events < rewrite.events():
        raise _refused(
            product,
            f"{counted(rewrite.events(), 'event was', 'events were')} landed and the topic has {events:,} of them; "
            f"nobody can tell which ones are in the log's {counted(differences.damaged, 'damaged file')}",
        )


def _refused(product: DataProduct, reason: str) -> RebuildRefused:
    return RebuildRefused(
        f"{product.fqn} was not rebuilt from the topic: {reason}; nothing was changed",
        next_step=f"mesh rebuild {product.fqn}, which reads the log, or restore the log's files from a copy",
    )
