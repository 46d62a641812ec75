"""The forms in which producers write times and whole numbers: each is read exactly, or refused with what it must be.

Days are RFC 3339's, and so are times of day and instants, with the freedom that it leaves (a blank for the T, small
letters) and what ISO 8601 and those who write it add: no seconds, a comma before the fraction, offsets without a colon
or without minutes, a blank in front of the offset. Digits finer than a microsecond are cut off: rounding would carry
an instant into the next second, and so into the next day, year, or out of the years there are. A leap second and the
hour 24 are refused: no column has a place for them, and the instant beside it is another one.

Numbers stand for days and instants only where the contract says what they count (``mesh.epoch``): what is meant cannot
be told from a number.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Callable
from typing import Any

from mesh_pipelines.contract.model import FieldType, Kind

_Read = Callable[[Any], Any]

_DAY = "([0-9]{4})-([0-9]{2})-([0-9]{2})"
_CLOCK = "([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
_ZONE = "( ?(?:[Zz]|([+-])([0-9]{2})(?::?([0-9]{2}))?))?"
_DAY_FORM = re.compile(_DAY)
_CLOCK_FORM = re.compile(_CLOCK)
_MOMENT_FORM = re.compile(f"{_DAY}[Tt ]{_CLOCK}{_ZONE}")
# Ten to the power of these many microseconds are what a number of the unit counts.
_POWERS = {"s": 6, "ms": 3, "us": 0, "ns": -3}
_YEAR_1970 = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# More digits than any instant has, and few enough to compute with.
_MOST_DIGITS = 24
_EXACT = decimal.Context(prec=decimal.MAX_PREC)
_UNREAL = "must be a day and a time that exist: hours go to 23, minutes and seconds to 59"
_WITHOUT_ZONE = "must be an instant with a zone such as 2024-01-31T10:15:30Z; timezone: false takes local times"
_OUT_OF_YEARS = "must be in the years 1 to 9999"


class _Takes(type):
    """A class of which everything is an instance: msgspec asks that of what its hook gives."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


class Form(metaclass=_Takes):
    """A type of msgspec's for values that ``read`` brings to their column's type, or raises ValueError on."""

    read: _Read


def form(field_type: FieldType) -> type[Form] | None:
    """The form of a type whose values are written in more than one way; None for the others."""
    match field_type.kind:
        case Kind.INT:
            return _form(_whole(31))
        case Kind.LONG:
            return _form(_whole(63))
        case Kind.DATE:
            return _form(_text_or_number(_day, _day_of(field_type.epoch)))
        case Kind.TIME:
            return _form(_text(_clock))
        case Kind.TIMESTAMP:
            return _form(_text_or_number(_instant, _instant_of(field_type.epoch)))
        case Kind.TIMESTAMP_LOCAL:
            return _form(_text_or_number(_local, _local_of(field_type.epoch)))
        case _:
            return None


def hook(form_type: type[Form], value: Any) -> Any:
    """What msgspec calls for a value of a form: a text, an int, a Decimal for other numbers, or something else."""
    return form_type.read(value)


def _form(read: _Read) -> type[Form]:
    return _Takes("Form", (Form,), {"read": staticmethod(read)})


def _whole(bits: int) -> _Read:
    limit = 1 << bits

    def read(value: Any) -> int:
        if type(value) is decimal.Decimal and (not value or value.adjusted() < _MOST_DIGITS):
            number = int(value)
            if number != value:
                raise ValueError("must be a whole number")
            value = number
        if not _is_number(value):
            raise ValueError(f"must be a whole number, got {_sort(value)}")
        if type(value) is not int or not -limit <= value < limit:
            raise ValueError(f"must be a whole number of {bits + 1} bits")
        return value

    return read


def _text(of_text: Callable[[str], Any], more: str = "") -> _Read:
    def read(value: Any) -> Any:
        if type(value) is not str:
            raise ValueError(f"must be ISO 8601 text, got {_sort(value)}{more if _is_number(value) else ''}")
        return of_text(value)

    return read


def _text_or_number(of_text: Callable[[str], Any], of_number: Callable[[Any], Any] | None) -> _Read:
    read_text = _text(of_text, "; mesh.epoch says what it counts")
    if of_number is None:
        return read_text
    return lambda value: of_number(value) if _is_number(value) else read_text(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, decimal.Decimal)


def _sort(value: Any) -> str:
    names = {str: "text", bool: "true or false", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _day(text: str) -> dt.date:
    found = _DAY_FORM.fullmatch(text)
    if not found:
        raise ValueError("must be a day such as 2024-01-31")
    return _real(dt.date, *map(int, found.groups()))


def _clock(text: str) -> dt.time:
    found = _CLOCK_FORM.fullmatch(text)
    if not found:
        raise ValueError("must be a time of day such as 10:15:30, without a zone")
    return _real(dt.time, *_of_day(*found.groups()))


def _instant(text: str) -> dt.datetime:
    found = _MOMENT_FORM.fullmatch(text)
    if not found:
        raise ValueError("must be an instant such as 2024-01-31T10:15:30Z")
    year, month, day, *clock, zone, sign, hours, minutes = found.groups()
    if not zone:
        raise ValueError(_WITHOUT_ZONE)
    offset = dt.timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        raise ValueError(_UNREAL)
    moment = _real(dt.datetime, int(year), int(month), int(day), *_of_day(*clock))
    return moment.replace(tzinfo=dt.timezone(-offset if sign == "-" else offset))


def _local(text: str) -> dt.datetime:
    found = _MOMENT_FORM.fullmatch(text)
    if not found or found[8]:
        raise ValueError("must be a day and time such as 2024-01-31T10:15:30, without a zone")
    year, month, day, *clock = found.groups()[:7]
    return _real(dt.datetime, int(year), int(month), int(day), *_of_day(*clock))


def _of_day(hour: str, minute: str, second: str | None, fraction: str | None) -> tuple[int, int, int, int]:
    return int(hour), int(minute), int(second or 0), int((fraction or "0")[:6].ljust(6, "0"))


def _real(kind: Callable[..., Any], *parts: int) -> Any:
    try:
        return kind(*parts)
    except ValueError:
        # Its own words may have the value.
        raise ValueError(_UNREAL) from None


def _instant_of(epoch: str) -> Callable[[Any], dt.datetime] | None:
    if not epoch:
        return None
    power = _POWERS[epoch]
    return lambda number: _after_1970(_scaled(number, power))


def _local_of(epoch: str) -> Callable[[Any], dt.datetime] | None:
    of = _instant_of(epoch)
    return of and (lambda number: of(number).replace(tzinfo=None))


def _day_of(epoch: str) -> Callable[[Any], dt.date] | None:
    if epoch == "d":
        return lambda number: _after_1970(_scaled(number, 0) * 86_400_000_000).date()
    of = _instant_of(epoch)
    return of and (lambda number: of(number).date())


def _scaled(number: int | decimal.Decimal, power: int) -> int:
    """A number times ten to this power, rounded down."""
    exact = decimal.Decimal(number)
    if exact and exact.adjusted() > _MOST_DIGITS:
        raise ValueError(_OUT_OF_YEARS)
    return math.floor(exact.scaleb(power, _EXACT))


def _after_1970(microseconds: int) -> dt.datetime:
    try:
        return _YEAR_1970 + dt.timedelta(microseconds=microseconds)
    except OverflowError:
        raise ValueError(_OUT_OF_YEARS) from None
