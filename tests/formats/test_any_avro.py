"""Whatever a writer's schema holds beside what is wanted: it is passed over, in C and without it, at any depth."""

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.avro.reader import WriterSchema
from mesh_pipelines.formats.avro.schema import tree
from mesh_pipelines.native import extension

NATIVE = [False, True] if extension() else [False]
LONG, STRING = FieldType(Kind.LONG), FieldType(Kind.STRING)
naive = dt.datetime.fromisoformat
INSTANT, LOCAL = FieldType(Kind.TIMESTAMP), FieldType(Kind.TIMESTAMP_LOCAL)


def struct(**fields: FieldType) -> FieldType:
    return FieldType(Kind.STRUCT, fields=tuple(Field(name, kind) for name, kind in fields.items()))


def record(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": kind} for key, kind in fields.items()]}


def written(schema: Any, *values: Any) -> pa.LargeBinaryArray:
    """Datums of a record with one field ``v``, written by another library."""
    parsed = fastavro.parse_schema(record("whole", v=schema))
    datums: list[bytes] = []
    for value in values:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, parsed, {"v": value})
        datums.append(buffer.getvalue())
    return pa.array(datums, pa.large_binary())


def read(schema: Any, want: FieldType, values: pa.LargeBinaryArray, native: bool) -> tuple[list[Any], dict[int, str]]:
    writer = WriterSchema(json.dumps(record("whole", v=schema)), [Field("v", want)], native)
    assert writer.refusal is None, writer.refusal
    found = writer.decode(values)
    return found.columns[0].to_pylist(), dict(found.faults)


def refusal(schema: Any, want: FieldType, native: bool) -> str:
    return str(WriterSchema(json.dumps(record("whole", v=schema)), [Field("v", want)], native).refusal)


# ---- what is not wanted ----

TREE = record("Tree", value="string", left=["null", "Tree"], right=["null", "Tree"])
LEAVES = st.sampled_from(
    [
        *("int", "long", "string", "bytes", "double", "boolean", "null"),
        ["null", "string", "long"],
        ["int"],
        {"type": "bytes", "logicalType": "decimal", "precision": 64, "scale": 3},
        {"type": "fixed", "name": "F", "size": 3},
        {"type": "enum", "name": "E", "symbols": ["A", "B"]},
        TREE,
    ]
)


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    records = st.lists(inner, min_size=1, max_size=4).map(
        lambda kinds: record("R", **{f"f{at}": kind for at, kind in enumerate(kinds)})
    )
    holding = inner.filter(lambda kind: kind != "null" and tree(numbered(kind, [0, 0])).least > 0)
    arrays = holding.map(lambda kind: {"type": "array", "items": kind})
    maps = inner.map(lambda kind: {"type": "map", "values": kind})
    optional = holding.filter(lambda kind: not isinstance(kind, list)).map(lambda kind: ["null", kind])
    several = holding.filter(lambda kind: isinstance(kind, dict)).map(lambda kind: ["null", kind, "string", "long"])
    return records | arrays | maps | optional | several


SCHEMAS = st.recursive(LEAVES, _grown, max_leaves=8)


def numbered(schema: Any, number: list[int], inside: tuple[str, ...] = ()) -> Any:
    """The schema with a name of its own for each named type."""
    if isinstance(schema, list):
        return [numbered(branch, number, inside) for branch in schema]
    if not isinstance(schema, dict):
        return schema if schema != "Tree" else f"Tree{number[1]}"
    kept = dict(schema)
    if "name" in kept:
        number[0] += 1
        if kept["name"] == "Tree":
            number[1] = number[0]
        kept["name"] = f"{kept['name']}{number[0]}"
    for key in ("items", "values"):
        if key in kept:
            kept[key] = numbered(kept[key], number)
    if "fields" in kept:
        kept["fields"] = [{**field, "type": numbered(field["type"], number)} for field in kept["fields"]]
    return kept


