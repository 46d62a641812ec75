"""Schema resolution in Arrow: columns decoded by a writer's schema, brought to the contract's current columns.

Which types can be read as which is said in ``readable``; what the writer lacks takes the contract's default or null.
The rules are applied to columns and not to values, so they cost the same however many events there are.

What bytes can say and a type cannot hold (text that is not UTF-8, a time of 25 hours, a decimal of 40 digits) is found
here too, for a whole column at once: where one event in a hundred has such a value, halving a column that Arrow refuses
until the culprits are alone took three times as long as decoding it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.arrow_compute import pc
from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.types import arrow_type
from mesh_pipelines.contract.values import default_value
from mesh_pipelines.formats.decoded import Decoded
from mesh_pipelines.formats.json.forms import form
from mesh_pipelines.formats.json.plain import plain
from mesh_pipelines.formats.ranges import DAY_US, RANGES, out_of_range
from mesh_pipelines.formats.readable import OneOf, counts, find, is_readable

Mask = npt.NDArray[np.bool_]
# A column, and which of its values do not fit its type (they are null in it); None where all do.
_Checked = tuple[pa.Array, Mask | None]


_DECIMAL_DIGITS = 38
_DIGITS = Context(prec=_DECIMAL_DIGITS)
# Room for any unscaled value of 16 bytes.
_WIDE = Context(prec=40, Emin=-(10**6), Emax=10**6)
_DECIMAL_BYTES = 16
# How many of a unit make a microsecond, or how many microseconds make it.
_MICROSECONDS: Mapping[str, int] = {"d": DAY_US, "s": 1_000_000, "ms": 1000, "us": 1}
_NS_PER_US = 1000
_UUID_TYPE = pa.binary(16)


def project(
    columns: Mapping[str, pa.Array],
    rows: int,
    fields: Sequence[Field],
    given: Mask | None = None,
    types: Mapping[str, FieldType] | None = None,
) -> Decoded:
    """The contract's columns, in order, from a writer's columns by name; rows that do not fit are faults.

    ``given`` says which rows are of an event; the others take no defaults. None for all. ``types`` are the writer's, by
    name, where they are not the contract's.
    """
    faults: dict[int, str] = {}
    converted: list[pa.Array] = []
    for field in fields:
        array, unfit = _column(columns, rows, field, types or {})
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


def _column(columns: Mapping[str, pa.Array], rows: int, field: Field, types: Mapping[str, FieldType]) -> _Checked:
    found = find(list(columns), field)
    target = arrow_type(field.type)
    if found is None:
        default = pa.scalar(default_value(field), target) if field.default is not None else pa.scalar(None, target)
        return pa.repeat(default, rows), None
    return _convert(columns[found], types.get(found, field.type), field.type)


def _convert(array: pa.Array, have: FieldType, want: FieldType) -> _Checked:
    target = arrow_type(want)
    if isinstance(have, OneOf):
        return _branches(array, have, want)
    if unit := counts(have, want):
        return _counted(array, unit, want)
    if pa.types.is_dictionary(array.type):
        return array.dictionary_decode().cast(target), None
    match want.kind:
        case Kind.STRUCT:
            flat = dict(zip([f.name for f in array.type], array.flatten(), strict=True))
            types = {field.name: field.type for field in have.fields}
            children = [_column(flat, len(array), field, types) for field in want.fields]
            mask = pc.is_null(array) if array.null_count else None
            struct = pa.StructArray.from_arrays([child for child, _ in children], fields=list(target), mask=mask)
            return struct, _either(*(unfit for _, unfit in children))
        case Kind.LIST:
            assert want.items is not None
            values, unfit = _convert(array.values, have.items or want.items, want.items)
            mask = pc.is_null(array) if array.null_count else None
            whole = pa.LargeListArray.from_arrays(array.offsets, values, mask=mask).cast(target)
            return whole, _holding(unfit, array.offsets)
        case Kind.MAP:
            return _to_map(array, have, want)
        case Kind.DECIMAL:
            return _decimals(array, have.scale, target)
        case Kind.STRING | Kind.UUID:
            return (_uuids(array), None) if array.type == _UUID_TYPE else _text(array)
        case Kind.BOOLEAN if have.kind is Kind.INT:
            return _truths(array)
        case Kind.DATE | Kind.TIME | Kind.TIMESTAMP | Kind.TIMESTAMP_LOCAL if have.kind is Kind.STRING:
            return _times(array, want)
        case Kind.TIME:
            # Milliseconds of a day are an int in Avro, microseconds a long.
            return _in_range(array.cast(pa.time32("ms") if pa.types.is_int32(array.type) else target), target)
        case Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMP_LOCAL:
            return _in_range(array, target)
        case _:
            # What is left widens, and only large integers lose digits as they become floating.
            return array.cast(target, safe=False), None


def _to_map(array: pa.Array, have: FieldType, want: FieldType) -> _Checked:
    """A map column; native decoding gives maps as lists of key and value structs."""
    assert want.items is not None
    array = array.cast(pa.list_(array.type.value_type))
    keys, unfit_keys = _text(array.values.field(0))
    items, unfit_items = _convert(array.values.field(1), have.items or want.items, want.items)
    offsets = array.offsets
    if array.null_count:
        starts = offsets.slice(0, len(array))
        offsets = pa.concat_arrays([pc.if_else(pc.is_null(array), None, starts), offsets.slice(len(array), 1)])
    filled = keys.fill_null("") if unfit_keys is not None else keys
    whole = pa.MapArray.from_arrays(offsets, filled, items).cast(arrow_type(want))
    return whole, _holding(_either(unfit_keys, unfit_items), array.offsets)


def _branches(array: pa.Array, have: OneOf, want: FieldType) -> _Checked:
    """A union's values as one type; those of a branch that cannot be read as it do not fit."""
    flat = dict(zip([field.name for field in array.type], array.flatten(), strict=True))
    chosen = pc.fill_null(flat[""], -1).to_numpy()
    unfit = chosen >= 0
    place = np.full(len(array), -1, np.int64)
    parts: list[pa.Array] = []
    start = 0
    for branch in have.fields:
        rows = np.flatnonzero(chosen == int(branch.name))
        values = flat[branch.name].take(pa.array(rows))
        part, wrong = _branch(values, branch.type, want)
        place[rows] = start + np.arange(len(rows))
        unfit[rows] = False if wrong is None else wrong
        start += len(rows)
        parts.append(part)
    whole = pa.concat_arrays(parts).take(pa.array(place, mask=place < 0))
    return whole, unfit if unfit.any() else None


