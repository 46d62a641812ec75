"""A log read again from its topic, beside the existing one, and how it repairs that one: in one commit or not at all.

Events are compared by coordinates and content. Where some cannot be read and all others are the same, the unreadable
files are filled in: nobody read anything else from them, so every version reads again what it read before. Otherwise
the whole log is replaced, and earlier versions keep reading it as it was, by a tag: they may have been published
from what was wrong, and a version never says something else afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mesh_pipelines.contract.envelope import FATE, GENERATION, KEY, OFFSET, OP, PARTITION, SCHEMA_ID, TIMESTAMP, Fate
from mesh_pipelines.lake.base import cast
from mesh_pipelines.lake.commit import current_files, replace_files, write_files
from mesh_pipelines.lake.files import DataFiles, damage
from mesh_pipelines.lake.fold import columns
from mesh_pipelines.lake.log import BEFORE_REBUILD, POSITION, count_of, fate_properties, stored_position
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.tables import table_schema
from mesh_pipelines.positions import Position

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.manifest import DataFile

_COORDINATES = columns([GENERATION, PARTITION, OFFSET])
_LACKING = "(FROM compared WHERE outcome = 'lacking') AS lacking"


@dataclass(frozen=True)
class Differences:
    """How a log differs from what was read again, in events.

    ``lacking``: not in the log; ``changed``: in both, but not the same, or in the log more than once; ``lost``: in the
    log only. ``damaged`` files of the log cannot be read, and what they hold counts as lacking.
    """

    lacking: int
    changed: int
    lost: int
    damaged: int

    @property
    def none(self) -> bool:
        """Whether log and topic say the same."""
        return self == Differences(0, 0, 0, 0)

    @property
    def only_damaged(self) -> bool:
        """Whether what can be read is as it should be."""
        return self.damaged > 0 and not self.changed


class Rewrite:
    """A log on its way to be rewritten. Made and reloaded, it raises TableMissing and TableOutdated."""

    def __init__(self, tables: ProductTables, engine: duckdb.DuckDBPyConnection) -> None:
        self._tables = tables
        self._engine = engine
        self._table = tables.up_to_date("log")
        self._written: list[DataFile] = []
        self._damaged: list[DataFile] = []

    def reload(self) -> Position | None:
        """Take the log as it is now for the one to rewrite; gives how far it has read its topic."""
        self._table = self._tables.up_to_date("log")
        return stored_position(self._table)

    def events(self) -> int:
        """The number of events in the log, as it counted them itself when they were landed."""
        return count_of(self._table)

    def first_offsets(self) -> dict[int, int]:
        """The first offset of each partition that the log holds; none where files of it cannot be read."""
        held = DataFiles(self._table).rows(current_files(self._table))
        try:
            firsts = self._engine.execute(f"SELECT {PARTITION}, min({OFFSET}) FROM {held} GROUP BY ALL").fetchall()
        except damage():
            return {}
        return dict(firsts)

    def add(self, rows: pa.Table) -> None:
        """Write events that were read again; the log stays as it is."""
        self._written += write_files(self._table, rows.to_reader())

    def compare(self) -> Differences:
        """Compare what was written with the log as it was last loaded."""
        for name in ("was", "anew"):
            self._engine.execute(
                f"CREATE OR REPLACE TEMP TABLE {name} ({GENERATION} INTEGER, {PARTITION} INTEGER, {OFFSET} BIGINT, "
                f"{FATE} VARCHAR, hash UBIGINT)"
            )
        self._damaged = [file for file in current_files(self._table) if not self._fingerprint("was", file)]
        for file in self._written:
            assert self._fingerprint("anew", file), f"{file.file_path} was written a moment ago and cannot be read"
        self._engine.execute(
            "CREATE OR REPLACE TEMP TABLE compared AS "
            f"WITH held AS (SELECT {_COORDINATES}, min(hash) AS hash, count(*) AS times FROM was GROUP BY ALL) "
            f"SELECT {_COORDINATES}, CASE WHEN anew.hash IS NULL THEN 'lost' WHEN held.hash IS NULL THEN 'lacking' "
            "WHEN held.times > 1 OR held.hash <> anew.hash THEN 'changed' ELSE 'same' END AS outcome "
            f"FROM held FULL JOIN anew USING ({_COORDINATES})"
        )
        counts = dict(self._engine.execute("SELECT outcome, count(*) FROM compared GROUP BY ALL").fetchall())
        return Differences(
            counts.get("lacking", 0), counts.get("changed", 0), counts.get("lost", 0), len(self._damaged)
        )

    def lost(self, limit: int) -> list[tuple[int, int]]:
        """The first partitions and offsets that only the log has, after ``compare``."""
        return self._engine.execute(
            f"SELECT {PARTITION}, {OFFSET} FROM compared WHERE outcome = 'lost' ORDER BY ALL LIMIT {limit}"
        ).fetchall()

    def swap(self, differences: Differences) -> None:
        """Carry out what ``compare`` found, in one commit: fill in damaged files, or replace the log.

        Events that are filled in belong to every version, also to those before a redrive that brought them back.

        Raises:
            ConcurrentWriter: another writer committed to the log since it was loaded; nothing was changed.
        """
        position = stored_position(self._table)
        assert position, "a log that was compared has a position"
        if differences.only_damaged:
            counts = self._counts(f"FROM was UNION ALL FROM anew SEMI JOIN {_LACKING} USING ({_COORDINATES})")
            properties = {POSITION: position.to_json(), **counts}
            replace_files(self._table, self._damaged, self._lacking(), properties)
            return
        after = replace(position, rebuilds=position.rebuilds + 1)
        properties = {POSITION: after.to_json(), **self._counts("FROM anew")}
        kept_as = f"{BEFORE_REBUILD}{after.rebuilds}"
        replace_files(self._table, current_files(self._table), self._written, properties, keep_as=kept_as)

    def _fingerprint(self, into: str, file: DataFile) -> bool:
        """Add coordinates, fate and a hash of each event of a file to a table; False where it cannot be read."""
        content = columns([FATE, OP, KEY, TIMESTAMP, SCHEMA_ID, *(field.name for field in self._tables.product.fields)])
        rows = DataFiles(self._table).rows([file])
        try:
            self._engine.execute(f"INSERT INTO {into} SELECT {_COORDINATES}, {FATE}, hash({content}) FROM {rows}")
        except damage():
            return False
        return True

    def _lacking(self) -> list[DataFile]:
        """What the log lacks, written to files of its own."""
        schema = table_schema(self._tables.product, "log")
        rows = DataFiles(self._table).rows(self._written)
        reader = self._engine.sql(
            f"SELECT {columns(schema.names)} FROM {rows} SEMI JOIN {_LACKING} USING ({_COORDINATES})"
        ).to_arrow_reader(100_000)
        return write_files(self._table, cast(reader, schema))

    def _counts(self, events: str) -> Mapping[str, str]:
        """The properties that count these events by fate, zeros included: they take the place of the former ones."""
        counted = self._engine.execute(f"SELECT {FATE}, count(*) FROM ({events}) GROUP BY ALL").fetchall()
        return fate_properties({str(fate): 0 for fate in Fate} | dict(counted))