def values_of(schema: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    if isinstance(schema, list):
        choices = [values_of(branch, depth) for branch in schema]
        return choices[0] if depth > 3 else st.one_of(*choices)
    if not isinstance(schema, dict):
        return {
            "null": st.none(),
            "boolean": st.booleans(),
            "int": st.integers(-(2**31), 2**31 - 1),
            "long": st.integers(-(2**63), 2**63 - 1),
            "double": st.floats(allow_nan=False),
            "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
            "bytes": st.binary(max_size=4),
        }.get(schema, st.deferred(lambda: values_of(numbered(TREE, [0, 0]), depth + 1)))
    match schema["type"]:
        case "record":
            return st.fixed_dictionaries(
                {field["name"]: values_of(field["type"], depth + 1) for field in schema["fields"]}
            )
        case "array":
            return st.lists(values_of(schema["items"], depth + 1), max_size=3)
        case "map":
            return st.dictionaries(st.text("ab", max_size=2), values_of(schema["values"], depth + 1), max_size=2)
        case "fixed":
            return st.binary(min_size=schema["size"], max_size=schema["size"])
        case "enum":
            return st.sampled_from(schema["symbols"])
        case kind:
            return values_of(kind, depth)


@settings(max_examples=300, deadline=None)
@given(schemas=st.tuples(SCHEMAS, SCHEMAS, SCHEMAS), data=st.data(), depth=st.integers(0, 3))
def test_what_is_not_wanted_is_passed_over_at_any_depth(schemas: tuple[Any, Any, Any], data: Any, depth: int) -> None:
    before, beside, after = (numbered(schema, [100 * at, 0]) for at, schema in enumerate(schemas, 1))
    inner = record("Inner", before=before, wanted="long", beside=beside, other="string")
    want = struct(wanted=LONG)
    for level in range(depth):
        kind = data.draw(st.sampled_from(["record", "array", "map", "optional"]))
        if kind == "record":
            inner, want = record(f"Outer{level}", in_it=inner), struct(in_it=want)
        elif kind == "array":
            inner, want = {"type": "array", "items": inner}, FieldType(Kind.LIST, items=want)
        elif kind == "map":
            inner, want = {"type": "map", "values": inner}, FieldType(Kind.MAP, items=want)
        elif not isinstance(inner, list):
            inner = ["null", inner]
    values = data.draw(st.lists(values_of(inner), min_size=1, max_size=3))
    whole = record("whole", first=after, v=inner)
    parsed = fastavro.parse_schema(whole)
    datums: list[bytes] = []
    for value in values:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, parsed, {"first": data.draw(values_of(after)), "v": value})
        datums.append(buffer.getvalue())
    cut = datums[0][:-1]
    for native in NATIVE:
        writer = WriterSchema(json.dumps(whole), [Field("v", want)], native)
        assert writer.refusal is None
        found = writer.decode(pa.array([*datums, cut, datums[0] + b"\0"], pa.large_binary()))
        assert list(found.faults) == [len(datums), len(datums) + 1]
        assert found.columns[0].to_pylist() == [_wanted(value, want) for value in values]


def _wanted(value: Any, want: FieldType) -> Any:
    if value is None:
        return None
    match want.kind:
        case Kind.STRUCT:
            return {field.name: _wanted(value[field.name], field.type) for field in want.fields}
        case Kind.LIST:
            return [_wanted(item, want.items) for item in value]  # type: ignore[arg-type]
        case Kind.MAP:
            return [(key, _wanted(item, want.items)) for key, item in value.items()]  # type: ignore[arg-type]
        case _:
            return value


@pytest.mark.parametrize("copies", [1, 40])
def test_a_type_inside_itself_is_passed_over_to_a_bound(copies: int, native: bool) -> None:
    schema = record("Node", id="long", next=["null", "Node"])
    chain: Any = None
    for number in range(65):
        chain = {"id": number, "next": chain}
    values = written(schema, *[chain["next"]] * copies, {"id": 7, "next": chain}, {"id": 8, "next": None})
    found, faults = read(schema, struct(id=LONG), values, native)
    assert found == [{"id": 63}] * copies + [{"id": 8}]
    assert list(faults) == [copies]


