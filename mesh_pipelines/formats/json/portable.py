"""JSON values to Arrow columns, checked against the contract's types while they are parsed.

A field's JSON form: numbers for numbers (decimals also as text), ISO 8601 text for dates, times and instants (instants
with a zone), base64 text for bytes. A field is read from the name that events call it by, or from its former names
where the event does not have it under the present one. Unknown fields are passed over, of a field that is there twice
the last counts, missing ones take their default or null: whether null is allowed is for the contract's rules to say.
msgspec parses and checks in one pass and says which field is wrong; its recursion is bounded by the interpreter's.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.telling import got, words
from mesh_pipelines.contract.types import arrow_type, duckdb_type
from mesh_pipelines.formats.decoded import Decoded, without_header
from mesh_pipelines.formats.resolve import out_of_range

# What Arrow and Python raise where a value does not fit a type.
_MISFITS = (pa.ArrowException, ValueError, ArithmeticError)
_INT = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_LONG = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: dict[Kind, Any] = {
    Kind.BOOLEAN: bool,
    Kind.INT: _INT,
    Kind.LONG: _LONG,
    Kind.FLOAT: float,
    Kind.DOUBLE: float,
    Kind.DECIMAL: decimal.Decimal,
    Kind.STRING: str,
    Kind.UUID: str,
    Kind.BYTES: bytes,
    Kind.DATE: dt.date,
    Kind.TIME: Annotated[dt.time, msgspec.Meta(tz=False)],
    Kind.TIMESTAMP: Annotated[dt.datetime, msgspec.Meta(tz=True)],
    Kind.TIMESTAMP_LOCAL: Annotated[dt.datetime, msgspec.Meta(tz=False)],
}


class _OutOfYears(ValueError):
    """An instant that neither Python nor the engines can hold."""


@dataclass
class JsonReader:
    """Reads JSON objects as the fields of one contract."""

    fields: Sequence[Field]

    def __reduce__(self) -> tuple[type[JsonReader], tuple[Sequence[Field]]]:
        return JsonReader, (self.fields,)

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(_struct("value", self.fields))

    def decode(self, values: pa.LargeBinaryArray, header_bytes: int = 0) -> Decoded:
        """The contract's columns of the values that can be decoded."""
        faults: dict[int, str] = {}
        rows: list[Any] = []
        decode = self._decoder.decode
        nothing = SimpleNamespace(**{_member(at): None for at, _ in _known(self.fields)})
        for index, value in enumerate(without_header(values, header_bytes).to_pylist()):
            try:
                rows.append(nothing if value is None else decode(value))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
                faults[index] = f"is not the contract's JSON: {_why(error)}"
        parsed = np.setdiff1d(np.arange(len(values)), list(faults))
        return self._columns(rows).within(len(values), parsed, faults)

    def _columns(self, rows: list[Any]) -> Decoded:
        columns: list[pa.Array] = []
        faults: dict[int, str] = {}
        known = 0
        for field in self.fields:
            members = [_member(known + at) for at in range(len(field.event_names))]
            known += len(members)
            column, wrong = _column([_value(row, members) for row in rows], field)
            columns.append(column)
            unfit = f"field {field.name} does not fit its type {duckdb_type(field.type)[:80]}"
            faults.update((row, f"{unfit}: {why}") for row, why in wrong.items())
        if faults:
            fitting = pa.array(np.setdiff1d(np.arange(len(rows)), list(faults)))
            columns = [column.take(fitting) for column in columns]
        return Decoded(len(rows), columns, faults)


def _why(error: Exception) -> str:
    """What is wrong with a text: msgspec names places and types, and no values; the others' words are not its own."""
    match error:
        case msgspec.MsgspecError():
            return str(error).splitlines()[0][:200]
        case UnicodeDecodeError():
            return "it must be UTF-8"
        case RecursionError():
            return "it nests too deeply"
        case _:
            return "it has a number that cannot be read"


def _column(values: list[Any], field: Field) -> tuple[pa.Array, dict[int, str]]:
    """The values as a column, and why some of them do not fit; these are null in it."""
    wrong: dict[int, str] = {}
    if field.type.kind is Kind.DECIMAL:
        values, wrong = _exact_decimals(values, field)
    try:
        return _array(values, field.type), wrong
    except _MISFITS:
        found = _misfits(range(len(values)), lambda some: _array([values[row] for row in some], field.type))
        wrong |= {row: _misfit(error, field) for row, error in found.items()}
        return _array([None if row in wrong else value for row, value in enumerate(values)], field.type), wrong


def _misfit(error: Exception, field: Field) -> str:
    return str(error) if isinstance(error, _OutOfYears) else words(error, [field], 160)


