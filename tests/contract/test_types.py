import datetime as dt
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.envelope import ENVELOPE
from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.contract.types import arrow_schema, arrow_type, duckdb_type, log_schema
from mesh_pipelines.contract.values import default_value, parse
from mesh_pipelines.formats.avro.from_fields import avro_schema
from mesh_pipelines.formats.avro.schema import tree
from mesh_pipelines.formats.avro.to_fields import field_type

CASES = Path(__file__).parent / "cases"
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,4}", fullmatch=True)
SCALARS = st.one_of(
    st.sampled_from([FieldType(kind) for kind in Kind if kind not in (Kind.DECIMAL, Kind.LIST, Kind.MAP, Kind.STRUCT)]),
    st.integers(1, 38).flatmap(
        lambda digits: st.integers(0, digits).map(lambda scale: FieldType(Kind.DECIMAL, digits, scale))
    ),
)


def fields_of(types: st.SearchStrategy[FieldType]) -> st.SearchStrategy[tuple[Field, ...]]:
    each = st.builds(Field, NAMES, types, required=st.booleans())
    return st.lists(each, min_size=1, max_size=4, unique_by=lambda field: field.name).map(tuple)


TYPES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(lambda items: FieldType(Kind.LIST, items=items), inner),
        st.builds(lambda items: FieldType(Kind.MAP, items=items), inner),
        fields_of(inner).map(lambda fields: FieldType(Kind.STRUCT, fields=fields)),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(fields_of(TYPES))
def test_avro_schema_is_valid_and_reads_back_as_the_same_fields(fields: tuple[Field, ...]) -> None:
    text = avro_schema("product", "domain", fields)
    fastavro.parse_schema(json.loads(text))
    assert field_type(tree(json.loads(text))) == FieldType(Kind.STRUCT, fields=fields)


@settings(deadline=None, max_examples=50)
@given(TYPES)
def test_duckdb_and_arrow_agree(field_type: FieldType) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.sql(f"SELECT CAST(NULL AS {duckdb_type(field_type)}) AS x").to_arrow_table()
    assert plain(found.schema.field("x").type) == plain(arrow_type(field_type))


def plain(data_type: pa.DataType) -> str:
    """A type without the width of its offsets and the names of its items."""
    text = str(data_type).replace("large_", "").replace("element:", "item:").replace("l: ", "item: ")
    return text.replace(" ('item')", "").replace("binary_view", "binary").replace("string_view", "string")


def test_defaults_are_encoded_as_the_values_they_stand_for() -> None:
    """What the library writes for the value, read without its logical type, is what the schema has as default."""
    product = load_product(CASES / "types" / "defaults")
    schema = json.loads(product.value_schema)
    written = {field["name"]: field for field in schema["fields"]}
    checked = 0
    for field in product.fields:
        if not field.has_default:
            continue
        value_type = from_field(written[field.name]["type"], field.default)
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, value_type, default_value(field))
        buffer.seek(0)
        bare = value_type["type"] if isinstance(value_type, dict) and "logicalType" in value_type else value_type
        raw: Any = fastavro.schemaless_reader(buffer, bare, None)
        assert written[field.name]["default"] == (raw.decode("latin-1") if isinstance(raw, bytes) else raw), field.name
        checked += 1
    assert checked == 7


def from_field(schema: Any, default: Any) -> Any:
    """The branch of a field's union that its default is of: the first, by the specification."""
    if not isinstance(schema, list):
        return schema
    assert (schema[0] == "null") == (default is None)
    return schema[0]


def test_instants_are_brought_to_utc() -> None:
    product = load_product(CASES / "types" / "defaults")
    instant = next(field for field in product.fields if field.name == "instant")
    assert default_value(instant) == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert default_value(instant).tzinfo is dt.UTC


def test_log_has_the_envelope_first_and_lets_everything_be_null() -> None:
    product = load_product(CASES / "types" / "nested")
    schema = log_schema(product)
    assert schema.names[: len(ENVELOPE)] == ENVELOPE.names
    assert schema.names[len(ENVELOPE) :] == arrow_schema(product).names
    assert all(field.nullable for field in arrow_schema(product))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Kind.INT, [0, -(2**31), 2**31 - 1], [2**31, 1.0, True, "1", None]),
        (Kind.LONG, [2**63 - 1], [2**63, "1"]),
        (Kind.DOUBLE, [1, 1.5], ["1.5", True, None]),
        (Kind.BOOLEAN, [True, False], [0, "true"]),
        (Kind.STRING, ["", "x"], [1, None]),
        (Kind.UUID, ["123e4567-e89b-12d3-a456-426614174000"], ["x", 1]),
        (Kind.DATE, ["2013-01-31"], ["2013-02-30", "20130131", "2013-W01-1", 5]),
        (Kind.TIME, ["12:30", "12:30:00.123456"], ["25:00", "12:30:00Z", 5]),
        (Kind.TIMESTAMP, ["2013-01-31T12:00:00Z", "2013-01-31 12:00+01:00"], ["2013-01-31T12:00:00", "2013-01-31"]),
        (Kind.TIMESTAMP_LOCAL, ["2013-01-31T12:00:00"], ["2013-01-31T12:00:00Z", "0001-13-01T00:00"]),
        (Kind.BYTES, [], ["AAAA"]),
        (Kind.LIST, [], [[]]),
    ],
)
def test_values_of_a_contract_are_held_against_their_type(kind: Kind, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        parse(value, FieldType(kind))
    for value in bad:
        with pytest.raises(ValueError, match=r"\w"):
            parse(value, FieldType(kind))


def test_first_and_last_instants_do_not_overflow() -> None:
    with pytest.raises(ValueError, match="an instant such as"):
        parse("0001-01-01T00:00:00+14:00", FieldType(Kind.TIMESTAMP))


@settings(deadline=None)
@given(st.decimals(allow_nan=True, allow_infinity=True), st.integers(1, 38), st.integers(0, 38))
@example(Decimal("3243626279190201583592775.5895000081489176"), 27, 2)
def test_decimals_fit_exactly_when_arrow_takes_them(value: Any, precision: int, scale: int) -> None:
    field_type = FieldType(Kind.DECIMAL, max(precision, scale), scale)
    try:
        # Arrow takes some decimals of more than 38 places for zero.
        fits = pa.scalar(value, arrow_type(field_type)).as_py() == value
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        fits = False
    try:
        parse(str(value), field_type)
        found = True
    except ValueError:
        found = False
    assert found == fits
