"""Go on with a stream that broke off, once an operator has accepted what is lost.

Landing never does this by itself: a topic that was deleted and created again, offsets that retention dropped, another
cluster behind the same address and a history that was cut off all look like a stream that goes on. Accepting moves the
log's position in one commit that also holds who accepted what, so the gap in the data and its reason stay together.

Added partitions lose nothing but the order of a key's events. Accepting them begins a new generation of the log, whose
events are later than all before it, for what waits in the topic, and a second one for what comes after that: waiting
events from before and after the change cannot be told apart, but the next event of a key is later than both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import log_schema
from mesh_pipelines.errors import PartitionsAdded, StreamDiscontinuity, StreamTruncated, UsageError
from mesh_pipelines.kafka import continuity
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.pipeline.land import land, stream_bounds
from mesh_pipelines.pipeline.race import outlast
from mesh_pipelines.platform import Platform, by_applied_contract, operator
from mesh_pipelines.positions import Position

if TYPE_CHECKING:
    from mesh_pipelines.lake.log import Log

ACCEPTABLE = tuple(sorted(kind.accept for kind in StreamDiscontinuity.__subclasses__()))

_SETTLED = "nothing; events that waited in the topic are landed, and later ones count as later"


@dataclass(frozen=True)
class Resumed:
    """The loss accepted by this call (None: the stream is whole), and all that were accepted before."""

    product: str
    accepted: Mapping[str, Any] | None
    earlier: Sequence[Mapping[str, Any]]


@by_applied_contract
@over_storage
def resume(platform: Platform, product: DataProduct, accept: str | None = None) -> Resumed:
    """Check that the product's stream goes on where its log stands; if not, go on past what ``accept`` names.

    ``accept`` is one of ``ACCEPTABLE`` and has to be what happened; without it nothing is changed. Where partitions
    were added, what waits in the topic is landed, too; if that fails, the next call does it.

    Raises:
        StreamDiscontinuity: the stream broke off and ``accept`` does not say how.
        UsageError: ``accept`` names another break than the one that is there.
        ConcurrentWriter: a landing committed meanwhile; nothing was changed.
    """
    begin, end = stream_bounds(platform, product)
    log = platform.tables_of(product).log
    stored, earlier = log.position(), log.losses()
    found = _broken(platform, product, stored, begin, end)
    if found is None or stored is None:
        settled = _settle(platform, product, log) if _is_unsettled(earlier) else None
        return Resumed(product.fqn, settled, earlier)
    broken, cut = found
    if accept is None:
        raise broken
    if accept != broken.accept:
        raise UsageError(
            f"{product.fqn}: --accept-loss {accept} is not what happened: {broken.message}",
            next_step=f"mesh resume {product.fqn} --accept-loss {broken.accept}",
        )
    after = continuity.go_on(broken, stored, begin, end, cut)
    loss = _record(accept, broken.message, stored, after)
    log.append(log_schema(product).empty_table(), stored, after, loss=loss)
    if isinstance(broken, PartitionsAdded):
        _settle(platform, product, log)
    return Resumed(product.fqn, loss, earlier)


def _record(accepted: str, lost: str, before: Position, after: Position) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "by": operator(),
        "accepted": accepted,
        "lost": lost,
        "before": before.to_json(),
        "after": after.to_json(),
    }


def _is_unsettled(losses: Sequence[Mapping[str, Any]]) -> bool:
    """Whether added partitions were accepted, and what waited then is not known to be landed."""
    last = [loss for loss in losses if loss["accepted"] == PartitionsAdded.accept][-1:]
    return any("settled" not in loss for loss in last)


def _settle(platform: Platform, product: DataProduct, log: Log) -> Mapping[str, Any]:
    """Land what waits in the topic, and begin the generation of what comes after it."""

    def settle() -> Mapping[str, Any]:
        before = land(platform, product).position
        after = replace(before, generation=before.generation + 1)
        record = {**_record(PartitionsAdded.accept, _SETTLED, before, after), "settled": True}
        log.append(log_schema(product).empty_table(), before, after, loss=record)
        return record

    return outlast(settle)[0]


def _broken(
    platform: Platform, product: DataProduct, stored: Position | None, begin: Position, end: Position
) -> tuple[StreamDiscontinuity, Mapping[int, int]] | None:
    """How the stream broke off, if it did; second, where a truncated history was cut off."""
    if stored is None:
        return None
    try:
        continuity.check(product, stored, begin, end)
    except StreamTruncated:
        pass
    except StreamDiscontinuity as error:
        return error, {}
    cut = continuity.find_cut(platform.settings, stored, begin, end)
    return (continuity.truncation(product.fqn, stored, cut), cut) if cut else None
