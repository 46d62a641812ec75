"""One data file of a table, encoded for what its columns hold.

A dictionary is worth it where few values repeat and costs half of all writing where they do not, so a sample decides
for each column. Integers and instants that are not repeated are stored as differences, which is smaller and faster in
both directions; every engine reads those (Spark with Iceberg 1.10 or newer, or with vectorised reads switched off).
pyiceberg's own writer makes a dictionary of everything and has no setting for either.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mesh_pipelines.lake.nulls import keep_nulls

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.io import OutputFile
    from pyiceberg.io.pyarrow import ParquetFormatWriter
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

# Rows looked at, at the beginning, in the middle and at the end of a column each.
_PART = 1024
# DuckDB reads row groups side by side and makes its own of about so many rows.
_ROWS_PER_GROUP = "131072"


def write_file(table: Table, rows: pa.Table) -> DataFile:
    """Write rows as one data file under the table's current schema, not yet part of it.

    Columns are matched by name; those that the rows lack are null.
    """
    import pyarrow as pa
    from pyiceberg.io.pyarrow import ParquetFormatModel, pyarrow_to_schema
    from pyiceberg.io.pyarrow import _to_requested_schema as to_requested_schema  # pyright: ignore[reportPrivateUsage]
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.schema import sanitize_column_names
    from pyiceberg.table.locations import load_location_provider
    from pyiceberg.typedef import Record

    keep_nulls()
    metadata = table.metadata
    schema = sanitize_column_names(table.schema())
    given = pyarrow_to_schema(
        rows.schema, name_mapping=table.schema().name_mapping, format_version=metadata.format_version
    )
    model = ParquetFormatModel()
    batches = [
        to_requested_schema(schema, given, batch, include_field_ids=True, format_model=model)
        for batch in rows.to_batches()
    ]
    encoded = pa.Table.from_batches(batches)
    locations = load_location_provider(table_location=metadata.location, table_properties=metadata.properties)
    output = table.io.new_output(locations.new_data_location(data_file_name=f"{uuid.uuid4()}.parquet"))
    with _writer(output, schema, metadata.properties, encoded) as writer:
        writer.write(encoded)
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=output.location,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        file_size_in_bytes=len(output),
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **writer.result().to_serialized_dict(),
    )


def _writer(output: OutputFile, schema: Schema, properties: Mapping[str, str], rows: pa.Table) -> ParquetFormatWriter:
    from pyiceberg.io.pyarrow import ParquetFormatWriter, parquet_path_to_id_mapping

    writer = ParquetFormatWriter(output, schema, {**properties, "write.parquet.row-group-limit": _ROWS_PER_GROUP})
    # The library passes on what it knows of the table's properties, which have no word for encodings.
    options: dict[str, Any] = writer._parquet_writer_kwargs  # pyright: ignore[reportPrivateUsage]
    paths = list(parquet_path_to_id_mapping(schema))
    options |= encodings(rows, paths)
    random = {name for name, kind in zip(rows.column_names, rows.schema.types, strict=True) if _is_random(kind)}
    random.difference_update(options["use_dictionary"])
    options |= _codecs(options, paths, random)
    return writer


def _codecs(given: Mapping[str, Any], paths: Sequence[str], random: Collection[str]) -> dict[str, Any]:
    """Pyarrow's writer options for compression, as given but for columns of differences and of random bytes.

    Those are packed to the bit already: compressing them again saves nothing, and made a scan of differences twice as
    dear.
    """
    codec, level = given["compression"], given["compression_level"]
    packed = {*given["column_encoding"], *random}
    codecs = {path: "none" if path in packed else codec for path in paths}
    levels = None if level is None else {path: level for path in paths if path not in packed}
    return {"compression": codecs, "compression_level": levels}


def encodings(rows: pa.Table, paths: Iterable[str]) -> dict[str, Any]:
    """Pyarrow's writer options for these columns: which get a dictionary, and how the others are stored.

    ``paths`` are the columns that a file stores, those inside nested ones included.
    """
    from pyarrow import types

    repeated = {name for name in rows.column_names if _repeats(rows[name])}
    differences = {
        name: "DELTA_BINARY_PACKED"
        for name, kind in zip(rows.column_names, rows.schema.types, strict=True)
        if name not in repeated and (types.is_integer(kind) or types.is_temporal(kind))
    }
    return {
        "use_dictionary": [path for path in paths if path.split(".")[0] in repeated],
        "column_encoding": differences,
    }


def _is_random(kind: pa.DataType) -> bool:
    """Whether values of a type are random bytes as a rule: digests and UUIDs."""
    import pyarrow as pa

    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return pa.types.is_fixed_size_binary(storage)


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether few values of a column repeat, as a sample has it; those inside nested ones are taken to."""
    import pyarrow as pa

    from mesh_pipelines.arrow_compute import pc

    if pa.types.is_nested(column.type):
        return True
    places = (0, len(column) // 2, max(0, len(column) - _PART))
    sample = pa.chunked_array([chunk for at in places for chunk in column.slice(at, _PART).chunks], column.type)
    if isinstance(column.type, pa.BaseExtensionType):
        sample = sample.cast(column.type.storage_type)
    return 8 * pc.count_distinct(sample, mode="all").as_py() <= len(sample)
