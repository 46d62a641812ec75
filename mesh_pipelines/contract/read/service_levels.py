"""The ``slaProperties`` of a contract: what is promised about time, in units that can be computed with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh_pipelines.contract.durations import LONGEST_S, number_of, seconds_of
from mesh_pipelines.contract.misspelt import nearest
from mesh_pipelines.contract.model import ServiceLevel
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
    """The service levels of a contract whose schema object has properties of these names.

    What cannot be measured is a fault, or where the contract says that it knows (``mesh.notChecked``), as it stands.
    """
    return tuple(
        _read(entry, names, object_name, ("slaProperties", index), faults) for index, entry in enumerate(entries)
    )


def _read(
    entry: Mapping[str, Any], names: frozenset[str], object_name: str, where: Where, faults: Faults
) -> ServiceLevel:
    before = len(faults.unchecked)
    given = str(entry["property"])
    name = _PROPERTIES.get(given.lower())
    if name is None:
        problem = f"{given} is not a service level"
        if near := nearest(given, _PROPERTIES.values()):
            faults.add((*where, "property"), problem, f"did you mean {near}?")
        else:
            faults.cannot_check((*where, "property"), problem, f"use one of {', '.join(_PROPERTIES.values())}")
    value, unit = entry["value"], str(entry.get("unit", "")).strip()
    if name in _DURATIONS:
        _check_duration(value, unit, where, faults)
        value = number_of(value) if number_of(value) is not None else value
    element = str(entry.get("element", "")).strip()
    own = element.removeprefix(f"{object_name}.")
    if own and own not in names:
        problem = f"{own!r} is not a property"
        near = nearest(own, names) if own.isidentifier() else None
        if near:
            faults.add((*where, "element"), problem, f"did you mean {near}?")
        else:
            faults.cannot_check((*where, "element"), problem, "name one property of the schema object")
    return ServiceLevel(name or given, value, unit, own if own in names else element, len(faults.unchecked) == before)


def _check_duration(value: Any, unit: str, where: Where, faults: Faults) -> None:
    seconds, number = seconds_of(value, unit), number_of(value)
    at = (*where, "value")
    if (seconds is not None and seconds <= 0) or (number is not None and number <= 0):
        faults.add(at, f"must be above 0, got {value!r}", "write a number above 0, and its unit as unit")
    elif seconds is None and number is not None:
        problem = f"must be a unit of time, got {unit!r}" if unit else "is missing"
        fix = "use s, m (minutes), h, d, w, mo (months) or y"
        faults.cannot_check((*where, "unit"), problem, fix)
    elif seconds is None:
        fix = "write a number with its unit, or ISO 8601 such as PT15M"
        faults.cannot_check(at, f"must be a duration, got {value!r}", fix)
    elif seconds > LONGEST_S:
        faults.add(at, f"must be at most 1000 years, got {value} {unit}".rstrip(), "write what is promised")