def test_a_type_inside_itself_is_read_as_deep_as_the_contract_goes(native: bool) -> None:
    value = {"value": "a", "left": {"value": "b", "left": {"value": "c", "left": None, "right": None}, "right": None}}
    values = written(TREE, {**value, "right": None})
    want = struct(value=STRING, left=struct(value=STRING, left=struct(value=STRING)))
    found, _ = read(TREE, want, values, native)
    assert found == [{"value": "a", "left": {"value": "b", "left": {"value": "c"}}}]
    text = FieldType(Kind.STRUCT, fields=(Field("left", STRING),))
    assert refusal(TREE, text, native) == "in the writer's schema, field v.left is recursive: Tree holds itself"


# ---- unions ----

PLACED = {**record("Placed", order="long"), "namespace": "shop"}
SHIPPED = {**record("Shipped", carrier="string"), "namespace": "shop"}


@pytest.mark.parametrize(
    ("schema", "want", "values", "expected", "unfit"),
    [
        (["null", "int", "long"], LONG, [None, 1, 2**40], [None, 1, 2**40], []),
        (["int", "double"], FieldType(Kind.DOUBLE), [1, 2.5], [1.0, 2.5], []),
        (["string"], STRING, ["a"], ["a"], []),
        (["null", "string", "long"], LONG, ["a", 1, None], [1, None], [0]),
        (
            ["null", "int", "double", "string", "boolean"],
            STRING,
            [None, 1, 2.5, "text", True],
            [None, "1", "2.5", "text", "true"],
            [],
        ),
        (["null", PLACED, "string"], STRING, [{"order": 1}, "x"], ['{"order":1}', "x"], []),
        (
            [
                "null",
                record("Held", either=["int", "string"], each={"type": "map", "values": ["long", "string"]}),
                "string",
            ],
            STRING,
            [{"either": 1, "each": {"a": 2}}, {"either": "b", "each": {}}],
            ['{"either":"1","each":{"a":"2"}}', '{"either":"b","each":{}}'],
            [],
        ),
        (
            ["null", PLACED, SHIPPED],
            FieldType(
                Kind.STRUCT,
                fields=(
                    Field("placed", struct(order=LONG), physical_name="Placed"),
                    Field("shop_shipped", struct(carrier=STRING), physical_name="shop.Shipped"),
                ),
            ),
            [{"order": 1}, {"carrier": "c"}, None],
            [{"placed": {"order": 1}, "shop_shipped": None}, {"placed": None, "shop_shipped": {"carrier": "c"}}, None],
            [],
        ),
        (["null", PLACED, SHIPPED], struct(order=LONG), [{"order": 1}, {"carrier": "c"}], [{"order": 1}], [1]),
        (
            {"type": "array", "items": ["long", "string"]},
            FieldType(Kind.LIST, items=STRING),
            [[1, "a"], [], ["b", 2, 3]],
            [["1", "a"], [], ["b", "2", "3"]],
            [],
        ),
        (
            {"type": "map", "values": ["long", "string"]},
            FieldType(Kind.MAP, items=struct(long=LONG, string=STRING)),
            [{"a": 1, "b": "x"}],
            [[("a", {"long": 1, "string": None}), ("b", {"long": None, "string": "x"})]],
            [],
        ),
    ],
)
def test_a_union_is_read_by_what_the_contract_has_in_its_place(
    schema: Any, want: FieldType, values: list[Any], expected: list[Any], unfit: list[int], native: bool
) -> None:
    found, faults = read(schema, want, written(schema, *values), native)
    assert (found, list(faults)) == (expected, unfit)


