"""The upkeep of a domain runs by itself, and a product without a version is no fault of it."""

from __future__ import annotations

import dagster as dg

from mesh_pipelines.contract.scaffold import scaffold
from mesh_pipelines.orchestration.definitions import domain_definitions
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings


def test_what_runs_by_itself(local_settings: Settings) -> None:
    scaffold(local_settings.assets, "shop/orders")
    schedules = domain_definitions("shop", local_settings).get_repository_def().schedule_defs
    running = {one.name for one in schedules if one.default_status is dg.DefaultScheduleStatus.RUNNING}
    assert running == {"shop_compact_hourly", "shop_expire_hourly", "shop_rebuild_weekly"}


def test_only_a_fault_fails_the_rebuild(local_settings: Settings) -> None:
    scaffold(local_settings.assets, "shop/orders")
    definitions = domain_definitions("shop", local_settings)
    rebuild = definitions.resolve_job_def("shop_rebuild")
    with dg.instance_for_test() as instance:
        assert not rebuild.execute_in_process(instance=instance, raise_on_error=False).success, "it has no tables"
        for name in ("shop_compact", "shop_expire"):
            assert definitions.resolve_job_def(name).execute_in_process(instance=instance).success, "nothing to tidy up"
        platform = Platform.open(local_settings)
        platform.tables_of(platform.product("shop.orders")).create()
        assert rebuild.execute_in_process(instance=instance).success
