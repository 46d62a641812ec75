"""Values in a table for people and in JSON for programs: nothing a terminal would act upon, and nothing lost."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.cli.output import Format, Output, cell, plain, visible
from mesh_pipelines.errors import UnknownVersion


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        (1_234_567, "1,234,567"),
        (-0.005, "-0.01"),
        (1234.5, "1,234.50"),
        ("text", "text"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred", "\\x1b[31mred"),
        (b"abc", "abc"),
        (b"\xff\x00", "\\xff\\x00"),
        (b"x" * 60, "x" * 60),
        (b"x" * 61, "x" * 60 + "..."),
        ([1, "a"], "[1, 'a']"),
        (dt.date(2013, 1, 31), "2013-01-31"),
    ],
)
def test_cells(value: Any, text: str) -> None:
    assert cell(value) == text


@given(st.text())
def test_no_text_reaches_a_terminal_that_it_would_act_upon(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    kept = visible(text, "\n")
    assert all(one.isprintable() or one == "\n" for one in kept)
    assert kept.count("\n") == text.count("\n")


@given(st.text().filter(str.isprintable))
def test_what_can_be_printed_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@given(st.text(st.characters(exclude_characters="\\", exclude_categories=["Cs"]), max_size=20))
def test_what_is_written_out_can_be_read_back(text: str) -> None:
    def read_back(shown: str) -> str:
        found, at = "", 0
        lengths = {"x": 4, "u": 6, "U": 10}
        while at < len(shown):
            size = lengths.get(shown[at + 1], 2) if shown[at] == "\\" else 1
            found += shown[at : at + size].encode("ascii").decode("unicode_escape") if size > 1 else shown[at]
            at += size
        return found

    assert read_back(visible(text)) == text


@pytest.mark.parametrize(
    ("value", "json_value"),
    [
        (dt.datetime(2013, 1, 31, 12, tzinfo=dt.UTC), "2013-01-31T12:00:00+00:00"),
        (dt.time(13, 45), "13:45:00"),
        (b"a\xff", "a\\xff"),
        (Path("a/b"), "a/b"),
        (Format.JSON, "json"),
        (UnknownVersion("there is none", next_step="mesh versions a.b"), {"code": "M202"}),
    ],
)
def test_what_json_has_no_form_for(value: Any, json_value: Any) -> None:
    found = json.loads(json.dumps(value, default=plain))
    if isinstance(json_value, dict):
        assert found == {"code": "M202", "message": "there is none", "next": "mesh versions a.b"}
    else:
        assert found == json_value


def test_records_are_the_same_in_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    records = [{"product": "a.b", "rows": 1234, "at": dt.date(2013, 1, 31)}, {"product": "a.c", "rows": None}]
    Output(Format.JSON).records(records, ["product"])
    assert json.loads(capsys.readouterr().out) == [
        {"product": "a.b", "rows": 1234, "at": "2013-01-31"},
        {"product": "a.c", "rows": None},
    ]
    Output().records(records, ["product", "at"])
    assert capsys.readouterr().out.splitlines() == ["product  at", "a.b      2013-01-31", "a.c      -"]


def test_no_records_are_an_empty_array_or_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Format.JSON).records([])
    assert json.loads(capsys.readouterr().out) == []
    Output().records([])
    Output().records([], ["product"])
    assert capsys.readouterr().out == ""


def test_words_for_people_are_not_in_what_programs_read(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Format.JSON).say("everything runs")
    assert capsys.readouterr().out == ""
    Output().say("[bold]everything[/] runs\n\x1b[2J")
    assert capsys.readouterr().out == "[bold]everything[/] runs\n\\x1b[2J\n"


def test_an_error_goes_to_stderr_with_its_code_and_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Format.JSON).error(UnknownVersion("a.b: there is no version [9]\x1b", next_step="mesh versions a.b"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "M202 a.b: there is no version [9]\\x1b\n  next: mesh versions a.b\n"
    Output().error(UnknownVersion("none"))
    assert capsys.readouterr().err == "M202 none\n"
