"""The orders that the benchmarks of landing share: made, produced, and known well enough to check what was landed.

Events are the same for the same seed whatever their number: a run of more events begins with those of a run of fewer.
An order's events all go to one partition, its key's number modulo four; two in a hundred are tombstones. The values
are about 150 B of Avro in Confluent framing, or 310 B as JSON: twelve columns, of which two are nullable.

They are encoded in columns, by joining Arrow arrays of each field's bytes, which takes a tenth of what encoding event
by event does. So that nobody has to believe it, the first event of each block is decoded with fastavro.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.arrow_compute import pc
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    from mesh_pipelines.platform import Platform

AVRO = "shop.orders"
JSON = "shop.orders_json"
PARTITIONS = 4
KEYS = 100_000
TOMBSTONES = 0.02
_BLOCK = 50_000
_BEGIN_US = 1_704_067_200_000_000  # 2024-01-01T00:00:00Z

_COUNTRIES = ("AT", "BE", "CH", "DE", "DK", "ES", "FI", "FR", "GB", "IT", "NL", "SE")
_CHANNELS = ("web", "app", "store", "telephone")
_STATUSES = ("placed", "paid", "shipped", "delivered", "returned")
_PHRASES = (
    "please leave the parcel with a neighbour",
    "ring twice",
    "at the green gate",
    "behind the house",
    "call before noon",
    "after six",
    "gift wrap",
    "in blue paper",
    "no invoice inside",
    "second floor",
    "left at the büro",
    "right of the garage",
    "Straße side entrance",
    "on the porch",
    "fragile",
    "mind the dog",
)

CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: {domain}.{name}
domain: {domain}
name: {name}
version: "1.0.0"
status: active
team: {{members: [{{username: shop@example.com, role: owner}}]}}
customProperties:
  - {{property: mesh.alignment, value: source-aligned}}
  - {{property: mesh.eventType, value: state}}
  - {{property: mesh.wireFormat, value: {wire}}}
  - {{property: mesh.partitions, value: {partitions}}}
schema:
  - name: {name}
    properties:
      - {{name: order_id, logicalType: string, primaryKey: true}}
      - {{name: customer_id, logicalType: integer, required: true}}
      - {{name: country, logicalType: string, required: true, logicalTypeOptions: {{minLength: 2, maxLength: 2}}}}
      - {{name: channel, logicalType: string, required: true}}
      - name: status
        logicalType: string
        required: true
        enum: [{statuses}]
      - {{name: note, logicalType: string}}
      - {{name: amount_cents, logicalType: integer, required: true, logicalTypeOptions: {{minimum: 1}}}}
      - name: quantity
        logicalType: integer
        physicalType: int
        required: true
        logicalTypeOptions: {{minimum: 1, maximum: 9}}
      - {{name: weight_kg, logicalType: number}}
      - {{name: is_gift, logicalType: boolean, required: true}}
      - {{name: placed_at, logicalType: timestamp, required: true}}
      - {{name: updated_at, logicalType: timestamp, required: true}}
"""
_TYPES = {
    "order_id": "VARCHAR",
    "customer_id": "BIGINT",
    "country": "VARCHAR",
    "channel": "VARCHAR",
    "status": "VARCHAR",
    "note": "VARCHAR",
    "amount_cents": "BIGINT",
    "quantity": "INTEGER",
    "weight_kg": "DOUBLE",
    "is_gift": "BOOLEAN",
    "placed_at": "TIMESTAMPTZ",
    "updated_at": "TIMESTAMPTZ",
}


_OPTIONAL = ("note", "weight_kg")


class WrongRows(Exception):
    """What was landed is not what was produced."""


@dataclass(frozen=True)
class Block:
    """Events in the order they are produced: the orders as they then are, and which events are tombstones."""

    rows: pa.Table
    keys: npt.NDArray[np.int64]
    tombstones: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def partitions(self) -> npt.NDArray[np.int64]:
        """Where each event goes."""
        return self.keys % PARTITIONS


@dataclass
class Expected:
    """What a table of these events must hold: counts, sums, and a hash per column over coordinates and values."""

    events: int = 0
    tombstones: int = 0
    cents: int = 0
    keys: int = 0
    partitions: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    hashes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TYPES, 0))
    state_rows: int = 0
    state_cents: int = 0


