"""The next version of a product, computed and audited: what ``publish`` may then publish, or may not.

A stream's candidate is its log up to the landed position, folded; a derived product's is its SQL over the published
versions of its inputs. From there on both are the same: the contract's rules are computed for exactly that candidate,
from the counts of the one before where those can be added to (``pipeline/candidate.py``), and the candidate is stored
together with its verdict in one commit, so neither ever exists without the other.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.engine import confine, connect
from mesh_pipelines.errors import NothingPublished
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.pipeline.candidate import CANDIDATE, Materialised, counted, materialise
from mesh_pipelines.pipeline.report import reported
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Version
from mesh_pipelines.sql.quote import quote

if TYPE_CHECKING:
    import duckdb

    from mesh_pipelines.audit.results import Audit
    from mesh_pipelines.lake.catalog import Pinned
    from mesh_pipelines.lake.versions import Versions


@dataclass(frozen=True)
class Snapshot:
    """What one snapshot did. ``changed`` is False where nothing new was there to audit.

    ``audit`` is the audit that the candidate's verdict comes from, also when it was made by an earlier snapshot;
    ``whole`` says whether this one looked at every row, and did not add to the counts of the version before.
    """

    product: str
    candidate: Version | None
    changed: bool
    audit: Audit | None
    rewrote_base: bool
    seconds: float
    whole: bool = False


@reported("snapshot")
@over_storage
def snapshot(
    platform: Platform,
    product: DataProduct,
    *,
    connection: duckdb.DuckDBPyConnection | None = None,
    anew: bool = False,
    run: str | None = None,
) -> Snapshot:
    """Compute and audit the product's next version.

    Where neither the data nor the contract changed since the newest candidate, that candidate and its audit are given
    back and nothing is written, unless ``anew``. A ``connection`` that is handed in is confined first. ``run`` is the
    id of the orchestrator's run, kept with the candidate.

    Raises:
        NothingPublished: an input of a derived product has no published version yet.
        ConcurrentWriter: another snapshot of the product was stored first; transient.
    """
    started = time.monotonic()
    from mesh_pipelines.lake.catalog import Pinned
    from mesh_pipelines.lake.versions import Versions

    catalog = Pinned(platform.catalog)
    versions = Versions(platform.catalog, product)
    draft = replace(_draft(platform, product, versions, catalog), run=run)
    newest = versions.newest()
    if newest and not anew and _same_content(newest, draft):
        return Snapshot(
            product.fqn, newest, False, _stored_audit(platform, product, newest), False, time.monotonic() - started
        )
    settings = platform.settings
    with closing(confine(connection.cursor(), settings) if connection else connect(settings)) as engine:
        done = _materialise(platform, product, engine, draft, None if anew else newest, catalog)
        candidate, audit = _audit(platform, product, engine, done, catalog)
    _store(platform, product, versions, candidate, audit)
    seconds = time.monotonic() - started
    return Snapshot(product.fqn, candidate, True, audit, done.rewrote_base, seconds, whole=done.known is None)


def _draft(platform: Platform, product: DataProduct, versions: Versions, catalog: Pinned) -> Version:
    """The candidate before its data: what it will be made of."""
    draft = Version(
        product=product.fqn,
        number=versions.next_number(),
        candidate_id=uuid.uuid4().hex,
        contract_version=product.contract_version,
        contract_hash=product.contract_hash,
        created_at=_now(),
        rows=0,
    )
    if product.transform:
        return replace(draft, input_versions=pin_inputs(platform, product))
    from mesh_pipelines.lake.log import Log

    position = Log(catalog, product).position()
    if position is None:
        raise NothingPublished(f"{product.fqn}: nothing has been landed yet", next_step=f"mesh land {product.fqn}")
    return replace(draft, position=position)


def pin_inputs(platform: Platform, product: DataProduct) -> dict[str, int]:
    """The input products' published version numbers, as of now.

    Raises:
        NothingPublished: an input has no published version.
    """
    from mesh_pipelines.lake.versions import Versions

    pinned: dict[str, int] = {}
    for name in product.inputs:
        published = Versions(platform.catalog, platform.product(name)).published()
        if published is None:
            raise NothingPublished(
                f"{product.fqn}: its input {name} has no published version yet", next_step=f"mesh run {name}"
            )
        pinned[name] = published.number
    return pinned


def _same_content(stored: Version, draft: Version) -> bool:
    return (stored.contract_hash, stored.position, dict(stored.input_versions)) == (
        draft.contract_hash,
        draft.position,
        dict(draft.input_versions),
    )


def _materialise(
    platform: Platform,
    product: DataProduct,
    engine: duckdb.DuckDBPyConnection,
    draft: Version,
    newest: Version | None,
    catalog: Pinned,
) -> Materialised:
    """The candidate's data as a view ``candidate``."""
    from mesh_pipelines.lake import base, state

    if product.transform is None:
        return materialise(catalog, product, engine, draft, newest, tail_rows=platform.settings.base_tail_rows)
    register_inputs(platform, engine, draft.input_versions)
    from mesh_pipelines.pipeline import transform

    rows = transform.run(engine, product, timeout_s=platform.settings.sql_timeout_s)
    draft = replace(draft, base_snapshot_id=base.write_result(platform.catalog, product, rows))
    state.register(engine, platform.catalog, product, draft, CANDIDATE)
    return Materialised(draft, rewrote_base=True)


