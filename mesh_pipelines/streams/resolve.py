"""Schema resolution in Arrow: columns decoded by a writer's schema, brought to the contract's current columns.

The rules are Avro's for a reader's schema ("Schema Resolution" in its specification): a field is found by its name or
one of its aliases, numbers widen, strings and bytes read as one another, what the writer lacks takes the contract's
default or null. They are applied to columns and not to values, so they cost the same however many events there are.

What bytes can say and a type cannot hold (text that is not UTF-8, a time of 25 hours, a decimal of 40 digits) is found
here too. Arrow says only that a column has such a value, so the column is halved until it says so of single ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mesh_pipelines.contract.avro import record_fields
from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.types import arrow_type
from mesh_pipelines.contract.values import default_value
from mesh_pipelines.streams.decoded import MISFITS, Decoded, misfits


class Irreconcilable(ValueError):
    """Events of this writer's schema cannot be brought to the contract."""


_DECIMAL_DIGITS = 38
_DECIMAL_BYTES = 16
_DAY_US = 86_400_000_000
# Days and microseconds from 1970 to the first of January of the years 1 and 10000.
_YEAR_1, _YEAR_10000 = -719_162, 2_932_897
_INSTANTS = (_YEAR_1 * _DAY_US, _YEAR_10000 * _DAY_US - 1)
_RANGES: Mapping[pa.DataType, tuple[int, int]] = {
    pa.date32(): (_YEAR_1, _YEAR_10000 - 1),
    pa.time64("us"): (0, _DAY_US - 1),
    pa.timestamp("us", tz="UTC"): _INSTANTS,
    pa.timestamp("us"): _INSTANTS,
}
_PROMOTIONS = {
    (Kind.INT, Kind.LONG),
    (Kind.INT, Kind.FLOAT),
    (Kind.INT, Kind.DOUBLE),
    (Kind.LONG, Kind.FLOAT),
    (Kind.LONG, Kind.DOUBLE),
    (Kind.FLOAT, Kind.DOUBLE),
    (Kind.STRING, Kind.BYTES),
    (Kind.BYTES, Kind.STRING),
    (Kind.STRING, Kind.UUID),
    (Kind.UUID, Kind.STRING),
}


def check(writer: Any, fields: Sequence[Field]) -> None:
    """Check that a writer's record schema (parsed JSON) can be read as these fields.

    Raises:
        Irreconcilable: a required field is missing without a default, or a type does not promote.
    """
    if not isinstance(writer, dict) or writer.get("type") != "record" or not isinstance(writer.get("fields"), list):
        raise Irreconcilable("the writer's schema is no record")
    try:
        written = record_fields(writer)
    except ValueError as error:
        raise Irreconcilable(f"the writer's schema {error}") from error
    for field in fields:
        found = find(list(written), field)
        if found is None:
            if field.required and not field.has_default:
                raise Irreconcilable(f"the writer's schema has no field {field.name}, which is required")
            continue
        have = written[found]
        if isinstance(have, str):
            raise Irreconcilable(have)
        _check_type(have, field.type, field.name)


def _check_type(have: FieldType, want: FieldType, path: str) -> None:
    if have.kind is not want.kind:
        if (have.kind, want.kind) not in _PROMOTIONS:
            raise Irreconcilable(f"field {path} is {have.kind}, in the contract {want.kind}")
        return
    match want.kind:
        case Kind.DECIMAL:
            if have.scale != want.scale or have.precision > want.precision:
                raise Irreconcilable(
                    f"field {path} is decimal({have.precision}, {have.scale}), "
                    f"in the contract decimal({want.precision}, {want.scale})"
                )
        case Kind.LIST | Kind.MAP:
            assert have.items is not None
            assert want.items is not None
            _check_type(have.items, want.items, f"{path}[]")
        case Kind.STRUCT:
            names = [field.name for field in have.fields]
            for field in want.fields:
                found = find(names, field)
                if found is not None:
                    _check_type(have.fields[names.index(found)].type, field.type, f"{path}.{field.name}")
                elif field.required and not field.has_default:
                    raise Irreconcilable(f"field {path}.{field.name}, which is required, is missing")
        case _:
            pass


def project(columns: dict[str, pa.Array], rows: int, fields: Sequence[Field]) -> Decoded:
    """The contract's columns, in order, from a writer's columns by name; rows that do not fit are faults."""
    faults: dict[int, str] = {}
    converted: list[pa.Array] = []
    for field in fields:
        try:
            converted.append(_column(columns, rows, field))
        except MISFITS:
            found = find(list(columns), field)
            assert found is not None
            # Taken, not sliced: the values of a sliced list are still all of them.
            wrong = misfits(
                np.arange(rows),
                lambda some, column=columns[found], want=field.type: _convert(column.take(pa.array(some)), want),
            )
            faults.update((row, f"field {field.name} does not fit its type: {why}") for row, why in wrong.items())
    if not faults:
        return Decoded(rows, converted, faults)
    fitting = pa.array(np.setdiff1d(np.arange(rows), list(faults)))
    kept = {name: column.take(fitting) for name, column in columns.items()}
    return Decoded(rows, [_column(kept, len(fitting), field) for field in fields], faults)


