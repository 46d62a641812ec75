"""Figures as people read them; pure."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = (
    (86_400 * 365, "year"),
    (86_400 * 30, "month"),
    (86_400, "day"),
    (3600, "hour"),
    (60, "minute"),
    (1, "second"),
)
_THOUSANDS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(number: float | None) -> str:
    """``1,234``; a dash for what is not known."""
    return "–" if number is None else f"{number:,.0f}"


def compact(number: float | None) -> str:
    """``1.2 M``, ``34 k``, ``987``."""
    if number is None:
        return "–"
    if abs(number) < 1e4:
        return f"{number:,.0f}" if number == int(number) else f"{number:.2f}"
    # Rounded first: what is just short of a million is one, and not a thousand thousands.
    shown = float(f"{number:.3g}")
    size, unit = next((size, unit) for size, unit in _THOUSANDS if abs(shown) >= size)
    return f"{shown / size:.3g} {unit}"


def percent(share: float | None, digits: int = 1) -> str:
    """``99.5 %``; a share just short of all is never rounded up to all."""
    if share is None:
        return "–"
    shown = round(100 * share, digits)
    if shown == 100 and share < 1:
        shown = 100 - 10**-digits
    return f"{shown:.{digits}f}".removesuffix("." + "0" * digits) + " %"


def duration(seconds: float | None) -> str:
    """The two largest units at most: ``2 h 5 min``, ``3 days``, ``0.4 s``."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds else "0 s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return _two(total, 60, "min", 1, "s")
    if total < 86_400:
        return _two(total, 3600, "h", 60, "min")
    if total < 86_400 * 10:
        return _two(total, 86_400, "d", 3600, "h")
    return f"{total // 86_400:,} days"


def _two(total: int, large: int, large_name: str, small: int, small_name: str) -> str:
    first, rest = divmod(total, large)
    second = rest // small
    return f"{first} {large_name} {second} {small_name}" if second else f"{first} {large_name}"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """``5 minutes ago``; ``never`` for None."""
    if moment is None:
        return "never"
    passed = ((now or datetime.now(UTC)) - moment).total_seconds()
    if passed < 5:
        return "just now"
    for size, unit in _UNITS:
        if passed >= size:
            many = int(passed // size)
            return f"{many} {unit}{'s' if many > 1 else ''} ago"
    return "just now"


def utc(moment: datetime | None) -> str:
    """``2026-11-24 13:05:09 UTC``."""
    return "–" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
