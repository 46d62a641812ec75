"""Many tables in one go: their properties, where their products stand, and the serving file of them all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import TableMissing
from mesh_pipelines.lake.catalog import open_catalog, table_name
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.properties import TableProperties
from mesh_pipelines.lake.standing import standings
from mesh_pipelines.lake.tables import kinds
from mesh_pipelines.positions import Position
from mesh_pipelines.serve.bi_file import write_serving_file
from mesh_pipelines.settings import Settings
from tests.building import contract_text, land_rows, log_row, next_offset, publish_version, version_of, written

NAMES = ("applied", "half", "landed", "not_applied", "published", "blocked", "ahead")


def product_of(folder: Path, name: str, description: str = "Orders.") -> DataProduct:
    return written(folder, contract_text(f"shop.{name}").replace("A product of a test.", description))


def land(catalog: Any, product: DataProduct, *fates: str) -> Position:
    tables = ProductTables(catalog, product)
    first = next_offset(tables)
    return land_rows(tables, [log_row(first + n, {"id": "k"}, fate=fate) for n, fate in enumerate(fates)])


def propose(catalog: Any, product: DataProduct, number: int, *, passed: bool = True, publish: bool = True) -> None:
    tables = ProductTables(catalog, product)
    position = tables.log.position()
    assert position is not None
    version = version_of(product, number, position, passed=passed)
    if publish:
        publish_version(tables, version)
    else:
        tables.versions.propose(version)


@pytest.fixture
def mesh(tmp_path: Path) -> tuple[Any, dict[str, DataProduct]]:
    """A product in each state there is."""
    catalog = open_catalog(Settings(home=tmp_path))
    products = {name: product_of(tmp_path, name) for name in NAMES}
    for name, product in products.items():
        if name != "not_applied":
            ProductTables(catalog, product).create()
    catalog.drop_table(table_name(products["half"], "checks"))
    for name in ("landed", "published", "blocked", "ahead"):
        land(catalog, products[name], "ok", "ok", "diverted")
    for name in ("published", "blocked", "ahead"):
        propose(catalog, products[name], 1)
    propose(catalog, products["blocked"], 2, passed=False, publish=False)
    land(catalog, products["ahead"], "ok")
    return catalog, products


class Another:
    """A catalog that is asked table by table, as one of another kind is: this one, without its being an SQL catalog."""

    def __init__(self, catalog: Any) -> None:
        self.load_table: Callable[..., Any] = catalog.load_table
        self.table_exists: Callable[..., bool] = catalog.table_exists


@pytest.fixture(params=["sql", "another"])
def tables(request: pytest.FixtureRequest, mesh: tuple[Any, dict[str, DataProduct]]) -> TableProperties:
    return TableProperties(mesh[0] if request.param == "sql" else Another(mesh[0]))  # pyright: ignore[reportArgumentType]


def test_properties_are_those_of_the_tables(mesh: tuple[Any, dict[str, DataProduct]], tables: TableProperties) -> None:
    catalog, products = mesh
    names = [table_name(product, kind) for product in products.values() for kind in kinds(product)]
    there = [name for name in names if catalog.table_exists(name)]
    assert len(there) == len(names) - 5
    for _ in range(2):
        assert tables.of(names) == {name: catalog.load_table(name).properties for name in there}
        assert tables.locations(names) == {name: catalog.load_table(name).metadata_location for name in there}
        assert tables.existing(names) == set(there)
        land(catalog, products["landed"], "ok", "undecodable")


def test_standings_are_what_the_tables_say(mesh: tuple[Any, dict[str, DataProduct]], tables: TableProperties) -> None:
    catalog, products = mesh
    found = standings(tables, products.values())
    for product in products.values():
        standing = found[product.fqn]
        assert standing.applied is ProductTables(catalog, product).exist()
        held = (standing.quarantined, standing.redriven)
        assert told(catalog, product) == (
            standing.missing or (standing.published, standing.newest, standing.position, *held)
        )


def told(catalog: Any, product: DataProduct) -> tuple[Any, ...] | str:
    """What the tables themselves say, one by one."""
    versions, log = ProductTables(catalog, product).versions, ProductTables(catalog, product).log
    try:
        return versions.published(), versions.newest(), log.position(), log.quarantined(), log.redriven()
    except TableMissing as error:
        return f"{error.code} {error.message}"


def test_only_what_is_new_is_read(mesh: tuple[Any, dict[str, DataProduct]]) -> None:
    catalog, products = mesh
    tables = TableProperties(catalog)
    names = [table_name(products[name], "log") for name in ("landed", "ahead")]
    before = tables.of(names)
    for name in names:
        Path(catalog.load_table(name).metadata_location.removeprefix("file://")).write_text("not JSON")
    assert tables.of(names) == before


def test_a_table_that_moves_on_meanwhile_is_read_as_it_is_then(
    mesh: tuple[Any, dict[str, DataProduct]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the catalog's answer and the reading of the file, writers may have dropped the file."""
    from mesh_pipelines.lake import properties

    catalog, products = mesh
    name = table_name(products["landed"], "log")
    locations = properties._locations(catalog)

    def move_on(_: Any) -> dict[tuple[str, ...], str]:
        land(catalog, products["landed"], "ok")
        Path(locations[name].removeprefix("file://")).unlink()
        return locations

    monkeypatch.setattr(properties, "_locations", move_on)
    assert TableProperties(catalog).of([name]) == {
        name: ProductTables(catalog, products["landed"]).load("log").properties
    }


def views(file: Path) -> dict[str, tuple[str, str]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        found = connection.execute("SELECT view_name, sql, comment FROM duckdb_views() WHERE NOT internal").fetchall()
    return {name: (sql, comment) for name, sql, comment in found}


def test_the_serving_file_follows_what_changes_and_nothing_else(
    mesh: tuple[Any, dict[str, DataProduct]], tmp_path: Path
) -> None:
    catalog, products = mesh
    settings, tables = Settings(home=tmp_path), TableProperties(catalog)

    def write() -> dict[str, tuple[str, str]]:
        return views(write_serving_file(settings, products.values(), tables))

    first = write()
    assert first.keys() == {"published", "blocked", "ahead"}
    with duckdb.connect(str(settings.serving_file)) as connection:
        # A view that is not written anew keeps what was put in its place.
        connection.execute("CREATE OR REPLACE VIEW shop.published AS SELECT 'as it was' AS id")
        connection.execute(f"COMMENT ON VIEW shop.published IS '{first['published'][1]}'")
    land(catalog, products["ahead"], "ok")
    propose(catalog, products["ahead"], 2)
    second = write()
    assert "as it was" in second["published"][0]
    assert second["blocked"] == first["blocked"]
    assert second["ahead"][1].startswith("version 2, ")
    products["published"] = product_of(tmp_path, "published", "Described anew.")
    assert "Described anew" in write()["published"][1]
    del products["blocked"]
    assert write().keys() == {"published", "ahead"}


def test_a_serving_file_that_cannot_be_read_is_written_anew(
    mesh: tuple[Any, dict[str, DataProduct]], tmp_path: Path
) -> None:
    catalog, products = mesh
    settings = Settings(home=tmp_path)
    settings.serving_file.write_text(json.dumps("no database"))
    file = write_serving_file(settings, products.values(), TableProperties(catalog))
    assert views(file).keys() == {"published", "blocked", "ahead"}
