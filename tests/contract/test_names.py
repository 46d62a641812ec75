"""What things of a contract are called elsewhere: a name comes out of every text, and no two texts share one."""

from __future__ import annotations

import re

import pytest
from dagster import AssetSpec
from dagster._core.definitions.utils import is_valid_owner
from dagster._utils.tags import is_valid_tag_key
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract import names

TEXTS = st.text(max_size=90) | st.text("ab_.-:@/ ", max_size=70) | st.sampled_from(["", ".", "_", "ü", "a\n", "a" * 99])
IDS = st.text("ab_.:", max_size=9) | TEXTS


@given(TEXTS)
def test_an_owner_is_one_that_dagster_takes(text: str) -> None:
    assert is_valid_owner(names.asset_owner(text))
    AssetSpec("a", owners=[names.asset_owner(text)])


@given(TEXTS)
def test_a_tag_is_one_that_dagster_takes(text: str) -> None:
    assert is_valid_tag_key(names.tag(text))
    AssetSpec("a", tags={names.tag(text): names.tag(text)})


@given(IDS)
def test_a_check_has_letters_digits_and_underscores(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_]{1,400}", names.check(text))


@given(TEXTS)
def test_a_location_is_a_name_of_a_file_and_of_a_group(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_]{1,63}", names.location(text))


@given(st.lists(IDS, unique=True, max_size=40))
def test_no_two_texts_share_a_name(texts: list[str]) -> None:
    for mapped in (names.asset_owner, names.tag, names.check, names.location):
        found = [mapped(one) for one in texts]
        assert len({*found}) == len(texts)
        # What came out goes in as any text does, and is mapped to something else where it would be taken for it.
        again = {mapped(one): one for one in [*texts, *(one.removeprefix("team:") for one in found)]}
        assert all(again[mapped(one)] == one for one in texts)


@given(st.lists(st.tuples(TEXTS, TEXTS), unique=True, max_size=20))
def test_a_product_is_told_apart_by_its_two_folders(folders: list[tuple[str, str]]) -> None:
    found = [names.fqn(domain, name) for domain, name in folders]
    assert len({*found}) == len(folders)
    for (domain, _), one in zip(folders, found, strict=True):
        assert one.count(".") == 1
        assert one.isprintable()
        assert names.is_in(domain, one)


@pytest.mark.parametrize(
    ("rule", "check"),
    [
        ("delay.minimum", "delay__minimum"),
        ("dep_delay.no_negatives", "dep_delay__no_negatives"),
        ("dep.delay_no", "dep__delay_no"),
        ("dep_delay.no", "dep_delay__no"),
        ("freshness:changed_at", "freshness___changed_at"),
        ("rowCount", "rowCount"),
    ],
)
def test_what_is_common_stays_readable(rule: str, check: str) -> None:
    assert names.check(rule) == check


def test_a_folder_that_is_no_text_has_a_name_that_can_be_stored() -> None:
    name = names.fqn("shop\udcff", "or.ders")
    assert name == "shop%FF.or%2Eders"
    name.encode()


@pytest.mark.parametrize(
    ("event", "column"),
    [
        ("orderId", "order_id"),
        ("orderID", "order_id"),
        ("HTTPServer", "http_server"),
        ("ORDER_ID", "order_id"),
        ("__op", "op"),
        ("order-id", "order_id"),
        ("address.line1", "address_line1"),
        ("line_1", "line_1"),
        ("Größe", "grosse"),
        ("a" * 70, "a" * 63),
        ("号", None),
        ("2fa", None),
        ("", None),
    ],
)
def test_a_column_s_name_is_made_of_what_events_say(event: str, column: str | None) -> None:
    assert names.column_name(event) == column


@given(TEXTS)
def test_a_column_s_name_is_one_or_none(text: str) -> None:
    found = names.column_name(text)
    assert found is None or names.NAME.fullmatch(found)
