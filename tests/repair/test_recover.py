"""A catalog that is lost costs nothing: nothing is created over a product's files, and recover brings them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from mesh_pipelines.cli.main import invoke
from mesh_pipelines.errors import TablesLost, UnknownProduct
from mesh_pipelines.lake.lost import lost_in
from mesh_pipelines.observe.status import status
from mesh_pipelines.observe.store.records import Health
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.plan.draft import draft
from mesh_pipelines.platform import Platform
from mesh_pipelines.repair.recover import recover, recoverable
from mesh_pipelines.serve.reading import read_version
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract

JSON = "- {property: mesh.wireFormat, value: json}"
STATE = "- {name: page, logicalType: string, primaryKey: true}\n- {name: ms, logicalType: integer}"


class Mesh:
    """A keyed product and one derived from it, with three versions each, of ten events a version."""

    def __init__(self, settings: Settings, contract: Any) -> None:
        self.settings = settings
        self.clicks = contract("clicks", STATE, more=JSON)
        self.pages = contract(
            "pages",
            STATE,
            alignment="aggregate-aligned",
            more=f"- {{property: mesh.inputs, value: [{self.clicks}]}}",
            transform=f"SELECT page, ms FROM {self.clicks}",
        )
        platform = self.open()
        apply_contracts(platform, platform.in_order)
        for number in range(3):
            self.send(10 * number, 10)
            assert not [one.error for one in run(self.open()) if one.error]
        self.versions = self.rows()

    def open(self) -> Platform:
        return Platform.open(self.settings)

    def send(self, first: int, events: int) -> None:
        producer = Producer({"bootstrap.servers": self.settings.brokers})
        for number in range(first, first + events):
            producer.produce(self.clicks, key=f"p{number}", value=json.dumps({"page": f"p{number}", "ms": number}))
        assert producer.flush(30) == 0

    def rows(self) -> dict[tuple[str, int], list[Any]]:
        """What each version of each product reads."""
        platform = self.open()
        found: dict[tuple[str, int], list[Any]] = {}
        for name in (self.clicks, self.pages):
            for version in platform.tables_of(platform.product(name)).versions.all():
                reading = read_version(platform.catalog, platform.product(name), version=version.number)
                found[name, version.number] = sorted(map(str, reading.arrow().to_pylist()))
        return found

    def lose_catalog(self) -> None:
        for file in self.settings.home.glob("catalog.db*"):
            file.unlink()

    def trim(self) -> None:
        """Drop what was landed, as retention does."""
        admin = AdminClient({"bootstrap.servers": self.settings.brokers})
        [done] = admin.delete_records([TopicPartition(self.clicks, 0, 23)]).values()
        done.result()


@pytest.fixture
def mesh(settings: Settings, contract: Any, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    made = Mesh(settings, contract)
    for name in ("home", "assets", "bootstrap_servers", "schema_registry_url"):
        monkeypatch.setenv(f"MESH_{name.upper()}", str(getattr(settings, name)))
    return made


@pytest.mark.services
@pytest.mark.timeout(280)
def test_a_lost_catalog_is_an_error_and_recover_brings_every_version_back(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(mesh.versions) == 6
    mesh.lose_catalog()
    mesh.trim()

    for found in status(mesh.open()):
        assert (found.health, found.is_well) == (Health.BAD, False)
        assert str(found.problem).startswith("M414")
        assert found.next_step == f"mesh recover {found.product}"
    assert invoke(["apply"]) != 0
    assert "M414" in capsys.readouterr().err
    refused = draft(mesh.open(), [mesh.clicks, mesh.pages]).refused
    assert all(isinstance(error, TablesLost) for error in refused[mesh.clicks])
    with pytest.raises(TablesLost):
        apply_contracts(mesh.open(), mesh.open().in_order)
    platform = mesh.open()
    with pytest.raises(TablesLost):
        platform.tables_of(platform.proposed[mesh.clicks]).create()
    assert all(isinstance(one.error, TablesLost) for one in run(mesh.open()))
    assert invoke(["run"]) == 3
    assert invoke(["doctor"]) != 0
    assert "M414" in capsys.readouterr().out

    assert invoke(["recover", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert mesh.clicks in shown
    assert "7 tables can be brought back" in shown
    assert lost_in(mesh.open().tables)
    assert invoke(["recover"]) == 0

    assert lost_in(mesh.open().tables) == {}
    assert mesh.rows() == mesh.versions
    assert {one.health for one in status(mesh.open())} == {Health.GOOD}, status(mesh.open())
    assert apply_contracts(mesh.open(), mesh.open().in_order) == ()
    mesh.send(30, 10)
    assert not [one.error for one in run(mesh.open()) if one.error]
    now = mesh.rows()
    assert len(now[mesh.pages, 4]) == 40
    assert now == {**mesh.versions, (mesh.clicks, 4): now[mesh.clicks, 4], (mesh.pages, 4): now[mesh.pages, 4]}


@pytest.mark.services
@pytest.mark.timeout(280)
def test_a_catalog_that_lost_one_table_is_as_one_that_lost_all(mesh: Mesh) -> None:
    for kind in ("log", "versions", "checks"):
        mesh.open().catalog.drop_table((*mesh.clicks.split("."), kind))
        [found] = [one for one in status(mesh.open()) if one.product == mesh.clicks]
        assert (found.health, str(found.problem)[:4]) == (Health.BAD, "M414")
        with pytest.raises(TablesLost):
            apply_contracts(mesh.open(), mesh.open().in_order)
        [lost] = recoverable(mesh.open(), [mesh.clicks])
        assert lost.kind == kind
        recover(mesh.open(), lost)
        assert mesh.rows() == mesh.versions


@pytest.mark.services
@pytest.mark.timeout(280)
def test_torn_metadata_is_passed_over_and_none_at_all_is_said(mesh: Mesh) -> None:
    mesh.lose_catalog()
    folder = mesh.settings.home / "warehouse" / mesh.clicks / "versions" / "metadata"
    newest = max(folder.glob("*.metadata.json"))
    (folder / "99999-torn.metadata.json").write_bytes(newest.read_bytes()[:100])
    for lost in recoverable(mesh.open()):
        recover(mesh.open(), lost)
    assert mesh.rows() == mesh.versions

    mesh.lose_catalog()
    for file in folder.glob("*.metadata.json"):
        file.unlink()
    with pytest.raises(TablesLost):
        apply_contracts(mesh.open(), mesh.open().in_order)
    [lost] = [one for one in recoverable(mesh.open(), [mesh.clicks]) if one.kind == "versions"]
    with pytest.raises(TablesLost, match="no metadata that can be read"):
        recover(mesh.open(), lost)


@pytest.mark.services
@pytest.mark.timeout(280)
def test_a_product_without_a_file_is_red_where_its_catalog_is_lost(mesh: Mesh) -> None:
    mesh.lose_catalog()
    for name in (mesh.clicks, mesh.pages):
        (mesh.settings.assets / name.replace(".", "/") / "contract.yaml").unlink()
        (mesh.settings.assets / name.replace(".", "/") / "transform.sql").unlink(missing_ok=True)
    assert {(one.product, one.health) for one in status(mesh.open())} == {
        (mesh.clicks, Health.BAD),
        (mesh.pages, Health.BAD),
    }


def test_tables_that_were_never_written_to_are_nothing_to_lose(local_settings: Settings) -> None:
    write_contract(local_settings.assets, contract_text("shop.orders"))
    platform = Platform.open(local_settings)
    assert platform.tables_of(platform.proposed["shop.orders"]).create()
    for file in Path(local_settings.home).glob("catalog.db*"):
        file.unlink()
    again = Platform.open(local_settings)
    assert lost_in(again.tables) == {}
    assert again.tables_of(again.proposed["shop.orders"]).create()
    with pytest.raises(UnknownProduct):
        recoverable(again, ["shop.none"])
