"""One domain as a Dagster code location.

A broken contract shows as one failed asset and leaves the rest of its domain as it is; a domain that fails to load
leaves the other locations as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

from mesh_pipelines.collector import spare_what_is_alive, without_collector
from mesh_pipelines.confidential import masked
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.names import is_in
from mesh_pipelines.local.private import keep_private
from mesh_pipelines.observe.unloaded import note_products
from mesh_pipelines.orchestration.assets import broken_asset, product_assets, unloaded_asset
from mesh_pipelines.orchestration.automation import domain_sensor, upkeep
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

_log = logging.getLogger(__name__)


def domain_definitions(domain: str, settings: Settings | None = None) -> dg.Definitions:
    """The definitions of all products of one domain (default settings: this process's environment)."""
    with without_collector():
        platform = Platform.open(settings)
        keep_private(platform.settings)
        return _definitions(platform, domain)


def _definitions(platform: Platform, domain: str) -> dg.Definitions:
    products = [product for product in platform.in_order if is_in(domain, product.fqn)]
    known = {product.fqn for product in products}
    # What was applied goes on running, though its file has faults by now.
    broken = {name: error for name, error in platform.broken.items() if is_in(domain, name) and name not in known}
    unapplied = platform.unapplied(known)
    made, reasons = _each(platform, products, unapplied)
    note_products(platform.settings, domain, reasons)
    products = [product for product in products if product.fqn in made]
    sensors = [domain_sensor(platform, domain, products)] if products else []
    jobs, schedules = upkeep(platform, domain, products) if products else ([], [])
    return dg.Definitions(
        assets=[
            *(asset for assets in made.values() for asset in assets),
            *(unloaded_asset(name, reason) for name, reason in reasons.items()),
            *(broken_asset(name, error) for name, error in broken.items()),
        ],
        sensors=sensors,
        jobs=jobs,
        schedules=schedules,
        # Each connection is confined by the step that runs in it, as every other is.
        resources={"duckdb": DuckDBResource(database=":memory:")},
        executor=dg.in_process_executor,
    )


def _each(
    platform: Platform, products: list[DataProduct], unapplied: Mapping[str, str]
) -> tuple[dict[str, Sequence[dg.AssetsDefinition | dg.AssetSpec]], dict[str, str]]:
    """The assets of each product, and of which none could be made, and why: one product stops no other."""
    made: dict[str, Sequence[dg.AssetsDefinition | dg.AssetSpec]] = {}
    reasons: dict[str, str] = {}
    for product in products:
        try:
            made[product.fqn] = product_assets(platform, product, unapplied.get(product.fqn))
        except Exception as error:
            _log.exception("no assets can be made of %s", product.fqn)
            reasons[product.fqn] = masked(f"{type(error).__name__}: {error}")
    return made, reasons


def of_folder(file: str) -> dg.Definitions:
    """The definitions of the domain whose folder holds this file: what ``assets/<domain>/definitions.py`` calls."""
    with without_collector():
        platform = Platform.open()
        keep_private(platform.settings)
        definitions = _definitions(platform, Path(file).resolve().parent.name)
        # A process that loads a code location does so once, and then asks about it and forks runs.
        spare_what_is_alive()
    return definitions
