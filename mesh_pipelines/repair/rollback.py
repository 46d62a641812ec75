"""Take readers back to an earlier version while a fault is being found.

The pointer moves in one commit; the versions after it are marked, not removed, and can still be read by number. The
stream is not turned back: the next version goes on from everything that was landed, under a number of its own, so
what was wrong has to be fixed (a corrective event, the contract, a redrive) before it is published again.
"""

from __future__ import annotations

from datetime import UTC, datetime

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.platform import Platform, by_applied_contract, operator
from mesh_pipelines.positions import Version


@by_applied_contract
@over_storage
def rollback(platform: Platform, product: DataProduct, number: int, why: str = "") -> Version:
    """Make a published version the one that readers see; gives it. Later versions are marked as withdrawn.

    Raises:
        UnknownVersion: that version does not exist, or its rows have expired.
        ConcurrentWriter: another writer moved the pointer first; transient.
    """
    from mesh_pipelines.serve.bi_file import write_serving_file

    tables = platform.tables_of(product)
    # Asked for beforehand: readers cannot be taken to rows that are no longer there.
    tables.state.sql(tables.versions.at(number))
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    reason = f"{stamp} by {operator()}{f': {why}' if why else ''}"
    version = tables.versions.roll_back(number, reason)
    write_serving_file(platform.settings, platform.products.values(), platform.tables)
    return version
