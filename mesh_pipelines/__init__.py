"""An event-driven data mesh: contracts in, audited event streams and tables out."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh_pipelines.serve.reading import Reading
    from mesh_pipelines.settings import Settings

__all__ = ["read"]


def read(
    product: str,
    *,
    version: int | None = None,
    as_of: datetime | str | None = None,
    settings: Settings | None = None,
) -> Reading:
    """Pin a published version of ``domain.product`` for reading: ``.arrow()``, ``.pandas()`` or ``.duckdb()``.

    Without ``version`` (a number) or ``as_of`` (a time, ISO 8601 or datetime) it is the one published now. Settings
    default to this process's ``MESH_*`` variables.

    Raises:
        UnknownProduct, NothingPublished, UnknownVersion: that version does not exist.
    """
    from mesh_pipelines.platform import Platform
    from mesh_pipelines.serve.reading import read_version

    platform = Platform.open(settings)
    return read_version(platform.catalog, platform.product(product), version=version, as_of=as_of)