@pytest.mark.parametrize("scale", [0, 2, 60])
def test_a_decimal_of_any_size_is_text_in_a_union(scale: int, native: bool) -> None:
    amount = {"type": "bytes", "logicalType": "decimal", "precision": 64, "scale": scale}
    alone = ["null", "string", amount]
    held = ["null", "string", record("Held", amount=amount)]
    datums = [b"\x04\x02\x05", b"\x04" + bytes([2 * 20]) + b"\x7f" * 20, b"\x02\x02x"]
    values = pa.array(datums, pa.large_binary())
    if scale == 60:
        assert read(alone, STRING, values, native)[0] == ["x"]
        assert read(held, STRING, values, native)[0] == ["x"]
        return
    told = str(Decimal(5).scaleb(-scale))
    for schema, text in ((alone, told), (held, f'{{"amount":"{told}"}}')):
        found, faults = read(schema, STRING, values, native)
        assert (found, list(faults)) == ([text, "x"], [1])


def test_a_union_of_which_nothing_can_be_read_is_refused(native: bool) -> None:
    refused = refusal(["null", "boolean", "bytes"], LONG, native)
    assert refused == "field v must be long as in the contract, got a union of which no type is read as that"


def test_a_value_that_breaks_off_in_a_union_leaves_its_neighbours_whole(native: bool) -> None:
    schema = ["null", record("Two", a="long", b="string"), "string"]
    good = written(schema, {"a": 1, "b": "x"}, "y", {"a": 2, "b": "z"}).to_pylist()
    broken = [good[0][:-1], good[1][:-1], b"\x06", b"\x02\x02\x09"]
    values = pa.array([good[0], broken[0], good[1], broken[1], broken[2], good[2], broken[3]], pa.large_binary())
    found, faults = read(schema, struct(a=LONG, b=STRING), values, native)
    assert (found, sorted(faults)) == ([{"a": 1, "b": "x"}, {"a": 2, "b": "z"}], [1, 2, 3, 4, 6])


# ---- numbers, times and bytes ----


def decimal(precision: int, scale: int) -> FieldType:
    return FieldType(Kind.DECIMAL, precision, scale)


def digits(size: int, number: int) -> bytes:
    return number.to_bytes(size, "big", signed=True)


@pytest.mark.parametrize("size", [2, 16, 17, 20, 64])
@pytest.mark.parametrize("number", [12345, -12345, 0, -1])
def test_a_decimal_may_be_padded_to_any_size(size: int, number: int, native: bool) -> None:
    schema = {"type": "fixed", "name": "D", "size": size, "logicalType": "decimal", "precision": 38, "scale": 2}
    found, faults = read(schema, decimal(12, 2), pa.array([digits(size, number)], pa.large_binary()), native)
    assert (found, faults) == ([Decimal(number).scaleb(-2)], {})


def test_the_precision_of_a_writer_is_only_a_bound(native: bool) -> None:
    schema = {"type": "bytes", "logicalType": "decimal", "precision": 64, "scale": 2}
    datums = [
        bytes([len(raw) * 2]) + raw for raw in (digits(2, 1234), digits(20, 10**40), digits(20, -999_999_999_999))
    ]
    found, faults = read(schema, decimal(12, 2), pa.array(datums, pa.large_binary()), native)
    assert (found, list(faults)) == ([Decimal("12.34"), Decimal("-9999999999.99")], [1])


@pytest.mark.parametrize(("have", "want"), [(0, 2), (4, 2), (40, 2), (2, 6)])
def test_a_decimal_of_another_scale_is_read_where_it_keeps_its_value(have: int, want: int, native: bool) -> None:
    schema = {"type": "bytes", "logicalType": "decimal", "precision": 64, "scale": have}
    whole = 5 * 10**have
    numbers = [whole, 1] if have > want else [whole]
    datums = [
        bytes([len(raw) * 2]) + raw
        for raw in (digits(16, number) if number < 2**127 else digits(18, number) for number in numbers)
    ]
    found, faults = read(schema, decimal(12, want), pa.array(datums, pa.large_binary()), native)
    if have < 40:
        assert (found, list(faults)) == ([Decimal(5)], [1] if have > want else [])
    else:
        assert list(faults) == [0, 1]


