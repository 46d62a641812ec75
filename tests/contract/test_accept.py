"""The compiled schema and the walk through it give one answer, on sound documents and on broken ones."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.read.accept import compiled
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


@pytest.mark.parametrize("values", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_every_case_is_judged_alike(values: dict[str, Any]) -> None:
    assert is_sound(values) is (not errors_of(values))


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
    assert is_sound(values) is (not errors_of(values)), values


@pytest.mark.parametrize("schema", [{"maxLength": 3}, {"additionalProperties": {}}, {"enum": [1]}, {"const": True}])
def test_a_schema_that_says_more_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError):
        compiled(schema, ())
