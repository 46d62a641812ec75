"""A product's audits as Great Expectations' Data Docs, on demand: its stored results, as pages in a folder."""

from __future__ import annotations

from pathlib import Path

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import UnknownVersion
from mesh_pipelines.gx.data_docs import build
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.platform import Platform
from mesh_pipelines.serve.stored_results import audits

# The library takes 25 ms and 100 kB for each; what is older can be asked for by its version.
_MOST = 100


@over_storage
def docs(platform: Platform, product: DataProduct, *, version: int | None = None, folder: Path | None = None) -> Path:
    """Build the pages of a version's audits, or of the newest audits, in a folder; gives the first page.

    Raises:
        UnknownVersion: nothing of it was audited.
        UsageError: the folder holds other things.
    """
    chosen = [audit for audit in audits(platform, product) if version in (None, audit[0]["version"])][:_MOST]
    if not chosen:
        what = f"version {version}" if version else "nothing"
        raise UnknownVersion(
            f"{product.fqn}: {what} was {'never ' if version else ''}audited", next_step=f"mesh run {product.fqn}"
        )
    return build(product, chosen, folder or platform.settings.home / "docs" / product.fqn)
