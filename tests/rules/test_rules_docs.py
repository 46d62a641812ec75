"""docs/rules.md speaks of everything a rule can be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesh_pipelines.audit.history import RESULT_SCHEMA
from mesh_pipelines.contract.metrics.patterns import FORMATS
from mesh_pipelines.contract.metrics.registry import metrics
from mesh_pipelines.contract.metrics.tables import replaced
from mesh_pipelines.contract.model import Operator
from mesh_pipelines.rules.results import State

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "rules.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("word", [*metrics(), *Operator, *State, *FORMATS, *RESULT_SCHEMA.names])
def test_every_word_is_in_a_table(word):
    assert [line for line in TEXT.splitlines() if line.startswith("|") and f"`{word}`" in line]


@pytest.mark.parametrize("page", ["rules.md", "contract.md"])
def test_the_tables_of_metrics_are_those_of_the_code(page):
    file = DOCS / page
    text = file.read_text(encoding="utf-8")
    if os.environ.get("MESH_WRITE_CASES"):
        file.write_text(replaced(text), encoding="utf-8")
    assert file.read_text(encoding="utf-8") == replaced(text)
    assert "<!-- end of" in text


def test_every_section_is_in_the_contents():
    sections = [line.removeprefix("## ") for line in TEXT.splitlines() if line.startswith("## ")]
    contents = [line[3:].partition("]")[0] for line in TEXT.splitlines() if line.startswith("- [")]
    assert contents == sections
