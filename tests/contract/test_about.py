"""What a contract tells people, read from the standard's keys; whatever it leaves out is empty."""

from __future__ import annotations

from typing import Any

import pytest

from mesh_pipelines.contract.model import About, Link, Role, SupportChannel
from mesh_pipelines.contract.read.about import read_about


def test_a_contract_that_says_nothing_tells_nothing() -> None:
    assert read_about({}) == About()
    assert read_about({"description": None, "team": None, "support": None, "roles": None, "price": None}) == About()


def test_texts_are_read_without_the_space_around_them() -> None:
    about = read_about({"description": {"purpose": " Orders.\n", "usage": "Reports", "limitations": None}})
    assert (about.purpose, about.usage, about.limitations) == ("Orders.", "Reports", "")


@pytest.mark.parametrize(
    ("team", "name"),
    [({"name": "Sales", "members": []}, "Sales"), ([{"username": "ann"}], ""), ({}, ""), ({"name": 7}, "7")],
)
def test_a_team_has_a_name_where_it_is_a_mapping(team: Any, name: str) -> None:
    assert read_about({"team": team}).team_name == name


def test_channels_links_and_roles_keep_their_order_and_what_they_lack_is_empty() -> None:
    about = read_about(
        {
            "description": {"authoritativeDefinitions": [{"type": "glossary", "url": "https://a"}]},
            "authoritativeDefinitions": [{"type": "tutorial", "url": "https://b", "description": "How"}],
            "support": [{"channel": "#orders", "tool": "slack"}, {"channel": "mail", "url": "mailto:a@b"}],
            "roles": [{"role": "reader", "access": "read", "firstLevelApprovers": "ann"}, {"role": "writer"}],
        }
    )
    assert about.links == (Link("glossary", "https://a"), Link("tutorial", "https://b", "How"))
    assert about.support == (SupportChannel("#orders", tool="slack"), SupportChannel("mail", url="mailto:a@b"))
    assert about.roles == (Role("reader", "read", approvers="ann"), Role("writer"))


@pytest.mark.parametrize(
    ("price", "text"),
    [
        ({"priceAmount": 9.95, "priceCurrency": "EUR", "priceUnit": "month"}, "9.95 EUR per month"),
        ({"priceAmount": 0, "priceCurrency": "EUR"}, "0 EUR"),
        ({"priceAmount": 3}, "3"),
        ({"priceAmount": 3, "priceUnit": "gigabyte"}, "3 per gigabyte"),
        ({"priceCurrency": "EUR", "priceUnit": "month"}, ""),
    ],
)
def test_a_price_is_one_text_and_nothing_without_an_amount(price: dict[str, Any], text: str) -> None:
    assert read_about({"price": price}).price == text


@pytest.mark.parametrize(
    ("about", "text"),
    [
        (About(), ""),
        (About(purpose="Orders."), "Orders."),
        (About(usage="Reports."), "**Usage**: Reports."),
        (
            About(purpose="Orders.", usage="Reports.", limitations="Late."),
            "Orders.\n\n**Usage**: Reports.\n\n**Limitations**: Late.",
        ),
    ],
)
def test_the_text_of_a_product_heads_what_it_has(about: About, text: str) -> None:
    assert about.text == text
