"""What a derived product makes public of inputs that are not: lint says it, unless the contract says why."""

from __future__ import annotations

from contextlib import closing

import pytest
from starlette.testclient import TestClient

from mesh_pipelines.errors import ContractInvalid
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.plan.draft import plan
from mesh_pipelines.plan.lint import lint
from mesh_pipelines.platform import Platform
from mesh_pipelines.portal.app import create_app
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract

PEOPLE = """
- {name: id, logicalType: integer, primaryKey: true}
- {name: town, logicalType: string}
- {name: mail, logicalType: string, classification: restricted}
- name: card
  logicalType: object
  properties: [{name: number, logicalType: string, classification: confidential}, {name: kind, logicalType: string}]
"""
REASON = "customProperties: [{property: mesh.declassified, value: a number of thousands}]"
DERIVED = """
- property: mesh.inputs
  value: [shop.people]
"""


def faults(settings: Settings, sql: str, shown: str = "") -> list[str]:
    """What lint says of a product of a town and what a query gives as ``shown``."""
    write_contract(settings.assets, contract_text("shop.people", PEOPLE))
    properties = f"""
- {{name: town, logicalType: string, primaryKey: true}}
- {{name: shown, logicalType: string{shown}}}
"""
    text = contract_text("shop.towns", properties, alignment="aggregate-aligned", kind="measurement", settings=DERIVED)
    write_contract(settings.assets, text, sql)
    platform = Platform.open(settings)
    assert not platform.broken, platform.broken
    found = {one.product: one.faults for one in lint(platform)}
    assert found["shop.people"] == ()
    return [f"{one.field}: {one.problem}" for one in found["shop.towns"]]


RESTRICTED = "is public, and is computed from shop.people.mail, which is not"
BOTH = "is public, and is computed from shop.people.card, shop.people.mail, which are not"
UNTRACED = (
    "is public, and what it is computed from cannot be traced: shop.people.mail, shop.people.card of its inputs are "
    "not public"
)
QUERIES = {
    "SELECT town, min(mail) AS shown FROM shop.people GROUP BY town": RESTRICTED,
    "SELECT town, count(mail)::VARCHAR AS shown FROM shop.people GROUP BY town": RESTRICTED,
    "SELECT town, min(card.kind) AS shown FROM shop.people GROUP BY town": RESTRICTED.replace("mail", "card"),
    "SELECT town, max(mail || card.number) AS shown FROM shop.people GROUP BY town": BOTH,
    "WITH a AS (SELECT town, mail AS m FROM shop.people) SELECT town, max(m) AS shown FROM a GROUP BY town": RESTRICTED,
    "SELECT town, (SELECT max(mail) FROM shop.people) AS shown FROM shop.people GROUP BY town": RESTRICTED,
    "SELECT town, min(p::VARCHAR) AS shown FROM shop.people p GROUP BY town": UNTRACED,
    # What is in no value, and what is public.
    "SELECT town, count(*)::VARCHAR AS shown FROM shop.people WHERE mail IS NOT NULL GROUP BY town": "",
    "SELECT town, min(town) AS shown FROM shop.people GROUP BY town": "",
}


@pytest.mark.parametrize(("sql", "problem"), QUERIES.items())
def test_lint_names_what_a_public_field_is_computed_from(sql: str, problem: str, local_settings: Settings) -> None:
    assert faults(local_settings, sql) == ([f"field shown: {problem}"] if problem else [])
    assert faults(local_settings, sql, ", classification: internal") == []
    assert faults(local_settings, sql, f", {REASON}") == []


def test_such_a_contract_is_not_applied(local_settings: Settings) -> None:
    sql = next(iter(QUERIES))
    assert faults(local_settings, sql)
    platform = Platform.open(local_settings)
    with pytest.raises(ContractInvalid, match=r"shown.*shop\.people\.mail"):
        plan(platform, [platform.proposal("shop.towns")])


def test_the_reason_is_shown_with_the_field(local_settings: Settings) -> None:
    assert faults(local_settings, next(iter(QUERIES)), f", {REASON}") == []
    with closing(History.open(local_settings)) as history:
        client = TestClient(create_app(local_settings, history), base_url=local_settings.portal_address)
        answer = client.get("/products/shop/towns/schema")
    assert "public, because a number of thousands" in answer.text


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("[{property: mesh.declassified, value: '  '}]", "must say why everybody may see the field"),
        ("[{property: mesh.declassified, value: true}]", "must say why everybody may see the field"),
        (
            "[{property: mesh.declassified, value: because}]",
            "mesh.declassified of town is about fields computed from other products'",
        ),
    ],
)
def test_a_reason_is_a_text_and_of_a_derived_field(field: str, problem: str, local_settings: Settings) -> None:
    properties = f"""
- {{name: id, logicalType: integer, primaryKey: true}}
- {{name: town, logicalType: string, customProperties: {field}}}
"""
    write_contract(local_settings.assets, contract_text("shop.towns", properties))
    [one] = lint(Platform.open(local_settings))
    assert [fault.problem for fault in one.faults] == [problem]
