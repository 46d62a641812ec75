"""JSON values to Arrow columns: each text is a row first (``parse``), and the rows' values are then columns.

A field's JSON form: numbers for numbers (decimals also as text), text for dates, times and instants, base64 text for
bytes; ``forms`` has the ways to write times and whole numbers. A field is read from the name that events call it by, or
from its former names where the event does not have it under the present one. Unknown fields are passed over, of a field
that is there twice the last counts, missing ones take their default or null: whether null is allowed is for the
contract's rules to say. An object without any of the fields is no row (``shape``).
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.telling import got, words
from mesh_pipelines.contract.types import arrow_type, duckdb_type
from mesh_pipelines.formats.decoded import Decoded, without_header
from mesh_pipelines.formats.json.parse import Parser, Unreadable, member, names
from mesh_pipelines.formats.json.shape import strangers
from mesh_pipelines.formats.ranges import out_of_range

# What Arrow and Python raise where a value does not fit a type.
_MISFITS = (pa.ArrowException, ValueError, ArithmeticError)


class _OutOfYears(ValueError):
    """An instant that neither Python nor the engines can hold."""


@dataclass
class JsonReader:
    """Reads JSON objects as the fields of one contract."""

    fields: Sequence[Field]

    def __reduce__(self) -> tuple[type[JsonReader], tuple[Sequence[Field]]]:
        return JsonReader, (self.fields,)

    @cached_property
    def _parser(self) -> Parser:
        return Parser(self.fields)

    def decode(self, values: pa.LargeBinaryArray, header_bytes: int = 0) -> Decoded:
        """The contract's columns of the values that can be decoded."""
        faults: dict[int, str] = {}
        nothing: set[int] = set()
        rows: list[Any] = []
        texts: list[bytes | None] = []
        values = without_header(values, header_bytes)
        parse, absent = self._parser.of(values), SimpleNamespace(**dict.fromkeys(self._members))
        for index, text in enumerate(values.to_pylist()):
            try:
                row = absent if text is None else parse(text)
            except Unreadable as error:
                faults[index] = f"is not the contract's JSON: {error}"
                continue
            if row is None:
                nothing.add(index)
            rows.append(row or absent)
            texts.append(row and text)
        return self._columns(rows, texts).within(len(values), _others(len(values), faults), faults, nothing)

    @cached_property
    def _members(self) -> list[str]:
        return [member(number) for number, _ in enumerate(names(self.fields))]

    def _columns(self, rows: list[Any], texts: list[bytes | None]) -> Decoded:
        """The rows as columns; ``texts`` are what they were read from."""
        columns: list[pa.Array] = []
        faults: dict[int, str] = {}
        nothing: set[int] = set()
        known = 0
        for field in self.fields:
            members = self._members[known : known + len(field.event_names)]
            known += len(members)
            column, wrong = _column(_values(rows, members), field)
            columns.append(column)
            unfit = f"field {field.name} does not fit its type {duckdb_type(field.type)[:80]}"
            faults.update((row, f"{unfit}: {why}") for row, why in wrong.items())
        for row, reason in strangers(self.fields, columns, texts):
            if reason is None:
                nothing.add(row)
            else:
                faults[row] = reason
        if faults:
            fitting = pa.array(_others(len(rows), faults))
            columns = [column.take(fitting) for column in columns]
        return Decoded(len(rows), columns, faults, frozenset(nothing))


def _others(count: int, faults: Collection[int]) -> npt.NDArray[np.int64]:
    """The places of ``count`` that have no fault."""
    good = np.ones(count, np.bool_)
    good[list(faults)] = False
    return np.flatnonzero(good)


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


def _values(rows: list[Any], members: Sequence[str]) -> list[Any]:
    """A field's values under the first of its names that each row has; the last one holds its default."""
    if len(members) == 1:
        return list(map(attrgetter(members[0]), rows))
    of_names = map(attrgetter(*members), rows)
    return [next(value for value in found if value is not msgspec.UNSET) for found in of_names]


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
