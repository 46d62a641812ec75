"""Where a piece of a text in a YAML file stands in that file, however YAML lets it be written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.read.scalars import line_and_column, place_in

QUERY = "SELECT count(*) FROM orders WHERE ammount < 0 AND amount > 1"
AT = QUERY.index("ammount")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "contract.yaml"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"query: {QUERY}\n", (1, 42)),
        (f"a: 1\nquery: '{QUERY}'\n", (2, 43)),
        (f'a: 1\n\nquery: "{QUERY}"\n', (3, 43)),
        ("query: >-\n  SELECT count(*) FROM orders\n  WHERE ammount < 0\n  AND amount > 1\n", (3, 9)),
        ('query: "SELECT count(*) FROM orders\n  WHERE ammount < 0 AND amount > 1"\n', (2, 9)),
    ],
)
def test_the_word_is_found_in_every_style(file: Path, text: str, place: tuple[int, int]) -> None:
    file.write_text(text)
    assert next(iter(yaml.safe_load(text)[one] for one in ["query"])) == QUERY
    assert place_in(file, 1, QUERY, AT) == place


def test_a_block_keeps_its_lines(file: Path) -> None:
    value = "SELECT 1\nFROM orders\nWHERE ammount < 0\n"
    file.write_text("a: 1\nquery: |\n" + "".join(f"    {line}\n" for line in value.splitlines()))
    assert place_in(file, 1, value, value.index("ammount")) == (5, 11)


def test_a_word_that_is_there_twice_is_the_one_at_the_offset(file: Path) -> None:
    value = "SELECT a, a, aa, a FROM b"
    file.write_text(f"a: a\nquery: {value}\n")
    places = [place_in(file, 1, value, offset) for offset in (7, 10, 13, 17)]
    assert places == [(2, 15), (2, 18), (2, 21), (2, 25)]


def test_of_equal_texts_it_is_the_one_at_or_after_the_line(file: Path) -> None:
    file.write_text("one: SELECT x\ntwo: SELECT x\n")
    assert place_in(file, 1, "SELECT x", 7) == (1, 13)
    assert place_in(file, 2, "SELECT x", 7) == (2, 13)
    assert place_in(file, 3, "SELECT x", 7) == (3, 0)


def test_an_offset_at_the_end_is_the_text_itself(file: Path) -> None:
    file.write_text("a: 1\nquery: SELECT x\n")
    assert place_in(file, 1, "SELECT x", 8) == (2, 0)


@pytest.mark.parametrize("text", [None, "query: other\n", "query: [", b"\xff\xfe"])
def test_without_the_text_the_line_is_all_that_is_known(file: Path, text: str | bytes | None) -> None:
    if isinstance(text, str):
        file.write_text(text)
    elif text:
        file.write_bytes(text)
    assert place_in(file, 7, QUERY, AT) == (7, 0)


@pytest.mark.parametrize(
    ("text", "offset", "place"),
    [("", 0, (1, 1)), ("ab", 1, (1, 2)), ("a\nb", 1, (1, 2)), ("a\nb", 2, (2, 1)), ("\n\n", 2, (3, 1))],
)
def test_lines_and_columns_count_from_one(text: str, offset: int, place: tuple[int, int]) -> None:
    assert line_and_column(text, offset) == place


@given(st.text("ab\n", max_size=30), st.data())
def test_a_line_and_a_column_lead_back_to_the_character(text: str, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(text)))
    line, column = line_and_column(text, offset)
    assert sum(len(one) + 1 for one in text.split("\n")[: line - 1]) + column - 1 == offset


WORDS = st.lists(st.sampled_from(["SELECT", "a", "aa", "b.a", "(a)", "'x'", "=", "é"]), min_size=1, max_size=8)


@given(WORDS, st.sampled_from(["'", '"', ""]), st.data())
def test_any_word_of_a_text_is_found_where_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], quotes: str, data: st.DataObject
) -> None:
    value = "z " + " ".join(words)
    written = {"'": "'" + value.replace("'", "''") + "'", '"': f'"{value}"', "": value}[quotes]
    file = tmp_path_factory.mktemp("scalars") / "c.yaml"
    file.write_text(f"first: 1\nquery: {written}\n", encoding="utf-8")
    at = data.draw(st.sampled_from([n for n, one in enumerate(value) if one.isalpha() and not value[n - 1].isalpha()]))
    line, column = place_in(file, 1, value, at)
    assert line == 2
    assert file.read_text(encoding="utf-8").splitlines()[1][column - 1 :].startswith(value[at])
