"""Which products are behind their streams: the question a scheduler asks every few seconds, of all products at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Position

if TYPE_CHECKING:
    from mesh_pipelines.lake.standing import Standing


# Looks take at most a twentieth of the time; between two of them lies no less than this.
_PAUSE_S = 0.2
_PAUSE_SHARE = 20
# Events come to many products at nearly the same time: who is due first waits this long for others, so that one run
# takes them all.
_GATHER_S = 0.5


def await_due(
    platform: Platform, products: Callable[[], Sequence[DataProduct]], patience_s: float
) -> list[DataProduct]:
    """The products that are due, looked for again and again until there are some or the time is up.

    ``products`` gives those to look at, and is asked each time. Where a look takes long, as it does for a thousand
    products, there is one.

    Raises:
        BrokerUnreachable: transient.
    """
    deadline = time.monotonic() + patience_s
    while True:
        began = time.monotonic()
        behind = due(platform, products())
        pause = max(_PAUSE_S, _PAUSE_SHARE * (time.monotonic() - began))
        if time.monotonic() + pause > deadline:
            return behind
        if behind:
            time.sleep(_GATHER_S)
            return due(platform, products())
        time.sleep(pause)


def due(platform: Platform, products: Sequence[DataProduct]) -> list[DataProduct]:
    """The products whose newest candidate is behind the end of their stream, or was made under another contract.

    A candidate that was blocked is not due again until its stream or its contract has changed.

    Raises:
        BrokerUnreachable: transient.
    """
    from mesh_pipelines.lake.standing import standings

    ends = platform.streams.end_offsets([product.topic.name for product in products if product.topic])
    there = [product for product in products if product.topic and product.topic.name in ends]
    standing = standings(platform.tables, there)
    return [
        product
        for product in there
        if product.topic and _is_due(product, standing[product.fqn], ends[product.topic.name])
    ]


def _is_due(product: DataProduct, standing: Standing, end: Position) -> bool:
    newest = standing.newest
    if not standing.applied:
        return False
    if newest is None or newest.position is None:
        return any(offset.next_offset for offset in end.partitions.values())
    publishable = newest.published_at is None and newest.verdict is not None and newest.verdict.passed
    moved = newest.position.topic_id != end.topic_id or newest.position.lag_to(end) > 0
    moved = moved or standing.position != newest.position
    return moved or publishable or newest.contract_hash != product.contract_hash
