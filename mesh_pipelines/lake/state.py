"""A product's state at a version, as a DuckDB view: fold(base, log rows between the base's position and the version's).

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
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import arrow_schema, duckdb_type
from mesh_pipelines.errors import UnknownVersion
from mesh_pipelines.lake import fold, overlay
from mesh_pipelines.lake.applied import AppliedContract, renamed
from mesh_pipelines.lake.files import bounds, each_of, files_of, is_null, relation, relation_of
from mesh_pipelines.lake.log import POSITION, snapshot_of
from mesh_pipelines.lake.overlay import Overlay
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.tables import BASE_ENVELOPE
from mesh_pipelines.positions import Position, Version
from mesh_pipelines.sql.quote import quote

if TYPE_CHECKING:
    import duckdb
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


def register(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
    """Make a view of a state, given as what ``state_sql`` gives."""
    connection.execute(f"CREATE OR REPLACE VIEW {quote(name)} AS {select}")


def state_sql(
    tables: ProductTables,
    version: Version,
    *,
    from_log: bool = False,
    envelope: Sequence[str] = (),
    suspects: bool = False,
) -> str:
    """The SELECT over data files that gives the product's state at this version, contract columns in order.

    ``from_log`` leaves the base aside. ``envelope`` names columns of each row's latest event to give before the
    contract's; a derived product has none. ``suspects`` leaves out rows of the base that are known to break no row
    rule, where the version has an overlay.

    Raises:
        UnknownVersion: a derived product's rows at that version have expired.
        TableMissing: the product was not applied.
    """
    product = tables.product
    if version.contract_hash != product.contract_hash and (kept := tables.versions.contract(version.contract_hash)):
        return _former_sql(tables, version, kept, from_log=from_log, envelope=envelope)
    columns = fold.columns([*envelope, *(field.name for field in product.fields)])
    if not product.has_log:
        return f"SELECT {columns} FROM {_result(tables, version)}"
    assert version.position is not None, f"{product.fqn}: a stream's version has a position"
    if not product.event_type.folds_by_key:
        events = events_sql(tables, None, version.position)
        return f"SELECT {columns} FROM {events}"
    base = None if from_log else usable_base(tables.up_to_date("base"), version)
    return f"SELECT {columns} FROM {_rows_sql(tables, base, version, suspects)} WHERE {fold.LIVE}"


def _former_sql(
    tables: ProductTables, version: Version, kept: AppliedContract, *, from_log: bool, envelope: Sequence[str]
) -> str:
    """The state of a version that was audited under an earlier contract: in that contract's columns and types."""
    now = renamed(tables.columns(), tables.product, kept)
    rows = state_sql(tables.bound_to(now), version, from_log=from_log, envelope=envelope)
    was = [
        f"CAST({quote(field.name)} AS {duckdb_type(one.type)}) AS {quote(one.name)}"
        for field, one in zip(now.fields, kept.product.fields, strict=True)
    ]
    return f"SELECT {', '.join([*map(quote, envelope), *was])} FROM ({rows})"


def event_columns(product: DataProduct) -> str:
    """What the fold keeps of an event: its envelope and the contract's columns."""
    return fold.columns([*BASE_ENVELOPE, *arrow_schema(product).names])


def folded_sql(tables: ProductTables, base: Base | None, until: Position) -> str:
    """The latest event of each key before a position, tombstones included, in ``event_columns``."""
    if base is None:
        return fold.latest(events_sql(tables, None, until))
    columns = event_columns(tables.product)
    table = tables.up_to_date("base")
    known = replaced_in(table, base)
    if known is None:
        rows = fold.latest(f"(SELECT {columns} FROM {relation(table, snapshot_id=base.snapshot_id)})")
    else:
        rows = overlaid_sql(tables, base, (known, _source(base.replaced)), base.position)
    return rows if base.position == until else fold.onto(rows, events_sql(tables, base.position, until))


def replaced_in(table: Table, base: Base) -> Overlay | None:
    """Which rows of a base others of its rows replaced; None where that is lost, and only their coordinates say it."""
    return overlay.read(table, base.replaced) if base.replaced else Overlay()


def overlaid_sql(
    tables: ProductTables,
    base: Base,
    found: tuple[Overlay, str | None],
    until: Position,
    part: Part = WHOLE,
) -> str:
    """What ``folded_sql`` gives, by an overlay and the SQL of its rows (None: it is empty), as a relation."""
    known, source = found
    table = tables.up_to_date("base")
    columns = event_columns(tables.product)
    files = [file for file in files_of(table, base.snapshot_id) if part.files is None or file.file_path in part.files]
    if part.live:
        files = [file for file in files if _may_be_live(table, file)]
    parts = known.base_parts(table, files, columns, f"{BREAKS} <> 0" if part.suspects else "TRUE")
    if base.position != until:
        parts += _tail_parts(tables, base, known, until, live=part.live)
    if not parts:
        parts = [f"SELECT {columns}, 0 AS bit FROM {relation_of(table, [])}"]
    return f"({known.current_sql(parts, columns, source)})"


