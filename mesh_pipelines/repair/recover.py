"""Bring tables back that a lost catalog knew: what is there, and registering it again."""

from __future__ import annotations

from collections.abc import Collection

from mesh_pipelines.errors import UnknownProduct
from mesh_pipelines.lake.lost import LostTable, lost_in
from mesh_pipelines.lake.lost import recover as register
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.pipeline.attempts import forget
from mesh_pipelines.platform import Platform


@over_storage
def recoverable(platform: Platform, names: Collection[str] = ()) -> list[LostTable]:
    """The tables in the warehouse that the catalog does not know, of these products or of all.

    Raises:
        UnknownProduct: the warehouse has nothing of one that was named, and the catalog does not know it either.
    """
    lost = lost_in(platform.tables)
    for name in names:
        if name not in lost and not platform.applied_hashes([name]):
            raise UnknownProduct(
                f"the warehouse {platform.settings.warehouse_uri} has no tables of {name}",
                next_step="mesh status; MESH_WAREHOUSE or MESH_HOME may name another folder than before",
            )
    return [table for name, tables in lost.items() if not names or name in names for table in tables]


@over_storage
def recover(platform: Platform, table: LostTable) -> None:
    """Register a table again, from its newest metadata.

    Raises:
        TablesLost: it has none, or was written for another folder.
    """
    register(platform.catalog, table)
    platform.contracts_changed()
    # Whatever failed without it may work now.
    forget(platform.settings)
