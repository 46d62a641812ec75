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
from mesh_pipelines.contract.types import arrow_schema
from mesh_pipelines.errors import UnknownVersion
from mesh_pipelines.lake import fold, overlay
from mesh_pipelines.lake.catalog import Pinned
from mesh_pipelines.lake.files import bounds, each_of, files_of, is_null, relation, relation_of
from mesh_pipelines.lake.log import POSITION, snapshot_of
from mesh_pipelines.lake.overlay import Overlay
from mesh_pipelines.lake.tables import BASE_ENVELOPE, up_to_date
from mesh_pipelines.positions import Position, Version
from mesh_pipelines.sql.quote import quote

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.catalog import Catalog
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


def register(
    connection: duckdb.DuckDBPyConnection,
    catalog: Catalog | Pinned,
    product: DataProduct,
    version: Version,
    name: str,
    *,
    from_log: bool = False,
    suspects: bool = False,
) -> None:
    """Make a view ``name`` of the product's contract columns at this version; ``from_log`` leaves the base aside.

    ``suspects`` leaves out rows of the base that are known to break no row rule, where the version has an overlay.

    Raises:
        UnknownVersion: a derived product's rows at that version have expired.
        TableMissing: the product was not applied.
    """
    select = state_sql(catalog, product, version, from_log=from_log, suspects=suspects)
    connection.execute(f"CREATE OR REPLACE VIEW {quote(name)} AS {select}")


def state_sql(
    catalog: Catalog | Pinned,
    product: DataProduct,
    version: Version,
    *,
    from_log: bool = False,
    envelope: Sequence[str] = (),
    suspects: bool = False,
) -> str:
    """The SELECT over data files that gives the product's state at this version, contract columns in order.

    ``envelope`` names columns of each row's latest event to give before them; a derived product has none.
    """
    columns = fold.columns([*envelope, *(field.name for field in product.fields)])
    if not product.has_log:
        return f"SELECT {columns} FROM {_result(catalog, product, version)}"
    assert version.position is not None, f"{product.fqn}: a stream's version has a position"
    if not product.event_type.folds_by_key:
        events = events_sql(catalog, product, None, version.position)
        return f"SELECT {columns} FROM {events}"
    base = None if from_log else usable_base(up_to_date(catalog, product, "base"), version)
    return f"SELECT {columns} FROM {_rows_sql(catalog, product, base, version, suspects)} WHERE {fold.LIVE}"


def event_columns(product: DataProduct) -> str:
    """What the fold keeps of an event: its envelope and the contract's columns."""
    return fold.columns([*BASE_ENVELOPE, *arrow_schema(product).names])


def folded_sql(catalog: Catalog | Pinned, product: DataProduct, base: Base | None, until: Position) -> str:
    """The latest event of each key before a position, tombstones included, in ``event_columns``."""
    if base is None:
        return fold.latest(events_sql(catalog, product, None, until))
    table = up_to_date(catalog, product, "base")
    known = replaced_in(table, base)
    if known is None:
        rows = fold.latest(f"(SELECT {event_columns(product)} FROM {relation(table, snapshot_id=base.snapshot_id)})")
    else:
        rows = overlaid_sql(catalog, product, base, (known, _source(base.replaced)), base.position)
    return rows if base.position == until else fold.onto(rows, events_sql(catalog, product, base.position, until))


def replaced_in(table: Table, base: Base) -> Overlay | None:
    """Which rows of a base others of its rows replaced; None where that is lost, and only their coordinates say it."""
    return overlay.read(table, base.replaced) if base.replaced else Overlay()