def tail_sql(tables: ProductTables, base: Base, found: tuple[Overlay, str], until: Position) -> str:
    """A SELECT of the events behind a base that an overlay knows as current: it speaks of one generation only.

    For looking few of them up: to plan each file on its own costs more than that.
    """
    known, source = found
    table = tables.up_to_date("log")
    events = _tail_part(tables.product, known, until, relation_of(table, _log_files(table, base.position, until)))
    return known.current_sql([events], event_columns(tables.product), source)


def _tail_parts(tables: ProductTables, base: Base, known: Overlay, until: Position, *, live: bool = False) -> list[str]:
    table = tables.up_to_date("log")
    files = _log_files(table, base.position, until)
    if live:
        files = [file for file in files if _may_be_live(table, file)]
    return [_tail_part(tables.product, known, until, rows) for rows in each_of(table, files)]


def _tail_part(product: DataProduct, known: Overlay, until: Position, rows: str) -> str:
    own = f"{GENERATION} = {until.generation}"
    return f"SELECT {event_columns(product)}, {known.tail_bit()} AS bit FROM {rows} WHERE {own}"


def _may_be_live(table: Table, file: DataFile) -> bool:
    """Whether a file holds anything but tombstones and events that were not taken over, as far as its bounds tell."""
    op = bounds(table, file, OP)
    fate = bounds(table, file, FATE) if FATE in table.schema().column_names else None
    only_deletes = op == (Op.DELETE, Op.DELETE)
    return not only_deletes and not (fate and not fate[0] <= Fate.OK <= fate[1])


def _rows_sql(tables: ProductTables, base: Base | None, version: Version, suspects: bool = False) -> str:
    assert version.position is not None
    if base and base.snapshot_id == version.base_snapshot_id:
        table = tables.up_to_date("base")
        at_base = base.position == version.position
        address = base.replaced if at_base else version.overlay
        known = replaced_in(table, base) if at_base else overlay.read(table, address)
        if known is not None:
            found = known, _source(address)
            return overlaid_sql(tables, base, found, version.position, Part(live=True, suspects=suspects))
    return folded_sql(tables, base, version.position)


def _source(address: str | None) -> str | None:
    return overlay.source_of(address) if address else None


def events_sql(tables: ProductTables, after: Position | None, until: Position) -> str:
    """The events taken over between two positions, in ``event_columns``."""
    table = tables.up_to_date("log")
    files = relation_of(table, _log_files(table, after, until))
    columns = event_columns(tables.product)
    return f"(SELECT {columns} FROM {files} WHERE {fold.TAKEN_OVER} AND {fold.between(after, until)})"


def _log_files(table: Table, after: Position | None, until: Position) -> list[DataFile]:
    files = files_of(table, snapshot_of(table, until))
    return files if after is None else [file for file in files if _may_hold(table, file, after, until)]


def usable_base(table: Table, version: Version) -> Base | None:
    """The base to read a version from: its own, else the newest that its position continues."""
    assert version.position is not None
    bases = [base for base in bases_of(table) if version.position.continues(base.position)]
    own = [base for base in bases if base.snapshot_id == version.base_snapshot_id]
    return own[0] if own else next(iter(bases), None)


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


def _result(tables: ProductTables, version: Version) -> str:
    table = tables.up_to_date("base")
    assert version.base_snapshot_id is not None
    if table.snapshot_by_id(version.base_snapshot_id) is None:
        raise UnknownVersion(
            f"{tables.product.fqn}: the rows of version {version.number} have expired",
            next_step=f"mesh rebuild {tables.product.fqn} --version {version.number}",
        )
    return relation(table, snapshot_id=version.base_snapshot_id)


def _may_hold(table: Table, file: DataFile, after: Position, until: Position) -> bool:
    """Whether a log file can hold events between two positions: by its partitions' offsets and by its redrives."""
    if after.redrives != until.redrives and not is_null(table, file, REDRIVE):
        redrives = bounds(table, file, REDRIVE)
        if redrives is None or redrives[1] > after.redrives:
            return True
    if after.generation != until.generation:
        generations = bounds(table, file, GENERATION)
        return generations is None or generations[1] >= after.generation
    partitions, offsets = bounds(table, file, PARTITION), bounds(table, file, OFFSET)
    if partitions is None or offsets is None:
        return True
    return any(
        partitions[0] <= number <= partitions[1]
        and max(offsets[0], after.next_offset(number)) <= min(offsets[1], offset.next_offset - 1)
        for number, offset in until.partitions.items()
    )
