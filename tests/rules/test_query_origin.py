"""A rule's query with names put in: where each character of it comes from in what its author wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.rules.queries import Query, parse_query

OWN, INPUTS = "(SELECT * FROM own_rows)", {"other.letters": '"view of letters"'}
QUERY = "SELECT count(*) FROM {object} JOIN other.letters ON things.a = other.letters.a WHERE {property} = ammount"


@pytest.fixture(scope="module")
def product(make_product) -> DataProduct:
    return make_product({"properties": [{"name": "a", "logicalType": "string"}], "inputs": ["other.letters"]})


def parsed(product: DataProduct, text: str) -> Query:
    return parse_query(text, product, "a")


def test_a_word_is_found_where_its_author_wrote_it(product: DataProduct) -> None:
    query = parsed(product, QUERY)
    bound = query.bound(OWN, INPUTS)
    for word in ("SELECT", "JOIN", "WHERE", "ammount"):
        assert query.origin(bound.index(word), OWN, INPUTS) == QUERY.index(word)


def test_any_character_of_a_name_comes_from_where_the_name_begins(product: DataProduct) -> None:
    query = parsed(product, QUERY)
    bound = query.bound(OWN, INPUTS)
    for offset in range(bound.index(OWN), bound.index(OWN) + len(OWN)):
        assert query.origin(offset, OWN, INPUTS) == QUERY.index("{object}")
    assert query.origin(bound.index(INPUTS["other.letters"]), OWN, INPUTS) == QUERY.index("other.letters")


def test_behind_the_end_is_the_end(product: DataProduct) -> None:
    query = parsed(product, QUERY)
    last = query.origin(10**9, OWN, INPUTS)
    assert 0 < last <= len(QUERY)


PIECES = st.lists(
    st.sampled_from(["{object}", "test.things", "things", "other.letters"]).map(lambda name: f"SELECT a FROM {name}"),
    min_size=1,
    max_size=4,
)


@given(PIECES, st.data())
def test_words_between_names_come_from_themselves(product: DataProduct, pieces: list[str], data: st.DataObject) -> None:
    text = " UNION ALL ".join(pieces)
    query = parse_query(text, product)
    bound = query.bound(OWN, INPUTS)
    at = data.draw(st.sampled_from([n for n in range(len(bound)) if bound.startswith("UNION", n)] or [0]))
    origin = query.origin(at, OWN, INPUTS)
    assert text[origin : origin + 5] == bound[at : at + 5]
    assert bound[:at].count("UNION") == text[:origin].count("UNION")


def test_a_query_without_inputs_keeps_their_names(product: DataProduct) -> None:
    bound = parsed(product, "SELECT count(*) FROM other.letters").bound(OWN, {})
    assert '"other"."letters"' in bound
    assert parsed(product, "SELECT count(*) FROM other.letters").products == {"other.letters"}
    assert parsed(product, "SELECT count(*) FROM {object}").products == frozenset()


def test_the_property_is_for_rules_of_a_property(product: DataProduct) -> None:
    with pytest.raises(Uncompilable, match="the rule is not under a property"):
        parse_query("SELECT count({property}) FROM {object}", product)


def test_a_property_with_a_strange_name_is_quoted(product: DataProduct) -> None:
    bound = parse_query("SELECT count({property}) FROM {object}", product, 'a"b').bound(OWN, {})
    assert 'count("a""b")' in bound


@pytest.mark.parametrize("own", ["{object}", "{table}", "{model}", "{schema}", "${model}", "'{model}'", '"${table}"'])
def test_every_placeholder_of_the_table_is_the_product(product: DataProduct, own: str) -> None:
    for before in ("", "{schema}.", "${schema}.", '"{schema}".'):
        query = parsed(product, f"SELECT count(*) FROM {before}{own} WHERE a = 1")
        assert query.bound(OWN, {}) == f'SELECT count(*) FROM {OWN} AS "things" WHERE a = 1'


@pytest.mark.parametrize("one", ["{property}", "{column}", "{field}", "${field}", '"{column}"', "'${field}'"])
def test_every_placeholder_of_the_column_is_the_field(product: DataProduct, one: str) -> None:
    text = f"SELECT count({one}) FROM {{schema}}.things WHERE ammount = 1"
    query = parsed(product, text)
    bound = query.bound(OWN, {})
    assert bound == f'SELECT count("a") FROM {OWN} AS "things" WHERE ammount = 1'
    assert query.origin(bound.index("ammount"), OWN, {}) == text.index("ammount")


@pytest.mark.parametrize("own", ["THINGS", "Things", "TEST.Things", '"THINGS"'])
def test_a_table_is_found_whatever_its_case(product: DataProduct, own: str) -> None:
    assert OWN in parsed(product, f"SELECT count(*) FROM {own}").bound(OWN, {})
    assert '"view of letters"' in parsed(product, "SELECT count(*) FROM Other.LETTERS").bound(OWN, INPUTS)
