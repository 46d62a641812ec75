"""The order in which a run does the steps of its products."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from confluent_kafka import Producer

from mesh_pipelines.orchestration.assets import published_key
from mesh_pipelines.orchestration.definitions import domain_definitions
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

JSON = "- {property: mesh.wireFormat, value: json}"


def test_a_product_is_published_before_the_next_is_landed(settings: Settings, contract: Any) -> None:
    names = [
        contract(name, "- {name: page, logicalType: string}", kind="measurement", more=JSON)
        for name in ("clicks", "searches", "views")
    ]
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    producer = Producer({"bootstrap.servers": settings.brokers})
    for name in names:
        producer.produce(name, value='{"page": "/"}')
    assert producer.flush(30) == 0
    domain = names[0].split(".")[0]
    job = domain_definitions(domain, settings).resolve_implicit_global_asset_job_def()
    with dg.instance_for_test() as instance:
        done = job.execute_in_process(instance=instance)
        published = [done.asset_materializations_for_node(f"{name.replace('.', '__')}__publish") for name in names]
    assert [one.asset_key for [one] in published] == [published_key(name) for name in names]
    steps = [event.step_key for event in done.all_events if event.is_step_success]
    assert len(steps) == 3 * len(names)
    for place in range(0, len(steps), 3):
        product = str(steps[place]).removesuffix("__land")
        assert steps[place : place + 3] == [f"{product}__land", f"{product}__snapshot", f"{product}__publish"]
