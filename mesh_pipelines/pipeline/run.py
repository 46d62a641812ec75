"""All steps of one or many products, every product after its inputs: what a scheduler tick and `mesh run` do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import MeshError
from mesh_pipelines.pipeline.land import Landed, land
from mesh_pipelines.pipeline.publish import Published, publish
from mesh_pipelines.pipeline.snapshot import Snapshot, snapshot
from mesh_pipelines.platform import Platform

OnStep = Callable[[Landed | Snapshot | Published], None]


@dataclass(frozen=True)
class ProductRun:
    """One product's run: what each step did, and the error that stopped it, if one did."""

    product: str
    landed: Landed | None = None
    snapshot: Snapshot | None = None
    published: Published | None = None
    error: MeshError | None = None

    @property
    def steps(self) -> list[Landed | Snapshot | Published]:
        """What the steps did that came to their end."""
        return [step for step in (self.landed, self.snapshot, self.published) if step]

    @property
    def races(self) -> int:
        """The commits that other runs won meanwhile."""
        return sum(step.races for step in self.steps)


def run(platform: Platform, names: Iterable[str] = (), on_step: OnStep | None = None) -> list[ProductRun]:
    """Land, snapshot and publish the named products (default: all) in dependency order.

    A product that fails does not stop the others; what depends on it works with its last published version.
    """
    wanted = {platform.product(name).fqn for name in names}
    return [
        _run_one(platform, product, on_step or (lambda _: None))
        for product in platform.in_order
        if not wanted or product.fqn in wanted
    ]


def _run_one(platform: Platform, product: DataProduct, on_step: OnStep) -> ProductRun:
    landed: Landed | None = None
    taken: Snapshot | None = None
    try:
        if product.topic:
            landed = land(platform, product)
            on_step(landed)
        taken = snapshot(platform, product)
        on_step(taken)
        published = publish(platform, product)
        on_step(published)
    except MeshError as error:
        return ProductRun(product.fqn, landed, taken, None, error)
    return ProductRun(product.fqn, landed, taken, published)
