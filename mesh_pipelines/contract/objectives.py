"""A contract's ``slaProperties`` as objectives: what is measured, against which number, with which error budget.

Everything that shows or watches a service level (pages, messages, metrics, the scheduler's freshness policies) gets it
from here. What cannot be measured, such as a date or a level in words, is shown as it stands.

The vocabulary is that of service level objectives (Beyer et al., Site Reliability Engineering, chapter 4): an objective
is met in a share of all observations, its target; what is left to 1 is the error budget.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from enum import StrEnum

from mesh_pipelines.contract.durations import SECONDS
from mesh_pipelines.contract.model import DataProduct, Kind, Number, ServiceLevel
from mesh_pipelines.contract.telling import may_tell

WINDOW_DAYS = 30
# How soon a derived product follows its inputs where its contract does not say.
FOLLOWED_S = 15.0

_TIMES = (Kind.TIMESTAMP, Kind.TIMESTAMP_LOCAL, Kind.DATE)
_PERCENT = ("%", "percent", "pct")
_SHARE = ("share", "ratio", "fraction")
_RATE = re.compile(r"(?:[a-z]+\s*)?(?:/|per\s+|\bp(?=s$))\s*([a-z]+)")
_YEAR, _MONTH = (31_557_600, "year"), (2_629_800, "month")
_UNITS = (_YEAR, (604_800, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


class Comparison(StrEnum):
    """On which side of the promised number what is measured has to lie; on it is met."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True)
class Objective:
    """One measurable promise. ``id`` is unique in the product: the property, and the field it is about.

    ``promised`` is in ``unit``: ``s``, ``%`` or ``events/s``. ``target`` (0 to 1) is the share of observations within
    the window that have to meet it. ``promise`` says it in words.
    """

    id: str
    property: str
    promised: float
    unit: str
    comparison: Comparison
    promise: str
    target: float
    element: str = ""

    def met_by(self, measured: float) -> bool:
        """Whether a measured value keeps the promise."""
        return measured <= self.promised if self.comparison is Comparison.AT_MOST else measured >= self.promised


# By property: the promise in words, and the side to lie on. {} is the promised number with its unit.
_DURATIONS = {
    "freshness": ("no older than {}", Comparison.AT_MOST),
    "latency": ("published within {}", Comparison.AT_MOST),
    "frequency": ("new data at least every {}", Comparison.AT_MOST),
    "retention": ("events are kept for {}", Comparison.AT_LEAST),
    "timeToDetect": ("incidents are noticed within {}", Comparison.AT_MOST),
    "timeToNotify": ("owners are told of incidents within {}", Comparison.AT_MOST),
    "timeToRepair": ("incidents are over within {}", Comparison.AT_MOST),
}


def objectives(product: DataProduct) -> tuple[Objective, ...]:
    """The measurable service levels, in the contract's order."""
    seen: dict[str, int] = {}
    found: list[Objective] = []
    for level in product.service_levels:
        if objective := _objective(product, level):
            times = seen[objective.id] = seen.get(objective.id, 0) + 1
            found.append(objective if times == 1 else replace(objective, id=f"{objective.id}:{times}"))
    return tuple(found)


def freshness_window(product: DataProduct) -> float | None:
    """The seconds after which a product counts as late, by its promise of freshness, or else of latency."""
    found = {one.property: one.promised for one in reversed(objectives(product))}
    return found.get("freshness", found.get("latency"))


def patience(product: DataProduct) -> float:
    """The seconds for which a derived product may be behind its inputs: its promised latency, or else freshness, or
    else ``FOLLOWED_S`` and as much again for a run that is in flight.
    """
    promised = (one.promised for one in objectives(product) if one.property == "latency")
    return next(promised, None) or freshness_window(product) or 2 * FOLLOWED_S


def duration(seconds: float) -> str:
    """Seconds as they are, in the largest unit that holds them in a whole number: ``15 minutes``, ``90 seconds``."""
    whole = ((size, name) for size, name in (_YEAR, _MONTH, *_UNITS[1:]) if seconds >= size and seconds % size == 0)
    return _in_unit(seconds, *next(whole, _UNITS[-1]))


def roughly(seconds: float) -> str:
    """Seconds to three digits, in the largest unit that they are one or more of: ``12.6 minutes``."""
    return _in_unit(seconds, *next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1]))


def _in_unit(seconds: float, size: int, name: str) -> str:
    return f"{seconds / size:.3g} {name}{'' if seconds == size else 's'}"


def _objective(product: DataProduct, level: ServiceLevel) -> Objective | None:
    target = product.objective_target / 100
    if not level.checked:
        return None
    if level.property in _DURATIONS:
        return _of_duration(product, level, target)
    value = _number(level.value)
    if value is None:
        return None
    match level.property:
        case "availability":
            percent = _percent(value, level.unit)
            words = "readable {} of the time"
            return _in_percent(level, percent, Comparison.AT_LEAST, words, percent / 100) if percent else None
        case "errorRate" if product.topic:
            percent = _percent(value, level.unit)
            at_most = "at most {} of the events are held back"
            return None if percent is None else _in_percent(level, percent, Comparison.AT_MOST, at_most, target)
        case "throughput" if product.topic:
            return _of_throughput(level, value, target)
        case _:
            return None


def _of_duration(product: DataProduct, level: ServiceLevel, target: float) -> Objective | None:
    seconds = level.seconds()
    element = level.element if level.property == "freshness" else ""
    if seconds is None or (element and not _has_age(product, element)):
        return None
    if level.property == "retention" and not product.has_log:
        return None
    words, comparison = _DURATIONS[level.property]
    promise = words.format(duration(seconds))
    return Objective(
        id=f"{level.property}:{element}" if element else level.property,
        property=level.property,
        promised=float(seconds),
        unit="s",
        comparison=comparison,
        promise=f"{element} {promise}" if element else promise,
        target=target,
        element=element,
    )


def _has_age(product: DataProduct, name: str) -> bool:
    """Whether the age of a field's newest value can be measured and told: it is the value, to the second."""
    found = (field for field in product.fields if field.name == name)
    return any(field.type.kind in _TIMES and may_tell([field]) for field in found)


def _in_percent(
    level: ServiceLevel, percent: float, comparison: Comparison, words: str, target: float
) -> Objective | None:
    promise = words.format(f"{percent:g} %")
    return Objective(level.property, level.property, percent, "%", comparison, promise, target)


def _of_throughput(level: ServiceLevel, value: float, target: float) -> Objective | None:
    unit = level.unit.strip().lower()
    match = _RATE.fullmatch(unit)
    seconds = 1 if not unit else SECONDS.get(match[1]) if match else None
    if seconds is None or value <= 0:
        return None
    rate = value / seconds
    promise = f"at least {rate:g} events per second are landed while more wait"
    return Objective(level.property, level.property, rate, "events/s", Comparison.AT_LEAST, promise, target)


def _number(value: Number | str | bool | None) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value.strip().removesuffix("%") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _percent(value: float, unit: str) -> float | None:
    """A value in percent; without a unit, one up to 1 is a share. None if it is not a percentage."""
    unit = unit.strip().lower()
    if unit and unit not in (*_PERCENT, *_SHARE):
        return None
    percent = value * 100 if unit in _SHARE or (not unit and value <= 1) else value
    return percent if 0 <= percent <= 100 else None
