"""Values written in a contract, as values of a field's type: defaults, bounds, lists of what is valid.

A contract is text; a bound that is not a date or a default that does not fit its decimal would otherwise come to light
in the middle of a run. Text is read strictly as ISO 8601 with dashes and colons, the form that DuckDB, Avro and JSON
share.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from decimal import Decimal, InvalidOperation
from typing import Any

from mesh_pipelines.contract.model import Field, FieldType, Kind

_RANGES = {Kind.INT: 31, Kind.LONG: 63}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(r"\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?")


def parse(value: Any, field_type: FieldType) -> Any:
    """The Python value of this type that a value of the contract stands for.

    Instants come back in UTC, decimals as ``Decimal``.

    Raises:
        ValueError: it is not of this type; the message says what would be, without naming the value.
    """
    match field_type.kind:
        case Kind.BOOLEAN:
            return _instance(value, bool, "true or false")
        case Kind.INT | Kind.LONG:
            return _integer(value, _RANGES[field_type.kind])
        case Kind.FLOAT | Kind.DOUBLE:
            return _number(value)
        case Kind.DECIMAL:
            return _decimal(value, field_type)
        case Kind.STRING:
            return _instance(value, str, "text")
        case Kind.UUID:
            return _uuid(value)
        case Kind.DATE:
            return _iso(value, _DATE, dt.date.fromisoformat, "a date such as 2013-01-31")
        case Kind.TIME:
            return _iso(value, _TIME, dt.time.fromisoformat, "a time such as 13:45:00")
        case Kind.TIMESTAMP:
            return _instant(value, zoned=True)
        case Kind.TIMESTAMP_LOCAL:
            return _instant(value, zoned=False)
        case Kind.LIST | Kind.MAP | Kind.STRUCT | Kind.BYTES:
            raise ValueError("null")


def default_value(field: Field) -> Any:
    """The Python value that fills a field for events without it: its default, or None."""
    if field.default is None or field.type.kind is Kind.LIST:
        return field.default
    return parse(field.default, field.type)


def _instance(value: Any, kind: type, wanted: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(wanted)
    return value


def _integer(value: Any, bits: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**bits) <= value < 2**bits:
        raise ValueError(f"a whole number of {bits + 1} bits")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")
    return float(value)


def _decimal(value: Any, field_type: FieldType) -> Decimal:
    wanted = f"a decimal({field_type.precision}, {field_type.scale})"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(wanted)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(wanted) from None
    if not number.is_finite() or _places(number) > field_type.scale:
        raise ValueError(wanted)
    if number and number.adjusted() >= field_type.precision - field_type.scale:
        raise ValueError(wanted)
    return number


def _places(number: Decimal) -> int:
    """How many digits stand behind the point, zeros at the end aside; ``normalize`` would round to 28 digits first."""
    _, digits, exponent = number.as_tuple()
    written = "".join(map(str, digits))
    return -int(exponent) - (len(written) - len(written.rstrip("0"))) if number else 0


def _uuid(value: Any) -> str:
    try:
        return str(uuid.UUID(_instance(value, str, "a UUID")))
    except ValueError:
        raise ValueError("a UUID") from None


def _iso(value: Any, form: re.Pattern[str], read: Any, wanted: str) -> Any:
    try:
        if isinstance(value, str) and form.fullmatch(value):
            return read(value)
    except ValueError:
        pass
    raise ValueError(wanted)


def _instant(value: Any, *, zoned: bool) -> dt.datetime:
    wanted = f"an instant such as 2013-01-31T13:45:00{'Z' if zoned else ''}"
    found: dt.datetime = _iso(value, _INSTANT, dt.datetime.fromisoformat, wanted)
    if (found.tzinfo is not None) is not zoned:
        raise ValueError(f"{wanted}, {'with' if zoned else 'without'} a zone")
    try:
        return found.astimezone(dt.UTC) if zoned else found
    except OverflowError:
        raise ValueError(wanted) from None
