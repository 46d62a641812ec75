"""What is kept of contracts: exact, used, and never of another time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mesh_pipelines.contract.read.load import load_products

ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    shutil.copytree(ASSETS, tmp_path / "assets")
    return tmp_path / "assets"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "contracts.json"


def test_kept_products_are_exact(assets: Path, kept: Path) -> None:
    anew = load_products(assets)
    assert repr(load_products(assets, kept)) == repr(anew)
    assert repr(load_products(assets, kept)) == repr(anew)


def test_kept_products_are_used(assets: Path, kept: Path) -> None:
    load_products(assets, kept)
    kept.write_text(kept.read_text().replace('"owner":"', '"owner":"kept-'))
    assert all(product.owner.startswith("kept-") for product in load_products(assets, kept).products.values())


@pytest.mark.parametrize("name", ["contract.yaml", "transform.sql", "schema.avsc"])
def test_a_changed_file_is_read_again(assets: Path, kept: Path, name: str) -> None:
    before = load_products(assets, kept)
    file = assets / "insights" / "punctuality" / name
    file.write_text((file.read_text() if file.exists() else "") + "\n# another end\n")
    after = load_products(assets, kept)
    assert repr(after) == repr(load_products(assets))
    assert repr(after) != repr(before) or name == "contract.yaml"


def test_faults_are_found_each_time(assets: Path, kept: Path) -> None:
    file = assets / "weather" / "observations" / "contract.yaml"
    sound = file.read_text()
    file.write_text(sound.replace("logicalType: string", "logicalType: text", 1))
    for _ in range(2):
        assert list(load_products(assets, kept).broken) == ["weather.observations"]
    file.write_text(sound)
    assert not load_products(assets, kept).broken


def test_links_are_refused_though_what_they_lead_to_is_kept(assets: Path, kept: Path) -> None:
    load_products(assets, kept)
    file = assets / "operations" / "planes" / "contract.yaml"
    file.rename(file.with_name("elsewhere.yaml"))
    file.symlink_to("elsewhere.yaml")
    assert list(load_products(assets, kept).broken) == ["operations.planes"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": {"domain": 1}}'])
def test_a_file_that_makes_no_sense_is_written_anew(assets: Path, kept: Path, content: str) -> None:
    kept.write_text(content)
    assert len(load_products(assets, kept).products) == 6
    assert len(kept.read_text()) > 10_000


def test_nothing_is_kept_where_there_is_no_home(assets: Path, tmp_path: Path) -> None:
    load_products(assets, tmp_path / "nowhere" / "contracts.json")
    assert not (tmp_path / "nowhere").exists()
