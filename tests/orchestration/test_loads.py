"""Whatever lints, loads: no contract and no folder keeps a domain out of Dagster, and what does not load is red."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dagster import Definitions, RepositoryDefinition
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.read.load import load_products
from mesh_pipelines.observe.observe import observe
from mesh_pipelines.observe.status import status
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.records import Health
from mesh_pipelines.observe.unloaded import note_domains, note_products, unloaded
from mesh_pipelines.orchestration import definitions
from mesh_pipelines.orchestration.assets import product_assets
from mesh_pipelines.orchestration.definitions import domain_definitions
from mesh_pipelines.orchestration.locations import Locations
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co")), max_size=30)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,62}", fullmatch=True)
TEXTS = WORDS | st.sampled_from(
    ["", "@platform", "jürgen@example.com", "-a@b.de", "a@b.c|", "x" * 200, "team:", "a__b"]
)
DURATIONS = ["freshness", "latency", "frequency", "retention", "timeToDetect"]
LEVELS = st.fixed_dictionaries(
    {
        "property": st.sampled_from(DURATIONS),
        "value": st.integers(1, 10**10) | st.integers(1, 10**30) | st.floats(0.000001, 10000),
        "unit": st.sampled_from(["s", "min", "d", "y"]),
    },
    optional={"element": st.just("at")},
) | st.fixed_dictionaries(
    {
        "property": st.sampled_from(["throughput", "availability", "errorRate"]),
        "value": st.integers(-5, 10**30) | st.sampled_from(["1e999", "-inf", "nan", "99.9", "99 %"]),
        "unit": st.sampled_from(["", "%", "per s", "share"]),
    }
)
RULES = st.fixed_dictionaries(
    {"metric": st.just("rowCount"), "mustBeGreaterThan": st.integers(0, 10**30), "name": TEXTS},
    optional={"description": TEXTS, "dimension": st.sampled_from(["accuracy", "completeness"])},
)


def loaded(settings: Settings, domain: str) -> RepositoryDefinition:
    made = domain_definitions(domain, settings)
    Definitions.validate_loadable(made)
    return made.get_repository_def()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    domain=NAMES,
    name=NAMES,
    field=NAMES,
    owner=TEXTS,
    tags=st.lists(TEXTS, max_size=4),
    purpose=TEXTS,
    classification=TEXTS,
    rules=st.lists(RULES, max_size=5),
    field_rules=st.lists(RULES, max_size=3),
    levels=st.lists(LEVELS, max_size=4),
)
def test_what_lints_loads(local_settings: Settings, **drawn: Any) -> None:
    shutil.rmtree(local_settings.assets, ignore_errors=True)
    shutil.rmtree(local_settings.home, ignore_errors=True)
    name = f"{drawn['domain']}.{drawn['name']}"
    contract = {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": name,
        "name": drawn["name"],
        "domain": drawn["domain"],
        "version": "1",
        "status": "active",
        "description": {"purpose": drawn["purpose"]},
        "team": {"members": [{"username": drawn["owner"], "role": "owner"}]},
        "tags": drawn["tags"],
        "slaProperties": drawn["levels"],
        "customProperties": [
            {"property": "mesh.alignment", "value": "source-aligned"},
            {"property": "mesh.eventType", "value": "measurement"},
        ],
        "schema": [
            {
                "name": "things",
                "quality": drawn["rules"],
                "properties": [
                    {"name": "at", "logicalType": "timestamp"},
                    {
                        "name": f"f{drawn['field'][1:]}",
                        "logicalType": "string",
                        "classification": drawn["classification"],
                        "quality": [{**one, "metric": "nullValues"} for one in drawn["field_rules"]],
                    },
                ],
            }
        ],
    }
    write_contract(local_settings.assets, json.dumps(contract, ensure_ascii=False))
    linted = load_products(local_settings.assets)
    repository = loaded(local_settings, drawn["domain"])
    assert repository.assets_defs_by_key
    event("lints" if name in linted.products else "does not lint")
    if name in linted.products:
        assert not unloaded(local_settings, [name])
        platform = Platform.open(local_settings)
        assert product_assets(platform, platform.products[name])


COLLIDING = """
- {metric: rowCount, mustBeGreaterThan: 0, name: id.required}
- {metric: rowCount, mustBeGreaterThan: 0, name: id_required}
"""


@pytest.mark.parametrize(
    ("owner", "more", "quality"),
    [
        ('"@platform"', "", ""),
        ("jürgen@example.com", "", ""),
        ("jürgen", "", ""),
        ("ann@example.com", "tags: ['für alle', '', 'a/b', '[', 'a b', 'a_b']", ""),
        ("ann@example.com", "", COLLIDING),
        ("ann@example.com", "slaProperties: [{property: freshness, value: 900, unit: y}]", ""),
        ("ann@example.com", "slaProperties: [{property: throughput, value: '1e999'}]", ""),
    ],
)
def test_what_took_a_domain_out_of_dagster_does_not(
    local_settings: Settings, owner: str, more: str, quality: str
) -> None:
    properties = "- {name: id, logicalType: string, required: true, primaryKey: true}"
    write_contract(
        local_settings.assets, contract_text("shop.orders", properties, owner=owner, more=more, quality=quality)
    )
    linted = load_products(local_settings.assets)
    assert not linted.broken, linted.broken
    keys = {key.to_user_string() for key in loaded(local_settings, "shop").assets_defs_by_key}
    assert keys == {f"shop/orders{part}" for part in ("", "/stream", "/log", "/snapshot")}
    assert not unloaded(local_settings, ["shop.orders"])


@pytest.mark.parametrize("value", ["1.0e+300", "100000000000000000000000", "1001"])
def test_a_service_level_of_more_than_a_thousand_years_is_a_fault(local_settings: Settings, value: str) -> None:
    more = f"slaProperties: [{{property: freshness, value: {value}, unit: y}}]"
    write_contract(local_settings.assets, contract_text("shop.orders", more=more))
    [error] = load_products(local_settings.assets).broken.values()
    assert "must be at most 1000 years" in str(error)


FOLDERS = ['it"s', "it's", "a.b", "ü b", "$(x)", "x" * 250, os.fsdecode(b"\xff"), "a\nb", "{domain}"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_any_folder_is_a_location_that_loads(
    local_settings: Settings, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    product = local_settings.assets / folder / "orders"
    product.mkdir(parents=True)
    (product / "contract.yaml").write_text(contract_text("shop.orders"))
    locations = Locations(local_settings)
    locations.write(locations.now())
    [(name, found)] = locations.loaded().items()
    assert found.domain == folder
    assert name.isidentifier()
    monkeypatch.setenv("MESH_HOME", str(local_settings.home))
    monkeypatch.setenv("MESH_ASSETS", str(local_settings.assets))
    made = runpy.run_path(found.file)["defs"]
    [asset] = made.get_repository_def().assets_defs_by_key.values()
    assert "has faults" in asset.specs_by_key[asset.key].description


def test_folders_that_are_no_domain_are_no_location(local_settings: Settings) -> None:
    for folder in ("_shared", ".git", "shop"):
        product = local_settings.assets / folder / "orders"
        product.mkdir(parents=True)
        (product / "contract.yaml").write_text(contract_text("shop.orders"))
    (local_settings.assets / "shop" / "_old").mkdir()
    (local_settings.assets / "shop" / "_old" / "contract.yaml").touch()
    assert [*Locations(local_settings).now()] == ["shop"]


def test_a_product_of_which_no_assets_can_be_made_stops_no_other_and_is_red(
    local_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("orders", "returns"):
        write_contract(local_settings.assets, contract_text(f"shop.{name}"))

    def refusing(platform: Platform, product: Any, unapplied: str | None) -> Any:
        if product.name == "orders":
            raise ValueError("no such thing")
        return product_assets(platform, product, unapplied)

    with monkeypatch.context() as patch:
        patch.setattr(definitions, "product_assets", refusing)
        keys = {key.to_user_string() for key in loaded(local_settings, "shop").assets_defs_by_key}
    assert keys == {"shop/orders", *(f"shop/returns{part}" for part in ("", "/stream", "/log", "/snapshot"))}
    assert unloaded(local_settings, ["shop.orders", "shop.returns"]) == {"shop.orders": "ValueError: no such thing"}
    loaded(local_settings, "shop")
    assert unloaded(local_settings, ["shop.orders", "shop.returns"]) == {}


def test_what_was_said_of_a_domain_long_ago_says_nothing_of_now(local_settings: Settings) -> None:
    note_domains(local_settings, {"shop": "no Python\nat all"})
    assert unloaded(local_settings, ["shop.orders", "other.orders"]) == {"shop.orders": "no Python at all"}
    [file] = Path(local_settings.home / "dagster" / "unloaded").iterdir()
    os.utime(file, (time.time() - 3600,) * 2)
    assert unloaded(local_settings, ["shop.orders"]) == {}


def test_a_name_with_the_longest_parts_is_red_where_it_did_not_load(local_settings: Settings) -> None:
    name = f"{'d' * 63}.{'p' * 63}"
    write_contract(local_settings.assets, contract_text(name))
    note_products(local_settings, "d" * 63, {name: "refused"})
    platform = Platform.open(local_settings)
    [found] = status(platform)
    assert (found.health, found.is_well) == (Health.BAD, False)
    assert found.problem == "M407 Dagster did not load it, so nothing runs it: refused"
    with closing(History.open(local_settings)) as history:
        observe(platform, history)
        [incident] = history.incidents(open_only=True)
        [current] = history.current()
    assert (incident.product, incident.title) == (name, "Dagster did not load it")
    assert current.health is Health.BAD
