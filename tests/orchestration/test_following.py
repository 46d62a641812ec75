"""Derived products follow their inputs through a live Dagster: over two levels and two domains, with runs in flight.

TEST_ROUNDS=5 runs the rounds of bursts that a change of the scheduling needs; the suite runs one. The promised times
hold on a machine that does nothing else: TEST_PATIENCE=1 asks for them. Other tests of the suite run meanwhile, so by
itself it allows three times as long, in which no product that was left behind for good would come back.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from confluent_kafka import Producer

from mesh_pipelines.local.supervisor import Supervisor
from mesh_pipelines.orchestration.graphql import load_errors
from mesh_pipelines.orchestration.instance import children
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Version
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS = int(os.environ.get("TEST_ROUNDS", "1"))
PATIENCE = float(os.environ.get("TEST_PATIENCE", "3"))
BURSTS = 20
FOLLOWED_S = 30 * PATIENCE
STEADY_S = 40
# The promise under steady input where a contract makes none (docs/service-levels.md).
PROMISED_S = 15 * PATIENCE
FIELDS = "- {name: page, logicalType: string}\n- {name: ms, logicalType: integer}"
PAGES = "- {name: page, logicalType: string, primaryKey: true}\n- {name: hits, logicalType: integer}"
TOTALS = "- {name: of, logicalType: string, primaryKey: true}\n- {name: hits, logicalType: integer}"


class Mesh:
    """clicks (a topic) <- pages <- totals, the last in a domain of its own."""

    def __init__(self, settings: Settings, contract: Any) -> None:
        self.clicks = contract("clicks", FIELDS, kind="measurement", more="- {property: mesh.wireFormat, value: json}")
        self.pages = self._derived(
            contract, "pages", PAGES, self.clicks, f"SELECT page, count(*) AS hits FROM {self.clicks} GROUP BY page"
        )
        total = f"SELECT 'all' AS of, CAST(sum(hits) AS BIGINT) AS hits FROM {self.pages}"
        self.totals = self._derived(contract, "totals", TOTALS, self.pages, total, domain="report")
        self.platform = Platform.open(settings)
        assert not self.platform.broken, self.platform.broken
        apply_contracts(self.platform, self.platform.in_order)
        self._producer = Producer({"bootstrap.servers": settings.brokers})
        self.sent = 0

    @staticmethod
    def _derived(contract: Any, name: str, fields: str, source: str, sql: str, domain: str = "shop") -> str:
        more = f"- {{property: mesh.inputs, value: [{source}]}}"
        return contract(name, fields, domain=domain, alignment="aggregate-aligned", more=more, transform=sql)

    def send(self, events: int) -> None:
        for number in range(events):
            self._producer.produce(self.clicks, value=json.dumps({"page": f"p{number % 7}", "ms": number}))
        assert self._producer.flush(30) == 0
        self.sent += events

    def published(self, name: str) -> Version | None:
        return self.platform.tables_of(self.platform.product(name)).versions.published()

    def stands(self) -> dict[str, object]:
        """Where the three stand."""
        clicks, pages, totals = map(self.published, (self.clicks, self.pages, self.totals))
        return {
            "sent": self.sent,
            "clicks": clicks and (clicks.number, clicks.rows),
            "pages": pages and (pages.number, dict(pages.input_versions)),
            "totals": totals and (totals.number, dict(totals.input_versions)),
        }

    def is_followed(self) -> bool:
        clicks, pages, totals = map(self.published, (self.clicks, self.pages, self.totals))
        return bool(
            clicks
            and pages
            and totals
            and clicks.rows == self.sent
            and pages.input_versions == {self.clicks: clicks.number}
            and totals.input_versions == {self.pages: pages.number}
        )

    def waits(self, name: str, source: str, since: int) -> list[float]:
        """How many seconds each version of an input after ``since`` waited to be taken in."""
        takers = self.platform.tables_of(self.platform.product(name)).versions.all()
        versions = self.platform.tables_of(self.platform.product(source)).versions.all()
        return [
            (at(taker) - at(version)).total_seconds()
            for version in versions
            if version.number > since
            and (taker := next((one for one in takers if one.input_versions[source] >= version.number), None))
        ]


def at(version: Version) -> datetime:
    assert version.published_at
    return datetime.fromisoformat(version.published_at)


def until(condition: Callable[[], bool], seconds: float, told: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)


@pytest.fixture
def mesh(settings: Settings, contract: Any, ports: list[int]) -> Iterator[Mesh]:
    settings = settings.model_copy(update={"dagster_port": ports[0]})
    made = Mesh(settings, contract)
    with Supervisor() as supervisor:
        supervisor.start(children(settings))
        assert load_errors(settings) == {}
        made.send(1)
        # The daemon's first tick and the first run take as long as the machine is busy.
        until(made.is_followed, 180, made.stands)
        yield made


def test_derived_products_follow_bursts_and_do_not_starve(mesh: Mesh) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    drawn = random.Random(seed)
    for _ in range(ROUNDS):
        for _ in range(BURSTS):
            mesh.send(drawn.randrange(1, 200))
            time.sleep(drawn.uniform(0, 2))
        until(mesh.is_followed, FOLLOWED_S, mesh.stands)
    before = {name: mesh.published(name) for name in (mesh.clicks, mesh.pages)}
    ends = time.monotonic() + STEADY_S
    while time.monotonic() < ends:
        mesh.send(1)
        time.sleep(0.5)
    until(mesh.is_followed, FOLLOWED_S, mesh.stands)
    for name, source in ((mesh.pages, mesh.clicks), (mesh.totals, mesh.pages)):
        known = before[source]
        assert known
        waits = mesh.waits(name, source, known.number)
        assert waits
        assert max(waits) <= PROMISED_S, waits
