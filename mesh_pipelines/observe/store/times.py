"""Moments and days as the numbers they are stored as."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import overload

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000


@overload
def micros(moment: datetime) -> int: ...
@overload
def micros(moment: None) -> None: ...
def micros(moment: datetime | None) -> int | None:
    """A moment as whole microseconds since 1970."""
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


@overload
def moment(stored: int) -> datetime: ...
@overload
def moment(stored: None) -> None: ...
def moment(stored: int | None) -> datetime | None:
    """The moment that ``micros`` stored."""
    return None if stored is None else _EPOCH + timedelta(microseconds=stored)


def day_of(at: datetime) -> date:
    """The day, in UTC, that a moment lies in."""
    return at.astimezone(UTC).date()
