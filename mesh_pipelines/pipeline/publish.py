"""Publish: move the product's version pointer to its audited candidate, in one commit, or refuse.

The guard is in the table and not in an orchestrator: whatever route asks for it, only a passing verdict for exactly
this candidate under exactly this contract lets a version through.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import AuditBlocked, ConcurrentWriter, Unaudited
from mesh_pipelines.failpoints import reach
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.pipeline.attempts import remembered
from mesh_pipelines.pipeline.race import outlast
from mesh_pipelines.pipeline.report import done_of, reported
from mesh_pipelines.platform import Platform, by_applied_contract
from mesh_pipelines.positions import Version

if TYPE_CHECKING:
    from mesh_pipelines.openlineage.facts import Done


@dataclass(frozen=True)
class Published:
    """The product's published version, and whether this call is what published it.

    ``races`` counts the commits that another run won.
    """

    product: str
    version: Version
    changed: bool
    seconds: float
    races: int = 0

    @property
    def by_another(self) -> bool:
        """Whether another run published this version first."""
        return bool(self.races) and not self.changed

    def done(self, platform: Platform, product: DataProduct) -> Done:
        """What the publishing tells of itself (``report.Tells``)."""
        del platform, product
        return done_of(self.version)


@by_applied_contract
@reported("publish")
@remembered("publish")
@over_storage
def publish(platform: Platform, product: DataProduct) -> Published:
    """Publish the product's newest candidate; where it is published already, nothing happens.

    Raises:
        AuditBlocked: the candidate broke a blocking rule; the published version stays.
        Unaudited: the product has no candidate, or its verdict is for another candidate or contract.
        ConcurrentWriter: other writers moved the pointer first, again and again; transient.
    """
    started = time.monotonic()
    done, races = outlast(lambda: _publish(platform, product))
    return replace(done, races=races, seconds=time.monotonic() - started)


def _publish(platform: Platform, product: DataProduct) -> Published:
    from mesh_pipelines.serve.bi_file import write_serving_file

    versions = platform.tables_of(product).versions
    newest = versions.newest()
    if newest is None:
        raise Unaudited(f"{product.fqn} has no candidate to publish", next_step=f"mesh snapshot {product.fqn}")
    if newest.published_at and newest.contract_hash == product.contract_hash:
        # After a rollback the newest version is not the one that readers see, and is not published again by itself.
        return Published(product.fqn, versions.current(), False, 0.0)
    _refuse_blocked(product, newest, versions.published())
    reach("publish.audited")
    try:
        version = versions.publish(newest.candidate_id, product.contract_hash, datetime.now(UTC).isoformat())
    except Unaudited as error:
        if versions.newest() == newest:
            raise
        raise ConcurrentWriter(
            f"{product.fqn}: another run stored a newer candidate or published this one first",
            next_step=f"mesh publish {product.fqn}",
        ) from error
    write_serving_file(platform.settings, platform.products.values(), platform.tables)
    return Published(product.fqn, version, True, 0.0)


def _refuse_blocked(product: DataProduct, candidate: Version, published: Version | None) -> None:
    verdict = candidate.verdict
    if verdict and not verdict.passed and verdict.contract_hash == product.contract_hash:
        raise blocked(product, candidate, published)


def blocked(product: DataProduct, candidate: Version, published: Version | None) -> AuditBlocked:
    """The error for a candidate that broke a blocking rule."""
    rules = list(candidate.verdict.blocking) if candidate.verdict else []
    return AuditBlocked(
        f"{product.fqn}: version {candidate.number} broke {', '.join(rules)}; "
        f"{f'version {published.number} stays published' if published else 'nothing is published'}",
        next_step=f"mesh failing {product.fqn} {shlex.quote(rules[0])}",
    )
