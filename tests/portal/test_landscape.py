"""The shelf of products at one moment: facets, who reads what, and the graph of what is made from what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mesh_pipelines.contract.model import DataProduct, Field, FieldType, Kind
from mesh_pipelines.observe.store.records import Current, Health
from mesh_pipelines.portal.draw.lineage_graph import Column, columns_of, draw, graph_of
from mesh_pipelines.portal.landscape import FACETS, Entry, Landscape
from mesh_pipelines.portal.snippets import snippets
from mesh_pipelines.settings import Settings
from tests.building import contract_text, written

NOW = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataProduct]:
    assets: Path = tmp_path_factory.mktemp("assets")
    orders = written(assets, contract_text("shop.orders", "- {name: id, logicalType: string, primaryKey: true}"))
    found = {"shop.orders": orders}
    for name, sql, inputs in (
        ("shop.totals", "SELECT id FROM shop.orders", ["shop.orders"]),
        ("finance.best", "SELECT id FROM shop.totals", ["shop.totals"]),
        ("finance.lost", "SELECT id FROM gone.away", ["gone.away"]),
    ):
        settings = f"- {{property: mesh.inputs, value: [{', '.join(inputs)}]}}"
        found[name] = written(assets, contract_text(name, alignment="aggregate-aligned", settings=settings), sql)
    return found


def entry(product: DataProduct | None, fqn: str, **more: Any) -> Entry:
    current = Current(fqn, Health.GOOD, (), NOW)
    return Entry(fqn, product, None, None, replace(current, **more))


@pytest.fixture
def shelf(products: dict[str, DataProduct]) -> Landscape:
    entries = {fqn: entry(product, fqn) for fqn, product in products.items()}
    entries["shop.broken"] = entry(None, "shop.broken", health=Health.BAD)
    return Landscape(entries, None, NOW, None, None)  # pyright: ignore[reportArgumentType]


def test_a_name_has_two_parts(shelf: Landscape) -> None:
    best = shelf.entries["finance.best"]
    assert (best.domain, best.name, best.owner) == ("finance", "best", "ann@example.com")
    assert shelf.entries["shop.broken"].owner == ""


@pytest.mark.parametrize(
    ("passed", "warned", "failed", "rate"),
    [(None, None, None, None), (0, 0, 0, None), (3, 1, 0, 0.75), (0, 0, 2, 0.0), (4, None, None, 1.0)],
)
def test_the_share_of_rules_that_hold(passed: int | None, warned: int | None, failed: int | None, rate: Any) -> None:
    found = entry(None, "a.b", rules_passed=passed, rules_warned=warned, rules_failed=failed)
    assert found.pass_rate == rate


def test_every_product_has_every_facet_and_a_broken_one_only_what_is_known(shelf: Landscape) -> None:
    for one in shelf.entries.values():
        assert set(one.facets) == set(FACETS)
    broken = shelf.entries["shop.broken"].facets
    assert {name for name, values in broken.items() if values} == {"domain", "quality"}


def test_facets_choose_together_and_an_empty_one_chooses_everything(shelf: Landscape) -> None:
    def names(**wanted: str) -> list[str]:
        return [one.fqn for one in shelf.where(**wanted)]

    assert len(names()) == len(names(domain="", owner="")) == 5
    assert names(domain="finance") == ["finance.best", "finance.lost"]
    assert names(domain="shop", quality="bad") == ["shop.broken"]
    assert names(domain="shop", alignment="aggregate-aligned") == ["shop.totals"]
    assert names(owner="nobody") == []


def test_tags_and_classes_are_facets_with_several_values(products: dict[str, DataProduct]) -> None:
    fields = (
        Field("a", FieldType(Kind.INT), classification="restricted"),
        Field("b", FieldType(Kind.INT), classification="internal"),
    )
    facets = entry(replace(products["shop.orders"], tags=("x", "y"), fields=fields), "shop.orders").facets
    assert facets["tag"] == {"x", "y"}
    assert facets["classification"] == {"restricted", "internal"}


def test_who_reads_a_product(shelf: Landscape) -> None:
    assert shelf.consumers == {
        "shop.orders": ("shop.totals",),
        "shop.totals": ("finance.best",),
        "gone.away": ("finance.lost",),
    }


@pytest.mark.parametrize("fqn", ["shop.orders", "shop.totals", "finance.best"])
def test_the_graph_has_everything_before_and_after_a_product(shelf: Landscape, fqn: str) -> None:
    graph = graph_of(shelf, fqn, {"shop.orders": "/products/shop/orders"})
    assert graph.nodes.keys() == {"topic shop.orders", "shop.orders", "shop.totals", "finance.best"}
    assert graph.edges == {
        ("topic shop.orders", "shop.orders"),
        ("shop.orders", "shop.totals"),
        ("shop.totals", "finance.best"),
    }
    assert [name for name, node in graph.nodes.items() if "self" in node.kind] == [fqn]
    assert graph.nodes["shop.orders"].url == "/products/shop/orders"
    assert graph.nodes["shop.totals"].url == ""


def test_what_is_not_in_this_mesh_is_drawn_as_such(shelf: Landscape) -> None:
    graph = graph_of(shelf, "finance.lost", {})
    assert graph.nodes["gone.away"].note == "not in this mesh"
    assert graph.nodes["finance.lost"].kind == "good self"
    broken = graph_of(shelf, "shop.broken", {})
    assert (broken.nodes["shop.broken"].note, broken.edges) == ("not readable", frozenset())
    assert 'aria-label="what it is made from"' in draw(broken, "what it is made from")


def test_names_from_contracts_are_escaped_in_the_drawing(shelf: Landscape) -> None:
    graph = graph_of(shelf, "finance.lost", {})
    hostile = replace(graph.nodes["gone.away"], label="<script>alert(1)</script>", note="\"'&<")
    drawn = draw(replace(graph, nodes={**graph.nodes, "gone.away": hostile}), "<b>")
    assert "<script>" not in drawn
    assert "<b>" not in drawn
    assert "&lt;script&gt;" in drawn


def test_a_long_name_is_cut_in_its_box_and_whole_in_its_title(shelf: Landscape) -> None:
    graph = graph_of(shelf, "finance.lost", {})
    long = replace(graph.nodes["gone.away"], label="a" * 40)
    drawn = draw(replace(graph, nodes={**graph.nodes, "gone.away": long}), "")
    assert f"{'a' * 26}…" in drawn
    assert f"<title>{'a' * 40}, " in drawn


def test_columns_come_from_the_topic_or_from_inputs(shelf: Landscape, products: dict[str, DataProduct]) -> None:
    assert columns_of(shelf, products["shop.orders"]) == (Column("id", (("shop.orders", "id"),)),)
    assert columns_of(shelf, products["shop.totals"]) == (Column("id", (("shop.orders", "id"),)),)


def names_of(product: DataProduct, own: Settings) -> dict[str, str]:
    return {one.port: one.code for one in snippets(product, own)}


def test_code_to_read_a_product_compiles_and_names_it(products: dict[str, DataProduct], tmp_path: Path) -> None:
    own = Settings(home=tmp_path / "it's", assets=tmp_path, bootstrap_servers="broker:9092")
    found = snippets(products["shop.totals"], own)
    assert [one.port for one in found] == ["sql", "python", "duckdb"]
    for one in found:
        assert "shop.totals" in one.code
        if one.language == "python":
            compile(one.code, one.title, "exec")


def test_a_stream_has_code_of_its_own_without_credentials(products: dict[str, DataProduct], tmp_path: Path) -> None:
    orders = products["shop.orders"]
    own = Settings(
        home=tmp_path,
        assets=tmp_path,
        bootstrap_servers="broker:9092",
        kafka_config={"sasl.username": "me", "sasl.password": "s3cret"},
    )
    code = names_of(orders, own)
    assert set(code) == {"sql", "python", "duckdb", "stream"}
    compile(code["stream"], "stream", "exec")
    assert "broker:9092" in code["stream"]
    assert "'shop.orders'" in code["stream"]
    assert "s3cret" not in "".join(code.values())