def _branch(values: pa.Array, have: FieldType, want: FieldType) -> _Checked:
    if want.kind is not Kind.STRING or is_readable(have, want):
        return _convert(values, have, want)
    column, unfit = _convert(values, have, _own_type(have))
    texts = [None if value is None else _as_text(value) for value in column.to_pylist(maps_as_pydicts="lossy")]
    return pa.array(texts, pa.large_string()), unfit


def _own_type(have: FieldType) -> FieldType:
    """The type of a column for a writer's values as they are: decimals of 38 digits, unions of several as text."""
    if isinstance(have, OneOf):
        return FieldType(Kind.STRING)
    if have.kind is Kind.DECIMAL:
        return FieldType(Kind.DECIMAL, _DECIMAL_DIGITS, min(have.scale, _DECIMAL_DIGITS))
    items = have.items and _own_type(have.items)
    fields = tuple(replace(field, type=_own_type(field.type)) for field in have.fields)
    return replace(have, items=items, fields=fields)


def _as_text(value: Any) -> str:
    """A value as JSON; a time or a decimal as the text that it is in JSON, without quotes."""
    written = plain(value)
    return written if isinstance(written, str) else json.dumps(written, separators=(",", ":"), ensure_ascii=False)


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


def _counted(array: pa.Array, unit: str, want: FieldType) -> _Checked:
    """Numbers of a unit as what they stand for; nanoseconds are cut to microseconds, always towards the past."""
    target = arrow_type(want)
    per_value = 1 if want.kind is not Kind.DATE else DAY_US
    values = pc.fill_null(array, 0).to_numpy().astype(np.int64)
    first, last = RANGES[target]
    if unit == "ns":
        found = values // (_NS_PER_US * per_value)
        unfit = (found < first) | (found > last)
    else:
        # Bounds are compared in the unit itself, since what lies outside may not fit when it is multiplied.
        each = _MICROSECONDS[unit]
        unfit = (values < -(-first * per_value // each)) | (values > ((last + 1) * per_value - 1) // each)
        found = np.where(unfit, 0, values) * each // per_value
    null = unfit if not array.null_count else unfit | pc.is_null(array).to_numpy(zero_copy_only=False)
    whole = pa.array(found.astype(np.int32 if target.bit_width == 32 else np.int64), mask=null)
    return whole.view(target), unfit if unfit.any() else None


def _times(array: pa.Array, want: FieldType) -> _Checked:
    """Text in ISO 8601 as what it says, as in JSON."""
    texts, wrong = _text(array)
    unfit = np.zeros(len(array), np.bool_) if wrong is None else wrong.copy()
    read = form(FieldType(want.kind))
    assert read is not None
    values: list[Any] = []
    for row, text in enumerate(texts.to_pylist()):
        try:
            values.append(None if text is None else read.read(text))
        except ValueError:
            values.append(None)
            unfit[row] = True
    return pa.array(values, arrow_type(want)), unfit if unfit.any() else None


def _truths(array: pa.Array) -> _Checked:
    """0 and 1 as false and true: databases without booleans have them so."""
    values = pc.fill_null(array, 0).to_numpy()
    unfit = (values != 0) & (values != 1)
    null = unfit if not array.null_count else unfit | pc.is_null(array).to_numpy(zero_copy_only=False)
    return pa.array(values == 1, mask=null), unfit if unfit.any() else None


def _uuids(array: pa.Array) -> pa.Array:
    """16 bytes as the 36 letters that a UUID has as text (RFC 9562)."""
    return pa.array([value and str(UUID(bytes=value)) for value in array.to_pylist()], pa.large_string())


def _decimals(array: pa.Array, scale: int, target: pa.Decimal128Type) -> _Checked:
    """Decimals from their unscaled values, two's complement with the highest byte first, padded to any length.

    ``scale`` is the writer's; its precision plays no part, since values are held against the contract's.
    """
    array = array.cast(pa.large_binary())
    unscaled, unfit = _unscaled(array)
    validity = pc.is_valid(array).buffers()[1] if array.null_count else None
    if scale != target.scale:
        return _rescaled(unscaled, pc.is_valid(array).to_numpy(zero_copy_only=False), unfit, scale, target)
    widest = pa.decimal128(_DECIMAL_DIGITS, target.scale)
    wide = pa.Array.from_buffers(widest, len(array), [validity, pa.py_buffer(unscaled.tobytes())])
    largest = pa.scalar(Decimal(10**target.precision - 1).scaleb(-target.scale, _DIGITS), widest)
    unfit |= pc.fill_null(pc.greater(pc.abs(wide), largest), False).to_numpy(zero_copy_only=False)
    if not unfit.any():
        return wide.cast(target), None
    return _without(wide, unfit).cast(target), unfit


def _unscaled(array: pa.LargeBinaryArray) -> tuple[npt.NDArray[np.uint8], Mask]:
    """For each value 16 bytes, the lowest first, and which do not fit into them."""
    sizes = pc.fill_null(pc.binary_length(array), 1).to_numpy()
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)[1:]
    held = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    content = np.concatenate([held, np.zeros(1, np.uint8)])
    sign = (content[np.maximum(ends - sizes, 0)] >= 0x80).astype(np.uint8) * 0xFF
    unscaled = np.repeat(sign[:, None], _DECIMAL_BYTES, axis=1)
    for place in range(min(int(sizes.max(initial=0)), _DECIMAL_BYTES)):
        has = sizes > place
        unscaled[has, place] = content[ends[has] - 1 - place]
    unfit = sizes < 1
    for row in np.flatnonzero(sizes > _DECIMAL_BYTES).tolist():
        # What lies above the lowest 16 bytes may only repeat their sign.
        above = content[ends[row] - sizes[row] : ends[row] - _DECIMAL_BYTES]
        unfit[row] = bool((above != sign[row]).any()) or (unscaled[row, -1] >= 0x80) != (sign[row] != 0)
    unscaled[unfit] = 0
    return unscaled, unfit


def _rescaled(
    unscaled: npt.NDArray[np.uint8], present: Mask, unfit: Mask, scale: int, target: pa.Decimal128Type
) -> _Checked:
    """Decimals of another scale, those that keep their value and fit."""
    digits = Context(prec=target.precision, traps=[InvalidOperation, Inexact])
    unit = Decimal(1).scaleb(-target.scale)
    values: list[Decimal | None] = []
    for row, (number, is_there) in enumerate(zip(unscaled, (present & ~unfit).tolist(), strict=True)):
        value = Decimal(int.from_bytes(number.tobytes(), "little", signed=True)).scaleb(-scale, _WIDE)
        try:
            values.append(value.quantize(unit, context=digits) if is_there else None)
        except DecimalException:
            values.append(None)
            unfit[row] = True
    return pa.array(values, target), unfit if unfit.any() else None
