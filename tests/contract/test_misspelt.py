from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.misspelt import did_you_mean, nearest

SETTINGS = ["mesh.alignment", "mesh.eventType", "mesh.partitions", "mesh.wireFormat"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("mesh.eventtype", "mesh.eventType"),
        ("mesh.EventTyp", "mesh.eventType"),
        ("partition", "mesh.partitions"),
        ("wireformat", "mesh.wireFormat"),
        ("MESH.PARTITIONS", "mesh.partitions"),
        ("mesh.zzz", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case_and_prefix(given: str, meant: str | None) -> None:
    assert nearest(given, SETTINGS) == meant


def test_the_prefix_alone_makes_no_name_near() -> None:
    assert nearest("mesh.x", SETTINGS) is None


def test_nothing_is_near_where_nothing_is_known() -> None:
    assert nearest("name", []) is None


def test_a_long_text_in_the_place_of_a_name_costs_no_time_and_is_near_to_nothing() -> None:
    assert nearest("x" * 1_000_000, SETTINGS) is None


@given(st.text(max_size=80))
def test_what_is_near_is_known(name: str) -> None:
    assert nearest(name, SETTINGS) in {None, *SETTINGS}


@given(st.sampled_from(SETTINGS), st.sampled_from([str.upper, str.lower, str.title, str.swapcase]))
def test_a_name_in_another_case_is_that_name(name: str, case) -> None:
    assert nearest(case(name), SETTINGS) == name


def test_the_fix_is_the_near_name_or_what_else_to_do() -> None:
    assert did_you_mean("partitons", SETTINGS, "look it up") == "did you mean mesh.partitions?"
    assert did_you_mean("colour", SETTINGS, "look it up") == "look it up"
