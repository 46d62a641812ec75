"""Faults are collected with their places, and those that only follow from others are left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.read.document import Where, parse_document
from mesh_pipelines.contract.read.faults import Faults

TEXT = """\
name: orders
schema:
  - name: orders
    properties:
      - name: id
        logicalType: strin
      - {name: amount}
"""
TYPE: Where = ("schema", 0, "properties", 0, "logicalType")


@pytest.fixture
def faults() -> Faults:
    return Faults(parse_document(Path("contract.yaml"), TEXT))


def test_no_faults_are_none(faults: Faults) -> None:
    assert faults.besides(()) == []


def test_a_fault_has_the_line_of_its_place_and_what_to_do(faults: Faults) -> None:
    faults.add(TYPE, "is not a type", "use string")
    [fault] = faults.besides(())
    assert (fault.file, fault.line) == (Path("contract.yaml"), 6)
    assert (fault.problem, fault.fix) == ("is not a type", "use string")
    assert fault.field == "schema[0].properties[0].logicalType"


def test_a_place_that_is_not_there_has_the_line_of_what_is_around_it(faults: Faults) -> None:
    faults.add(("schema", 0, "properties", 1, "logicalType"), "is missing", "write it")
    [fault] = faults.besides(())
    assert fault.line == 7


def test_faults_keep_the_order_they_were_found_in(faults: Faults) -> None:
    for where in (TYPE, ("name",), ("schema",)):
        faults.add(where, str(where[-1]), "")
    assert [fault.problem for fault in faults.besides(())] == ["logicalType", "name", "schema"]


@pytest.mark.parametrize(
    ("known", "left"),
    [
        ((), ["type", "name"]),
        # At the same place, inside it and around it.
        ((TYPE,), ["name"]),
        (((*TYPE, "deeper"),), ["name"]),
        ((("schema", 0),), ["name"]),
        # Beside it.
        ((("schema", 0, "properties", 1),), ["type", "name"]),
        ((("schema", 1),), ["type", "name"]),
        ((("name",), TYPE), []),
        (((),), []),
    ],
)
def test_what_follows_from_a_known_fault_is_left_out(faults: Faults, known: tuple[Where, ...], left: list[str]) -> None:
    faults.add(TYPE, "type", "")
    faults.add(("name",), "name", "")
    assert [fault.problem for fault in faults.besides(known)] == left
    # Asking changes nothing.
    assert len(faults.besides(())) == 2


PATHS = st.lists(st.sampled_from(["name", "schema", 0, 1]), max_size=4).map(tuple)


@given(st.lists(PATHS, max_size=5), st.lists(PATHS, max_size=3))
def test_a_fault_is_left_out_exactly_if_one_of_both_paths_begins_with_the_other(found, known) -> None:
    faults = Faults(parse_document(Path("contract.yaml"), TEXT))
    for number, where in enumerate(found):
        faults.add(where, str(number), "")
    left = [
        str(number)
        for number, where in enumerate(found)
        if not any(where[: len(cause)] == cause or cause[: len(where)] == where for cause in known)
    ]
    assert [fault.problem for fault in faults.besides(known)] == left
