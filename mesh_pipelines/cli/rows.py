"""Rows of a query, in the format asked for, written as they are read."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

from mesh_pipelines.cli.output import Output, plain

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("table", "csv", "json", "arrow")


def write_rows(reader: pa.RecordBatchReader, form: str, limit: int, output: Output) -> None:
    """Write rows to stdout: a table of at most ``limit``, CSV, JSON lines in an array, or an Arrow IPC stream."""
    match form:
        case "csv":
            _csv(reader)
        case "json":
            _json(reader)
        case "arrow":
            _arrow(reader)
        case _:
            _table(reader, limit, output)


def _table(reader: pa.RecordBatchReader, limit: int, output: Output) -> None:
    rows: list[dict[str, object]] = []
    total = 0
    for batch in reader:
        total += batch.num_rows
        if len(rows) < limit:
            rows += batch.slice(0, limit - len(rows)).to_pylist()
    output.records(rows, reader.schema.names)
    more = f" (the first {limit:,} shown; --limit shows more)" if total > limit else ""
    output.say(f"{total:,} rows{more}")


def _csv(reader: pa.RecordBatchReader) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(reader.schema.names)
    for batch in reader:
        for row in batch.to_pylist():
            writer.writerow(["" if value is None else _text(value) for value in row.values()])


def _json(reader: pa.RecordBatchReader) -> None:
    separator = "[\n"
    for batch in reader:
        for row in batch.to_pylist():
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
