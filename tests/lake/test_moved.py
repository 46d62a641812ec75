"""Home folders with any path, and those that were moved: they work, or what to do is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesh_pipelines.contract.read.load import read_files
from mesh_pipelines.errors import TableDamaged, WrittenByNewer
from mesh_pipelines.lake import applied as kept
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract


def applied(settings: Settings) -> Platform:
    """A platform with one product, applied without a broker."""
    write_contract(settings.assets, contract_text("shop.orders"))
    platform = Platform.open(settings)
    product = platform.proposed["shop.orders"]
    tables = platform.tables_of(product)
    tables.create()
    tables.apply(read_files(product.folder), "ann")
    return Platform.open(settings)


def hashes(settings: Settings) -> dict[str, str | None]:
    platform = Platform.open(settings)
    return platform.tables.of([("shop", "orders", "versions")]) and platform.applied_hashes(["shop.orders"])


NAMES = ["my home", "%20", "100%", 'it"s', "it's", "jürgen", "a&b=c", "a+b", "日本", "%2F", "a;b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_home_folder_may_have_any_name(local_settings: Settings, tmp_path: Path, name: str) -> None:
    settings = local_settings.model_copy(update={"home": tmp_path / name / "home"})
    assert applied(settings).applied_hashes(["shop.orders"])
    assert [*hashes(settings).values()] != [None]
    assert (settings.home / "catalog.db").exists()
    assert (settings.home / "warehouse" / "shop.orders" / "versions").exists()
    assert {one.name for one in tmp_path.iterdir()} == {name, "assets"}


def test_a_moved_home_folder_says_what_to_do_and_that_works(local_settings: Settings) -> None:
    before = [*applied(local_settings).applied_hashes(["shop.orders"]).values()]
    now = local_settings.model_copy(update={"home": local_settings.home.with_name("moved")})
    local_settings.home.rename(now.home)
    with pytest.raises(TableDamaged, match="was written under .*, and the warehouse is .* now") as refused:
        hashes(now)
    assert refused.value.next_step
    assert refused.value.next_step.endswith(f"ln -s {now.home} {local_settings.home}")
    local_settings.home.symlink_to(now.home)
    assert [*hashes(now).values()] == before


def test_a_table_of_a_later_format_is_said_with_its_version(local_settings: Settings) -> None:
    applied(local_settings)
    folder = local_settings.home / "warehouse" / "shop.orders" / "versions" / "metadata"
    newest = max(folder.glob("*.metadata.json"))
    newest.write_text(json.dumps({**json.loads(newest.read_text()), "format-version": 9}))
    with pytest.raises(WrittenByNewer, match="has format version 9, newer than 3") as refused:
        hashes(local_settings)
    assert "newer" in str(refused.value.next_step)


def test_an_applied_contract_of_a_later_release_is_said_with_what_is_new(
    local_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied(local_settings)
    write_contract(local_settings.assets, contract_text("shop.orders", version="2.0.0"))
    [file] = (local_settings.home / "warehouse").glob("*/versions/contracts/*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "signatures": []}))
    monkeypatch.setattr(kept, "_read", {})
    with pytest.raises(WrittenByNewer, match="has signatures, which this release does not know"):
        Platform.open(local_settings).product("shop.orders")
