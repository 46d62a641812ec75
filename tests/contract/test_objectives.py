"""Service levels compile to objectives, or are shown; targets, units, words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.durations import SECONDS
from mesh_pipelines.contract.model import Alignment, DataProduct, ServiceLevel
from mesh_pipelines.contract.objectives import (
    Comparison,
    duration,
    freshness_window,
    objectives,
    roughly,
)
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.errors import ContractInvalid

FLIGHTS = Path(__file__).parents[2] / "assets/operations/flights"


@pytest.fixture(scope="module")
def flights() -> DataProduct:
    return load_product(FLIGHTS)


def level(flights: DataProduct, *levels: ServiceLevel, **more: Any) -> DataProduct:
    return replace(flights, service_levels=levels, **more)


@pytest.mark.parametrize(
    ("given", "promised", "unit", "promise"),
    [
        (ServiceLevel("freshness", 15, "m"), 900, "s", "no older than 15 minutes"),
        (ServiceLevel("freshness", 1, "h", "departure"), 3600, "s", "departure no older than 1 hour"),
        (ServiceLevel("latency", 90, "s"), 90, "s", "published within 90 seconds"),
        (ServiceLevel("frequency", 1, "d"), 86_400, "s", "new data at least every 1 day"),
        (ServiceLevel("retention", 2, "y"), 63_115_200, "s", "events are kept for 2 years"),
        (ServiceLevel("availability", 99.5, "percent"), 99.5, "%", "readable 99.5 % of the time"),
        (ServiceLevel("availability", 0.995, ""), 99.5, "%", "readable 99.5 % of the time"),
        (ServiceLevel("availability", "99.9%", ""), 99.9, "%", "readable 99.9 % of the time"),
        (ServiceLevel("errorRate", 1, "%"), 1, "%", "at most 1 % of the events are held back"),
        (ServiceLevel("errorRate", 0.001), 0.1, "%", "at most 0.1 % of the events are held back"),
        (ServiceLevel("errorRate", 0, "%"), 0, "%", "at most 0 % of the events are held back"),
        (
            ServiceLevel("throughput", 600, "events/min"),
            10,
            "events/s",
            "at least 10 events per second are landed while more wait",
        ),
        (
            ServiceLevel("throughput", 5, "per second"),
            5,
            "events/s",
            "at least 5 events per second are landed while more wait",
        ),
        (ServiceLevel("timeToRepair", 4, "h"), 14_400, "s", "incidents are over within 4 hours"),
        (ServiceLevel("timeToDetect", 5, "m"), 300, "s", "incidents are noticed within 5 minutes"),
        (ServiceLevel("timeToNotify", 5, "m"), 300, "s", "owners are told of incidents within 5 minutes"),
    ],
)
def test_measurable_levels(flights: DataProduct, given: ServiceLevel, promised: float, unit: str, promise: str) -> None:
    product = level(flights, given)
    [found] = objectives(product)
    assert (found.promised, found.unit, found.promise) == (pytest.approx(promised), unit, promise)
    assert found.id == (f"freshness:{given.element}" if given.element else given.property)


@pytest.mark.parametrize(
    "given",
    [
        ServiceLevel("endOfLife", "2030-01-01"),
        ServiceLevel("generalAvailability", "2024-05-01T00:00:00Z"),
        ServiceLevel("availability", "business hours"),
        ServiceLevel("availability", 9, "nines"),
        ServiceLevel("availability", 120, "%"),
        ServiceLevel("availability", True),
        ServiceLevel("errorRate", "nan", "ppm"),
        ServiceLevel("throughput", 5, "GB"),
        ServiceLevel("throughput", -5, "events/s"),
        ServiceLevel("freshness", 1, "d", "carrier"),
    ],
)
def test_what_cannot_be_measured_is_no_objective(flights: DataProduct, given: ServiceLevel) -> None:
    product = level(flights, given)
    assert objectives(product) == ()


def test_the_age_of_a_field_that_is_not_public_is_no_objective(flights: DataProduct) -> None:
    product = level(flights, ServiceLevel("freshness", 1, "d", "departure"))
    assert [one.element for one in objectives(product)] == ["departure"]
    hidden = tuple(
        replace(one, classification="confidential") if one.name == "departure" else one for one in product.fields
    )
    assert objectives(replace(product, fields=hidden)) == ()


def test_derived_products_land_nothing(flights: DataProduct) -> None:
    levels = (ServiceLevel("throughput", 5), ServiceLevel("retention", 1, "y"), ServiceLevel("errorRate", 1, "%"))
    derived = level(flights, *levels, topic=None, alignment=Alignment.AGGREGATE)
    assert objectives(derived) == ()


def test_ids_are_unique_and_the_target_is_the_contracts(flights: DataProduct) -> None:
    levels = (ServiceLevel("freshness", 1, "h"), ServiceLevel("freshness", 2, "h"), ServiceLevel("availability", 99.9))
    first, second, available = objectives(level(flights, *levels, objective_target=99.5))
    assert (first.id, second.id) == ("freshness", "freshness:2")
    assert first.target == pytest.approx(0.995)
    assert available.target == pytest.approx(0.999)
    assert objectives(level(flights, levels[0]))[0].target == pytest.approx(0.99)


def test_the_schedulers_window_is_that_of_freshness_or_else_latency(flights: DataProduct) -> None:
    latency, freshness = ServiceLevel("latency", 1, "m"), ServiceLevel("freshness", 2, "d")
    assert freshness_window(level(flights, latency, freshness)) == 172_800
    assert freshness_window(level(flights, latency)) == 60
    assert freshness_window(level(flights, ServiceLevel("availability", 99))) is None


@settings(deadline=None, max_examples=50)
@given(value=st.floats(0.001, 1e6), unit=st.sampled_from(sorted(SECONDS)), measured=st.floats(0, 1e9))
def test_met_is_at_or_on_the_right_side(value: float, unit: str, measured: float) -> None:
    product = load_product(FLIGHTS)
    for name in ("freshness", "retention"):
        [found] = objectives(level(product, ServiceLevel(name, value, unit)))
        assert found.met_by(found.promised)
        later = measured > found.promised
        expected = not later if found.comparison is Comparison.AT_MOST else later or measured == found.promised
        assert found.met_by(measured) == expected


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (0, "0 seconds", "0 seconds"),
        (1, "1 second", "1 second"),
        (900, "15 minutes", "15 minutes"),
        (90, "90 seconds", "1.5 minutes"),
        (754, "754 seconds", "12.6 minutes"),
        (129_600, "36 hours", "1.5 days"),
        (0.25, "0.25 seconds", "0.25 seconds"),
    ],
)
def test_durations_in_words(seconds: float, exact: str, rough: str) -> None:
    assert (duration(seconds), roughly(seconds)) == (exact, rough)


@pytest.mark.parametrize("target", [0, 100, "many", True])
def test_a_target_without_a_budget_is_a_fault(tmp_path: Path, target: Any) -> None:
    folder = tmp_path / "operations/flights"
    folder.mkdir(parents=True)
    text = (FLIGHTS / "contract.yaml").read_text()
    setting = f"customProperties:\n  - {{property: mesh.objectiveTarget, value: {str(target).lower()}}}\n"
    (folder / "contract.yaml").write_text(text.replace("customProperties:\n", setting, 1))
    with pytest.raises(ContractInvalid, match="mesh.objectiveTarget must be above 0 and below 100, got"):
        load_product(folder)
