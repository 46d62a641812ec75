"""What is, and what should be, of many products: read once for whoever asks whether they are due, lag or are healthy.

Streams are asked first and tables after them. A table may then have read further than the end that is known, which is
no fault; so a stream that looks broken off is asked for again, and is only if it still looks so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import ContractInvalid, MeshError, StreamDiscontinuity
from mesh_pipelines.kafka import continuity
from mesh_pipelines.pipeline.attempts import Failure, failures
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Bounds, Position

if TYPE_CHECKING:
    from mesh_pipelines.lake.standing import Standing


@dataclass(frozen=True)
class Streams:
    """What topics hold, of those that exist; ``problem`` says why none can be asked, ``hidden`` why single ones not."""

    bounds: Mapping[str, Bounds] = field(default_factory=dict[str, Bounds])
    hidden: Mapping[str, MeshError] = field(default_factory=dict[str, MeshError])
    problem: MeshError | None = None

    def unasked(self, product: DataProduct) -> MeshError | None:
        """Why the product's topic could not be asked."""
        return (self.problem or self.hidden.get(product.topic.name)) if product.topic else None


@dataclass(frozen=True)
class Level:
    """One product at one moment.

    ``bounds`` is what its topic holds: None without a topic, where it does not exist, and where it could not be asked,
    which ``unasked`` then says. ``inputs`` are those whose contracts are sound. ``failure`` is of its last attempt.
    ``broken`` says that its stream does not go on where its log stands. ``product`` is under the contract applied
    last, ``proposed`` as its file has it, and ``faults`` are those of the file.
    """

    product: DataProduct
    standing: Standing
    bounds: Bounds | None = None
    unasked: MeshError | None = None
    inputs: Mapping[str, Standing] = field(default_factory=dict[str, "Standing"])
    failure: Failure | None = None
    broken: StreamDiscontinuity | None = None
    proposed: DataProduct | None = None
    faults: ContractInvalid | None = None

    @property
    def contract_hash(self) -> str:
        """The contract that the next candidate has to be made under: the one applied last."""
        return self.product.contract_hash


def ask(platform: Platform, products: Iterable[DataProduct]) -> Streams:
    """What the topics of these products hold, asked for together."""
    topics = [product.topic.name for product in products if product.topic]
    if not topics:
        return Streams()
    try:
        return Streams(*platform.streams.bounds(topics))
    except MeshError as error:
        return Streams(problem=error)


def levels(platform: Platform, products: Sequence[DataProduct], streams: Streams | None = None) -> dict[str, Level]:
    """Every product as it is now, by name; ``streams`` is what was asked of the broker a moment ago.

    Raises:
        StorageUnavailable: the catalog cannot be asked.
    """
    from mesh_pipelines.lake.standing import standings

    products = _ruling(platform, products)
    streams = streams or ask(platform, products)
    wanted = {product.fqn: product for product in products}
    inputs = {name: platform.products[name] for one in products for name in one.inputs if name in platform.products}
    found = standings(platform.tables, (wanted | inputs).values())
    kept = failures(platform.settings)
    broken = _broken(platform, products, found, streams)
    return {
        product.fqn: Level(
            product,
            found[product.fqn],
            streams.bounds.get(product.topic.name) if product.topic else None,
            streams.unasked(product),
            {name: found[name] for name in product.inputs if name in found},
            kept.get(product.fqn),
            broken.get(product.fqn),
            platform.proposed.get(product.fqn),
            platform.broken.get(product.fqn),
        )
        for product in products
    }


def _ruling(platform: Platform, products: Sequence[DataProduct]) -> list[DataProduct]:
    """The products under the contracts applied last, which a process that lives long may not have loaded."""
    applied = platform.applied_hashes([product.fqn for product in products])
    found: list[DataProduct] = []
    for product in products:
        ruling = applied.get(product.fqn)
        if ruling in (None, product.contract_hash):
            found.append(product)
            continue
        known = platform.products.get(product.fqn)
        if known is None or known.contract_hash != ruling:
            platform.contracts_changed()
        found.append(platform.products.get(product.fqn, product))
    return found


def unreadable(product: DataProduct, problem: str, streams: Streams) -> Level:
    """A product whose tables cannot be read, and why."""
    from mesh_pipelines.lake.standing import Standing

    bounds = streams.bounds.get(product.topic.name) if product.topic else None
    return Level(product, Standing(False, missing=problem), bounds, streams.unasked(product))


def _broken(
    platform: Platform, products: Iterable[DataProduct], found: Mapping[str, Standing], streams: Streams
) -> dict[str, StreamDiscontinuity]:
    """The streams that broke off, by product: looked at twice, before their logs and after."""
    seen = _discontinuities(products, found, streams.bounds)
    if not seen:
        return {}
    suspects = [product for product in products if product.fqn in seen]
    again = _discontinuities(suspects, found, ask(platform, suspects).bounds)
    return {name: error for name, error in again.items() if error.code == seen[name].code}


def _discontinuities(
    products: Iterable[DataProduct], found: Mapping[str, Standing], bounds: Mapping[str, Bounds]
) -> dict[str, StreamDiscontinuity]:
    return {
        product.fqn: error
        for product in products
        if product.topic
        and (position := found[product.fqn].position)
        and (there := bounds.get(product.topic.name))
        and (error := discontinuity(product, position, there))
    }


def discontinuity(product: DataProduct, position: Position, bounds: Bounds) -> StreamDiscontinuity | None:
    """How a stream broke off after a position in it, if it did; pure. It sees no truncation that was written over."""
    try:
        continuity.check(product, position, bounds.begin, bounds.end)
    except StreamDiscontinuity as error:
        return error
    return None
