"""The base: a cached result. For a keyed stream its fold at a position, for a derived product its computed rows.

Copy-on-write of a keyed table costs the table and not the delta, so the fold is rewritten only when that pays, and
a version between two rewrites is the base and the log's tail behind it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from mesh_pipelines.contract.log import BREAKS, DIGEST, KEY
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.lake import delta, state
from mesh_pipelines.lake.catalog import Pinned
from mesh_pipelines.lake.commit import current_files, replace_files, write_files
from mesh_pipelines.lake.fold import columns as fold_columns
from mesh_pipelines.lake.fold import digest
from mesh_pipelines.lake.log import POSITION
from mesh_pipelines.lake.overlay import Overlay
from mesh_pipelines.lake.state import RULES, Base
from mesh_pipelines.lake.tables import table_schema, up_to_date
from mesh_pipelines.positions import Position
from mesh_pipelines.quality.mask import mask_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

# The tail that is kept, as a share of the base. A tail of s times the base is rewritten once per s*N events of a base
# of N rows, so each byte of delta costs 1 (the log) + r/s (rewrites; r: bytes of a base's row over those of an event)
# + the overlays. Measured with deltas of 10,000 events into a million keys: r = 1.0, overlays 0.25; in all 3.75.
# Reading costs the rows of base and tail, 1 + s and the test of the bits.
TAIL_SHARE = 0.4


def worth_rewriting(base_rows: int, tail_offsets: int, tail_rows: int) -> bool:
    """Whether the tail behind the base has grown so long that rewriting the base is the cheaper way to read.

    ``tail_rows``: the tail that is too short to be felt, whatever the base (``MESH_BASE_TAIL_ROWS``).
    """
    return tail_offsets > max(tail_rows, TAIL_SHARE * base_rows)


def keep_up(
    engine: duckdb.DuckDBPyConnection,
    catalog: Catalog | Pinned,
    product: DataProduct,
    position: Position,
    *,
    tail_rows: int,
) -> tuple[Base | None, bool]:
    """The base to fold a version at this position from, rewritten first where that pays.

    It is rewritten, too, where its rows were judged by other rules, or where the position does not follow it: what
    came later may then lie before it. Gives None while the stream is short and has no base; second, whether it was
    rewritten.
    """
    table = up_to_date(catalog, product, "base")
    newest = next((base for base in state.bases_of(table) if position.continues(base.position)), None)
    if newest is None:
        tail = sum(offset.next_offset for offset in position.partitions.values())
        if not worth_rewriting(0, tail, tail_rows):
            return None, False
    elif newest.rules == mask_of(product).fingerprint and position.follows(newest.position):
        rows = sum(file.record_count for file in current_files(table))
        if not worth_rewriting(rows, newest.position.lag_to(position), tail_rows):
            return newest, False
    return rewrite_base(engine, catalog, product, position), True


def rewrite_base(
    engine: duckdb.DuckDBPyConnection,
    catalog: Catalog | Pinned,
    product: DataProduct,
    position: Position,
    *,
    from_log: bool = False,
) -> Base:
    """Fold up to a position and make that the base, in one commit; ``from_log`` starts at the log's first event.

    Only the files of which rows were replaced are written anew, sorted by key together with the tail: all of them
    where keys come at random, few where they cluster.

    Raises:
        ConcurrentWriter: another writer rewrote the base meanwhile.
    """
    table = up_to_date(catalog, product, "base")
    mask = mask_of(product)
    bases = [] if from_log else [base for base in state.bases_of(table) if position.continues(base.position)]
    old = current_files(table)
    rows = _merged(engine, catalog, product, table, next(iter(bases), None), position)
    if rows:
        folded, touched = rows
        old = [file for file in old if file.file_path in touched]
    else:
        folded = state.folded_sql(catalog, product, next(iter(bases), None), position)
    schema = table_schema(product, "base")
    columns = f"{state.event_columns(product)}, unhex({digest(KEY)}) AS {DIGEST}, {delta.judged(mask)} AS {BREAKS}"
    reader = engine.sql(
        f"SELECT {fold_columns(schema.names)} FROM (SELECT {columns} FROM {folded}) ORDER BY {KEY}"
    ).to_arrow_reader(100_000)
    files = write_files(table, cast(reader, schema))
    properties = {POSITION: position.to_json(), RULES: mask.fingerprint}
    snapshot_id = replace_files(table, old, files, properties, f"{product.fqn}.base")
    return Base(snapshot_id, position, mask.fingerprint)


def _merged(
    engine: duckdb.DuckDBPyConnection,
    catalog: Catalog | Pinned,
    product: DataProduct,
    table: Table,
    base: Base | None,
    position: Position,
) -> tuple[str, Collection[str]] | None:
    """The rows to write in place of the files that the tail touches, and those files; None where that is not known."""
    current = table.current_snapshot()
    if base is None or current is None or current.snapshot_id != base.snapshot_id:
        return None
    if not position.follows(base.position) or base.rules != mask_of(product).fingerprint:
        return None
    found = delta.folded(engine, catalog, product, base, (base.position, Overlay()), position)
    if found is None or found.overlay is None:
        return None
    engine.register("overlay_rewritten", found.overlay.to_arrow())
    touched = found.overlay.base
    kept, tail = state.overlaid_sql(
        catalog, product, base, (found.overlay, "overlay_rewritten"), position, only=set(touched)
    )
    return f"({kept} UNION ALL {tail})", touched


def write_result(catalog: Catalog | Pinned, product: DataProduct, rows: pa.RecordBatchReader) -> int:
    """Make these rows the derived product's newest result, in one commit; gives the snapshot's id.

    Raises:
        ConcurrentWriter: another run stored its result meanwhile.
    """
    table = up_to_date(catalog, product, "base")
    files = write_files(table, cast(rows, table_schema(product, "base")))
    return replace_files(table, current_files(table), files, {}, f"{product.fqn}.base")


def cast(reader: pa.RecordBatchReader, schema: pa.Schema) -> pa.RecordBatchReader:
    """The same rows under exactly this schema, batch by batch."""
    import pyarrow as pa

    batches = (
        batch
        for piece in reader
        for batch in pa.Table.from_batches([piece]).cast(schema).to_batches()
        if batch.num_rows
    )
    return pa.RecordBatchReader.from_batches(schema, batches)