@dataclass(frozen=True)
class Orders:
    """So many events, of one seed."""

    events: int = 1_000_000
    seed: int = 2013

    def blocks(self, start: int = 0) -> Iterator[Block]:
        """The events from number ``start`` on, in order."""
        for number in range(start // _BLOCK, -(-self.events // _BLOCK)):
            block = _block(self.seed, number)
            begin, end = max(0, start - number * _BLOCK), min(_BLOCK, self.events - number * _BLOCK)
            yield Block(block.rows.slice(begin, end - begin), block.keys[begin:end], block.tombstones[begin:end])

    def expected(self) -> Expected:
        """The figures with which ``check`` compares."""
        import duckdb

        found = Expected(events=self.events)
        seen, live = np.zeros(KEYS, np.bool_), np.zeros(KEYS, np.bool_)
        cents = np.zeros(KEYS, np.int64)
        with duckdb.connect() as connection:
            for block in self.blocks():
                amounts = block.rows["amount_cents"].to_numpy()
                found.tombstones += int(block.tombstones.sum())
                found.cents += int(amounts[~block.tombstones].sum())
                seen[block.keys[~block.tombstones]] = True
                # Of several events of a key the last one counts.
                live[block.keys], cents[block.keys] = ~block.tombstones, amounts
                connection.register("events", _with_coordinates(block, found.partitions))
                for name, value in _hashes(connection, "events").items():
                    found.hashes[name] ^= value
        found.keys, found.state_rows, found.state_cents = int(seen.sum()), int(live.sum()), int(cents[live].sum())
        return found


def write_contract(assets: Path, fqn: str) -> None:
    """The contract of a product of orders, as Avro, or as JSON where its name ends so."""
    domain, name = fqn.split(".")
    path = assets / domain / name / "contract.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    statuses = ", ".join(f"{{value: {status}}}" for status in _STATUSES)
    wire = "json" if name.endswith("json") else "avro"
    path.write_text(CONTRACT.format(domain=domain, name=name, wire=wire, partitions=PARTITIONS, statuses=statuses))


def applied(settings: Settings, *fqns: str) -> Platform:
    """The platform of these settings, with topics, schemas and tables of the products."""
    from mesh_pipelines.plan.apply import apply_contracts
    from mesh_pipelines.platform import Platform

    for fqn in fqns:
        write_contract(settings.assets, fqn)
    platform = Platform.open(settings)
    apply_contracts(platform, [platform.product(fqn) for fqn in fqns])
    return platform


def produce(platform: Platform, fqn: str, orders: Orders, start: int = 0, **config: Any) -> None:
    """Produce the events from number ``start`` on to the product's topic; ``config`` is the producer's.

    They are not compressed unless it says so, so that the limit that is measured is not that of a codec.
    """
    from mesh_pipelines.kafka.client import producer

    encode = as_json if fqn.endswith("json") else Avro(platform, fqn)
    client = producer(platform.settings, **{"compression.type": "none", **config})
    for block in orders.blocks(start):
        keys = block.rows["order_id"].to_pylist()
        values = pc.if_else(pa.array(block.tombstones), None, encode(block.rows)).to_pylist()
        stamps = (block.rows["updated_at"].cast(pa.int64()).to_numpy() // 1000).tolist()
        for key, value, partition, stamp in zip(keys, values, block.partitions.tolist(), stamps, strict=True):
            while True:
                try:
                    client.produce(fqn, value, key, partition, timestamp=stamp)
                    break
                except BufferError:
                    client.poll(0.5)
        client.poll(0)
    if left := client.flush(60):
        raise WrongRows(f"{left} events of {fqn} were not produced")


def check(platform: Platform, fqn: str, expected: Expected) -> None:
    """Compare the product's log with what was produced.

    Raises:
        WrongRows: offsets are missing or there twice, or a count, a sum or a column differs.
    """
    import duckdb

    from mesh_pipelines.lake.commit import current_files

    table = platform.tables_of(platform.product(fqn)).load("log")
    files = [file.file_path.removeprefix("file://") for file in current_files(table)]
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '2GB'")
        connection.read_parquet(files).create_view("landed")
        offsets = connection.execute(
            "SELECT _partition, count(*), count(DISTINCT _offset), min(_offset), max(_offset) + 1 FROM landed "
            "GROUP BY 1 ORDER BY 1"
        ).fetchall()
        [totals] = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE _op = 'delete'), sum(amount_cents), count(DISTINCT order_id), "
            "count(*) FILTER (WHERE _fate != 'ok') FROM landed"
        ).fetchall()
        hashes = _hashes(connection, "landed")
    wanted = [(number, count, count, 0, count) for number, count in enumerate(expected.partitions) if count]
    _same("offsets", offsets, wanted)
    _same("totals", totals, (expected.events, expected.tombstones, expected.cents, expected.keys, 0))
    _same("hashes of columns", hashes, expected.hashes)