def _column(columns: dict[str, pa.Array], rows: int, field: Field) -> pa.Array:
    found = find(list(columns), field)
    target = arrow_type(field.type)
    if found is None:
        default = pa.scalar(default_value(field), target) if field.default is not None else pa.scalar(None, target)
        return pa.repeat(default, rows)
    return _convert(columns[found], field.type)


def _convert(array: pa.Array, want: FieldType) -> pa.Array:
    target = arrow_type(want)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    match want.kind:
        case Kind.STRUCT if pa.types.is_struct(array.type):
            flat = dict(zip([f.name for f in array.type], array.flatten(), strict=True))
            children = [_column(flat, len(array), field) for field in want.fields]
            mask = pc.is_null(array) if array.null_count else None
            return pa.StructArray.from_arrays(children, fields=list(target), mask=mask)
        case Kind.LIST if pa.types.is_large_list(array.type) or pa.types.is_list(array.type):
            assert want.items is not None
            array = array.cast(pa.large_list(array.type.value_type))
            values = _convert(array.values, want.items)
            mask = pc.is_null(array) if array.null_count else None
            return pa.LargeListArray.from_arrays(array.offsets, values, mask=mask).cast(target)
        case Kind.MAP:
            return _to_map(array, want)
        case Kind.FLOAT | Kind.DOUBLE:
            return array.cast(target, safe=False)
        case Kind.DECIMAL:
            return _decimals(array, want.scale).cast(target)
        case Kind.TIME:
            # Milliseconds of a day are an int in Avro, microseconds a long.
            return ranged(array.cast(pa.time32("ms") if pa.types.is_int32(array.type) else target).cast(target))
        case Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMP_LOCAL:
            return ranged(array.cast(target))
        case _:
            return array.cast(target)


def ranged(array: pa.Array) -> pa.Array:
    """The column itself, where all of it lies in the years 1 to 9999, or within a day.

    Arrow holds more, but neither Python nor the engines that read the tables do.
    """
    first, last = _RANGES[array.type]
    bounds = pc.min_max(array.view(pa.int32() if array.type == pa.date32() else pa.int64()))
    least, most = bounds["min"].as_py(), bounds["max"].as_py()
    if least is not None and (least < first or most > last):
        raise ValueError(f"{least if least < first else most} {array.type} is out of range")
    return array


def _decimals(array: pa.Array, scale: int) -> pa.Array:
    """Decimals from their unscaled values, two's complement with the highest byte first.

    Raises:
        ValueError: one has no bytes, or more than the 16 of a decimal of 38 digits.
    """
    array = array.cast(pa.large_binary())
    sizes = pc.fill_null(pc.binary_length(array), 1).to_numpy()
    if len(sizes) and not 1 <= sizes.min() <= sizes.max() <= _DECIMAL_BYTES:
        raise ValueError("a decimal has no bytes, or more than 16")
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)[1:]
    held = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    content = np.concatenate([held, np.zeros(1, np.uint8)])
    sign = (content[np.maximum(ends - sizes, 0)] >= 0x80).astype(np.uint8) * 0xFF
    unscaled = np.repeat(sign[:, None], _DECIMAL_BYTES, axis=1)
    for place in range(int(sizes.max(initial=0))):
        has = sizes > place
        unscaled[has, place] = content[ends[has] - 1 - place]
    validity = pc.is_valid(array).buffers()[1] if array.null_count else None
    return pa.Array.from_buffers(
        pa.decimal128(_DECIMAL_DIGITS, scale), len(array), [validity, pa.py_buffer(unscaled.tobytes())]
    )


def _to_map(array: pa.Array, want: FieldType) -> pa.Array:
    """A map column; native decoding gives maps as lists of key and value structs."""
    assert want.items is not None
    if pa.types.is_map(array.type):
        keys, items = array.keys, array.items
        offsets = array.offsets
    else:
        array = array.cast(pa.list_(array.type.value_type))
        keys, items = array.values.flatten()
        offsets = array.offsets
    if array.null_count:
        starts = offsets.slice(0, len(array))
        offsets = pa.concat_arrays([pc.if_else(pc.is_null(array), None, starts), offsets.slice(len(array), 1)])
    return pa.MapArray.from_arrays(offsets, keys.cast(pa.large_string()), _convert(items, want.items)).cast(
        arrow_type(want)
    )


def find(names: Sequence[str], field: Field) -> str | None:
    """The name under which a writer has a field: its own or a former one; None where it has none."""
    return next((name for name in (field.name, *field.aliases) if name in names), None)
