"""The events a product did not take over: where they are on the stream, why, and their bytes as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import UsageError
from mesh_pipelines.steps.platform import Platform

if TYPE_CHECKING:
    import pyarrow as pa


def quarantined(platform: Platform, product: DataProduct, limit: int | None = 100) -> pa.Table:
    """The newest quarantined events, one row each: coordinates, key, fate, rule, reason and raw bytes."""
    from mesh_pipelines.lake.log import Log

    if product.is_derived:
        raise UsageError(
            f"{product.fqn} is derived: it has no events", next_step=f"mesh quarantine {product.inputs[0]}"
        )
    return Log(platform.catalog, product).quarantine(limit)