def check_values(files: Iterable[str], expected: Expected) -> int:
    """Compare the values in Parquet files of whatever landed them with what was produced; gives the rows there are.

    Raises:
        WrongRows: the number of events that are not tombstones, their cents or their distinct keys differ.
    """
    import duckdb

    paths = [file.removeprefix("file://").removeprefix("file:") for file in files]
    with duckdb.connect() as connection:
        connection.read_parquet(paths).create_view("landed")
        [(rows, *values)] = connection.execute(
            "SELECT count(*), count(amount_cents), sum(amount_cents), count(DISTINCT order_id) FROM landed"
        ).fetchall()
    _same("values", values, [expected.events - expected.tombstones, expected.cents, expected.keys])
    return rows


def check_published(platform: Platform, fqn: str, expected: Expected) -> None:
    """Compare the product's published rows with the last events of the keys."""
    from mesh_pipelines.serve.reading import read_version

    rows = read_version(platform.catalog, platform.product(fqn)).arrow()
    found = (rows.num_rows, pc.sum(rows["amount_cents"]).as_py())
    _same("published rows and cents", found, (expected.state_rows, expected.state_cents))


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise WrongRows(f"{what}: {found}, and not {wanted}")


def _hashes(connection: Any, relation: str) -> Mapping[str, int]:
    columns = [f"bit_xor(hash(_partition::INT, _offset::BIGINT, {name}::{kind}))" for name, kind in _TYPES.items()]
    [row] = connection.execute(f"SELECT {', '.join(columns)} FROM {relation}").fetchall()
    return dict(zip(_TYPES, row, strict=True))


def _with_coordinates(block: Block, counts: list[int]) -> pa.Table:
    """The block as the log has it; ``counts`` by partition go on."""
    offsets = np.zeros(len(block), np.int64)
    for number in range(PARTITIONS):
        here = np.flatnonzero(block.partitions == number)
        offsets[here] = counts[number] + np.arange(len(here))
        counts[number] += len(here)
    empty = pa.array(block.tombstones)
    columns = {name: pc.if_else(empty, None, block.rows[name]) for name in block.rows.column_names}
    return pa.table({"_partition": block.partitions, "_offset": offsets, **columns})


def _block(seed: int, number: int) -> Block:
    random = np.random.default_rng([seed, number])
    keys = random.integers(0, KEYS, _BLOCK)
    at = np.arange(number * _BLOCK, (number + 1) * _BLOCK)

    def of(values: tuple[str, ...] | pa.Array) -> pa.Array:
        return pa.array(values, pa.string()).take(pa.array(random.integers(0, len(values), _BLOCK)))

    def missing(share: float) -> npt.NDArray[np.bool_]:
        return random.random(_BLOCK) < share

    note = pc.binary_join_element_wise(*(of(_PHRASES) for _ in range(6)), " ")
    rows = {
        "order_id": _order_ids().take(pa.array(keys)),
        "customer_id": pa.array(keys * 7919 % 1_000_003),
        "country": of(_COUNTRIES),
        "channel": of(_CHANNELS),
        "status": of(_STATUSES),
        "note": pc.if_else(pa.array(missing(0.1)), None, note),
        "amount_cents": pa.array(random.integers(1, 500_000, _BLOCK)),
        "quantity": pa.array(random.integers(1, 10, _BLOCK, dtype=np.int32)),
        "weight_kg": pa.array(random.random(_BLOCK) * 30, mask=missing(0.05)),
        "is_gift": pa.array(missing(0.1)),
        "placed_at": pa.array(_BEGIN_US + keys * 1_000_000, pa.timestamp("us", "UTC")),
        "updated_at": pa.array(
            _BEGIN_US + (KEYS + at) * 1_000_000 + random.integers(0, 1_000_000, _BLOCK), pa.timestamp("us", "UTC")
        ),
    }
    return Block(pa.table(rows), keys, missing(TOMBSTONES))