def _misfits(rows: Sequence[int], convert: Callable[[Sequence[int]], object]) -> dict[int, Exception]:
    """Which rows ``convert`` fails on, and how: all of them are halved until those that fail are alone."""
    try:
        convert(rows)
    except _MISFITS as error:
        if len(rows) == 1:
            return {rows[0]: error}
        half = len(rows) // 2
        return {**_misfits(rows[:half], convert), **_misfits(rows[half:], convert)}
    return {}


def _struct(name: str, fields: Sequence[Field]) -> type[msgspec.Struct]:
    """A class with a member for each name that events may call one of the fields by; the names may be any text."""
    members: list[tuple[str, Any, Any]] = []
    for field in fields:
        read = _type(f"{name}_{field.name}", field.type) | None
        *others, _ = field.event_names
        members += [(_member(len(members) + at), read | msgspec.UnsetType, msgspec.UNSET) for at in range(len(others))]
        members.append((_member(len(members)), read, _default(field)))
    return msgspec.defstruct(name, members, rename={_member(at): known for at, known in _known(fields)})


def _known(fields: Sequence[Field]) -> Iterator[tuple[int, str]]:
    """All names that events may call the fields by, numbered."""
    return enumerate(name for field in fields for name in field.event_names)


def _member(number: int) -> str:
    return f"f{number}"


def _value(row: Any, members: Sequence[str]) -> Any:
    """A field's value under the first of its names that the event has; the last one holds its default."""
    if len(members) == 1:
        return getattr(row, members[0])
    return next(value for name in members if (value := getattr(row, name)) is not msgspec.UNSET)


def _type(name: str, field_type: FieldType) -> Any:
    match field_type.kind:
        case Kind.LIST:
            assert field_type.items is not None
            return list[_type(f"{name}_item", field_type.items) | None]
        case Kind.MAP:
            assert field_type.items is not None
            return dict[str, _type(f"{name}_value", field_type.items) | None]
        case Kind.STRUCT:
            return _struct(name, field_type.fields)
        case kind:
            return _TYPES[kind]


def _default(field: Field) -> Any:
    if not field.has_default or field.default is None:
        return None
    value = msgspec.convert(field.default, _type(field.name, field.type), strict=False)
    return msgspec.field(default_factory=lambda: value) if isinstance(value, list | dict) else value


def _array(values: list[Any], field_type: FieldType) -> pa.Array:
    if _holds_objects(field_type):
        values = msgspec.to_builtins(values, builtin_types=(dt.datetime, dt.date, dt.time, decimal.Decimal, bytes))
    # Objects come with the names that events call their fields by, and a view gives those of the columns.
    array = pa.array(values, arrow_type(_as_events(field_type))).view(arrow_type(field_type))
    # An offset can carry an instant over the edge of the years.
    if any(out_of_range(instants) is not None for instants in _instants(array)):
        raise _OutOfYears("an instant must be in the years 1 to 9999")
    return array


def _as_events(field_type: FieldType) -> FieldType:
    """The type with the names that events call the fields of objects by."""
    items = field_type.items and _as_events(field_type.items)
    fields = tuple(replace(one, name=one.event_name, type=_as_events(one.type)) for one in field_type.fields)
    return replace(field_type, items=items, fields=fields)


def _holds_objects(field_type: FieldType) -> bool:
    """Whether there are objects in values of this type, however deep: msgspec gives structs, Arrow takes dicts."""
    if field_type.items is not None:
        return _holds_objects(field_type.items)
    return field_type.kind is Kind.STRUCT


def _instants(array: pa.Array) -> Iterator[pa.Array]:
    """The instants of a column, at whatever depth they lie."""
    match array:
        case pa.TimestampArray():
            yield array
        case pa.StructArray():
            for child in array.flatten():
                yield from _instants(child)
        case pa.MapArray():
            yield from _instants(array.items)
        case pa.ListArray() | pa.LargeListArray():
            yield from _instants(array.values)
        case _:
            pass


def _exact_decimals(values: list[Any], field: Field) -> tuple[list[Any], dict[int, str]]:
    """Decimals with the digits of their column, and those that have others: null, and why."""
    precision, scale = field.type.precision, field.type.scale
    digits = decimal.Context(prec=precision, traps=[decimal.InvalidOperation, decimal.Inexact])
    unit = decimal.Decimal(1).scaleb(-scale)
    exact: list[Any] = []
    wrong: dict[int, str] = {}
    for index, value in enumerate(values):
        try:
            exact.append(value if value is None else value.quantize(unit, context=digits))
        except decimal.DecimalException:
            exact.append(None)
            wrong[index] = f"must be a decimal({precision}, {scale}){got(field, value)}"
    return exact, wrong
