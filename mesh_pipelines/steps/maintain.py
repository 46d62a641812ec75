"""Upkeep: fewer and bigger files, fewer old snapshots, and rebuilding what is only a cache.

None of these changes what any readable version of a product reads. ``rebuild`` recomputes a product from its log (or,
derived, from the very input versions it was made of) and compares before it replaces: a cache that differs from what
it caches is an error to be named, not to be papered over.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.engine import connect
from mesh_pipelines.errors import NothingPublished, UnknownVersion
from mesh_pipelines.lake.catalog import Kind
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.positions import Version
from mesh_pipelines.steps.platform import Platform

if TYPE_CHECKING:
    import duckdb

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
    """A rebuilt version: its rows, and whether they equalled, row by row, what was there (None: it had expired)."""

    product: str
    version: int
    rows: int
    identical: bool | None
    seconds: float


@over_storage
def compact(platform: Platform, product: DataProduct) -> Upkeep:
    """Merge the small files of the product's tables into bigger ones; rows and position stay as they are."""
    from mesh_pipelines.lake import maintain

    started = time.monotonic()
    done = [maintain.compact(platform.catalog, product, table) for table in _tables(product)]
    _refresh_serving(platform)
    return Upkeep(
        product.fqn,
        sum(one.files_before for one in done),
        sum(one.files_after for one in done),
        0,
        0,
        time.monotonic() - started,
    )


@over_storage
def expire(platform: Platform, product: DataProduct, keep: int = KEPT_VERSIONS) -> Upkeep:
    """Drop table snapshots and files that no kept version needs."""
    from mesh_pipelines.lake import maintain

    started = time.monotonic()
    expired = maintain.expire(platform.catalog, product, keep)
    return Upkeep(product.fqn, 0, 0, expired.snapshots, expired.files, time.monotonic() - started)


@over_storage
def rebuild(platform: Platform, product: DataProduct, *, number: int | None = None) -> Rebuilt:
    """Recompute a published version (default: the newest) from the log or its pinned inputs, and compare.

    A stream's base is rewritten from the first event of the log; a derived product's rows are computed again.

    Raises:
        NothingPublished: there is nothing to rebuild.
    """
    from mesh_pipelines.lake import base, state
    from mesh_pipelines.lake.versions import Versions
    from mesh_pipelines.steps import transform
    from mesh_pipelines.steps.snapshot import register_inputs

    started = time.monotonic()
    versions = Versions(platform.catalog, product)
    version = versions.at(number) if number is not None else versions.published()
    if version is None:
        raise NothingPublished(f"{product.fqn}: nothing is published yet", next_step=f"mesh run {product.fqn}")
    with closing(connect(platform.settings)) as engine:
        if product.is_derived:
            register_inputs(platform, engine, version.input_versions)
            rows = transform.run(engine, product, timeout_s=platform.settings.sql_timeout_s)
            engine.register("recomputed", rows.read_all())
        else:
            state.register(engine, platform.catalog, product, version, "recomputed", from_log=True)
        identical, rows = _compare(platform, product, engine, version)
        if product.is_derived:
            snapshot_id = base.write_result(platform.catalog, product, engine.table("recomputed").to_arrow_reader())
            versions.restore(replace(version, base_snapshot_id=snapshot_id))
        elif version.position and product.event_type.folds_by_key:
            base.rewrite_base(engine, platform.catalog, product, version.position, from_log=True)
    _refresh_serving(platform)
    return Rebuilt(product.fqn, version.number, rows, identical, time.monotonic() - started)


def _compare(
    platform: Platform, product: DataProduct, engine: duckdb.DuckDBPyConnection, version: Version
) -> tuple[bool | None, int]:
    """Whether what is kept and what was recomputed are the same rows, duplicates counted; second, how many."""
    from mesh_pipelines.lake import state

    [(rows,)] = engine.execute("SELECT count(*) FROM recomputed").fetchall()
    try:
        state.register(engine, platform.catalog, product, version, "before")
    except UnknownVersion:
        return None, rows
    [(missing, added)] = engine.execute(
        "SELECT (SELECT count(*) FROM (FROM before EXCEPT ALL FROM recomputed)),"
        " (SELECT count(*) FROM (FROM recomputed EXCEPT ALL FROM before))"
    ).fetchall()
    return missing == added == 0, rows


def _tables(product: DataProduct) -> tuple[Kind, ...]:
    """The tables that grow by small commits; a derived product's rows are written anew each time."""
    from mesh_pipelines.lake.tables import kinds

    return tuple(kind for kind in kinds(product) if kind != "base" or not product.is_derived)


def _refresh_serving(platform: Platform) -> None:
    from mesh_pipelines.lake.serving import write_serving_file

    write_serving_file(platform.settings, platform.products.values(), platform.catalog)
