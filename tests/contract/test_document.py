import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.read import document
from mesh_pipelines.contract.read.document import FaultyDocument, dotted, parse_document, read_document, read_text
from mesh_pipelines.errors import Fault

FILE = Path("contract.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(FaultyDocument) as raised:
        parse_document(FILE, text)
    return [f"{fault.line} {fault.field} {fault.problem}" for fault in raised.value.faults]


def test_values_and_lines() -> None:
    found = parse_document(FILE, "a: 1\nb:\n  - x: 2013-01-01\n    y: [true, null, 1.5, -3]\n")
    assert found.values == {"a": 1, "b": [{"x": "2013-01-01", "y": [True, None, 1.5, -3]}]}
    assert found.line(("b", 0, "y", 2)) == 4
    assert found.line(("b", 0, "not", "there")) == 3
    assert found.line(()) == 1


def test_without_leaves_out_and_remembers_where_things_were() -> None:
    whole = parse_document(FILE, "a: 1\nb:\n  - zero\n  - one\n  - {c: 2,\n     d: 3}\n")
    rest = whole.without({("a",), ("b", 0), ("b", 2, "c")}).without({("b", 0)})
    assert rest.values == {"b": [{"d": 3}]}
    fault = rest.fault(("b", 0, "d"), "is wrong", "mend it")
    assert (fault.line, fault.field) == (6, "b[2].d")
    assert rest.origin(("b", 0, "new")) == ("b", 2, "new")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &x 1\nb: *x\n", "1  defines the anchor &x"),
        ("a: 1\nb: *x\n", "2  uses the alias *x"),
        ("a: 1\na: 2\n", "2 a appears twice"),
        ("? [a, b]\n: 1\n", "1  has a key that is not text"),
        ("a: !!binary aGk=\n", "1 a has the tag binary"),
        ("a: !!set {b, c}\n", "1 a has the tag set"),
        ("a: {b: 1\n", "2  is not valid YAML: did not find expected ',' or '}'"),
        ("a: 1\n---\nb: 2\n", "2  starts a second document"),
        ("a: 1e999\n", "1 a YAML readers disagree on what 1e999 is, or it is not a finite number"),
        ("a: 1.0e999\n", "1 a YAML readers disagree on what 1.0e999 is, or it is not a finite number"),
        ("a: .nan\n", "1 a YAML readers disagree on what .nan is, or it is not a finite number"),
        ("a: yes\n", "1 a YAML readers disagree on what yes is, or it is not a finite number"),
        ('a: "\\u0000"\n', "1 a contains control characters"),
        ('a: "\\u001b[31m"\n', "1 a contains control characters"),
    ],
)
def test_refused_with_its_line(text: str, problem: str) -> None:
    assert problem in problems(text)


@pytest.mark.parametrize("text", ['"no"', "'0123'", "Norway", "1.2.3", "2013-01-01", "09:00-08:00"])
def test_text_stays_text(text: str) -> None:
    assert parse_document(FILE, f"a: {text}\n").values == {"a": text.strip("\"'")}


def test_limits() -> None:
    deep = "[" * (document.MAX_DEPTH + 1) + "]" * (document.MAX_DEPTH + 1)
    assert problems(deep) == [f"1  nests deeper than {document.MAX_DEPTH} levels"]
    assert problems("[" * 100_000)[0].endswith(f"nests deeper than {document.MAX_DEPTH} levels")
    many = "- 1\n" * (document.MAX_VALUES + 1)
    assert problems(many) == [f"{document.MAX_VALUES} ".lstrip() + f" holds more than {document.MAX_VALUES:,} values"]
    assert len(problems("a: 1\n" * 50)) == 49


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    big, latin, folder, pipe = (tmp_path / name for name in ("big", "latin", "folder", "pipe"))
    big.write_bytes(b"#" * (document.MAX_BYTES + 1))
    latin.write_bytes(b"a: \xe9\n")
    folder.mkdir()
    os.mkfifo(pipe)
    for file, problem in [
        (big, "must be at most 1,048,576 bytes, got 1,048,577"),
        (latin, "is not UTF-8 at byte 3"),
        (folder, "must be a regular file"),
        (pipe, "must be a regular file"),
        (tmp_path / "missing", "does not exist"),
    ]:
        with pytest.raises(FaultyDocument) as raised:
            read_text(file)
        assert [fault.problem for fault in raised.value.faults] == [problem]


def test_paths_are_printable() -> None:
    assert dotted(("schema", 0, "a\nb")) == "schema[0].a\\nb"
    assert len(dotted(("x" * 5000,))) < 100


YAML_LIKE = st.text(alphabet="ab:-{}[],&*!|>?%@#'\"\n \t01.~<", max_size=80)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=400), YAML_LIKE.map(str.encode)))
def test_any_bytes_are_values_or_faults(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(content)
    assert all(str(fault).isprintable() for fault in faults_in(file))


def faults_in(file: Path) -> list[Fault]:
    try:
        read_document(file)
    except FaultyDocument as error:
        return error.faults
    return []
