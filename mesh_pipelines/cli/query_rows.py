"""Rows of a query, in the format asked for, written as they are read."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

from mesh_pipelines.cli.output import Output, plain
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import QueryInvalid

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("table", "csv", "json", "arrow")


def write_rows(reader: pa.RecordBatchReader, form: str, limit: int, output: Output) -> None:
    """Write rows to stdout: a table of at most ``limit``, CSV, JSON lines in an array, or an Arrow IPC stream."""
    reader = _told_apart(reader)
    match form:
        case "csv":
            _csv(reader)
        case "json":
            _json(reader)
        case "arrow":
            _arrow(reader)
        case _:
            _table(reader, limit, output)


def _told_apart(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The same rows with columns of one name told apart: a record holds one value a name."""
    import pyarrow as pa

    names: list[str] = []
    for name in reader.schema.names:
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    return pa.RecordBatchReader.from_batches(schema, (batch.rename_columns(names) for batch in reader))


def _records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The batch's rows.

    Raises:
        QueryInvalid: Python has no form for a value, so it cannot be shown as text.
    """
    try:
        return batch.to_pylist()
    except (OverflowError, ValueError) as error:
        raise QueryInvalid(
            f"a value cannot be shown: {error}", next_step="cast it to VARCHAR in the query, or use --output arrow"
        ) from error


def _table(reader: pa.RecordBatchReader, limit: int, output: Output) -> None:
    rows: list[dict[str, object]] = []
    total = 0
    for batch in reader:
        total += batch.num_rows
        if len(rows) < limit:
            rows += _records(batch.slice(0, limit - len(rows)))
    output.records(rows, reader.schema.names)
    more = f" (the first {limit:,} shown; --limit shows more)" if total > limit else ""
    output.say(f"{counted(total, 'row')}{more}")


def _csv(reader: pa.RecordBatchReader) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(reader.schema.names)
    for batch in reader:
        for row in _records(batch):
            writer.writerow(["" if value is None else _text(value) for value in row.values()])


def _json(reader: pa.RecordBatchReader) -> None:
    separator = "[\n"
    for batch in reader:
        for row in _records(batch):
            sys.stdout.write(separator + json.dumps(row, default=plain, ensure_ascii=False))
            separator = ",\n"
    sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")


def _arrow(reader: pa.RecordBatchReader) -> None:
    import pyarrow as pa

    with pa.ipc.new_stream(sys.stdout.buffer, reader.schema) as sink:
        for batch in reader:
            sink.write_batch(batch)


def _text(value: object) -> str:
    return (
        value if isinstance(value, str) else json.dumps(value) if isinstance(value, list | dict) else str(plain(value))
    )
