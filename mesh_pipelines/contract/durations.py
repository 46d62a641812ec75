"""Durations as contracts write them: a number with its unit, ISO 8601 (``P1Y``, ``PT15M``), and words such as daily."""

from __future__ import annotations

import re
from collections.abc import Mapping

_YEAR = 31_557_600
# A twelfth of a year, so that twelve months are one.
_MONTH = _YEAR // 12

# Units of time, in seconds. "m" is a minute.
SECONDS: Mapping[str, int | float] = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "wk", "week", "weeks"), 604_800),
    **dict.fromkeys(("mo", "mon", "month", "months"), _MONTH),
    **dict.fromkeys(("y", "yr", "yrs", "year", "years"), _YEAR),
}
_WORDS = {
    "hourly": 3600,
    "daily": 86_400,
    "weekly": 604_800,
    "monthly": _MONTH,
    "quarterly": 3 * _MONTH,
    **dict.fromkeys(("yearly", "annually", "annual"), _YEAR),
}

# A thousand years: as long as any promise about time is. What was applied with more counts as that.
LONGEST_S = 1000 * _YEAR

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_WITH_UNIT = re.compile(rf"({_NUMBER.pattern})\s*([a-z]+)")
_PART = r"(?:([0-9]{1,12}(?:[.,][0-9]{1,9})?)%s)?"
_ISO = re.compile(
    "P" + "".join(_PART % unit for unit in "YMWD") + "(?:T" + "".join(_PART % unit for unit in "HMS") + ")?"
)
_ISO_SECONDS = (_YEAR, _MONTH, 604_800, 86_400, 3600, 60, 1)


def seconds_of(value: object, unit: str = "") -> float | None:
    """A duration in seconds; None if it is none, or a number without a unit of time."""
    unit = unit.strip().lower()
    number = number_of(value)
    if number is not None:
        size = SECONDS.get(unit)
        return None if size is None else number * size
    if not isinstance(value, str) or (unit and not unit.startswith("iso")):
        return None
    text = value.strip()
    return _of_iso(text) if text.upper().startswith("P") else _of_words(text.lower())


def number_of(value: object) -> int | float | None:
    """A number, also one that is written as text; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value) if "." in value else int(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _of_words(text: str) -> float | None:
    if text in _WORDS:
        return _WORDS[text]
    found = _WITH_UNIT.fullmatch(text)
    return seconds_of(found[1], found[3]) if found else None


def _of_iso(text: str) -> float | None:
    found = _ISO.fullmatch(text.upper())
    if found is None or not any(found.groups()) or text.upper().endswith("T"):
        return None
    parts = (float(part.replace(",", ".")) if part else 0.0 for part in found.groups())
    return sum(part * size for part, size in zip(parts, _ISO_SECONDS, strict=True))
