"""What is looked for is found, with typing errors too, and what fits best comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.model import DataProduct, all_fields
from mesh_pipelines.contract.read.load import load_products
from mesh_pipelines.portal.search import Index
from tests.portal.serving import ASSETS

PRODUCTS = load_products(ASSETS).products
INDEX = Index(PRODUCTS.values())
FIELDS = sorted({(fqn, name) for fqn, one in PRODUCTS.items() for name, _ in all_fields(one.fields)})


def found(query: str, index: Index = INDEX) -> list[str]:
    return [hit.product for hit in index.search(query)]


@pytest.mark.parametrize(
    ("query", "product"),
    [
        ("flights", "operations.flights"),
        ("operations.flights", "operations.flights"),
        ("FLIGHTS operations", "operations.flights"),
        ("fligths", "operations.flights"),
        ("flihgts", "operations.flights"),
        ("fligts", "operations.flights"),
        ("punctualty", "insights.punctuality"),
        ("punct", "insights.punctuality"),
        ("tailnum", "operations.planes"),
        ("tailnmu", "operations.planes"),
        ("scheduleddeparture", "operations.flights"),
        ("scheduled_departure", "operations.flights"),
        ("scheduled departure", "operations.flights"),
        ("manufactuer", "operations.planes"),
        ("reference", "operations.planes"),
        ("operations@example.com", "operations.planes"),
        ("measurement", "weather.observations"),
        ("ahs_weather", "insights.delay_causes"),
    ],
)
def test_is_found(query: str, product: str) -> None:
    assert product in found(query)


@pytest.mark.parametrize("query", ["", "   ", "…", "___", "\0", "zzzzzzzz", "flights zzzzzzzz"])
def test_what_says_nothing_or_fits_nothing_finds_nothing(query: str) -> None:
    assert found(query) == []


def test_a_name_comes_before_a_field_and_a_field_before_a_text() -> None:
    base = PRODUCTS["operations.planes"]

    def one(name: str, *, field: str = "id", purpose: str = "") -> DataProduct:
        column = replace(base.fields[0], name=field, description="")
        about = replace(base.about, purpose=purpose, usage="", limitations="", team_name="")
        return replace(base, name=name, domain="shop", fields=(column,), about=about, tags=())

    index = Index([one("a", purpose="About zebras and a zebra."), one("b", field="zebra"), one("zebra"), one("zebras")])
    assert found("zebra", index) == ["shop.zebra", "shop.zebras", "shop.b", "shop.a"]
    assert found("zebar", index)[0] == "shop.zebra"
    [hit] = [hit for hit in index.search("zebra") if hit.product == "shop.b"]
    assert hit.where == ("field zebra",)


def test_classified_fields_are_found_by_their_class_and_fields_of_structs_by_their_path() -> None:
    base = PRODUCTS["operations.planes"]
    secret = replace(base.fields[0], name="email", classification="confidential")
    index = Index([replace(base, fields=(secret,)), PRODUCTS["operations.flights"]])
    assert found("confidential", index) == ["operations.planes"]
    assert index.search("confidential")[0].where == ("confidential field email",)


@given(st.sampled_from(FIELDS))
def test_an_exact_field_name_is_always_found(field: tuple[str, str]) -> None:
    product, name = field
    assert product in found(name)


@given(st.sampled_from([one for one in FIELDS if len(one[1]) >= 5]), st.data())
def test_a_field_name_with_two_letters_swapped_is_found(field: tuple[str, str], data: st.DataObject) -> None:
    product, name = field
    at = data.draw(st.integers(0, len(name) - 2).filter(lambda at: "_" not in name[at : at + 2]))
    assert product in found(name[:at] + name[at + 1] + name[at] + name[at + 2 :])


@given(st.text(max_size=300))
def test_no_query_breaks_it(query: str) -> None:
    assert set(found(query)) <= set(PRODUCTS)
