"""What the compiled schema lets pass, the walk through it finds nothing in, whatever the document."""

from __future__ import annotations

import copy
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.read.document import FaultyDocument, read_document
from mesh_pipelines.contract.read.standard import errors_of, is_sound

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "assets").rglob("contract.yaml"), *(ROOT / "tests/contract/cases").rglob("contract.yaml")])
VALUES = [None, True, 0, -1, 1.5, "", "text", "integer", "v3.2.0", "library", "sql", [], ["a", "a"], {}, {"a": 1}]
KEYS = ["name", "type", "logicalType", "logicalTypeOptions", "items", "properties", "quality", "metric", "rule", "typo"]


def documents() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for file in FILES:
        try:
            values = read_document(file).values
        except FaultyDocument:
            continue
        if isinstance(values, dict):
            found.append(values)
    return found


DOCUMENTS = documents()


def holders(value: Any) -> list[dict[str, Any] | list[Any]]:
    """Every mapping and list of a document, itself first."""
    found = [value] if isinstance(value, dict | list) else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*found, *(holder for one in inner for holder in holders(one))]


def lacks_a_type(values: Any) -> bool:
    """Whether a property has no logical type, which the walk leaves to the reader of fields."""
    return any("name" in one and "logicalType" not in one for one in holders(values) if isinstance(one, dict))


@pytest.mark.parametrize("values", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_every_case_is_judged_alike(values: dict[str, Any]) -> None:
    assert is_sound(values) is (not errors_of(values)) or lacks_a_type(values)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_documents_are_judged_alike(data: st.DataObject) -> None:
    values = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        holder = data.draw(st.sampled_from(holders(values)))
        value = copy.deepcopy(data.draw(st.sampled_from([*VALUES, *(holders(values)[1:4])])))
        if isinstance(holder, list):
            holder[data.draw(st.integers(0, len(holder))) :] = [value]
        elif holder and data.draw(st.booleans()):
            del holder[data.draw(st.sampled_from(sorted(holder)))]
        else:
            holder[data.draw(st.sampled_from(sorted({*holder, *KEYS})))] = value
    assert not is_sound(values) or not errors_of(values), values


def test_what_json_does_not_have_is_left_to_the_walk() -> None:
    values = copy.deepcopy(DOCUMENTS[0])
    assert is_sound(values)
    assert not is_sound(values | {"description": {"purpose": date(2024, 1, 1)}})
    assert not is_sound(values | {1: "a number as a key"})
