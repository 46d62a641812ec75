"""A product's state at a version, as SQL: fold(base, log rows between the base's position and the version's).

Which base is used never changes what is read, only what it costs: the version's own while its snapshot exists, by its
overlay where there is one; else the newest one the version's position continues; else none, and the log is folded from
its first event.

Files of live rows are each read on their own, by name, and files of tombstones not at all: then DuckDB knows from a
file's statistics that a column has no nulls, does not decode it to count it, and decodes faster what it does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh_pipelines.contract.envelope import BREAKS, FATE, GENERATION, OFFSET, OP, PARTITION, REDRIVE, Fate, Op
from mesh_pipelines.contract.types import arrow_schema, duckdb_type
from mesh_pipelines.engine import View
from mesh_pipelines.errors import UnknownVersion
from mesh_pipelines.lake import fold, overlay
from mesh_pipelines.lake.applied import AppliedContract, renamed
from mesh_pipelines.lake.files import DataFiles
from mesh_pipelines.lake.log import POSITION, snapshot_of
from mesh_pipelines.lake.overlay import Overlay
from mesh_pipelines.lake.tables import BASE_ENVELOPE, ProductTable
from mesh_pipelines.lake.versions import Versions
from mesh_pipelines.local_path import local_path
from mesh_pipelines.positions import Position, Version
from mesh_pipelines.sql.quote import quote

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table


# What the bits of a base's rows mean: the fingerprint of a mask.
RULES = "mesh.rules"
# The address of what says which rows of a base others of its rows replaced; empty where none were.
REPLACED = "mesh.replaced"
# The events that a base has taken in since all its rows were audited.
UNAUDITED = "mesh.unaudited"


@dataclass(frozen=True)
class Base:
    """A snapshot of the base table, the position up to which it is folded, and the mask its rows were judged by.

    ``replaced`` is the address of an overlay: rows of some of its files are replaced by rows of others.
    """

    snapshot_id: int
    position: Position
    rules: str = ""
    replaced: str | None = None
    unaudited: int = 0


@dataclass(frozen=True)
class Part:
    """Which rows of a state to read, where not all of them.

    ``files`` names the base's files to read (None: all); ``live`` leaves out files that hold nothing but tombstones;
    ``suspects`` leaves out the base's rows that break no row rule.
    """

    files: Collection[str] | None = None
    live: bool = False
    suspects: bool = False


WHOLE = Part()


class State:
    """A product's rows at its versions, as SQL over the data files of its log and its base."""

    def __init__(self, log: ProductTable, base: ProductTable, versions: Versions) -> None:
        self.product = base.product
        self._log = log
        self._base = base
        self._versions = versions

    @property
    def event_columns(self) -> str:
        """What the fold keeps of an event: its envelope and the contract's columns."""
        return fold.columns([*BASE_ENVELOPE, *arrow_schema(self.product).names])

    def sql(
        self,
        version: Version,
        *,
        from_log: bool = False,
        envelope: Sequence[str] = (),
        suspects: bool = False,
    ) -> str:
        """The SELECT over data files that gives the product's state at this version, contract columns in order.

        ``from_log`` leaves the base aside. ``envelope`` names columns of each row's latest event to give before the
        contract's; a derived product has none. ``suspects`` leaves out rows of the base that are known to break no row
        rule, if the version has an overlay.

        Raises:
            UnknownVersion: a derived product's rows at that version have expired.
            TableMissing: the product was not applied.
        """
        product = self.product
        if version.contract_hash != product.contract_hash:
            kept = self._versions.contract(version.contract_hash)
            if kept:
                return self._former(version, kept, from_log=from_log, envelope=envelope)
        columns = fold.columns([*envelope, *(field.name for field in product.fields)])
        if not product.has_log:
            return f"SELECT {columns} FROM {self._result(version)}"
        assert version.position is not None, f"{product.fqn}: a stream's version has a position"
        if not product.event_type.folds_by_key:
            return f"SELECT {columns} FROM {self.events(None, version.position)}"
        base = None if from_log else self.usable_base(version)
        return f"SELECT {columns} FROM {self._rows(base, version, suspects)} WHERE {fold.LIVE}"

    def view(self, version: Version) -> View:
        """What ``sql`` gives, with the files that it reads.

        Raises:
            UnknownVersion, TableMissing: as ``sql``.
        """
        read: set[str] = set()
        noting = State(self._log.noting(read), self._base.noting(read), self._versions)
        return View(noting.sql(version), frozenset(read))

    def _former(self, version: Version, kept: AppliedContract, *, from_log: bool, envelope: Sequence[str]) -> str:
        """The state of a version that was audited under an earlier contract: in that contract's columns and types."""
        columns = self._log if self.product.has_log else self._base
        now = renamed(columns.load(), self.product, kept)
        rows = State(self._log.bound_to(now), self._base.bound_to(now), self._versions).sql(
            version, from_log=from_log, envelope=envelope
        )
        was = [
            f"CAST({quote(field.name)} AS {duckdb_type(one.type)}) AS {quote(one.name)}"
            for field, one in zip(now.fields, kept.product.fields, strict=True)
        ]
        return f"SELECT {', '.join([*map(quote, envelope), *was])} FROM ({rows})"

    def folded(self, base: Base | None, until: Position) -> str:
        """The latest event of each key before a position, tombstones included, in ``event_columns``, as a relation."""
        if base is None:
            return fold.latest(self.events(None, until))
        known = self.replaced_in(base)
        if known is not None:
            rows = self.overlaid(base, (known, self._source(base.replaced)), base.position)
        else:
            stored = self._base.files().rows_at(base.snapshot_id)
            rows = fold.latest(f"(SELECT {self.event_columns} FROM {stored})")
        return rows if base.position == until else fold.onto(rows, self.events(base.position, until))

    def replaced_in(self, base: Base) -> Overlay | None:
        """Which rows of a base others of its rows replaced; None if that is lost, and only their coordinates say it."""
        return self.overlay(base.replaced) if base.replaced else Overlay()

    def overlay(self, address: str | None) -> Overlay | None:
        """The overlay at an address; None if there is none, or none any more."""
        return overlay.read(self._base.up_to_date().io, address) if address else None

    def overlaid(
        self,
        base: Base,
        found: tuple[Overlay, str | None],
        until: Position,
        part: Part = WHOLE,
    ) -> str:
        """What ``folded`` gives, by an overlay and the SQL of its rows (None: it is empty), as a relation."""
        known, source = found
        files = self._base.files()
        chosen = [file for file in files.at(base.snapshot_id) if part.files is None or file.file_path in part.files]
        if part.live:
            chosen = [file for file in chosen if _may_be_live(files, file)]
        parts = known.base_parts(files, chosen, self.event_columns, f"{BREAKS} <> 0" if part.suspects else "TRUE")
        if base.position != until:
            parts += self._tail_parts(base, known, until, live=part.live)
        if not parts:
            parts = [f"SELECT {self.event_columns}, 0 AS bit FROM {files.rows([])}"]
        return f"({known.current_sql(parts, self.event_columns, source)})"

    def tail(self, base: Base, found: tuple[Overlay, str], until: Position) -> str:
        """A SELECT of the events behind a base that an overlay knows as current: it speaks of one generation only.

        For looking few of them up: to plan each file on its own costs more than that.
        """
        known, source = found
        files, held = self._log_files(base.position, until)
        return known.current_sql([self._tail_part(known, until, files.rows(held))], self.event_columns, source)

    def _source(self, address: str | None) -> str | None:
        """The rows of an overlay as SQL; None if there is none."""
        if address is None:
            return None
        self._base.note(local_path(address))
        return overlay.source_of(address)

    def _tail_parts(self, base: Base, known: Overlay, until: Position, *, live: bool) -> list[str]:
        files, held = self._log_files(base.position, until)
        if live:
            held = [file for file in held if _may_be_live(files, file)]
        return [self._tail_part(known, until, rows) for rows in files.each(held)]

    def _tail_part(self, known: Overlay, until: Position, rows: str) -> str:
        own = f"{GENERATION} = {until.generation}"
        return f"SELECT {self.event_columns}, {known.tail_bit()} AS bit FROM {rows} WHERE {own}"

    def _rows(self, base: Base | None, version: Version, suspects: bool) -> str:
        assert version.position is not None
        if base and base.snapshot_id == version.base_snapshot_id:
            at_base = base.position == version.position
            address = base.replaced if at_base else version.overlay
            known = self.replaced_in(base) if at_base else self.overlay(address)
            if known is not None:
                found = known, self._source(address)
                return self.overlaid(base, found, version.position, Part(live=True, suspects=suspects))
        return self.folded(base, version.position)

    def events(self, after: Position | None, until: Position) -> str:
        """The events taken over between two positions, in ``event_columns``, as a relation."""
        files, held = self._log_files(after, until)
        taken = f"{fold.TAKEN_OVER} AND {fold.between(after, until)}"
        return f"(SELECT {self.event_columns} FROM {files.rows(held)} WHERE {taken})"

    def _log_files(self, after: Position | None, until: Position) -> tuple[DataFiles, list[DataFile]]:
        """The log's data files, and those of them that may hold events between two positions."""
        files = self._log.files()
        found = files.at(snapshot_of(files.table, until))
        return files, found if after is None else [file for file in found if _may_hold(files, file, after, until)]

    def usable_base(self, version: Version) -> Base | None:
        """The base to read a version from: its own, else the newest that its position continues."""
        assert version.position is not None
        bases = self.bases_before(version.position)
        own = [base for base in bases if base.snapshot_id == version.base_snapshot_id]
        return own[0] if own else next(iter(bases), None)

    def bases_before(self, position: Position) -> list[Base]:
        """The bases that a position continues, newest first."""
        return [base for base in bases_of(self._base.up_to_date()) if position.continues(base.position)]

    def _result(self, version: Version) -> str:
        files = self._base.files()
        assert version.base_snapshot_id is not None
        if files.table.snapshot_by_id(version.base_snapshot_id) is None:
            raise UnknownVersion(
                f"{self.product.fqn}: the rows of version {version.number} have expired",
                next_step=f"mesh rebuild {self.product.fqn} --version {version.number}",
            )
        return files.rows_at(version.base_snapshot_id)


