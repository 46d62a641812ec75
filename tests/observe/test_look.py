"""One look at every product, and who may look: one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mesh_pipelines.errors import BrokerUnreachable
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.observe.look import look, told
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.lease import Lease, LeaseLost
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract

NOW = datetime(2026, 3, 4, tzinfo=UTC)


def test_an_error_is_one_line() -> None:
    assert told(BrokerUnreachable("no answer", next_step="mesh doctor")) == "M401 no answer"
    assert told(ValueError("first line\nsecond line")) == "ValueError: first line"
    assert told(ValueError()) == "ValueError: "
    assert "s3cret" not in told(OSError("at http://user:s3cret@host/path"))


def derived(assets: Path, name: str, *inputs: str) -> None:
    names = ", ".join(f"shop.{one}" for one in inputs)
    text = contract_text(
        f"shop.{name}", alignment="aggregate-aligned", settings=f"- {{property: mesh.inputs, value: [{names}]}}"
    )
    write_contract(assets, text, f"SELECT id FROM shop.{inputs[0]}")


@pytest.fixture
def platform(local_settings: Settings) -> Platform:
    """Products that no broker has to be asked for, each made from the one before."""
    derived(local_settings.assets, "one", "two")
    derived(local_settings.assets, "two", "three")
    derived(local_settings.assets, "three", "four")
    derived(local_settings.assets, "apart", "four")
    (write_contract(local_settings.assets, contract_text("shop.four")) / "contract.yaml").write_text("name: broken")
    found = Platform.open(local_settings)
    for name in ("one", "two", "apart"):
        found.tables_of(found.product(f"shop.{name}")).create()
    return found


def names(platform: Platform) -> dict[str, str | None]:
    return {one.level.product.fqn: one.level.standing.missing for one in look(platform, NOW)}


def test_every_sound_product_is_seen_after_its_inputs(platform: Platform) -> None:
    found = names(platform)
    assert [name for name in found if name != "shop.apart"] == ["shop.three", "shop.two", "shop.one"]
    assert (found["shop.one"], found["shop.two"], found["shop.apart"]) == (None, None, None)
    assert str(found["shop.three"]).startswith("M405 ")


def test_one_whose_tables_cannot_be_read_says_so_with_what_reads_it_and_keeps_no_other_from_being_seen(
    platform: Platform,
) -> None:
    tables = ProductTables(platform.catalog, platform.product("shop.two"))
    Path(tables.load("versions").metadata_location.removeprefix("file://")).write_text("{")
    found = names(Platform.open(platform.settings))
    assert set(found) == {"shop.three", "shop.two", "shop.one", "shop.apart"}
    for name in ("shop.two", "shop.one"):
        assert str(found[name]).startswith("M411 shop.two: the metadata of its table versions cannot be read")
    assert found["shop.apart"] is None


def test_no_products_are_no_look(local_settings: Settings) -> None:
    local_settings.assets.mkdir(parents=True)
    assert look(Platform.open(local_settings), NOW) == []


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.db")
    yield opened
    opened.close()


def test_one_process_observes_at_a_time(history: History) -> None:
    first, second = Lease(history), Lease(history)
    assert first.take()
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()
    assert not first.take()


def test_who_lost_the_right_writes_nothing(history: History) -> None:
    first, second = Lease(history, seconds=0.0), Lease(history, seconds=30.0)
    assert first.take()
    # It lasted for no time, as for a process that slept.
    assert second.take()
    with pytest.raises(LeaseLost), history.writing() as writer:
        writer.sample("a.b", "lag", NOW, 1.0)
        first.keep(writer)
    with pytest.raises(LeaseLost):
        first.keep()
    assert history.samples("a.b", "lag", since=datetime(2000, 1, 1, tzinfo=UTC)) == []


def test_who_does_not_hold_it_releases_nothing(history: History) -> None:
    first, second = Lease(history), Lease(history)
    first.take()
    second.release()
    assert not second.take()


def test_keeping_it_within_its_time_asks_for_nothing(history: History) -> None:
    lease = Lease(history)
    lease.take()
    history.close()
    lease.keep()
