"""Code that reads a product, ready to be run as it stands, one text a way of reading; pure.

Addresses are those of the settings. Credentials are never among them: a comment says where one's own go.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.formats.registered import format_of
from mesh_pipelines.settings import Settings


@dataclass(frozen=True)
class Snippet:
    """``port`` is the output port it reads; ``language`` is ``shell`` or ``python``."""

    port: str
    title: str
    language: str
    code: str


def snippets(product: DataProduct, settings: Settings) -> tuple[Snippet, ...]:
    """The product's output ports, each with code that reads a few rows or events from it."""
    table = (
        Snippet("sql", "SQL, from a terminal", "shell", _shell(product)),
        Snippet("python", "Python, as a DataFrame", "python", _python(product)),
        Snippet("duckdb", "DuckDB, for notebooks and BI tools", "python", _duckdb(product, settings)),
    )
    if product.stream is None:
        return table
    return (*table, Snippet("stream", "The event stream, with any Kafka client", "python", _stream(product, settings)))


def _shell(product: DataProduct) -> str:
    return f"mesh query 'SELECT * FROM {product.domain}.{product.name} LIMIT 10'\n"


def _python(product: DataProduct) -> str:
    return f'''from mesh_pipelines import read

rows = read("{product.fqn}").pandas()   # the published version; version=3 or as_of="2026-01-31T12:00:00Z" for others
print(rows.head(10))
'''


def _duckdb(product: DataProduct, settings: Settings) -> str:
    return f"""import duckdb

with duckdb.connect({str(settings.serving_file)!r}, read_only=True) as connection:
    print(connection.sql("SELECT * FROM {product.domain}.{product.name} LIMIT 10"))
"""


def _stream(product: DataProduct, settings: Settings) -> str:
    assert product.stream is not None
    decode = format_of(product.stream).snippet(str(settings.registry_url))
    return f"""from confluent_kafka import Consumer, KafkaError
{decode}
consumer = Consumer(
    {{
        "bootstrap.servers": {settings.brokers!r},
        "group.id": "my-service",                # what you have read is kept under this name
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        # security.protocol, sasl.username, ... of your own
    }}
)
consumer.subscribe([{product.stream.name!r}])
try:
    for _ in range(10):
        message = consumer.poll(30)
        if message is None or (message.error() and message.error().code() == KafkaError._PARTITION_EOF):
            break
        print(message.key(), decode(message))    # None is a tombstone: the key was deleted
finally:
    consumer.close()
"""
