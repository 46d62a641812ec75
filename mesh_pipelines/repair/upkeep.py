"""Upkeep: fewer and bigger files, fewer old snapshots, and rebuilding what is only a cache.

None of these changes what any readable version of a product reads. ``rebuild`` recomputes a product from its log (or,
derived, from the very input versions it was made of) and compares: a cache that differs from what it caches is an error
to be named, not to be papered over. What is right is then published as a version of its own, so that products derived
from the wrong one follow; writing over the wrong one was ruled out, because they would not.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mesh_pipelines.audit.audit import Context, audit
from mesh_pipelines.contract.model import DataProduct, RuleKind
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.counted import counted
from mesh_pipelines.engine import connect, create_view
from mesh_pipelines.errors import (
    AuditDiffers,
    NothingPublished,
    RebuildRefused,
    TableDamaged,
    UnknownVersion,
    VersionDiffers,
)
from mesh_pipelines.lake.applied import renamed
from mesh_pipelines.lake.catalog import Kind
from mesh_pipelines.lake.files import damage
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.pipeline import transform
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.snapshot import input_views, snapshot
from mesh_pipelines.platform import Platform, by_applied_contract
from mesh_pipelines.positions import Version
from mesh_pipelines.rules.compile import compile_product
from mesh_pipelines.sandbox.author import Allowance
from mesh_pipelines.sql.quote import quote

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from mesh_pipelines.lake.product_tables import ProductTables

# Versions whose snapshots expiry keeps for reading as they were; older ones of streams fold from the log again.
KEPT_VERSIONS = 20


@dataclass(frozen=True)
class Upkeep:
    """Data files before and after, snapshots dropped and files removed, over all tables of one product."""

    product: str
    files_before: int
    files_after: int
    snapshots_expired: int
    files_removed: int
    seconds: float


@dataclass(frozen=True)
class Rebuilt:
    """A recomputed version: its rows, and whether they equalled, row by row, what was there (None: it was unreadable).

    ``missing`` and ``surplus`` count the rows that were not there and those that should not have been.
    ``published_as`` is the version that readers see instead, where the rows differed.
    """

    product: str
    version: int
    rows: int
    identical: bool | None
    missing: int | None
    surplus: int | None
    published_as: int | None
    seconds: float


@by_applied_contract
@over_storage
def compact(platform: Platform, product: DataProduct) -> Upkeep:
    """Merge the small files of the product's tables into bigger ones; rows and position stay as they are.

    A product that was not applied has none.
    """
    from mesh_pipelines.lake import compaction

    started = time.monotonic()
    tables = platform.tables_of(product)
    if not tables.were_created():
        return Upkeep(product.fqn, 0, 0, 0, 0, 0.0)
    done = [compaction.compact(tables, kind) for kind in _growing(tables)]
    _refresh_serving(platform)
    return Upkeep(
        product.fqn,
        sum(one.files_before for one in done),
        sum(one.files_after for one in done),
        0,
        0,
        time.monotonic() - started,
    )


@by_applied_contract
@over_storage
def expire(platform: Platform, product: DataProduct, keep: int = KEPT_VERSIONS) -> Upkeep:
    """Drop table snapshots and files that no kept version needs; a product that was not applied has none."""
    from mesh_pipelines.lake import compaction

    started = time.monotonic()
    tables = platform.tables_of(product)
    if not tables.were_created():
        return Upkeep(product.fqn, 0, 0, 0, 0, 0.0)
    expired = compaction.expire(tables, keep)
    return Upkeep(product.fqn, 0, 0, expired.snapshots, expired.files, time.monotonic() - started)


@by_applied_contract
@over_storage
def rebuild(platform: Platform, product: DataProduct, *, number: int | None = None) -> Rebuilt:
    """Recompute a published version (default: the one readers see) from the log or its pinned inputs, and compare.

    Rows that had expired or cannot be read are there again afterwards. Where the newest version's rows differ, what is
    right is audited and published as the next version; any other version that differs stays as it is. Its counts of bad
    rows, which publishing adds up, are compared with those of an audit of all its rows.

    Raises:
        AuditDiffers: the counts are not the same; where it is the newest version, the next one was audited whole and
            published.
        NothingPublished: there is nothing to rebuild.
        TableDamaged: files of the log are missing or unreadable.
        AuditBlocked: what is right breaks a blocking rule; the published version stays.
        ConcurrentWriter: another writer committed meanwhile; transient.
    """
    started = time.monotonic()
    tables = platform.tables_of(product)
    versions = tables.versions
    version = versions.at(number) if number is not None else versions.published()
    if version is None:
        raise NothingPublished(f"{product.fqn}: nothing is published yet", next_step=f"mesh run {product.fqn}")
    own = _made_under(tables, version)
    with closing(connect(platform.settings)) as engine:
        inputs = input_views(platform, version.input_versions)
        allowance = Allowance.of(platform.settings)
        if product.transform:
            rows = transform.run(tables.under(version.contract_hash), inputs, allowance)
            engine.register("recomputed", rows.read_all())
        else:
            _fold_again(tables, engine, version)
        rows = engine.table("recomputed").shape[0]
        differing = _differing(tables, engine, version)
        miscounted = _miscounted(own, engine, version)
        snapshot_id = version.base_snapshot_id
        if product.transform and differing is None:
            _require_as_audited(own, engine, version, Context(inputs=inputs, allowance=allowance))
            snapshot_id = tables.base.write_result(_for_table(tables, engine, version))
        elif version.position and product.event_type.folds_by_key and (differing is None or differing == (0, 0)):
            snapshot_id = tables.base.rewrite(engine, version.position, from_log=True).snapshot_id
    if differing is None:
        versions.restore(replace(version, base_snapshot_id=snapshot_id, overlay=None))
    missing, surplus = differing or (None, None)
    identical = None if differing is None else differing == (0, 0)
    published_as = None
    if (identical is False or miscounted) and version.number == versions.current().number:
        published_as = publish_anew(platform, product)
    _refresh_serving(platform)
    if miscounted and identical is not False:
        raise AuditDiffers(
            f"{product.fqn}: version {version.number} was published with wrong counts: {miscounted}",
            next_step=f"mesh versions {product.fqn}",
        )
    return Rebuilt(
        product.fqn, version.number, rows, identical, missing, surplus, published_as, time.monotonic() - started
    )


def reconcile(platform: Platform, product: DataProduct) -> Rebuilt:
    """Rebuild the version that readers see, on a schedule: a difference is an error, even if it is repaired.

    Raises:
        VersionDiffers: the rows were not those that the log or the inputs give.
        MeshError: as ``rebuild`` does.
    """
    done = rebuild(platform, product)
    if done.identical is False:
        now = f"readers now see version {done.published_as}" if done.published_as else "it was left as it is"
        wrong = f"lacked {counted(done.missing or 0, 'row')} and had {done.surplus:,} wrong ones"
        raise VersionDiffers(
            f"{product.fqn}: version {done.version} {wrong}; {now}",
            next_step="mesh run, for the products derived from it",
        )
    return done


def publish_anew(platform: Platform, product: DataProduct) -> int | None:
    """Rewrite the product's base from its log, and audit and publish the next version though no event is new.

    Gives the version's number; None where readers were taken back to an earlier version, or have none yet.

    Raises:
        AuditBlocked: it breaks a blocking rule; the published version stays.
    """
    tables = platform.tables_of(product)
    published = tables.versions.published()
    if published is None or published.number != tables.versions.next_number() - 1:
        return None
    position = tables.log.position() if product.has_log else None
    if position and product.event_type.folds_by_key:
        with closing(connect(platform.settings)) as engine:
            tables.base.rewrite(engine, position, from_log=True)
    snapshot(platform, product, anew=True)
    return publish(platform, product).version.number


def _made_under(tables: ProductTables, version: Version) -> DataProduct:
    """The product under the contract that a version was audited under: its SQL and its rules make it again.

    Raises:
        RebuildRefused: that contract was not kept, and another's SQL would give other rows.
    """
    own = tables.under(version.contract_hash)
    if own.transform and own.contract_hash != version.contract_hash:
        raise RebuildRefused(
            f"{own.fqn}: version {version.number} was made under contract {version.contract_version}, which was not "
            "kept; the contract applied now would give other rows",
            next_step=f"mesh versions {own.fqn}",
        )
    return own


def _require_as_audited(
    own: DataProduct, engine: duckdb.DuckDBPyConnection, version: Version, context: Context
) -> None:
    """Check recomputed rows before they stand for a version that was audited: their number, and its blocking rules.

    Raises:
        VersionDiffers: they are not what was published.
    """
    found = audit(engine, "recomputed", own, candidate_id=version.candidate_id, context=context)
    if found.rows == version.rows and found.verdict.passed:
        return
    broken = f", which break {', '.join(found.verdict.blocking)}" if not found.verdict.passed else ""
    raise VersionDiffers(
        f"{own.fqn}: version {version.number} had {counted(version.rows, 'row')}; its inputs now give "
        f"{found.rows:,}{broken}; the version was left as it is",
        next_step=f"mesh versions {own.fqn}",
    )


def _for_table(tables: ProductTables, engine: duckdb.DuckDBPyConnection, version: Version) -> pa.RecordBatchReader:
    """Recomputed rows in the columns that the table has now, which may have other names, and more of them."""
    kept = tables.versions.contract(version.contract_hash)
    now = renamed(tables.columns(), tables.product, kept) if kept else tables.product
    own = kept.product if kept else tables.product
    former = {after.name: quote(before.name) for before, after in zip(own.fields, now.fields, strict=True)}
    columns = [
        f"CAST({former.get(one.name, 'NULL')} AS {duckdb_type(one.type)}) AS {quote(one.name)}"
        for one in tables.product.fields
    ]
    return engine.sql(f"SELECT {', '.join(columns)} FROM recomputed").to_arrow_reader()


def _fold_again(tables: ProductTables, engine: duckdb.DuckDBPyConnection, version: Version) -> None:
    """The version's rows from the log, as ``recomputed``."""
    try:
        create_view(engine, "from log", tables.state.sql(version, from_log=True))
        engine.execute('CREATE TABLE recomputed AS FROM "from log"')
    except damage() as error:
        raise TableDamaged(
            f"{tables.product.fqn}: its log cannot be read: {str(error).splitlines()[0]}",
            next_step=f"mesh rebuild {tables.product.fqn} --from topic",
        ) from error


