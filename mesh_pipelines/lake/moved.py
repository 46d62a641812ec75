"""A table whose metadata file is of no use: lost, of a later format, or left behind where the warehouse was before.

Iceberg's files name each other by whole paths. Rewriting all of them was ruled out: a link at the old path does it.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from mesh_pipelines.errors import TableDamaged, WrittenByNewer
from mesh_pipelines.local_path import local_path

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

# The newest format of Iceberg's tables that is read here.
NEWEST_FORMAT = 3


def newer(name: tuple[str, ...], version: int) -> WrittenByNewer:
    """The error of a table that a newer release wrote."""
    return WrittenByNewer(
        f"{'.'.join(name[:-1])}: its table {name[-1]}", [f"format version {version}, newer than {NEWEST_FORMAT}"]
    )


def gone(catalog: Catalog, name: tuple[str, ...], location: str) -> TableDamaged:
    """The error of a table whose metadata file, which the catalog has at this address, is not there."""
    product, kind = ".".join(name[:-1]), name[-1]
    file, now = Path(local_path(location)), Path(local_path(catalog.properties.get("warehouse", "")))
    # warehouse/domain.product/table/metadata/file
    if now.is_absolute() and file.is_absolute() and len(file.parents) > 3 and file.parents[3] != now:
        before = file.parents[3]
        old, new = (before.parent, now.parent) if before.name == now.name else (before, now)
        return TableDamaged(
            f"{product}: its table {kind} was written under {before}, and the warehouse is {now} now",
            next_step=f"move the folder back, or let a link lead there: ln -s {quote(str(new))} {quote(str(old))}",
        )
    return TableDamaged(
        f"{product}: the metadata file of its table {kind} is not there: {location}",
        next_step="restore it from a copy of the warehouse",
    )
