"""Schema resolution in Arrow: columns decoded by a writer's schema, brought to the contract's current columns.

The rules are Avro's for a reader's schema ("Schema Resolution" in its specification): a field is found by its name or
one of its aliases, numbers widen, strings and bytes read as one another, what the writer lacks takes the contract's
default or null. They are applied to columns and not to values, so they cost the same however many events there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mesh_pipelines.contract.avro import record_fields
from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.contract.types import arrow_type
from mesh_pipelines.contract.values import default_value


class Irreconcilable(ValueError):
    """Events of this writer's schema cannot be brought to the contract."""


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
        found = _find(list(written), field)
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
                found = _find(names, field)
                if found is not None:
                    _check_type(have.fields[names.index(found)].type, field.type, f"{path}.{field.name}")
                elif field.required and not field.has_default:
                    raise Irreconcilable(f"field {path}.{field.name}, which is required, is missing")
        case _:
            pass


def project(columns: dict[str, pa.Array], rows: int, fields: Sequence[Field]) -> list[pa.Array]:
    """The contract's columns, in order, from a writer's columns by name.

    Raises:
        pa.ArrowInvalid: a value does not fit the contract's type.
    """
    return [_column(columns, rows, field) for field in fields]


def _column(columns: dict[str, pa.Array], rows: int, field: Field) -> pa.Array:
    found = _find(list(columns), field)
    target = arrow_type(field.type)
    if found is None:
        default = pa.scalar(default_value(field), target) if field.default is not None else pa.scalar(None, target)
        return pa.repeat(default, rows)
    return _convert(columns[found], field.type)


def _convert(array: pa.Array, want: FieldType) -> pa.Array:
    target = arrow_type(want)
    if array.type.equals(target):
        return array
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    match want.kind:
        case Kind.STRUCT if pa.types.is_struct(array.type):
            flat = dict(zip([f.name for f in array.type], array.flatten(), strict=True))
            children = project(flat, len(array), want.fields)
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
        case _:
            return array.cast(target)


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


def _find(names: Sequence[str], field: Field) -> str | None:
    return next((name for name in (field.name, *field.aliases) if name in names), None)