def _differing(tables: ProductTables, engine: duckdb.DuckDBPyConnection, version: Version) -> tuple[int, int] | None:
    """How many recomputed rows are not there, and how many rows there were not recomputed, duplicates counted.

    None where what is there expired or cannot be read.
    """
    try:
        create_view(engine, "before", tables.state.sql(version))
        [(missing, surplus)] = engine.execute(
            "SELECT (SELECT count(*) FROM (FROM recomputed EXCEPT ALL FROM before)),"
            " (SELECT count(*) FROM (FROM before EXCEPT ALL FROM recomputed))"
        ).fetchall()
    except (UnknownVersion, *damage()):
        return None
    return missing, surplus


def _miscounted(product: DataProduct, engine: duckdb.DuckDBPyConnection, version: Version) -> str:
    """How the version's counts of bad rows differ from those of its recomputed rows, rule by rule; "" if they do not.

    Counts from before the contract changed say nothing about the current rules, and a rule that cannot be computed has
    none to compare.
    """
    if version.bad is None or version.contract_hash != product.contract_hash:
        return ""
    rules = compile_product(product)
    counted = [one.rule for one in rules.rules if one in (*rules.row_rules, *rules.of(RuleKind.UNIQUE))]
    found = audit(engine, "recomputed", replace(product, rules=tuple(counted)), candidate_id=version.candidate_id)
    bad = {one.rule: one.bad for one in found.results if one.bad is not None} | {"rows": found.rows}
    stored = {**version.bad, "rows": version.rows}
    both = [rule for rule in stored if rule in bad]
    return ", ".join(f"{rule}: {stored[rule]:,}, not {bad[rule]:,}" for rule in both if bad[rule] != stored[rule])


def _growing(tables: ProductTables) -> tuple[Kind, ...]:
    """The tables that grow by small commits; a derived product's rows are rewritten each time."""
    return tuple(kind for kind in tables.kinds if kind != "base" or tables.product.has_log)


def _refresh_serving(platform: Platform) -> None:
    from mesh_pipelines.serve.bi_file import write_serving_file

    write_serving_file(platform.settings, platform.products.values(), platform.tables)
