"""Where many products stand, read in one go: what their versions and logs say of themselves in their properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.lake.catalog import Kind, table_missing, table_name
from mesh_pipelines.lake.log import landed_in, losses_in, position_in, quarantined_in, redriven_in
from mesh_pipelines.lake.lost import lost_table
from mesh_pipelines.lake.properties import Name, Properties, TableProperties
from mesh_pipelines.lake.tables import kinds
from mesh_pipelines.lake.versions import moved_since, newest_in, published_in
from mesh_pipelines.positions import Position, Version


@dataclass(frozen=True)
class Standing:
    """One product's: the version readers see, the newest candidate, its log's position, and counts of events held back,
    redriven and landed, and of losses that were accepted.

    ``applied`` says that all of its tables exist; ``missing`` is an error's text where one does not that is read here.
    ``versions`` are the properties of its versions table.
    """

    applied: bool
    published: Version | None = None
    newest: Version | None = None
    position: Position | None = None
    quarantined: int = 0
    redriven: int = 0
    landed: int = 0
    losses: int = 0
    missing: str | None = None
    versions: Properties = field(default_factory=dict[str, str], repr=False)

    def left_at(self, number: int) -> datetime | None:
        """When readers' pointer left a version, as far as is known; None where they see it."""
        return moved_since(self.versions, number)


def standings(tables: TableProperties, products: Iterable[DataProduct]) -> dict[str, Standing]:
    """Where each of the products stands now, by name."""
    products = list(products)
    existing = tables.existing([table_name(product, kind) for product in products for kind in kinds(product)])
    found = tables.of([table_name(product, kind) for product in products for kind in _read(product)])
    return {
        product.fqn: _lost(tables, product, existing)
        or _standing(
            product,
            all(table_name(product, kind) in existing for kind in kinds(product)),
            {kind: found[name] for kind in _read(product) if (name := table_name(product, kind)) in found},
        )
        for product in products
    }


def _read(product: DataProduct) -> tuple[Kind, ...]:
    return ("versions", "log") if product.has_log else ("versions",)


def _lost(tables: TableProperties, product: DataProduct, existing: Set[Name]) -> Standing | None:
    """The standing of a product of which the warehouse has a table that the catalog does not know."""
    lacking: list[Kind] = [kind for kind in kinds(product) if table_name(product, kind) not in existing]
    for kind in lacking:
        if lost := lost_table(tables.catalog, product.fqn, kind):
            return Standing(False, missing=f"{lost.error.code} {lost.error.message}")
    return None


def _standing(product: DataProduct, applied: bool, found: Mapping[Kind, Properties]) -> Standing:
    for kind in _read(product):
        if kind not in found:
            error = table_missing(product, kind)
            return Standing(False, missing=f"{error.code} {error.message}")
    log = found.get("log", {})
    return Standing(
        applied,
        published_in(found["versions"]),
        newest_in(found["versions"]),
        position_in(log),
        quarantined_in(log),
        redriven=redriven_in(log),
        landed=landed_in(log),
        losses=losses_in(log),
        versions=found["versions"],
    )
