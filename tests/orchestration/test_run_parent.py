"""Under Dagster a step's run has Dagster's run as its parent."""

from __future__ import annotations

import json

import dagster as dg
from dagster_duckdb import DuckDBResource

from mesh_pipelines.contract.scaffold import scaffold
from mesh_pipelines.orchestration.assets import part_key, product_assets
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings


def test_a_step_is_a_child_of_dagsters_run(local_settings: Settings) -> None:
    scaffold(local_settings.assets, "shop/orders")
    file = local_settings.home / "lineage.jsonl"
    platform = Platform.open(local_settings.model_copy(update={"openlineage_file": file}))
    orders = platform.product("shop.orders")
    platform.tables_of(orders).create()
    with dg.instance_for_test() as instance:
        done = dg.materialize(
            product_assets(platform, orders),
            selection=[part_key(orders, "snapshot")],
            resources={"duckdb": DuckDBResource(database=":memory:")},
            instance=instance,
            raise_on_error=False,
        )
    assert not done.success
    began, failed = (json.loads(line) for line in file.read_text().splitlines()[:2])
    assert [began["eventType"], failed["eventType"]] == ["START", "FAIL"]
    assert began["run"]["facets"]["parent"]["run"]["runId"] == done.run_id
    assert failed["run"]["facets"]["errorMessage"]["message"].startswith("M203 ")
