"""Hostile bytes against the decoder, seeded: random ones, and real events cut, flipped and spliced.

Each batch mixes good events with hostile ones, at random places. Checked of every batch: the good ones come out as they
went in; every other one comes out too, or is refused with a reason, and as what fastavro reads where that reads all of
its bytes; nothing is raised, and no batch takes a second of CPU. Checked of the whole: memory grows by less than 200
MB. A crash ends the process, and so the run. The same seed makes the same inputs. The native decoder, where it was
built, and the portable one are fuzzed in turn.

    python tests/faults/fuzz.py --inputs 1000000 --seed 1
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import json
import math
import random
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any

import fastavro
import psutil
import pyarrow as pa

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.avro.reader import WriterSchema
from mesh_pipelines.formats.avro.schema import Node, Unreadable, tree
from mesh_pipelines.formats.avro.to_fields import member_type
from mesh_pipelines.formats.json.portable import JsonReader
from mesh_pipelines.native import extension

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
BATCH = 500
GOOD_SHARE = 0.3
MAX_SECONDS = 1.0
MAX_GROWTH_BYTES = 200 << 20


def record(name: str, **fields: Any) -> dict[str, Any]:
    """An Avro record schema."""
    return {"type": "record", "name": name, "fields": [{"name": one, "type": of} for one, of in fields.items()]}


MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}
INSTANT = {"type": "long", "logicalType": "timestamp-micros"}
SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": record("flat", a="long", b="int", c="string", d="double", e="float", f="boolean", g="bytes"),
    "optional": record(
        "optional", **{f"o{n}": ["null", one] for n, one in enumerate(("long", "string", "double", "boolean"))}
    ),
    "nested": record("nested", id="string", at=record("place", x="int", y=["null", record("inner", z="string")])),
    "lists": record(
        "lists",
        numbers={"type": "array", "items": "long"},
        names={"type": "array", "items": ["null", "string"]},
        points={"type": "array", "items": record("point", x="double", tags={"type": "array", "items": "int"})},
    ),
    "maps": record(
        "maps",
        counts={"type": "map", "values": "long"},
        lists={"type": "map", "values": {"type": "array", "items": "string"}},
    ),
    "logical": record(
        "logical",
        price=MONEY,
        fixed={"type": "fixed", "name": "f9", "size": 9, "logicalType": "decimal", "precision": 18, "scale": 2},
        day={"type": "int", "logicalType": "date"},
        millis={"type": "long", "logicalType": "timestamp-millis"},
        micros=["null", INSTANT],
        local={"type": "long", "logicalType": "local-timestamp-micros"},
        time={"type": "int", "logicalType": "time-millis"},
        precise={"type": "long", "logicalType": "time-micros"},
        id={"type": "string", "logicalType": "uuid"},
        kind={"type": "enum", "name": "kind", "symbols": ["one", "two", "three"]},
    ),
    # Fields that the contract does not have are cut out, whatever they are.
    "unwanted": record(
        "unwanted",
        skipped_first=["null", "int", "string", record("odd", n="long")],
        kept="string",
        skipped={"type": "map", "values": ["int", "string", {"type": "fixed", "name": "f3", "size": 3}]},
        also_kept={"type": "array", "items": "string"},
        skipped_last=["double", "null"],
    ),
}


JSON_FIELDS = (
    Field("id", FieldType(Kind.STRING)),
    Field("count", FieldType(Kind.LONG)),
    Field("small", FieldType(Kind.INT)),
    Field("price", FieldType(Kind.DECIMAL, 20, 4)),
    Field("ratio", FieldType(Kind.DOUBLE)),
    Field("at", FieldType(Kind.TIMESTAMP)),
    Field("tags", FieldType(Kind.LIST, items=FieldType(Kind.STRING))),
    Field("by", FieldType(Kind.MAP, items=FieldType(Kind.LONG))),
    Field("place", FieldType(Kind.STRUCT, fields=(Field("x", FieldType(Kind.INT)),))),
)
JSON_BOMBS = (
    b"[" * 100_000,
    b'{"unknown":' + b"[" * 100_000,
    b'{"place":' * 50_000,
    b'{"count":' + b"9" * 100_000 + b"}",
    b'{"price":1e999999999}',
    b'{"price":1e-999999999}',
    b'{"price":"sNaN"}',
    b'{"price":' + b"1" * 100_000 + b"}",
    b'{"ratio":1e400}',
    b'{"id":"\\ud800"}',
    b'{"at":"0001-01-01T00:00:00+14:00"}',
    b'{"small":2147483648}',
    b'{"id":"a","id":1}',
)


@dataclass(frozen=True)
class Target:
    """One format under fire: its reader, real events of it, and what an independent reader makes of bytes.

    ``reference`` gives None where it does not read the bytes; ``is_strict`` says that the reader then may not either.
    """

    name: str
    reader: WriterSchema | JsonReader
    make: Callable[[random.Random], tuple[bytes, dict[str, Any]]]
    reference: Callable[[bytes], dict[str, Any] | None]
    is_strict: bool
    bombs: tuple[bytes, ...] = ()


@dataclass
class Tally:
    """What a run saw."""

    inputs: int = 0
    refused: int = 0
    agreed: int = 0
    slowest_s: float = 0.0
    growth_bytes: int = 0
    shapes: Counter[str] = field(default_factory=Counter[str])


def _readable_fields(record: Node) -> Iterator[Field]:
    for name in record.names:
        with suppress(Unreadable):
            of = member_type(record, name)
            if "skipped" not in name:
                yield Field(name, of)


def avro_target(name: str, native: bool) -> Target:
    """Events of one of the schemas, for one of the readers; those that are read as another's are among the hostile."""
    schema = SCHEMAS[name]
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema).replace(', "logicalType": "uuid"', "")))
    record = tree(schema)
    fields = tuple(_readable_fields(record))
    names = {one.name for one in fields}

    def make(rng: random.Random) -> tuple[bytes, dict[str, Any]]:
        row = a_value(schema, rng)
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, parsed, row)
        return buffer.getvalue(), {key: value for key, value in row.items() if key in names}

    def reference(datum: bytes) -> dict[str, Any] | None:
        buffer = io.BytesIO(datum)
        try:
            row: Any = fastavro.schemaless_reader(buffer, parsed, None)
        except Exception:  # fastavro raises a dozen kinds; each means that it does not read these bytes
            return None
        return {key: value for key, value in row.items() if key in names} if buffer.tell() == len(datum) else None

    reader = WriterSchema(json.dumps(schema), fields, native)
    assert reader.refusal is None, reader.refusal
    # What is cut out is not looked at: text there may be anything.
    return Target(
        f"{name}, {'native' if native else 'portable'}", reader, make, reference, is_strict=names == set(record.names)
    )