@pytest.mark.parametrize(
    ("schema", "want", "value", "expected"),
    [
        (
            {"type": "long", "logicalType": "timestamp-nanos"},
            INSTANT,
            1_999,
            dt.datetime(1970, 1, 1, 0, 0, 0, 1, dt.UTC),
        ),
        (
            {"type": "long", "logicalType": "timestamp-nanos"},
            INSTANT,
            -1,
            dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, dt.UTC),
        ),
        ({"type": "long", "logicalType": "local-timestamp-nanos"}, LOCAL, 1_000, naive("1970-01-01T00:00:00.000001")),
        (
            {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"},
            INSTANT,
            5,
            dt.datetime(1970, 1, 1, 0, 0, 0, 5, dt.UTC),
        ),
        (
            {"type": "long", "connect.name": "io.debezium.time.Timestamp"},
            LOCAL,
            5,
            naive("1970-01-01T00:00:00.005"),
        ),
        (
            {"type": "long", "connect.name": "io.debezium.time.NanoTime"},
            FieldType(Kind.TIME),
            5_000,
            dt.time(0, 0, 0, 5),
        ),
        ({"type": "int", "connect.name": "io.debezium.time.Date"}, FieldType(Kind.DATE), -1, dt.date(1969, 12, 31)),
        ({"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}, LONG, 5, 5),
        (
            {"type": "string", "connect.name": "io.debezium.time.ZonedTimestamp"},
            INSTANT,
            "2024-01-01T00:00:00Z",
            dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        ),
        ("string", FieldType(Kind.DATE), "2024-02-29", dt.date(2024, 2, 29)),
        ({"type": "int", "connect.type": "int16"}, FieldType(Kind.BOOLEAN), 1, True),
    ],
)
def test_times_and_truths_as_connectors_write_them(
    schema: Any, want: FieldType, value: Any, expected: Any, native: bool
) -> None:
    plain = schema if isinstance(schema, str) else schema["type"]
    assert read(schema, want, written(plain, value), native) == ([expected], {})
    optional = ["null", schema]
    assert read(optional, want, written(["null", plain], None, value), native) == ([None, expected], {})


@pytest.mark.parametrize(
    ("schema", "want", "value"),
    [
        ({"type": "long", "connect.name": "io.debezium.time.Timestamp"}, INSTANT, 2**62),
        ({"type": "long", "connect.name": "io.debezium.time.Timestamp"}, INSTANT, -(2**62)),
        ({"type": "long", "connect.name": "io.debezium.time.MicroTime"}, FieldType(Kind.TIME), -1),
        ({"type": "int", "connect.name": "io.debezium.time.Date"}, FieldType(Kind.DATE), 2**31 - 1),
        ("string", INSTANT, "2024-01-01"),
        ("int", FieldType(Kind.BOOLEAN), 2),
    ],
)
def test_what_is_no_time_and_no_truth_does_not_fit(schema: Any, want: FieldType, value: Any, native: bool) -> None:
    plain = schema if isinstance(schema, str) else schema["type"]
    found, faults = read(
        schema, want, written(plain, value, 0 if plain != "string" else "2024-01-01T00:00:00Z"), native
    )
    assert (len(found), list(faults)) == (1, [0])


def test_a_uuid_of_sixteen_bytes_is_text(native: bool) -> None:
    number = UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")
    schema = {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}
    values = pa.array([number.bytes], pa.large_binary())
    assert read(schema, FieldType(Kind.UUID), values, native) == ([str(number)], {})
    assert read(schema, FieldType(Kind.BYTES), values, native) == ([number.bytes], {})
