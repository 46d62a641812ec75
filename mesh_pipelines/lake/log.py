"""The log: an append-only table of every landed event, and the only place that knows how far its stream was read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mesh_pipelines.contract.log import FATE, KEY, OFFSET, PARTITION, RAW, REASON, RULE, TIMESTAMP, Fate
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import ConcurrentWriter
from mesh_pipelines.lake.catalog import load
from mesh_pipelines.lake.commit import append
from mesh_pipelines.positions import Position

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog

POSITION = "mesh.position"
# Counts of events by fate ride in the properties, so that nobody scans a log to know them.
FATES = "mesh.fates."
LOSSES = "mesh.losses"


class Log:
    """One product's log table."""

    def __init__(self, catalog: Catalog, product: DataProduct) -> None:
        self._catalog = catalog
        self._product = product

    def position(self) -> Position | None:
        """How far the stream was read; None before the first landing.

        Raises:
            TableMissing: the product was not applied.
        """
        return _position(load(self._catalog, self._product, "log").properties)

    def fates(self) -> dict[str, int]:
        """The number of landed events by fate."""
        return _fates(load(self._catalog, self._product, "log").properties)

    def rows(self) -> int:
        """The number of landed events, whatever their fate."""
        return sum(self.fates().values())

    def losses(self) -> list[dict[str, Any]]:
        """The losses operators accepted, oldest first: what, when, by whom, and the positions before and after."""
        return _losses(load(self._catalog, self._product, "log").properties)

    def append(
        self, rows: pa.Table, before: Position | None, after: Position, *, loss: Mapping[str, Any] | None = None
    ) -> None:
        """Add events and move the position from ``before`` to ``after``, in one commit.

        ``rows`` has the columns of ``log_schema`` and may be empty: a stream can move on without events (transaction
        markers, compaction). ``loss`` is added to the accepted losses with it.

        Raises:
            ConcurrentWriter: the log is not at ``before``, or another writer committed meanwhile. Nothing was added.
        """
        table = load(self._catalog, self._product, "log")
        stored = _position(table.properties)
        if stored != before:
            raise ConcurrentWriter(
                f"{self._product.fqn}: the log has moved on from where this landing began; nothing of it was kept",
                next_step=f"mesh land {self._product.fqn}",
            )
        counts = _fates(table.properties)
        for fate, count in _count_fates(rows).items():
            counts[fate] = counts.get(fate, 0) + count
        properties = {POSITION: after.to_json(), **{FATES + fate: str(count) for fate, count in counts.items()}}
        if loss:
            properties[LOSSES] = json.dumps([*_losses(table.properties), dict(loss)])
        append(table, rows, properties, f"{self._product.fqn}.log")

    def quarantine(self, limit: int | None = None) -> pa.Table:
        """The newest events that were not taken over: coordinates, key, fate, rule, reason and raw bytes."""
        from pyiceberg.expressions import NotEqualTo

        columns = (PARTITION, OFFSET, TIMESTAMP, KEY, FATE, RULE, REASON, RAW)
        table = load(self._catalog, self._product, "log")
        rows = table.scan(row_filter=NotEqualTo(FATE, str(Fate.OK)), selected_fields=columns).to_arrow()
        newest = rows.select(list(columns)).sort_by(
            [(TIMESTAMP, "descending"), (PARTITION, "ascending"), (OFFSET, "descending")]
        )
        return newest if limit is None else newest.slice(0, limit)


def _position(properties: Mapping[str, str]) -> Position | None:
    text = properties.get(POSITION)
    return Position.from_json(text) if text else None


def _losses(properties: Mapping[str, str]) -> list[dict[str, Any]]:
    return json.loads(properties.get(LOSSES, "[]"))


def _fates(properties: Mapping[str, str]) -> dict[str, int]:
    return {name.removeprefix(FATES): int(value) for name, value in properties.items() if name.startswith(FATES)}


def _count_fates(rows: pa.Table) -> dict[str, int]:
    import pyarrow.compute as pc

    return {pair["values"]: pair["counts"] for pair in pc.value_counts(rows[FATE]).to_pylist()}