@cache
def _order_ids() -> pa.Array:
    return pa.array([f"order-{number:015}" for number in range(KEYS)])


class Avro:
    """Encodes orders in Confluent framing, by the schema that the registry has for the product."""

    def __init__(self, platform: Platform, fqn: str) -> None:
        import fastavro

        latest = platform.registry.latest(f"{fqn}-value")
        assert latest, f"{fqn} was not applied"
        self.schema_id, self.schema = latest[0], latest[1].text
        self._parsed = fastavro.parse_schema(json.loads(self.schema))
        self._header = b"\0" + self.schema_id.to_bytes(4, "big")

    def __call__(self, rows: pa.Table) -> pa.Array:
        """The values, one per row."""
        import fastavro

        values = self.encoded(rows, self._header)
        first = fastavro.schemaless_reader(io.BytesIO(values[0].as_py()[5:]), self._parsed, None)
        _same("the first event as fastavro reads it", first, rows.slice(0, 1).to_pylist()[0])
        return values

    @staticmethod
    def encoded(rows: pa.Table, header: bytes) -> pa.Array:
        """The values after the same header."""
        fields = [_avro(rows[name].combine_chunks(), optional=name in _OPTIONAL) for name in _TYPES]
        return pc.binary_join_element_wise(header, *fields, b"")


def as_json(rows: pa.Table) -> pa.Array:
    """The values as JSON objects, one per row."""
    parts: list[Any] = []
    for name in _TYPES:
        parts += [f'{"," if parts else "{"}"{name}":', _json(rows[name].combine_chunks())]
    return pc.binary_join_element_wise(*parts, "}", "").cast(pa.binary())


def _json(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        column = pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ")
    text = column.cast(pa.string())
    return pc.fill_null(pc.binary_join_element_wise('"', text, '"', "") if column.type == pa.string() else text, "null")


def _avro(column: pa.Array, *, optional: bool) -> pa.Array:
    """Each value's bytes; of an optional one, after the number of its branch."""
    match column.type:
        case pa.DataType() as kind if pa.types.is_string(kind):
            lengths = _varints(np.arange(512)).take(pc.binary_length(column))
            encoded = pc.binary_join_element_wise(lengths, column.cast(pa.binary()), b"")
        case pa.DataType() as kind if pa.types.is_floating(kind):
            raw = pa.py_buffer(pc.fill_null(column, 0.0).to_numpy().astype("<f8").tobytes())
            encoded = pa.FixedSizeBinaryArray.from_buffers(pa.binary(8), len(column), [None, raw]).cast(pa.binary())
            encoded = pc.if_else(column.is_valid(), encoded, None)
        case pa.DataType() as kind if pa.types.is_boolean(kind):
            encoded = pa.array([b"\0", b"\1"]).take(column.cast(pa.int8()))
        case _:
            encoded = _varints(column.cast(pa.int64()).to_numpy())
    if not optional:
        return encoded
    return pc.fill_null(pc.binary_join_element_wise(b"\2", encoded, b""), b"\0")


def _varints(values: npt.NDArray[np.int64]) -> pa.Array:
    """Avro's zigzag numbers, seven bits a byte, the lowest first."""
    zigzag = ((values << 1) ^ (values >> 63)).astype(np.uint64)
    groups = zigzag[:, None] >> np.arange(0, 70, 7, dtype=np.uint64).clip(max=63)
    groups[:, 9] &= np.uint64(1)
    more = np.concatenate([groups[:, 1:] > 0, np.zeros((len(values), 1), np.bool_)], axis=1)
    used = np.concatenate([np.ones((len(values), 1), np.bool_), more[:, :-1]], axis=1)
    data = ((groups & np.uint64(0x7F)) | (more.astype(np.uint64) << np.uint64(7))).astype(np.uint8)
    offsets = np.concatenate([[0], used.sum(axis=1).cumsum()]).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(data[used])])
