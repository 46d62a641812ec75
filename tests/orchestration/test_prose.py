"""What goes into Dagster's Markdown has no HTML, no picture and no link to anything but http, https and mailto."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mesh_pipelines.orchestration.prose import cell, code, prose
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings
from tests.portal.serving import payloads
from tests.portal.test_injection import contract

PAYLOADS = payloads()
TEXTS = st.text(alphabet=st.sampled_from("<>()[]!\"'`\\&#:;/=|{} \n\r\tscriptjavadonlm-_*~x1"), max_size=200)
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def tokens(text: str) -> Iterator[Token]:
    todo = PARSER.parse(text)
    while todo:
        one = todo.pop()
        yield one
        todo += one.children or []


def harmless(text: str) -> None:
    for token in tokens(text):
        assert token.type not in ("html_inline", "html_block", "image"), (text, token)
        if token.type == "link_open":
            assert re.match(r"(https?|mailto):", str(token.attrs["href"])), (text, token)


@pytest.mark.parametrize("text", PAYLOADS)
def test_what_is_written_to_be_run_is_text(text: str) -> None:
    for one in (prose(text), f"{text} {prose(text)}"[len(text) :], f"| a |\n|---|\n| {cell(text)} |", code(text)):
        harmless(one)
    harmless(f"- {code(text)}\n- {code(text)}")


@given(TEXTS)
def test_any_prose_is_harmless(text: str) -> None:
    harmless(prose(text))
    harmless(f"**Usage**: {prose(text)}\n\n{prose(text)}")


@given(TEXTS)
def test_a_cell_stays_one(text: str) -> None:
    table = f"| a | b |\n|---|---|\n| {cell(text)} | end |\n"
    harmless(table)
    assert sum(token.type == "td_open" for token in tokens(table)) == 2


@given(TEXTS | st.text())
def test_code_is_shown_as_it_is(text: str) -> None:
    [shown] = [token.content for token in tokens(f"- {code(text)}") if token.type == "code_inline"]
    assert re.sub(r"\s+", " ", shown).strip() == re.sub(r"[\s\x00-\x1f\x7f]+", " ", text.replace("\0", " ")).strip()


def test_formatting_stays() -> None:
    kinds = {token.type for token in tokens(prose("A **strong** word, `code`\n\n- one\n\n> said"))}
    assert {"strong_open", "code_inline", "list_item_open", "blockquote_open"} <= kinds


def descriptions(found: list[Any]) -> Iterator[str]:
    """All that these assets, their columns and their checks say."""
    for one in found:
        for spec in getattr(one, "specs", [one]):
            columns = getattr(spec.metadata.get("dagster/column_schema"), "columns", ())
            yield from (said.description or "" for said in (spec, *columns))
        yield from (check.description or "" for check in getattr(one, "check_specs", ()))


def test_nothing_of_a_contract_reaches_dagster_otherwise(tmp_path: Path) -> None:
    from mesh_pipelines.orchestration.assets import broken_asset, product_assets

    for name, texts in (("good", PAYLOADS[:60]), ("broken", PAYLOADS)):
        file = tmp_path / "assets" / "evil" / name / "contract.yaml"
        file.parent.mkdir(parents=True)
        document = contract(name, texts)
        if name == "broken":
            document["slaProperties"] = [{"property": one, "value": one} for one in PAYLOADS]
        file.write_text(yaml.safe_dump(document, allow_unicode=True))
    platform = Platform.open(Settings(home=tmp_path / "home", assets=tmp_path / "assets"))
    found = [*product_assets(platform, platform.product("evil.good"))]
    found.append(broken_asset("evil.broken", platform.broken["evil.broken"]))
    said = list(descriptions(found))
    assert len(said) > 60
    for text in said:
        harmless(text)


def test_examples_and_messages_of_a_check_are_text() -> None:
    from mesh_pipelines.orchestration.assets import _check_metadata
    from mesh_pipelines.rules.results import RuleResult, State

    figures = (State.FAIL, 9, 9, 9.0, "must be 0", 1.0)
    result = RuleResult("r", "c", "", "block", *figures, message=" ".join(PAYLOADS), sample=tuple(PAYLOADS))
    examples = _check_metadata(result, PAYLOADS)["examples"].value
    harmless(examples)
    assert sum(token.type == "list_item_open" for token in tokens(examples)) == len(PAYLOADS)
