"""A running Dagster follows the assets folder: domains and products come, change, move and go without a restart."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from mesh_pipelines.local.supervisor import Supervisor
from mesh_pipelines.observe.status import status
from mesh_pipelines.orchestration.graphql import ask, load_errors, locations
from mesh_pipelines.orchestration.instance import children
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

FIELDS = "- {name: page, logicalType: string}\n- {name: ms, logicalType: integer}"
JSON = "- {property: mesh.wireFormat, value: json}"
# Others' tests run meanwhile; without following, nothing of all this would come to be at all.
PATIENCE_S = 120
_ASSETS = "{ assetNodes { assetKey { path } } }"


@pytest.fixture
def dagster(settings: Settings, ports: list[int]) -> Iterator[Settings]:
    """Dagster over an assets folder in which nothing is yet."""
    settings = settings.model_copy(update={"dagster_port": ports[0]})
    with Supervisor() as supervisor:
        supervisor.start(children(settings))
        yield settings


def until(condition: Callable[[], bool], told: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)


def assets(settings: Settings) -> set[str]:
    """The products that the web UI shows."""
    return {".".join(node["assetKey"]["path"][:2]) for node in ask(settings, _ASSETS)["assetNodes"]}


def applied(settings: Settings) -> Platform:
    platform = Platform.open(settings)
    assert not platform.broken, platform.broken
    apply_contracts(platform, [*platform.proposed.values()])
    return platform


def send(settings: Settings, topic: str, events: int) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers})
    for number in range(events):
        producer.produce(topic, value=json.dumps({"page": "p", "ms": number}))
    assert producer.flush(30) == 0


def rows(settings: Settings, name: str) -> int | None:
    platform = Platform.open(settings)
    version = platform.tables_of(platform.product(name)).versions.published()
    return version and version.rows


def problems(settings: Settings, name: str) -> list[str]:
    """What status says of a product, but for what passes by itself."""
    [found] = [one for one in status(Platform.open(settings)) if one.product == name]
    return [one.kind for one in found.problems if one.severity == "bad"]


def test_domains_and_products_that_come_move_and_go_are_followed(dagster: Settings, contract: Any) -> None:
    assert locations(dagster) == []

    first = contract("clicks", FIELDS, kind="measurement", more=JSON)
    applied(dagster)
    send(dagster, first, 5)
    until(lambda: rows(dagster, first) == 5, lambda: (rows(dagster, first), locations(dagster)))
    assert locations(dagster) == [first.split(".")[0]]

    beside = contract("views", FIELDS, kind="measurement", more=JSON)
    other = contract("orders", FIELDS, kind="measurement", more=JSON, domain="trade")
    applied(dagster)
    send(dagster, beside, 3)
    send(dagster, other, 4)
    until(
        lambda: (rows(dagster, beside), rows(dagster, other)) == (3, 4),
        lambda: (rows(dagster, beside), rows(dagster, other), locations(dagster)),
    )
    until(lambda: {first, beside, other} <= assets(dagster), lambda: assets(dagster))
    assert load_errors(dagster) == {}

    own = dagster.assets / other.split(".")[0] / "definitions.py"
    own.write_text("this is not Python")
    until(lambda: list(load_errors(dagster)) == [other.split(".")[0]], lambda: load_errors(dagster))
    until(lambda: problems(dagster, other) == ["unloaded"], lambda: problems(dagster, other))
    assert problems(dagster, first) == []
    send(dagster, first, 1)
    until(lambda: rows(dagster, first) == 6, lambda: rows(dagster, first))
    own.write_text("from mesh_pipelines.orchestration.definitions import of_folder\n\ndefs = of_folder(__file__)\n")
    send(dagster, other, 1)
    until(lambda: rows(dagster, other) == 5, lambda: (rows(dagster, other), load_errors(dagster)))
    until(lambda: load_errors(dagster) == {}, lambda: load_errors(dagster))
    until(lambda: problems(dagster, other) == [], lambda: problems(dagster, other))

    renamed = contract("purchases", FIELDS, kind="measurement", more=JSON, domain="sales")
    shutil.rmtree(dagster.assets / other.split(".")[0])
    shutil.rmtree(dagster.assets / beside.split(".")[0] / "views")
    applied(dagster)
    wanted = {first, renamed}
    until(lambda: assets(dagster) == wanted, lambda: assets(dagster))
    assert locations(dagster) == sorted(name.split(".")[0] for name in wanted)
    send(dagster, renamed, 2)
    until(lambda: rows(dagster, renamed) == 2, lambda: rows(dagster, renamed))
    stale = dagster.home / "dagster" / f"{other.split('.')[0]}_location.py"
    assert not stale.exists()
