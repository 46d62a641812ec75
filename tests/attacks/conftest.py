"""A mesh with one published product, one whose rows nobody may see yet, and secrets beside them; no service."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.scaffold import scaffold
from mesh_pipelines.engine import View
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.pipeline import transform
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.snapshot import input_views, snapshot
from mesh_pipelines.platform import Platform
from mesh_pipelines.sandbox.author import Allowance
from mesh_pipelines.sandbox.inside import Terms, database
from mesh_pipelines.settings import Settings
from tests.building import land_rows, log_row

SECRET = "the-secret-nobody-may-read"


@dataclass(frozen=True)
class Mesh:
    """``shop.orders`` is published, ``hr.salaries`` landed and not published, ``insights.totals`` reads the first."""

    platform: Platform
    secret: Path
    out: Path
    password: str = SECRET

    @property
    def home(self) -> Path:
        return self.platform.settings.home

    @property
    def data(self) -> Path:
        """A data file of ``hr.salaries``."""
        return next(path for path in (self.home / "warehouse").rglob("*.parquet") if "salaries" in str(path))

    @property
    def totals(self) -> DataProduct:
        return self.platform.products["insights.totals"]

    def files(self) -> set[Path]:
        """Every file there is, but what the engine spills."""
        spill = self.home / "spill"
        return {path for path in self.home.parent.rglob("*") if path.is_file() and spill not in path.parents}

    def engine(self) -> duckdb.DuckDBPyConnection:
        """A database such as a transform of ``insights.totals`` runs in, in this process."""
        views = tuple((tuple(name.split(".")), view) for name, view in self.inputs.items())
        spill = self.home / "spill"
        spill.mkdir(exist_ok=True)
        return database(Terms(views, "600MB", str(spill)))

    @property
    def inputs(self) -> dict[str, View]:
        """What ``insights.totals`` is given."""
        return input_views(self.platform, {"shop.orders": 1})

    @property
    def allowance(self) -> Allowance:
        return Allowance.of(self.platform.settings)

    def transformed(self, sql: str, seconds: float = 60) -> pa.Table:
        """The rows of ``insights.totals``, if this were its SQL."""
        product = replace(self.totals, transform=replace(self.totals.transform, sql=sql))
        return transform.run(product, self.inputs, replace(self.allowance, seconds=seconds)).read_all()


def _land(catalog: Any, product: DataProduct, ids: list[str]) -> None:
    tables = ProductTables(catalog, product)
    tables.create()
    at = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    rows = [log_row(offset, {"id": name, "changed_at": at}, key=name.encode()) for offset, name in enumerate(ids)]
    land_rows(tables, rows)


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    # A folder whose name has to be quoted, in SQL and in a URI.
    root = tmp_path_factory.mktemp("mesh") / "it's a mesh"
    assets = root / "assets"
    for name, inputs in (("shop/orders", ()), ("hr/salaries", ()), ("insights/totals", ("shop.orders",))):
        scaffold(assets, name, inputs=inputs)
    platform = Platform.open(Settings(home=root / "home", assets=assets))
    orders, salaries = platform.products["shop.orders"], platform.products["hr.salaries"]
    _land(platform.catalog, orders, ["a", "b"])
    _land(platform.catalog, salaries, [SECRET])
    snapshot(platform, orders)
    publish(platform, orders)
    secret = platform.settings.home / "secret.txt"
    secret.write_text(SECRET)
    return Mesh(platform, secret, root / "out")
