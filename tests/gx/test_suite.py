from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mesh_pipelines.contract.model import RuleKind
from mesh_pipelines.contract.read.load import load_products
from mesh_pipelines.gx.suite import suite, suite_file, suite_text
from mesh_pipelines.gx.validate import quiet

ASSETS = Path(__file__).parents[2] / "assets"
PRODUCTS = load_products(ASSETS).products


def test_no_rule_is_lost(case):
    named = [one["meta"]["rule"] for one in suite(case.product)["expectations"]]
    assert named == [rule.id for rule in case.product.rules if rule.kind is not RuleKind.TEXT]


def test_identities_are_distinct_and_stable(case):
    first, second = suite(case.product), suite(replace(case.product, contract_hash="another"))
    assert first == second
    assert len({one["id"] for one in first["expectations"]}) == len(first["expectations"])


def test_the_library_reads_the_file(case):
    with quiet():
        from great_expectations.core.expectation_suite import ExpectationSuite

    kept = json.loads(suite_text(case.product))
    read = ExpectationSuite(**kept).to_json_dict()
    theirs = [(one["id"], one["type"], one["severity"], one["meta"]["rule"]) for one in read["expectations"]]
    assert theirs == [(one["id"], one["type"], one["severity"], one["meta"]["rule"]) for one in kept["expectations"]]


def test_library_expectations_are_used_where_they_mean_the_same(make_product):
    product = make_product(
        {
            "properties": [
                {
                    "name": "a",
                    "logicalType": "string",
                    "required": True,
                    "unique": True,
                    "logicalTypeOptions": {"minLength": 1, "maxLength": 2, "pattern": "x{1}"},
                    "quality": [
                        {
                            "metric": "invalidValues",
                            "arguments": {"validValues": ["x"]},
                            "mustBe": 0,
                            "unit": "percent",
                        },
                        {"metric": "nullValues", "mustBeLessThan": 5, "unit": "percent", "severity": "low"},
                    ],
                },
                {"name": "b", "logicalType": "integer", "logicalTypeOptions": {"minimum": 1, "exclusiveMaximum": 9}},
            ],
            "quality": [
                {"metric": "rowCount", "mustBeGreaterThan": 0},
                {"metric": "duplicateValues", "arguments": {"properties": ["a", "b"]}, "mustBe": 0},
            ],
        }
    )
    found = {one["meta"]["rule"]: (one["type"], one["kwargs"]) for one in suite(product)["expectations"]}
    assert {rule: kind for rule, (kind, _) in found.items()} == {
        "a.required": "expect_column_values_to_not_be_null",
        "a.unique": "expect_column_values_to_be_unique",
        "a.minLength": "expect_column_value_lengths_to_be_between",
        "a.maxLength": "expect_column_value_lengths_to_be_between",
        "a.pattern": "expect_column_values_to_match_regex",
        "a.invalidValues": "expect_column_values_to_be_in_set",
        "a.nullValues": "unexpected_rows_expectation",
        "b.minimum": "expect_column_values_to_be_between",
        "b.exclusiveMaximum": "unexpected_rows_expectation",
        "rowCount": "expect_table_row_count_to_be_between",
        "duplicateValues": "expect_compound_columns_to_be_unique",
    }
    assert found["rowCount"][1] == {"min_value": 1}
    assert found["a.pattern"][1] == {"column": "a", "regex": "x{1}"}
    severities = {one["meta"]["rule"]: one["severity"] for one in suite(product)["expectations"]}
    assert severities["a.nullValues"] == "warning"
    assert severities["a.required"] == "critical"


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_the_suites_in_the_tree_are_current(name):
    product = PRODUCTS[name]
    assert suite_file(product).read_text(encoding="utf-8") == suite_text(product), "run: mesh lint --write"
