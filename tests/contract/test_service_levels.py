"""The ``slaProperties`` of a contract: names in any case, durations with units, and what is wrong with each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mesh_pipelines.contract.durations import SECONDS
from mesh_pipelines.contract.model import ServiceLevel
from mesh_pipelines.contract.read.document import parse_document
from mesh_pipelines.contract.read.faults import Faults
from mesh_pipelines.contract.read.service_levels import read_service_levels


def read(*entries: dict[str, Any]) -> tuple[tuple[ServiceLevel, ...], list[tuple[str, str]]]:
    faults = Faults(parse_document(Path("contract.yaml"), json.dumps({"slaProperties": entries})))
    found = read_service_levels(list(entries), frozenset({"id", "changed_at"}), "orders", faults)
    return found, [(fault.problem, fault.fix) for fault in faults.besides(())]


def test_no_service_levels_are_none() -> None:
    assert read() == ((), [])


@pytest.mark.parametrize("given", ["freshness", "Freshness", "FRESHNESS"])
def test_a_name_is_known_in_any_case_and_kept_in_the_standards(given: str) -> None:
    assert read({"property": given, "value": 2, "unit": "h"}) == ((ServiceLevel("freshness", 2, "h"),), [])


def test_an_element_is_named_with_or_without_its_object() -> None:
    for element in ("changed_at", "orders.changed_at"):
        [level], faults = read({"property": "latency", "value": 2, "unit": "h", "element": element})
        assert (level.element, faults) == ("changed_at", [])


def test_an_unknown_element_names_the_nearest() -> None:
    _, faults = read({"property": "latency", "value": 2, "unit": "h", "element": "orders.changed"})
    assert faults == [("'changed' is not a property", "did you mean changed_at?")]


def test_an_unknown_name_names_the_nearest_or_all() -> None:
    _, faults = read({"property": "freshnes", "value": 2, "unit": "h"}, {"property": "zzz", "value": 1})
    assert faults[0] == ("freshnes is not a service level", "did you mean freshness?")
    assert faults[1][0] == "zzz is not a service level"
    assert "use one of freshness, latency, retention" in faults[1][1]


@pytest.mark.parametrize("value", [0, -1, "0", "PT0S"])
def test_a_duration_is_above_zero(value: Any) -> None:
    _, faults = read({"property": "freshness", "value": value, "unit": "" if value == "PT0S" else "h"})
    assert faults == [(f"must be above 0, got {value!r}", "write a number above 0, and its unit as unit")]


@pytest.mark.parametrize("value", [True, None, "soon", "0 20 * * *", "P", "PT", "P1DT", "P1H", "PT1D", "1 2 h", "-P1D"])
def test_what_is_no_duration_says_what_is(value: Any) -> None:
    _, [(problem, fix)] = read({"property": "freshness", "value": value})
    assert problem == f"must be a duration, got {value!r}"
    assert "ISO 8601 such as PT15M; or, if it is checked elsewhere, write mesh.notChecked: true" in fix


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [
        ("P1Y", "", 31_557_600),
        ("P1M", "", 2_629_800),
        ("PT15M", "", 900),
        ("P1DT12H", "", 129_600),
        ("P2W", "ISO 8601", 1_209_600),
        ("PT0.5S", "", 0.5),
        ("pt1h", "", 3600),
        ("24", "h", 86_400),
        ("1.5", "d", 129_600),
        ("500ms", "", 0.5),
        ("15 minutes", "", 900),
        ("daily", "", 86_400),
        (3, "months", 7_889_400),
        (3, "mo", 7_889_400),
        (250, "ms", 0.25),
    ],
)
def test_a_duration_is_read_as_people_write_it(value: Any, unit: str, seconds: float) -> None:
    [level], faults = read({"property": "retention", "value": value, "unit": unit})
    assert (level.seconds(), level.checked, faults) == (seconds, True, [])


def test_what_cannot_be_measured_is_shown_as_it_stands_where_the_contract_says_so() -> None:
    known = [{"property": "mesh.notChecked", "value": True}]
    for entry in (
        {"property": "frequency", "value": "0 20 * * *", "unit": "cron"},
        {"property": "latency", "value": 4, "unit": "d", "element": "orders.id, orders.changed_at"},
        {"property": "latency", "value": 4, "unit": "d", "element": "customers.changed_at"},
        {"property": "support hours", "value": "9 to 5"},
    ):
        assert len(read(entry)[1]) == 1
        [level], faults = read({**entry, "customProperties": known})
        assert (level.checked, level.value, level.element, faults) == (
            False,
            entry["value"],
            entry.get("element", ""),
            [],
        )


def test_what_is_misspelt_is_a_fault_whatever_is_said() -> None:
    known = [{"property": "mesh.notChecked", "value": True}]
    for entry in (
        {"property": "freshnes", "value": 2, "unit": "h"},
        {"property": "latency", "value": 2, "unit": "h", "element": "changed"},
    ):
        assert len(read({**entry, "customProperties": known})[1]) == 1


@pytest.mark.parametrize(
    ("unit", "problem"), [("", "is missing"), ("fortnight", "must be a unit of time, got 'fortnight'")]
)
def test_a_duration_has_a_unit_of_time(unit: str, problem: str) -> None:
    _, faults = read({"property": "freshness", "value": 2, "unit": unit})
    assert [one for one, _ in faults] == [problem]


def test_what_is_no_duration_may_have_any_value_and_unit() -> None:
    found, faults = read({"property": "availability", "value": "99.9", "unit": "percent"})
    assert (found, faults) == ((ServiceLevel("availability", "99.9", "percent"),), [])


@pytest.mark.parametrize("unit", SECONDS)
def test_a_duration_is_its_seconds_in_any_unit_and_case(unit: str) -> None:
    assert ServiceLevel("freshness", 3, unit).seconds() == 3 * SECONDS[unit]
    assert ServiceLevel("freshness", 3, unit.upper()).seconds() == 3 * SECONDS[unit]
    assert read({"property": "freshness", "value": 3, "unit": unit.upper()})[1] == []


@pytest.mark.parametrize("level", [("2013-01-31", "d"), (True, "d"), (None, "d"), (3, ""), (3, "parsec")])
def test_what_is_no_duration_has_no_seconds(level: tuple[Any, str]) -> None:
    assert ServiceLevel("freshness", *level).seconds() is None


@pytest.mark.parametrize(("unit", "seconds"), [("m", 60), ("min", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)])
def test_m_is_a_minute(unit: str, seconds: int) -> None:
    assert ServiceLevel("freshness", 1, unit).seconds() == seconds