def bases_of(table: Table) -> list[Base]:
    """The base table's snapshots with a position, newest first."""
    snapshots = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0, reverse=True)
    return [
        Base(
            snapshot.snapshot_id,
            Position.from_json(str(snapshot.summary[POSITION])),
            str(snapshot.summary.additional_properties.get(RULES, "")),
            str(snapshot.summary.additional_properties.get(REPLACED, "")) or None,
            int(snapshot.summary.additional_properties.get(UNAUDITED, 0)),
        )
        for snapshot in snapshots
        if snapshot.summary and POSITION in snapshot.summary.additional_properties
    ]


def _may_be_live(files: DataFiles, file: DataFile) -> bool:
    """Whether a file holds anything but tombstones and events that were not taken over, as far as its bounds tell."""
    op = files.bounds(file, OP)
    fate = files.bounds(file, FATE) if files.has(FATE) else None
    only_deletes = op == (Op.DELETE, Op.DELETE)
    return not only_deletes and not (fate and not fate[0] <= Fate.OK <= fate[1])


def _may_hold(files: DataFiles, file: DataFile, after: Position, until: Position) -> bool:
    """Whether a log file can hold events between two positions: by its partitions' offsets and by its redrives."""
    if after.redrives != until.redrives and not files.is_null(file, REDRIVE):
        redrives = files.bounds(file, REDRIVE)
        if redrives is None or redrives[1] > after.redrives:
            return True
    if after.generation != until.generation:
        generations = files.bounds(file, GENERATION)
        return generations is None or generations[1] >= after.generation
    partitions, offsets = files.bounds(file, PARTITION), files.bounds(file, OFFSET)
    if partitions is None or offsets is None:
        return True
    return any(
        partitions[0] <= number <= partitions[1]
        and max(offsets[0], after.next_offset(number)) <= min(offsets[1], offset.next_offset - 1)
        for number, offset in until.partitions.items()
    )
