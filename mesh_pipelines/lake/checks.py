"""The history of rule results: one row per rule per audit, append-only. Every quality view is a query over it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from mesh_pipelines.errors import ConcurrentWriter
from mesh_pipelines.lake import commit
from mesh_pipelines.lake.filters import at_least, equal
from mesh_pipelines.lake.tables import ProductTable

if TYPE_CHECKING:
    import pyarrow as pa

# Results of different audits do not depend on one another, so losing the commit to another audit is worth a few tries.
_TRIES = 5


class Checks:
    """One product's checks table. All of it raises TableMissing where the product was not applied."""

    def __init__(self, table: ProductTable) -> None:
        self._table = table

    def append(self, results: pa.Table) -> None:
        """Add the results of one audit.

        Raises:
            ConcurrentWriter: other audits kept committing first.
        """
        for _ in range(_TRIES - 1):
            with suppress(ConcurrentWriter):
                commit.append(self._table.load(), results, {})
                return
        commit.append(self._table.load(), results, {})

    def since(self, moment: datetime) -> pa.Table:
        """The results of the audits made since a moment, oldest first."""
        chosen = at_least("at", moment.isoformat())
        return self._table.load().scan(row_filter=chosen).to_arrow().sort_by("at")

    def read(self, *, candidate_id: str | None = None) -> pa.Table:
        """The results of one candidate's audit, or of all audits."""
        from pyiceberg.expressions import AlwaysTrue

        chosen = equal("candidate_id", candidate_id) if candidate_id else AlwaysTrue()
        return self._table.load().scan(row_filter=chosen).to_arrow()
