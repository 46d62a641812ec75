"""What an audit says follows from its rules' results: their states, what blocks, and the verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.model import DataProduct, Field, FieldType, Kind, OnFailure, Rule, RuleKind
from mesh_pipelines.rules.results import RuleResult, State, blocks, outcome, result, told, verdict
from tests.building import contract_text, written

RULE = Rule("amount.minimum", RuleKind.ROW, "minimum", ("amount",), {"minimum": 0}, dimension="validity")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> DataProduct:
    assets: Path = tmp_path_factory.mktemp("assets")
    return written(assets, contract_text("shop.orders"))


@pytest.mark.parametrize("on_failure", OnFailure)
def test_a_rule_that_holds_passes_whatever_its_failure_would_do(on_failure: OnFailure) -> None:
    rule = replace(RULE, on_failure=on_failure)
    assert outcome(rule, True, vacuous=False) is State.PASS


@pytest.mark.parametrize("kept", [True, False])
def test_on_no_rows_there_is_nothing_to_judge(kept: bool) -> None:
    assert outcome(RULE, kept, vacuous=True) is State.VACUOUS


@pytest.mark.parametrize(
    ("on_failure", "state"),
    [(OnFailure.WARN, State.WARN), (OnFailure.BLOCK, State.FAIL), (OnFailure.DIVERT, State.FAIL)],
)
def test_a_broken_rule_warns_or_fails(on_failure: OnFailure, state: State) -> None:
    assert outcome(replace(RULE, on_failure=on_failure), False, vacuous=False) is state


@pytest.mark.parametrize(
    ("state", "of_warning", "of_blocking"),
    [
        (State.PASS, False, False),
        (State.WARN, False, False),
        (State.VACUOUS, False, False),
        (State.FAIL, True, True),
        # What is not known to hold does not hold, unless it would only have warned.
        (State.ERROR, False, True),
        (State.NOT_EXECUTED, False, True),
    ],
)
def test_what_blocks(state: State, of_warning: bool, of_blocking: bool) -> None:
    assert blocks(state, OnFailure.WARN) is of_warning
    assert blocks(state, OnFailure.BLOCK) is of_blocking
    assert blocks(state, OnFailure.DIVERT) is of_blocking


def test_a_state_and_a_failure_may_be_the_texts_they_are_stored_as() -> None:
    assert RuleResult("r", "c", "", "block", State("error"), 1, None, None, "", 0.0).blocks
    assert not RuleResult("r", "c", "", "warn", State("error"), 1, None, None, "", 0.0).blocks


def test_a_result_tells_of_its_rule_and_shows_no_row() -> None:
    found = result(RULE, State.FAIL, 7)
    assert (found.rule, found.check, found.dimension, found.on_failure) == (
        *("amount.minimum", "minimum", "validity", "block"),
    )
    assert (found.rows, found.bad, found.measured, found.sample) == (7, None, None, ())
    assert "secret" not in repr(replace(found, sample=({"id": "secret"},)))


STATES = st.lists(st.tuples(st.sampled_from(State), st.sampled_from(OnFailure)), max_size=12)


@given(STATES)
def test_the_verdict_counts_every_rule_once_and_passes_only_if_none_blocks(product: DataProduct, states) -> None:
    results = [
        result(replace(RULE, id=f"r{number}", on_failure=on_failure), state, 3)
        for number, (state, on_failure) in enumerate(states)
    ]
    found = verdict(product, "c1", results, "now")
    passing = sum(state is State.PASS for state, _ in states)
    assert found.rules == len(states) == passing + found.failed + found.warned + found.errors + found.vacuous
    assert found.passed is (found.blocking == ())
    assert found.blocking == tuple(one.rule for one in results if one.blocks)
    assert found.failed <= len(found.blocking)
    assert (found.candidate_id, found.contract_hash, found.at) == ("c1", product.contract_hash, "now")


def test_an_audit_without_rules_passes(product: DataProduct) -> None:
    found = verdict(product, "c1", [], "now")
    assert (found.passed, found.rules) == (True, 0)


SECRET = Field("salary", FieldType(Kind.LONG), classification="confidential")
OPEN = Field("name", FieldType(Kind.STRING))
MEASURING = (
    Rule("greatest", RuleKind.SQL, "sql", (), {"query": "SELECT max(salary) FROM {object}"}),
    Rule(
        "one",
        RuleKind.SQL,
        "sql",
        (),
        {"query": "SELECT count(*) FROM {object} WHERE name = (SELECT max(name) FROM x)"},
    ),
    Rule("sum", RuleKind.SQL, "sql", (), {"query": "SELECT count(*) * max(salary) FROM {object}"}),
    Rule(
        "rows",
        RuleKind.SQL,
        "sql",
        (),
        {"query": "SELECT 1 FROM {object} WHERE FALSE UNION SELECT salary FROM {object}"},
    ),
    Rule("library", RuleKind.EXPECTATION, "expect_column_max_to_be_between", (), {}),
)
COUNTING = (
    RULE,
    Rule("unique", RuleKind.UNIQUE, "unique", ("salary",)),
    Rule("rows", RuleKind.ROW_COUNT, "rowCount", ()),
    *(
        Rule(name, RuleKind.SQL, "sql", (), {"query": query})
        for name, query in {
            "high": "SELECT count(*) FROM {object} WHERE salary > 10",
            "beside": "SELECT (SELECT count(*) FROM shop.orders) - count(*) AS missing FROM {object}",
            "share": "select 100.0 * count(*) filter (where salary > 10) / count() from ${table}",
        }.items()
    ),
)


@pytest.mark.parametrize("rule", [*MEASURING, *COUNTING], ids=lambda rule: rule.id)
def test_what_is_measured_is_told_of_public_fields_and_counts_of_any(rule: Rule) -> None:
    measured = replace(result(rule, State.FAIL, 7), measured=7777.0)
    assert told(measured, rule, [OPEN]) == measured
    assert told(measured, rule, [OPEN, SECRET]).measured == (7777.0 if rule in COUNTING else None)


def test_of_an_expectation_the_count_of_bad_rows_is_told_and_no_word_of_the_library() -> None:
    rule = MEASURING[-1]
    counted = replace(result(rule, State.FAIL, 7), bad=3, measured=7777.0)
    assert told(counted, rule, [SECRET]).measured == 3.0
    failed = replace(result(rule, State.ERROR, 7), message="could not convert 'canary'")
    assert told(failed, rule, [OPEN]) == failed
    assert told(failed, rule, [SECRET]).message == "the expectation could not be computed"
