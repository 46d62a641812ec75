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
from mesh_pipelines.engine import View, confine, connect
from mesh_pipelines.errors import NothingPublished
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.pipeline.attempts import note, remembered
from mesh_pipelines.pipeline.publish import blocked
from mesh_pipelines.pipeline.race import outlast
from mesh_pipelines.pipeline.report import done_of, reported, written_bytes
from mesh_pipelines.platform import Platform, by_applied_contract, fields_behind
from mesh_pipelines.positions import Version
from mesh_pipelines.sandbox.author import Allowance
from mesh_pipelines.serve.stored_results import audit_of

if TYPE_CHECKING:
    import duckdb

    from mesh_pipelines.lake.product_tables import ProductTables
    from mesh_pipelines.openlineage.facts import Done
    from mesh_pipelines.pipeline.candidate import Candidate
    from mesh_pipelines.rules.results import Audit


@dataclass(frozen=True)
class Snapshot:
    """What one snapshot did. ``changed`` is False where nothing new was there to audit.

    ``audit`` is the audit that the candidate's verdict comes from, also when it was made by an earlier snapshot;
    ``whole`` says whether this one looked at every row, and did not add to the counts of the version before.
    ``races`` counts the commits that another run won; where that stored the same candidate, it is the one given.
    """

    product: str
    candidate: Version | None
    changed: bool
    audit: Audit | None
    rewrote_base: bool
    seconds: float
    whole: bool = False
    races: int = 0

    @property
    def by_another(self) -> bool:
        """Whether another run stored this candidate first."""
        return bool(self.races) and not self.changed

    def done(self, platform: Platform, product: DataProduct) -> Done:
        """What the snapshot tells of itself (``report.Tells``)."""
        from mesh_pipelines.openlineage.facts import Done

        if self.candidate is None:
            return Done()
        base = self.candidate.base_snapshot_id if self.rewrote_base else None
        return done_of(self.candidate, written_bytes(platform, product, "base", base))


@by_applied_contract
@reported("snapshot")
@remembered("snapshot")
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
        ConcurrentWriter: other snapshots of the product were stored first, again and again; transient.
    """
    started = time.monotonic()
    done, races = outlast(lambda: _snapshot(platform, product, connection, anew=anew, run=run))
    return replace(done, races=races, seconds=time.monotonic() - started)


def _snapshot(
    platform: Platform,
    product: DataProduct,
    connection: duckdb.DuckDBPyConnection | None,
    *,
    anew: bool,
    run: str | None,
) -> Snapshot:
    from mesh_pipelines.pipeline import transform
    from mesh_pipelines.pipeline.candidate import Candidate

    tables = platform.tables_of(product).pinned()
    draft = replace(_draft(platform, tables), run=run)
    newest = tables.versions.newest()
    if newest and not anew and _same_content(newest, draft):
        return Snapshot(product.fqn, newest, False, audit_of(platform, product, newest), False, 0.0)
    settings = platform.settings
    inputs = input_views(platform, draft.input_versions)
    with closing(confine(connection.cursor(), settings) if connection else connect(settings)) as engine:
        former = None if anew else newest
        candidate = Candidate(tables, engine, draft, former, tail_rows=settings.base_tail_rows)
        if product.transform:
            candidate.put(transform.run(product, inputs, Allowance.of(settings)))
        else:
            candidate.fold()
        version, audit = _audit(platform, product, engine, candidate, inputs)
    _store(tables, version, audit)
    if not audit.verdict.passed:
        note(platform, product, "audit", blocked(product, version, tables.versions.published()))
    return Snapshot(product.fqn, version, True, audit, candidate.rewrote_base, 0.0, whole=candidate.known is None)


def _draft(platform: Platform, tables: ProductTables) -> Version:
    """The candidate before its data: what it will be made of."""
    product = tables.product
    draft = Version(
        product=product.fqn,
        number=tables.versions.next_number(),
        candidate_id=uuid.uuid4().hex,
        contract_version=product.contract_version,
        contract_hash=product.contract_hash,
        created_at=_now(),
        rows=0,
    )
    if product.transform:
        pinned = pin_inputs(platform, product)
        return replace(
            draft,
            input_versions={name: version.number for name, version in pinned.items()},
            input_extents={name: version.extent for name, version in pinned.items()},
        )
    position = tables.log.position()
    if position is None:
        raise NothingPublished(f"{product.fqn}: nothing has been landed yet", next_step=f"mesh land {product.fqn}")
    return replace(draft, position=position)


def pin_inputs(platform: Platform, product: DataProduct) -> dict[str, Version]:
    """The input products' current published versions.

    Raises:
        NothingPublished: an input has no published version.
    """
    pinned: dict[str, Version] = {}
    for name in product.inputs:
        published = platform.tables_of(platform.product(name)).versions.published()
        if published is None:
            raise NothingPublished(
                f"{product.fqn}: its input {name} has no published version yet", next_step=f"mesh run {name}"
            )
        pinned[name] = published
    return pinned


def _same_content(stored: Version, draft: Version) -> bool:
    return (stored.contract_hash, stored.position, dict(stored.input_versions)) == (
        draft.contract_hash,
        draft.position,
        dict(draft.input_versions),
    )


def input_views(platform: Platform, pinned: Mapping[str, int]) -> dict[str, View]:
    """The inputs at these versions, by ``domain.name``."""
    views: dict[str, View] = {}
    for name, number in pinned.items():
        tables = platform.tables_of(platform.product(name)).pinned()
        views[name] = tables.state.view(tables.versions.at(number))
    return views


@reported("audit")
def _audit(
    platform: Platform,
    product: DataProduct,
    engine: duckdb.DuckDBPyConnection,
    candidate: Candidate,
    inputs: Mapping[str, View],
) -> tuple[Version, Audit]:
    from mesh_pipelines.audit.audit import Context, audit

    allowance, fields = Allowance.of(platform.settings), fields_behind(platform, product)
    context = Context(candidate.view, inputs, allowance, candidate.known, fields)
    found = audit(engine, candidate.relation, product, candidate_id=candidate.draft.candidate_id, context=context)
    return candidate.audited(found), found


def _store(tables: ProductTables, candidate: Version, audit: Audit) -> None:
    """Results first: those of a candidate that never came to be are harmless, a verdict without results is not."""
    from mesh_pipelines.audit import history

    tables.checks.append(history.rows(tables.product, candidate.number, audit))
    tables.versions.propose(candidate)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
