"""The base: a cached result. For a keyed stream its fold at a position, for a derived product its computed rows.

Copy-on-write of a keyed table costs the table and not the delta, so the fold is rewritten only when that pays, and
a version between two rewrites is the base and the log's tail behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.lake import state
from mesh_pipelines.lake.commit import current_files, replace_files, write_files
from mesh_pipelines.lake.fold import columns
from mesh_pipelines.lake.log import POSITION
from mesh_pipelines.lake.tables import table_schema, up_to_date
from mesh_pipelines.positions import Position

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.catalog import Catalog

# A rewrite of a million keys costs 0.7 s and a fold of a tail within a tenth of its base a few hundredths (measured
# on two cores), so a tail is worth keeping until it is both that share and long enough to be felt.
TAIL_SHARE = 0.10


def worth_rewriting(base_rows: int, tail_offsets: int, tail_rows: int) -> bool:
    """Whether the tail behind the base has grown so long that rewriting the base is the cheaper way to read.

    ``tail_rows``: the tail that is too short to be felt, whatever the base (``MESH_BASE_TAIL_ROWS``).
    """
    return tail_offsets > max(tail_rows, TAIL_SHARE * base_rows)


def keep_up(
    engine: duckdb.DuckDBPyConnection, catalog: Catalog, product: DataProduct, position: Position, *, tail_rows: int
) -> tuple[int | None, bool]:
    """The base snapshot to fold a version at this position from, rewritten first where that pays.

    Gives the snapshot's id (None while the stream is short and has no base) and whether it was rewritten.
    """
    table = up_to_date(catalog, product, "base")
    newest = next((base for base in state.bases_of(table) if position.continues(base.position)), None)
    if newest and newest.position.generation == position.generation:
        tail = newest.position.lag_to(position)
    else:
        tail = sum(offset.next_offset for offset in position.partitions.values())
    base_rows = sum(file.record_count for file in current_files(table)) if newest else 0
    if not worth_rewriting(base_rows, tail, tail_rows):
        return newest.snapshot_id if newest else None, False
    return rewrite_base(engine, catalog, product, position), True


def rewrite_base(
    engine: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    product: DataProduct,
    position: Position,
    *,
    from_log: bool = False,
) -> int:
    """Fold up to a position and make that the base, in one commit; ``from_log`` starts at the log's first event.

    Raises:
        ConcurrentWriter: another writer rewrote the base meanwhile.
    """
    table = up_to_date(catalog, product, "base")
    bases = [] if from_log else [base for base in state.bases_of(table) if position.continues(base.position)]
    folded = state.folded_sql(catalog, product, next(iter(bases), None), position)
    schema = table_schema(product, "base")
    reader = engine.sql(f"SELECT {columns(schema.names)} FROM {folded}").to_arrow_reader(100_000)
    files = write_files(table, cast(reader, schema))
    properties = {POSITION: position.to_json()}
    return replace_files(table, current_files(table), files, properties, f"{product.fqn}.base")


def write_result(catalog: Catalog, product: DataProduct, rows: pa.RecordBatchReader) -> int:
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