def overlaid_sql(
    catalog: Catalog | Pinned,
    product: DataProduct,
    base: Base,
    found: tuple[Overlay, str | None],
    until: Position,
    *,
    only: Collection[str] | None = None,
    live: bool = False,
    suspects: bool = False,
) -> str:
    """What ``folded_sql`` gives, by an overlay and the SQL of its rows (None: it is empty), as a relation.

    ``only`` names the base's files to read; ``live`` leaves out files that hold nothing but tombstones; ``suspects``
    leaves out the base's rows that break no row rule.
    """
    known, source = found
    table = up_to_date(catalog, product, "base")
    columns = event_columns(product)
    files = [file for file in files_of(table, base.snapshot_id) if only is None or file.file_path in only]
    if live:
        files = [file for file in files if _may_be_live(table, file)]
    parts = known.base_parts(table, files, columns, f"{BREAKS} <> 0" if suspects else "TRUE")
    if base.position != until:
        parts += _tail_parts(catalog, product, base, known, until, live=live)
    if not parts:
        parts = [f"SELECT {columns}, 0 AS bit FROM {relation_of(table, [])}"]
    return f"({known.current_sql(parts, columns, source)})"


def tail_sql(
    catalog: Catalog | Pinned, product: DataProduct, base: Base, found: tuple[Overlay, str], until: Position
) -> str:
    """A SELECT of the events behind a base that an overlay knows as current: it speaks of one generation only.

    For looking few of them up: to plan each file on its own costs more than that.
    """
    known, source = found
    table = up_to_date(catalog, product, "log")
    events = _tail_part(product, known, until, relation_of(table, _log_files(table, base.position, until)))
    return known.current_sql([events], event_columns(product), source)


def _tail_parts(
    catalog: Catalog | Pinned, product: DataProduct, base: Base, known: Overlay, until: Position, *, live: bool = False
) -> list[str]:
    table = up_to_date(catalog, product, "log")
    files = _log_files(table, base.position, until)
    if live:
        files = [file for file in files if _may_be_live(table, file)]
    return [_tail_part(product, known, until, rows) for rows in each_of(table, files)]


def _tail_part(product: DataProduct, known: Overlay, until: Position, rows: str) -> str:
    own = f"{GENERATION} = {until.generation}"
    return f"SELECT {event_columns(product)}, {known.tail_bit()} AS bit FROM {rows} WHERE {own}"


def _may_be_live(table: Table, file: DataFile) -> bool:
    """Whether a file holds anything but tombstones and events that were not taken over, as far as its bounds tell."""
    op = bounds(table, file, OP)
    fate = bounds(table, file, FATE) if FATE in table.schema().column_names else None
    only_deletes = op == (Op.DELETE, Op.DELETE)
    return not only_deletes and not (fate and not fate[0] <= Fate.OK <= fate[1])


def _rows_sql(
    catalog: Catalog | Pinned, product: DataProduct, base: Base | None, version: Version, suspects: bool = False
) -> str:
    assert version.position is not None
    if base and base.snapshot_id == version.base_snapshot_id:
        table = up_to_date(catalog, product, "base")
        at_base = base.position == version.position
        address = base.replaced if at_base else version.overlay
        known = replaced_in(table, base) if at_base else overlay.read(table, address)
        if known is not None:
            found = known, _source(address)
            return overlaid_sql(catalog, product, base, found, version.position, live=True, suspects=suspects)
    return folded_sql(catalog, product, base, version.position)


def _source(address: str | None) -> str | None:
    return overlay.source_of(address) if address else None


def events_sql(catalog: Catalog | Pinned, product: DataProduct, after: Position | None, until: Position) -> str:
    """The events taken over between two positions, in ``event_columns``."""
    table = up_to_date(catalog, product, "log")
    files = relation_of(table, _log_files(table, after, until))
    return f"(SELECT {event_columns(product)} FROM {files} WHERE {fold.TAKEN_OVER} AND {fold.between(after, until)})"


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


def _result(catalog: Catalog | Pinned, product: DataProduct, version: Version) -> str:
    table = up_to_date(catalog, product, "base")
    assert version.base_snapshot_id is not None
    if table.snapshot_by_id(version.base_snapshot_id) is None:
        raise UnknownVersion(
            f"{product.fqn}: the rows of version {version.number} have expired",
            next_step=f"mesh rebuild {product.fqn} --version {version.number}",
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
