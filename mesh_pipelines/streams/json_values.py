"""JSON values to Arrow columns, checked against the contract's types while they are parsed.

A field's JSON form: numbers for numbers (decimals also as text), ISO 8601 text for dates, times and instants (instants
with a zone), base64 text for bytes. Unknown fields are passed over, missing ones take their default or null: whether
null is allowed is for the contract's rules to say. msgspec parses and checks in one pass and says which field is wrong.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.types import arrow_type

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
    Kind.TIME: dt.time,
    Kind.TIMESTAMP: Annotated[dt.datetime, msgspec.Meta(tz=True)],
    Kind.TIMESTAMP_LOCAL: Annotated[dt.datetime, msgspec.Meta(tz=False)],
}


class JsonReader:
    """Reads JSON objects as the fields of one contract."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(_struct("value", self._fields))

    def decode(self, values: pa.LargeBinaryArray) -> tuple[npt.NDArray[np.bool_], list[pa.Array], list[str]]:
        """The contract's columns of the values that can be decoded.

        Gives which values those are, their columns, and a reason for each of the others (in order).
        """
        good = np.ones(len(values), np.bool_)
        reasons: list[str] = []
        rows: list[Any] = []
        decode = self._decoder.decode
        for index, value in enumerate(values.to_pylist()):
            try:
                rows.append(decode(value))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
                good[index] = False
                reasons.append(f"is not the contract's JSON: {str(error).splitlines()[0][:200]}")
        return self._columns(rows, good, reasons)

    def _columns(
        self, rows: list[Any], good: npt.NDArray[np.bool_], reasons: list[str]
    ) -> tuple[npt.NDArray[np.bool_], list[pa.Array], list[str]]:
        columns: list[pa.Array] = []
        for field in self._fields:
            values = [getattr(row, field.name) for row in rows]
            try:
                columns.append(_array(values, field.type))
            except (pa.ArrowException, OverflowError, ValueError, decimal.DecimalException):
                return self._without_misfits(rows, good, reasons)
        return good, columns, reasons

    def _without_misfits(
        self, rows: list[Any], good: npt.NDArray[np.bool_], reasons: list[str]
    ) -> tuple[npt.NDArray[np.bool_], list[pa.Array], list[str]]:
        """Once more, row by row: some value parses, but does not fit its column (a decimal with too many digits)."""
        misfits: dict[int, str] = {}
        kept: list[Any] = []
        for index, row in zip(np.flatnonzero(good), rows, strict=True):
            reason = self._misfit(row)
            if reason is None:
                kept.append(row)
            else:
                misfits[int(index)] = reason
        earlier = dict(zip(np.flatnonzero(~good).tolist(), reasons, strict=True))
        good = good.copy()
        good[list(misfits)] = False
        merged = {**earlier, **misfits}
        return self._columns(kept, good, [merged[index] for index in sorted(merged)])

    def _misfit(self, row: Any) -> str | None:
        for field in self._fields:
            try:
                _array([getattr(row, field.name)], field.type)
            except (pa.ArrowException, OverflowError, ValueError, decimal.DecimalException) as error:
                return f"field {field.name} does not fit its type: {str(error).splitlines()[0][:160]}"
        return None


def _struct(name: str, fields: Sequence[Field]) -> type[msgspec.Struct]:
    members = [(field.name, _type(f"{name}_{field.name}", field.type) | None, _default(field)) for field in fields]
    return msgspec.defstruct(name, members, rename=None)


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
    if field_type.kind is Kind.DECIMAL:
        scale = decimal.Decimal(1).scaleb(-field_type.scale)
        values = [_exact_decimal(value, scale) for value in values]
    elif field_type.kind is Kind.STRUCT or field_type.kind is Kind.LIST:
        values = msgspec.to_builtins(values, builtin_types=(dt.datetime, dt.date, dt.time, decimal.Decimal, bytes))
    return pa.array(values, arrow_type(field_type))


def _exact_decimal(value: decimal.Decimal | None, scale: decimal.Decimal) -> decimal.Decimal | None:
    if value is None:
        return None
    quantized = value.quantize(scale)
    if quantized != value:
        raise ValueError(f"{value} has more decimals than the column")
    return quantized
