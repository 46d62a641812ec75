"""docs/rules.md speaks of everything a rule can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh_pipelines.audit.history import RESULT_SCHEMA
from mesh_pipelines.audit.results import State
from mesh_pipelines.contract.model import Operator
from mesh_pipelines.rules.compile import ROW_CHECKS
from mesh_pipelines.rules.patterns import FORMATS

TEXT = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
SETS = ("unique", "primaryKey", "duplicateValues", "rowCount")


@pytest.mark.parametrize("word", [*ROW_CHECKS, *SETS, *Operator, *State, *FORMATS, *RESULT_SCHEMA.names])
def test_every_word_is_in_a_table(word):
    assert [line for line in TEXT.splitlines() if line.startswith("|") and f"`{word}`" in line]


def test_every_section_is_in_the_contents():
    sections = [line.removeprefix("## ") for line in TEXT.splitlines() if line.startswith("## ")]
    contents = [line[3:].partition("]")[0] for line in TEXT.splitlines() if line.startswith("- [")]
    assert contents == sections
