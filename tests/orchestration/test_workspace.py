"""The workspace that Dagster loads: a location a domain, told apart by what each was made of, and written at once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mesh_pipelines.orchestration.locations import Location, Locations
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract


class Domains:
    """A folder of contracts, and the locations of its home."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.locations = Locations(settings)

    def add(self, fqn: str) -> Path:
        return write_contract(self.settings.assets, contract_text(fqn))

    def told(self) -> list[tuple[str, str]]:
        """What Dagster is told to load: names of locations and their files."""
        entries = json.loads(self.locations.workspace.read_text())["load_from"]
        files = [one["python_file"] for one in entries]
        return [(one["location_name"], Path(one["relative_path"]).name) for one in files]

    def write(self) -> dict[str, Location]:
        now = self.locations.now()
        self.locations.write(now)
        return now


@pytest.fixture
def domains(local_settings: Settings) -> Domains:
    local_settings.assets.mkdir(parents=True)
    return Domains(local_settings)


def test_a_mesh_without_contracts_has_no_locations(domains: Domains) -> None:
    assert domains.write() == {}
    assert domains.told() == []
    assert domains.locations.loaded() == {}


def test_a_domain_is_a_location(domains: Domains) -> None:
    for fqn in ("shop.orders", "shop.returns", "finance.best"):
        domains.add(fqn)
    now = domains.write()
    assert set(now) == {"shop", "finance"}
    assert domains.told() == [("finance", "finance_location.py"), ("shop", "shop_location.py")]
    assert domains.locations.loaded() == now


def test_folders_without_a_contract_are_no_domain(domains: Domains) -> None:
    (domains.settings.assets / "shared" / "notes").mkdir(parents=True)
    (domains.settings.assets / "shared" / "contract.yaml").write_text("not a product's")
    assert domains.locations.now() == {}


def test_nothing_changes_while_nothing_changes(domains: Domains) -> None:
    domains.add("shop.orders")
    assert domains.locations.now() == domains.locations.now() == Locations(domains.settings).now()


@pytest.mark.parametrize("what", ["contract", "transform", "python", "gone"])
def test_a_change_of_a_domains_files_changes_its_digest_and_no_others(domains: Domains, what: str) -> None:
    orders = domains.add("shop.orders")
    domains.add("shop.returns")
    domains.add("finance.best")
    before = domains.locations.now()
    match what:
        case "contract":
            (orders / "contract.yaml").write_text(contract_text("shop.orders", version="1.0.1") + "\n")
        case "transform":
            (orders / "transform.sql").write_text("SELECT 1")
        case "python":
            (orders.parent / "shared" / "deep").mkdir(parents=True)
            (orders.parent / "shared" / "deep" / "own.py").write_text("x = 1")
        case _:
            (orders / "contract.yaml").unlink()
    after = domains.locations.now()
    assert before["shop"].digest != after["shop"].digest
    assert before["finance"] == after["finance"]


def test_a_file_that_is_no_part_of_a_product_changes_nothing(domains: Domains) -> None:
    orders = domains.add("shop.orders")
    before = domains.locations.now()
    (orders / "README.md").write_text("notes")
    assert domains.locations.now() == before


def test_a_file_written_again_with_the_same_size_is_seen(domains: Domains) -> None:
    orders = domains.add("shop.orders") / "contract.yaml"
    before = domains.locations.now()
    text = orders.read_text()
    orders.write_text(text.replace("1.0.0", "1.0.1"))
    os.utime(orders, ns=(1, 1))
    assert domains.locations.now()["shop"].digest != before["shop"].digest


def test_a_domain_with_definitions_of_its_own_is_loaded_from_them(domains: Domains) -> None:
    domain = domains.add("shop.orders").parent
    before = domains.write()
    (domain / "definitions.py").write_text("defs = None")
    after = domains.write()
    assert Path(after["shop"].file) == domain / "definitions.py"
    assert before["shop"].file != after["shop"].file
    assert domains.told() == [("shop", "definitions.py")]


def test_what_loaded_a_domain_that_is_gone_goes(domains: Domains) -> None:
    orders = domains.add("shop.orders")
    domains.add("finance.best")
    domains.write()
    home = domains.locations.workspace.parent
    kept = home / "notes.py"
    kept.write_text("not a location")
    (orders / "contract.yaml").unlink()
    domains.write()
    assert sorted(file.name for file in home.glob("*.py")) == ["finance_location.py", "notes.py"]
    assert set(domains.locations.loaded()) == {"finance"}
    assert [file.name for file in home.glob("*.new")] == []


def test_what_was_loaded_is_not_what_there_is_now(domains: Domains) -> None:
    domains.add("shop.orders")
    written = domains.write()
    domains.add("shop.returns")
    assert domains.locations.loaded() == written
    assert domains.locations.now() != written


def test_a_loader_is_python_that_names_its_domain(domains: Domains) -> None:
    domains.add("shop.orders")
    now = domains.write()
    text = Path(now["shop"].file).read_text()
    compile(text, "loader", "exec")
    assert "shop" in text
