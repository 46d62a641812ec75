"""The ``slaProperties`` of a contract: what is promised about time, in units that can be computed with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh_pipelines.contract.misspelt import did_you_mean
from mesh_pipelines.contract.model import LONGEST_S, SECONDS, ServiceLevel
from mesh_pipelines.contract.read.document import Where
from mesh_pipelines.contract.read.faults import Faults

_DURATIONS = ("freshness", "latency", "retention", "frequency", "timeToDetect", "timeToNotify", "timeToRepair")
_OTHERS = (
    *("availability", "throughput", "errorRate", "generalAvailability", "endOfSupport", "endOfLife"),
    *("timeOfAvailability", "deprecation"),
)
_PROPERTIES = {name.lower(): name for name in (*_DURATIONS, *_OTHERS)}


def read_service_levels(
    entries: list[Mapping[str, Any]], names: frozenset[str], object_name: str, faults: Faults
) -> tuple[ServiceLevel, ...]:
    """The service levels of a contract whose schema object has properties of these names."""
    return tuple(
        _read(entry, names, object_name, ("slaProperties", index), faults) for index, entry in enumerate(entries)
    )


def _read(
    entry: Mapping[str, Any], names: frozenset[str], object_name: str, where: Where, faults: Faults
) -> ServiceLevel:
    given = str(entry["property"])
    name = _PROPERTIES.get(given.lower())
    if name is None:
        fix = did_you_mean(given, _PROPERTIES.values(), f"use one of {', '.join(_PROPERTIES.values())}")
        faults.add((*where, "property"), f"{given} is not a service level", fix)
    value, unit = entry["value"], str(entry.get("unit", ""))
    if name in _DURATIONS:
        _check_duration(value, unit, where, faults)
    element = str(entry.get("element", "")).removeprefix(f"{object_name}.")
    if element and element not in names:
        fix = did_you_mean(element, names, "name one property of the schema object")
        faults.add((*where, "element"), f"{element!r} is not a property", fix)
    return ServiceLevel(name or given, value, unit, element)


def _check_duration(value: Any, unit: str, where: Where, faults: Faults) -> None:
    if not _is_number(value) or value <= 0:
        faults.add(
            (*where, "value"), f"must be a number above 0, got {value!r}", "write a number, and its unit as unit"
        )
    if unit.lower() not in SECONDS:
        problem = f"must be a unit of time, got {unit!r}" if unit else "is missing"
        faults.add((*where, "unit"), problem, "use s, m (minutes), h, d, w or y")
    elif _is_number(value) and value * SECONDS[unit.lower()] > LONGEST_S:
        faults.add((*where, "value"), f"must be at most 1000 years, got {value} {unit}", "write what is promised")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