def json_target() -> Target:
    """JSON objects; the standard library's reader takes too much else to be held against."""

    def make(rng: random.Random) -> tuple[bytes, dict[str, Any]]:
        row: dict[str, Any] = {
            "id": a_value("string", rng),
            "count": a_value("long", rng),
            "small": a_value("int", rng),
            "price": a_value(MONEY, rng),
            "ratio": rng.random(),
            "at": a_value(INSTANT, rng),
            "tags": [a_value("string", rng) for _ in range(rng.randrange(4))],
            "by": {a_value("string", rng): a_value("long", rng) for _ in range(rng.randrange(4))},
            "place": {"x": a_value("int", rng)},
        }
        return json.dumps({**row, "price": str(row["price"]), "at": row["at"].isoformat()}).encode(), row

    return Target("json", JsonReader(JSON_FIELDS), make, lambda _: None, is_strict=False, bombs=JSON_BOMBS)


def a_value(schema: Any, rng: random.Random) -> Any:
    """A random value of an Avro type, as fastavro writes it."""
    match schema:
        case {"logicalType": "decimal", "precision": digits, "scale": scale}:
            return Decimal(rng.randrange(-(10**digits) + 1, 10**digits)).scaleb(-scale, Context(prec=38))
        case {"logicalType": "date"}:
            return dt.date.fromordinal(rng.randrange(1, 3_652_059))
        case {"logicalType": "time-millis"}:
            return dt.time(rng.randrange(24), rng.randrange(60), rng.randrange(60), rng.randrange(1000) * 1000)
        case {"logicalType": "time-micros"}:
            return dt.time(rng.randrange(24), rng.randrange(60), rng.randrange(60), rng.randrange(1_000_000))
        case {"logicalType": "timestamp-millis"}:
            return EPOCH + dt.timedelta(milliseconds=rng.randrange(-(10**13), 10**13))
        case {"logicalType": "timestamp-micros"}:
            return EPOCH + dt.timedelta(microseconds=rng.randrange(-(10**16), 10**16))
        case {"logicalType": "local-timestamp-micros"}:
            return EPOCH.replace(tzinfo=None) + dt.timedelta(microseconds=rng.randrange(-(10**16), 10**16))
        case {"type": "record", "fields": fields}:
            return {one["name"]: a_value(one["type"], rng) for one in fields}
        case {"type": "array", "items": items}:
            return [a_value(items, rng) for _ in range(rng.choice((0, 1, 2, 3, 100)))]
        case {"type": "map", "values": values}:
            return {a_value("string", rng): a_value(values, rng) for _ in range(rng.randrange(5))}
        case {"type": "enum", "symbols": symbols}:
            return rng.choice(symbols)
        case {"type": "fixed", "size": size}:
            return rng.randbytes(size)
        case {"type": inner}:
            return a_value(inner, rng)
        case list():
            return a_value(rng.choice(schema), rng)
        case "null":
            return None
        case "boolean":
            return rng.random() < 0.5
        case "int" | "long":
            bits = rng.randrange(1, 32 if schema == "int" else 64)
            return rng.randrange(-(2**bits // 2), 2**bits // 2)
        case "float":
            return struct.unpack("<f", struct.pack("<f", rng.uniform(-1e6, 1e6)))[0]
        case "double":
            return rng.uniform(-1e300, 1e300)
        case "bytes":
            return rng.randbytes(rng.randrange(20))
        case _:
            return "".join(rng.choices("ab\u00e9\u0416\u6f22\U0001f6eb", k=rng.randrange(12)))


def hostile(rng: random.Random, target: Target, others: list[bytes]) -> tuple[str, bytes]:
    """Bytes that no producer should send, and how they were made; ``others`` are real events of all formats."""
    event = target.make(rng)[0]
    shape = rng.choice(("random", "cut", "flip", "flips", "splice", "grown", "other", "bomb"))
    at = rng.randrange(len(event) + 1)
    match shape:
        case "random":
            return shape, rng.randbytes(rng.randrange(64))
        case "cut":
            return shape, event[:at]
        case "flip" | "flips" if event:
            flipped = bytearray(event)
            for _ in range(1 if shape == "flip" else rng.randrange(2, 9)):
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            return shape, bytes(flipped)
        case "splice":
            other = rng.choice(others)
            return shape, event[:at] + other[rng.randrange(len(other) + 1) :]
        case "grown":
            return shape, event[:at] + rng.randbytes(rng.randrange(1, 12)) + event[at:]
        case "bomb" if target.bombs and rng.random() < 0.02:
            return shape, rng.choice(target.bombs)
        case _:
            return "other", rng.choice(others)


def same(got: Any, expected: Any) -> bool:
    """Whether two values are one: maps as pairs or dictionaries, and NaN as itself."""
    match expected:
        case dict():
            pairs = dict(got) if isinstance(got, list) else got
            return (
                got is not None and pairs.keys() == expected.keys() and all(same(pairs[k], expected[k]) for k in pairs)
            )
        case list():
            return got is not None and len(got) == len(expected) and all(map(same, got, expected))
        case float() if math.isnan(expected):
            return isinstance(got, float) and math.isnan(got)
        case _:
            return got == expected


def batch(rng: random.Random, target: Target, others: list[bytes], tally: Tally) -> None:
    """Decode one batch of good and hostile events, and check every one of them."""
    made = [
        target.make(rng) if rng.random() < GOOD_SHARE else (hostile(rng, target, others), None) for _ in range(BATCH)
    ]
    values = [one[1] if row is None else one for one, row in made]
    array = pa.array(values, pa.large_binary())
    # CPU time of all threads: another process's turn is no stall. What waits for ever ends by the caller's patience.
    began = time.process_time()
    found = target.reader.decode(array)
    took = time.process_time() - began
    columns = [column.to_pylist() for column in found.columns]
    names = [one.name for one in target.reader.fields]
    rows = (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
    for index, (value, (shape, row)) in enumerate(zip(values, made, strict=True)):
        if row is None:
            tally.inputs += 1
            tally.shapes[shape[0]] += 1
        if reason := found.faults.get(index):
            assert row is None, f"a good {target.name} event was refused: {reason} {value!r}"
            tally.refused += 1
            continue
        got = next(rows)
        expected = row if row is not None else target.reference(value)
        if expected is None:
            assert not target.is_strict, f"{target.name}: fastavro does not read {value!r}, which gave {got}"
        else:
            assert same(got, expected), f"{target.name}: {value!r} gave {got}, not {expected}"
            tally.agreed += row is None
    assert next(rows, None) is None
    assert all(found.faults.values())
    assert took < MAX_SECONDS, f"a batch of {target.name} took {took:.1f} s of CPU"
    tally.slowest_s = max(tally.slowest_s, took)


def fuzz(inputs: int, seed: int) -> Tally:
    """Decode this many hostile inputs.

    Raises:
        AssertionError: something came out wrong; the message has the bytes.
    """
    rng = random.Random(seed)
    readers = (False, True) if extension() else (False,)
    targets = [*(avro_target(name, native) for name in SCHEMAS for native in readers), json_target()]
    others = [target.make(rng)[0] for target in targets for _ in range(10)]
    for target in targets:
        batch(rng, target, others, Tally())
    process = psutil.Process()
    start = process.memory_info().rss
    tally = Tally()
    while tally.inputs < inputs:
        for target in targets:
            batch(rng, target, others, tally)
            tally.growth_bytes = max(tally.growth_bytes, process.memory_info().rss - start)
    assert tally.growth_bytes < MAX_GROWTH_BYTES, f"memory grew by {tally.growth_bytes:,} bytes"
    return tally


def main() -> None:
    """Parse the options, fuzz, and print what was seen."""
    options = argparse.ArgumentParser(description="Hostile bytes against the decoder.")
    options.add_argument("--inputs", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    began = time.monotonic()
    tally = fuzz(given.inputs, given.seed)
    print(
        f"seed {given.seed}: {tally.inputs:,} hostile inputs in {time.monotonic() - began:.0f} s; {tally.refused:,} "
        f"refused, {tally.agreed:,} read as fastavro reads them; slowest batch {tally.slowest_s:.3f} s of CPU, "
        f"memory grew by {tally.growth_bytes / 2**20:.0f} MB"
    )
    print(dict(sorted(tally.shapes.items())))


if __name__ == "__main__":
    main()
