"""Schema resolution in Arrow: columns decoded by a writer's schema, brought to the contract's current columns.

The rules are Avro's for a reader's schema ("Schema Resolution" in its specification): a field is found by its name or
one of its aliases, numbers widen, strings and bytes read as one another, what the writer lacks takes the contract's
default or null. They are applied to columns and not to values, so they cost the same however many events there are.

What bytes can say and a type cannot hold (text that is not UTF-8, a time of 25 hours, a decimal of 40 digits) is found
here too, for a whole column at once: where one event in a hundred has such a value, halving a column that Arrow refuses
until the culprits are alone took three times as long as decoding it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.arrow_compute import pc
from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.types import arrow_type
from mesh_pipelines.contract.values import default_value
from mesh_pipelines.formats.decoded import Decoded

Mask = npt.NDArray[np.bool_]
# A column, and which of its values do not fit its type (they are null in it); None where all do.
_Checked = tuple[pa.Array, Mask | None]


class Irreconcilable(ValueError):
    """Events of this writer's schema cannot be brought to the contract."""


_DECIMAL_DIGITS = 38
_DIGITS = Context(prec=_DECIMAL_DIGITS)
_DECIMAL_BYTES = 16
_DAY_US = 86_400_000_000
# Days and microseconds from 1970 to the first of January of the years 1 and 10000.
_YEAR_1, _YEAR_10000 = -719_162, 2_932_897
_INSTANTS = (_YEAR_1 * _DAY_US, _YEAR_10000 * _DAY_US - 1)
_RANGES: Mapping[pa.DataType, tuple[int, int]] = {
    pa.date32(): (_YEAR_1, _YEAR_10000 - 1),
    pa.time32("ms"): (0, _DAY_US // 1000 - 1),
    pa.time64("us"): (0, _DAY_US - 1),
    **{pa.timestamp("us", zone): _INSTANTS for zone in ("UTC", None)},
    **{pa.timestamp("ms", zone): (_INSTANTS[0] // 1000, _INSTANTS[1] // 1000) for zone in ("UTC", None)},
}
# What a number counts: so many microseconds, or as many of it to one.
_EPOCHS = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000), "d": (_DAY_US, 1)}
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


def check(names: Sequence[str], type_of: Callable[[str], FieldType], fields: Sequence[Field]) -> None:
    """Check that a writer's fields, by name, can be read as these fields; ``type_of`` gives the type of one by name.

    Raises:
        Irreconcilable: a required field is missing without a default, or a type does not promote.
    """
    for field in fields:
        found = find(names, field)
        if found is None:
            if field.required and not field.has_default:
                raise Irreconcilable(f"the writer's schema has no field {field.event_name}, which is required")
            continue
        _check_type(type_of(found), field.type, field.event_name)


def _check_type(have: FieldType, want: FieldType, path: str) -> None:
    if have.kind is not want.kind:
        if (have.kind, want.kind) not in _PROMOTIONS and not want.is_counted_by(have.kind):
            raise Irreconcilable(f"field {path} must be {want.kind} as in the contract, got {have.kind}")
        return
    match want.kind:
        case Kind.DECIMAL:
            if have.scale != want.scale or have.precision > want.precision:
                raise Irreconcilable(
                    f"field {path} must be decimal({want.precision}, {want.scale}) as in the contract, "
                    f"got decimal({have.precision}, {have.scale})"
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
                    _check_type(have.fields[names.index(found)].type, field.type, f"{path}.{field.event_name}")
                elif field.required and not field.has_default:
                    raise Irreconcilable(f"field {path}.{field.event_name}, which is required, is missing")
        case _:
            pass


def project(columns: Mapping[str, pa.Array], rows: int, fields: Sequence[Field], given: Mask | None = None) -> Decoded:
    """The contract's columns, in order, from a writer's columns by name; rows that do not fit are faults.

    ``given`` says which rows are of an event; the others take no defaults. None for all.
    """
    faults: dict[int, str] = {}
    converted: list[pa.Array] = []
    for field in fields:
        array, unfit = _column(columns, rows, field)
        if given is not None and field.default is not None and find(list(columns), field) is None:
            array = _without(array, ~given)
        converted.append(array)
        if unfit is not None:
            reason = f"field {field.name} has a value that does not fit the type {str(array.type)[:80]}"
            faults.update(dict.fromkeys(np.flatnonzero(unfit).tolist(), reason))
    if faults:
        fitting = np.ones(rows, np.bool_)
        fitting[list(faults)] = False
        places = pa.array(np.flatnonzero(fitting))
        converted = [array.take(places) for array in converted]
    return Decoded(rows, converted, faults)


def _column(columns: Mapping[str, pa.Array], rows: int, field: Field) -> _Checked:
    found = find(list(columns), field)
    target = arrow_type(field.type)
    if found is None:
        default = pa.scalar(default_value(field), target) if field.default is not None else pa.scalar(None, target)
        return pa.repeat(default, rows), None
    return _convert(columns[found], field.type)


def _convert(array: pa.Array, want: FieldType) -> _Checked:
    target = arrow_type(want)
    if pa.types.is_dictionary(array.type):
        return array.dictionary_decode().cast(target), None
    match want.kind:
        case Kind.STRUCT:
            flat = dict(zip([f.name for f in array.type], array.flatten(), strict=True))
            children = [_column(flat, len(array), field) for field in want.fields]
            mask = pc.is_null(array) if array.null_count else None
            struct = pa.StructArray.from_arrays([child for child, _ in children], fields=list(target), mask=mask)
            return struct, _either(*(unfit for _, unfit in children))
        case Kind.LIST:
            assert want.items is not None
            values, unfit = _convert(array.values, want.items)
            mask = pc.is_null(array) if array.null_count else None
            whole = pa.LargeListArray.from_arrays(array.offsets, values, mask=mask).cast(target)
            return whole, _holding(unfit, array.offsets)
        case Kind.MAP:
            return _to_map(array, want)
        case Kind.DECIMAL:
            return _decimals(array, target)
        case Kind.STRING | Kind.UUID:
            return _text(array)
        case Kind.TIME:
            # Milliseconds of a day are an int in Avro, microseconds a long.
            return _in_range(array.cast(pa.time32("ms") if pa.types.is_int32(array.type) else target), target)
        case Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMP_LOCAL:
            return _counted(array, want) if pa.types.is_integer(array.type) else _in_range(array, target)
        case _:
            # What is left widens, and only large integers lose digits as they become floating.
            return array.cast(target, safe=False), None


def _to_map(array: pa.Array, want: FieldType) -> _Checked:
    """A map column; native decoding gives maps as lists of key and value structs."""
    assert want.items is not None
    array = array.cast(pa.list_(array.type.value_type))
    keys, unfit_keys = _text(array.values.field(0))
    items, unfit_items = _convert(array.values.field(1), want.items)
    offsets = array.offsets
    if array.null_count:
        starts = offsets.slice(0, len(array))
        offsets = pa.concat_arrays([pc.if_else(pc.is_null(array), None, starts), offsets.slice(len(array), 1)])
    filled = keys.fill_null("") if unfit_keys is not None else keys
    whole = pa.MapArray.from_arrays(offsets, filled, items).cast(arrow_type(want))
    return whole, _holding(_either(unfit_keys, unfit_items), array.offsets)


def _either(*masks: Mask | None) -> Mask | None:
    """What is unfit by one mask or another."""
    some = [mask for mask in masks if mask is not None]
    return np.logical_or.reduce(some) if some else None


def _holding(unfit: Mask | None, offsets: pa.Array) -> Mask | None:
    """Which lists hold an item that is unfit."""
    if unfit is None:
        return None
    before = np.concatenate([[0], np.cumsum(unfit)])[offsets.to_numpy()]
    return np.diff(before) > 0


def _without(array: pa.Array, unfit: Mask) -> pa.Array:
    return pc.if_else(pa.array(unfit), pa.scalar(None, array.type), array)


def _text(array: pa.Array) -> _Checked:
    target = pa.large_string()
    try:
        return array.cast(target), None
    except pa.ArrowInvalid:
        # Arrow says only that some value is no UTF-8; ASCII can be told without looking at values one by one.
        ascii_only = pc.fill_null(pc.string_is_ascii(array.view(target)), True).to_numpy(zero_copy_only=False)
        suspects = np.flatnonzero(~ascii_only)
        unfit = np.zeros(len(array), np.bool_)
        unfit[suspects] = [not _is_text(value) for value in array.take(pa.array(suspects)).to_pylist()]
        return _without(array, unfit).cast(target), unfit


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _in_range(array: pa.Array, target: pa.DataType) -> _Checked:
    unfit = out_of_range(array)
    return (array if unfit is None else _without(array, unfit)).cast(target), unfit


def _counted(array: pa.Array, want: FieldType) -> _Checked:
    """Days and instants from numbers of what the contract says that they count; what is finer is cut off."""
    of_us, per_us = _EPOCHS[want.epoch]
    given = pc.fill_null(array, 0).cast(pa.int64()).to_numpy()
    least, most = (edge * per_us // of_us for edge in (_INSTANTS[0], _INSTANTS[1] + 1))
    unfit = (given < max(least, -(2**63))) | (given > min(most - 1, 2**63 - 1))
    counted = np.where(unfit, 0, given) * of_us // per_us
    if want.kind is Kind.DATE:
        counted = (counted // _DAY_US).astype(np.int32)
    missing = pc.is_null(array).to_numpy(zero_copy_only=False) | unfit
    return pa.array(counted, mask=missing).cast(arrow_type(want)), unfit if unfit.any() else None


def out_of_range(array: pa.Array) -> Mask | None:
    """Which days and instants lie outside the years 1 to 9999, and which times outside a day; None for none of them.

    Arrow holds more, but neither Python nor the engines that read the tables do.
    """
    first, last = _RANGES[array.type]
    plain = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    bounds = pc.min_max(plain)
    least, most = bounds["min"].as_py(), bounds["max"].as_py()
    if least is None or first <= least <= most <= last:
        return None
    values = pc.fill_null(plain, 0).to_numpy()
    return (values < first) | (values > last)


def _decimals(array: pa.Array, target: pa.Decimal128Type) -> _Checked:
    """Decimals from their unscaled values, two's complement with the highest byte first, of 1 to 16 bytes."""
    array = array.cast(pa.large_binary())
    sizes = pc.fill_null(pc.binary_length(array), 1).to_numpy()
    unfit = (sizes < 1) | (sizes > _DECIMAL_BYTES)
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)[1:]
    held = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    content = np.concatenate([held, np.zeros(1, np.uint8)])
    sign = (content[np.maximum(ends - sizes, 0)] >= 0x80).astype(np.uint8) * 0xFF
    unscaled = np.repeat(sign[:, None], _DECIMAL_BYTES, axis=1)
    for place in range(min(int(sizes.max(initial=0)), _DECIMAL_BYTES)):
        has = sizes > place
        unscaled[has, place] = content[ends[has] - 1 - place]
    unscaled[unfit] = 0
    validity = pc.is_valid(array).buffers()[1] if array.null_count else None
    widest = pa.decimal128(_DECIMAL_DIGITS, target.scale)
    wide = pa.Array.from_buffers(widest, len(array), [validity, pa.py_buffer(unscaled.tobytes())])
    largest = pa.scalar(Decimal(10**target.precision - 1).scaleb(-target.scale, _DIGITS), widest)
    unfit |= pc.fill_null(pc.greater(pc.abs(wide), largest), False).to_numpy(zero_copy_only=False)
    if not unfit.any():
        return wide.cast(target), None
    return _without(wide, unfit).cast(target), unfit


def find(names: Sequence[str], field: Field) -> str | None:
    """The name under which a writer has a field: its own or a former one; None where it has none."""
    return next((name for name in field.event_names if name in names), None)
