"""The one object every step is handed: settings, the products of the assets folder, and open doors to the services.

Doors are opened when first used, so a command that only reads contracts starts no client.
"""

from __future__ import annotations

import difflib
import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.load import load_products
from mesh_pipelines.errors import ContractInvalid, UnknownProduct
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from mesh_pipelines.kafka.admin import StreamAdmin
    from mesh_pipelines.kafka.registry import Registry
    from mesh_pipelines.lake.product_tables import ProductTables
    from mesh_pipelines.lake.properties import TableProperties

# Under the home folder: contracts that were sound as they stand.
_KEPT = "contracts.json"


@dataclass(eq=False)
class Platform:
    """Settings, products by ``domain.name``, the faults of broken contracts, and clients opened on first use."""

    settings: Settings
    products: Mapping[str, DataProduct]
    broken: Mapping[str, ContractInvalid] = field(default_factory=dict[str, ContractInvalid])

    @classmethod
    def open(cls, settings: Settings | None = None) -> Platform:
        """The platform of these settings (default: this process's environment); broken contracts are set aside."""
        settings = settings or Settings.load()
        loaded = load_products(settings.assets, settings.home / _KEPT)
        return cls(settings, loaded.products, loaded.broken)

    def reloaded(self) -> Platform:
        """The same platform with the contracts as they are now; doors that were opened stay open."""
        fresh = Platform.open(self.settings)
        for door in ("catalog", "tables", "streams", "registry"):
            if door in self.__dict__:
                fresh.__dict__[door] = self.__dict__[door]
        return fresh

    def product(self, fqn: str) -> DataProduct:
        """The product named ``domain.name``.

        Raises:
            ContractInvalid: its contract has faults.
            UnknownProduct: no contract declares it; near names are given.
        """
        if fqn in self.products:
            return self.products[fqn]
        if fqn in self.broken:
            raise self.broken[fqn]
        near = difflib.get_close_matches(fqn, [*self.products, *self.broken], n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UnknownProduct(f"no contract under {self.settings.assets} declares {fqn}{hint}", next_step="mesh status")

    @cached_property
    def in_order(self) -> tuple[DataProduct, ...]:
        """All sound products, every one after its inputs."""
        ordered: dict[str, DataProduct] = {}

        def visit(product: DataProduct) -> None:
            if product.fqn in ordered:
                return
            for name in product.inputs:
                if name in self.products:
                    visit(self.products[name])
            ordered[product.fqn] = product

        for name in sorted(self.products):
            visit(self.products[name])
        return tuple(ordered.values())

    @cached_property
    def catalog(self) -> Catalog:
        """The Iceberg catalog."""
        from mesh_pipelines.lake.catalog import open_catalog

        return open_catalog(self.settings)

    @cached_property
    def tables(self) -> TableProperties:
        """The properties of the catalog's tables, many at once."""
        from mesh_pipelines.lake.properties import TableProperties

        return TableProperties(self.catalog)

    def tables_of(self, product: DataProduct) -> ProductTables:
        """The tables of one product, under this contract of it; every look at them is at what they are then."""
        from mesh_pipelines.lake.product_tables import ProductTables

        return ProductTables(self.catalog, product)

    @cached_property
    def streams(self) -> StreamAdmin:
        """The broker's topics."""
        from mesh_pipelines.kafka.admin import StreamAdmin

        return StreamAdmin(self.settings)

    @cached_property
    def registry(self) -> Registry:
        """The schema registry."""
        from mesh_pipelines.kafka.registry import Registry

        return Registry(self.settings)


def operator() -> str:
    """Who runs this process: the user's name, or the number of one without a name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
