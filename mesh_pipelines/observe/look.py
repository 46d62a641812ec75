"""One look at every product: three questions for all of them, to the broker, the catalog and the tables' properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mesh_pipelines.confidential import masked
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import MeshError
from mesh_pipelines.lake.storage import fault_of
from mesh_pipelines.observe.measure import Seen
from mesh_pipelines.observe.status import ProductStatus, status_of, stream_ends
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Position

if TYPE_CHECKING:
    from mesh_pipelines.lake.standing import Standing


def look(platform: Platform) -> list[Seen]:
    """Every sound product as it is now, each after its inputs; one whose tables cannot be read says so itself.

    The streams are asked first: what a version was made of lies before the end that is known then, or is covered by it.
    """
    try:
        ends, problem = stream_ends(platform)
    except MeshError as error:
        ends, problem = {}, told(error)
    found = _standings(platform)
    return [_seen(product, found[product.fqn], ends, problem) for product in platform.in_order]


def told(error: Exception) -> str:
    """An error in one line: its code and message, or what kind it is."""
    fault = fault_of(error) or error
    if isinstance(fault, MeshError):
        return f"{fault.code} {fault.message}"
    return masked(f"{type(fault).__name__}: {next(iter(str(fault).splitlines()), '')}")


def _seen(product: DataProduct, found: Standing | str, ends: Mapping[str, Position], problem: str | None) -> Seen:
    end = ends.get(product.topic.name) if product.topic else None
    if isinstance(found, str):
        return Seen(product, ProductStatus(product.fqn, product.alignment, problem=found), None, end, found)
    return Seen(product, status_of(product, found, ends, problem), found, end)


def _standings(platform: Platform) -> dict[str, Standing | str]:
    """Where each product stands, or why that cannot be said; asked of all at once, one by one only where that fails."""
    from mesh_pipelines.lake.standing import standings

    try:
        return dict(standings(platform.tables, platform.in_order))
    except Exception as error:
        problem = told(error)
    found: dict[str, Standing | str] = {}
    for product in platform.in_order:
        try:
            found |= standings(platform.tables, [product])
        except Exception as error:
            found[product.fqn] = told(error)
    return found or {product.fqn: problem for product in platform.in_order}
