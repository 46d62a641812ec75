"""Publish: move the product's version pointer to its audited candidate, in one commit, or refuse.

The guard is in the table and not in an orchestrator: whatever route asks for it, only a passing verdict for exactly
this candidate under exactly this contract lets a version through.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import AuditBlocked, Unaudited
from mesh_pipelines.failpoints import reach
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.pipeline.report import reported
from mesh_pipelines.platform import Platform, by_applied_contract
from mesh_pipelines.positions import Version


@dataclass(frozen=True)
class Published:
    """The product's published version, and whether this call is what published it."""

    product: str
    version: Version
    changed: bool
    seconds: float


@by_applied_contract
@reported("publish")
@over_storage
def publish(platform: Platform, product: DataProduct) -> Published:
    """Publish the product's newest candidate; where it is published already, nothing happens.

    Raises:
        AuditBlocked: the candidate broke a blocking rule; the published version stays.
        Unaudited: there is no candidate, or its verdict is for another candidate or contract.
        ConcurrentWriter: another writer moved the pointer first; transient.
    """
    from mesh_pipelines.serve.bi_file import write_serving_file

    started = time.monotonic()
    versions = platform.tables_of(product).versions
    newest = versions.newest()
    if newest is None:
        raise Unaudited(f"{product.fqn}: there is no candidate to publish", next_step=f"mesh snapshot {product.fqn}")
    if newest.published_at and newest.contract_hash == product.contract_hash:
        # After a rollback the newest version is not the one that readers see, and is not published again by itself.
        return Published(product.fqn, versions.current(), False, time.monotonic() - started)
    _refuse_blocked(product, newest, versions.published())
    reach("publish.audited")
    version = versions.publish(newest.candidate_id, product.contract_hash, datetime.now(UTC).isoformat())
    write_serving_file(platform.settings, platform.products.values(), platform.tables)
    return Published(product.fqn, version, True, time.monotonic() - started)


def _refuse_blocked(product: DataProduct, candidate: Version, published: Version | None) -> None:
    verdict = candidate.verdict
    if verdict and not verdict.passed and verdict.contract_hash == product.contract_hash:
        raise AuditBlocked(
            f"{product.fqn}: version {candidate.number} broke {', '.join(verdict.blocking)}; "
            f"{f'version {published.number} stays published' if published else 'nothing is published'}",
            next_step=f"mesh quarantine list {product.fqn}, or mend the data at its source and mesh run {product.fqn}",
        )
