"""One domain as a Dagster code location.

A broken contract shows as one failed asset and leaves the rest of its domain as it is; a domain that fails to load
leaves the other locations as they are.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

from mesh_pipelines.collector import spare_what_is_alive, without_collector
from mesh_pipelines.orchestration.assets import broken_asset, product_assets
from mesh_pipelines.orchestration.automation import domain_sensor, upkeep
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings


def domain_definitions(domain: str, settings: Settings | None = None) -> dg.Definitions:
    """The definitions of all products of one domain (default settings: this process's environment)."""
    with without_collector():
        return _definitions(Platform.open(settings), domain)


def _definitions(platform: Platform, domain: str) -> dg.Definitions:
    products = [product for product in platform.in_order if product.domain == domain]
    known = {product.fqn for product in products}
    # What was applied goes on running, though its file has faults by now.
    broken = {
        name: error for name, error in platform.broken.items() if name.split(".")[0] == domain and name not in known
    }
    unapplied = platform.unapplied(known)
    assets = [asset for product in products for asset in product_assets(platform, product, unapplied.get(product.fqn))]
    sensors = [domain_sensor(platform, domain, products)] if products else []
    jobs, schedules = upkeep(platform, domain, products) if products else ([], [])
    return dg.Definitions(
        assets=[*assets, *(broken_asset(name, error) for name, error in broken.items())],
        sensors=sensors,
        jobs=jobs,
        schedules=schedules,
        # Each connection is confined by the step that runs in it, as every other is.
        resources={"duckdb": DuckDBResource(database=":memory:")},
        executor=dg.in_process_executor,
    )


def of_folder(file: str) -> dg.Definitions:
    """The definitions of the domain whose folder holds this file: what ``assets/<domain>/definitions.py`` calls."""
    with without_collector():
        definitions = _definitions(Platform.open(), Path(file).resolve().parent.name)
        # A process that loads a code location does so once, and then asks about it and forks runs.
        spare_what_is_alive()
    return definitions