def register_inputs(platform: Platform, engine: duckdb.DuckDBPyConnection, pinned: Mapping[str, int]) -> None:
    """The inputs at these versions as views ``domain.name``, and nothing else of the mesh."""
    from mesh_pipelines.lake import state
    from mesh_pipelines.lake.versions import Versions

    for name, number in pinned.items():
        source = platform.product(name)
        version = Versions(platform.catalog, source).at(number)
        flat = f"input {name}"
        state.register(engine, platform.catalog, source, version, flat)
        engine.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(source.domain)}")
        view = f"{quote(source.domain)}.{quote(source.name)}"
        engine.execute(f"CREATE OR REPLACE VIEW {view} AS FROM {quote(flat)}")


@reported("audit")
def _audit(
    platform: Platform, product: DataProduct, engine: duckdb.DuckDBPyConnection, done: Materialised, catalog: Pinned
) -> tuple[Version, Audit]:
    from mesh_pipelines.audit.audit import audit

    draft = done.draft
    inputs = {name: f"input {name}" for name in draft.input_versions}
    outcome = audit(
        engine,
        CANDIDATE,
        product,
        candidate_id=draft.candidate_id,
        inputs=inputs,
        timeout_s=platform.settings.sql_timeout_s,
        known=done.known,
    )
    draft = counted(catalog, product, engine, done, outcome)
    held = _quarantined(catalog, product)
    return replace(draft, rows=outcome.rows, quarantined=held, verdict=outcome.verdict), outcome


def _quarantined(catalog: Pinned, product: DataProduct) -> int:
    from mesh_pipelines.lake.log import Log

    return Log(catalog, product).quarantined() if product.has_log else 0


def _store(platform: Platform, product: DataProduct, versions: Versions, candidate: Version, audit: Audit) -> None:
    """Results first: those of a candidate that never came to be are harmless, a verdict without results is not."""
    from mesh_pipelines.audit import history
    from mesh_pipelines.lake import checks

    checks.append(platform.catalog, product, history.rows(product, candidate.number, audit))
    versions.propose(candidate)


def _stored_audit(platform: Platform, product: DataProduct, version: Version) -> Audit | None:
    from mesh_pipelines.audit import history
    from mesh_pipelines.lake import checks

    return history.audit(checks.read(platform.catalog, product, candidate_id=version.candidate_id), version)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
