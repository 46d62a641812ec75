"""A product's state at a version, as a DuckDB view: fold(base, log rows between the base's position and the version's).

Which base is used never changes what is read, only what it costs: the version's own while its snapshot exists, by its
overlay where there is one; else the newest one the version's position continues; else none, and the log is folded from
its first event.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh_pipelines.contract.log import BREAKS, GENERATION, OFFSET, PARTITION, REDRIVE
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.sql import quote
from mesh_pipelines.contract.types import arrow_schema
from mesh_pipelines.errors import UnknownVersion
from mesh_pipelines.lake import fold, overlay
from mesh_pipelines.lake.catalog import Pinned
from mesh_pipelines.lake.files import files_of, relation
from mesh_pipelines.lake.log import POSITION, snapshot_of
from mesh_pipelines.lake.overlay import Overlay
from mesh_pipelines.lake.tables import BASE_ENVELOPE, up_to_date
from mesh_pipelines.positions import Position, Version

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table


# What the bits of a base's rows mean: the fingerprint of a mask.
RULES = "mesh.rules"


@dataclass(frozen=True)
class Base:
    """A snapshot of the base table, the position up to which it is folded, and the mask its rows were judged by."""

    snapshot_id: int
    position: Position
    rules: str = ""


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
    if product.is_derived:
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
    rows = f"(SELECT {event_columns(product)} FROM {relation(table, snapshot_id=base.snapshot_id)})"
    return rows if base.position == until else fold.onto(rows, events_sql(catalog, product, base.position, until))


def overlaid_sql(
    catalog: Catalog | Pinned,
    product: DataProduct,
    base: Base,
    found: tuple[Overlay, str],
    until: Position,
    *,
    only: Collection[str] | None = None,
    suspects: bool = False,
) -> tuple[str, str]:
    """What ``folded_sql`` gives, by an overlay and the SQL of its rows: SELECTs over the base and over the tail.

    ``only`` names the base's files to read; ``suspects`` leaves out the base's rows that break no row rule.
    """
    known, source = found
    table = up_to_date(catalog, product, "base")
    columns = event_columns(product)
    files = [file for file in files_of(table, base.snapshot_id) if only is None or file.file_path in only]
    kept = known.base_sql(table, files, columns, source, f"{BREAKS} <> 0" if suspects else "TRUE")
    return kept, tail_sql(catalog, product, base, found, until)


def tail_sql(
    catalog: Catalog | Pinned, product: DataProduct, base: Base, found: tuple[Overlay, str], until: Position
) -> str:
    """A SELECT of the events behind a base that an overlay knows as current: it speaks of one generation only."""
    known, source = found
    files = _log_files(catalog, product, base.position, until)
    return (
        f"SELECT {event_columns(product)} FROM {files} "
        f"WHERE {GENERATION} = {until.generation} AND {known.tail_condition(source)}"
    )


def _rows_sql(
    catalog: Catalog | Pinned, product: DataProduct, base: Base | None, version: Version, suspects: bool = False
) -> str:
    assert version.position is not None
    if base and version.overlay and base.snapshot_id == version.base_snapshot_id:
        known = overlay.read(up_to_date(catalog, product, "base"), version.overlay)
        if known:
            found = known, overlay.source_of(version.overlay)
            kept, tail = overlaid_sql(catalog, product, base, found, version.position, suspects=suspects)
            return f"({kept} UNION ALL {tail})"
    return folded_sql(catalog, product, base, version.position)


def events_sql(catalog: Catalog | Pinned, product: DataProduct, after: Position | None, until: Position) -> str:
    """The events taken over between two positions, in ``event_columns``."""
    files = _log_files(catalog, product, after, until)
    return f"(SELECT {event_columns(product)} FROM {files} WHERE {fold.TAKEN_OVER} AND {fold.between(after, until)})"


def _log_files(catalog: Catalog | Pinned, product: DataProduct, after: Position | None, until: Position) -> str:
    table = up_to_date(catalog, product, "log")
    return relation(table, snapshot_id=snapshot_of(table, until), row_filter=_file_filter(after, until))


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


def _file_filter(after: Position | None, until: Position) -> BooleanExpression:
    """Which log files can hold events between the positions: by their partitions' offsets and by their redrives."""
    from pyiceberg.expressions import AlwaysTrue, GreaterThan, GreaterThanOrEqual, Or

    if after is None:
        return AlwaysTrue()
    if after.generation != until.generation:
        landed: BooleanExpression = GreaterThanOrEqual(GENERATION, after.generation)
    else:
        landed = _offset_filter(after, until)
    return landed if after.redrives == until.redrives else Or(landed, GreaterThan(REDRIVE, after.redrives))


def _offset_filter(after: Position, until: Position) -> BooleanExpression:
    from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual, LessThan, Or

    ranges = [
        And(
            EqualTo(PARTITION, number),
            GreaterThanOrEqual(OFFSET, after.next_offset(number)),
            LessThan(OFFSET, offset.next_offset),
        )
        for number, offset in until.partitions.items()
        if offset.next_offset > after.next_offset(number)
    ]
    if not ranges:
        return LessThan(OFFSET, 0)
    return ranges[0] if len(ranges) == 1 else Or(*ranges)
