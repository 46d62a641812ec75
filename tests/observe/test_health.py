"""Whatever stops a product shows: in status, doctor and observe, with the next command, and in their exit codes."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from mesh_pipelines.cli.main import invoke
from mesh_pipelines.errors import EnvironmentFault, TableOutdated
from mesh_pipelines.observe.observe import observe
from mesh_pipelines.observe.status import ProductStatus, status
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.records import Health
from mesh_pipelines.orchestration.assets import published_key
from mesh_pipelines.orchestration.health_check import HEALTH, report_health
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.repair.resume import resume
from mesh_pipelines.settings import Settings
from tests.pipeline.test_due import CLICKS, JSON, Chain, applied, send

pytestmark = [pytest.mark.services]


class Mesh:
    """A chain of products (tests/pipeline/test_due.py), asked in every way that people ask."""

    def __init__(self, chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.chain, self.platform, self._capsys = chain, chain.platform, capsys
        self._admin = AdminClient({"bootstrap.servers": self.platform.settings.brokers})
        for name in ("home", "assets", "bootstrap_servers", "schema_registry_url"):
            monkeypatch.setenv(f"MESH_{name.upper()}", str(getattr(self.platform.settings, name)))

    def of(self, name: str, now: datetime | None = None) -> ProductStatus:
        return {one.product: one for one in status(self.platform, now)}[name]

    def said(self, *command: str) -> tuple[int, str]:
        self._capsys.readouterr()
        code = invoke([*command])
        return code, self._capsys.readouterr().out

    def is_red(self, name: str, told: str, next_step: str) -> None:
        """Everybody says of this product what is wrong, and status what to do."""
        found = self.of(name)
        assert (found.health, found.is_well) == (Health.BAD, False)
        assert told in str(found.problem)
        assert next_step in str(found.next_step)
        code, out = self.said("status")
        assert code == 1
        assert told in out
        assert f"next: {next_step}" in out
        assert "3 products, 1 not healthy" in out
        code, out = self.said("doctor", "--output", "json")
        assert code == 3
        [products] = [one for one in json.loads(out) if one["what"] == "products"]
        assert told in products["found"]
        code, out = self.said("observe")
        assert code == 1
        assert f"{name}: " in out
        assert told in out
        assert "1 product not healthy" in out
        passed, said = self._in_dagster(name)
        assert not passed
        assert told in said

    def _in_dagster(self, name: str) -> tuple[bool, str]:
        """The check of the product's health: whether it passed, and what it says."""
        with dg.DagsterInstance.ephemeral() as instance:
            report_health(instance, status(self.platform))
            key = dg.AssetCheckKey(published_key(name), HEALTH)
            event = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key].event
            assert event
            assert event.dagster_event
            found = event.dagster_event.asset_check_evaluation_data
        return found.passed, found.description or ""

    def is_green(self) -> None:
        found = status(self.platform)
        assert [one.health for one in found] == [Health.GOOD] * len(found), found
        assert self.said("status")[0] == 0
        assert self.said("observe")[0] == 0

    @property
    def topic(self) -> str:
        return self.chain.clicks

    def trim(self, offset: int) -> None:
        for future in self._admin.delete_records([TopicPartition(self.topic, 0, offset)]).values():
            future.result()

    def delete(self) -> None:
        for future in self._admin.delete_topics([self.topic]).values():
            future.result()

    def recreate(self) -> None:
        """Delete and create the topic: apply takes it for there until the broker has really deleted it."""
        self.delete()
        deadline = datetime.now(UTC) + timedelta(seconds=30)
        while True:
            try:
                apply_contracts(self.platform, self.platform.in_order)
                return
            except EnvironmentFault:
                assert datetime.now(UTC) < deadline


@pytest.fixture
def mesh(
    settings: Settings, contract: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Mesh:
    """All three products published; what is wrong comes after that."""
    made = Mesh(Chain(settings, contract), monkeypatch, capsys)
    for ms in (1, 2, 3):
        made.chain.send(ms)
    assert made.chain.run() == [None] * 3
    return made


def test_well_until_something_stops_and_again_after(mesh: Mesh) -> None:
    mesh.is_green()


def test_a_recreated_topic(mesh: Mesh) -> None:
    mesh.recreate()
    for ms in range(5):
        mesh.chain.send(ms)
    assert mesh.of(mesh.topic).lag == 5, "the events of the new topic wait, whatever its offsets are"
    mesh.is_red(mesh.topic, "M301 the topic", f"mesh resume {mesh.topic} --accept-loss recreated")
    resume(mesh.platform, mesh.chain.product(mesh.topic), "recreated")
    assert mesh.chain.run() == [None] * 3
    mesh.is_green()


def test_trimmed_offsets(mesh: Mesh) -> None:
    for ms in range(5):
        mesh.chain.send(ms)
    mesh.trim(6)
    assert mesh.of(mesh.topic).lag == 2
    mesh.is_red(mesh.topic, "M302 the broker dropped offsets", f"mesh resume {mesh.topic} --accept-loss trimmed")
    resume(mesh.platform, mesh.chain.product(mesh.topic), "trimmed")
    assert mesh.chain.run() == [None] * 3
    mesh.is_green()


def test_a_topic_that_is_gone(mesh: Mesh) -> None:
    mesh.delete()
    deadline = datetime.now(UTC) + timedelta(seconds=30)
    while mesh.platform.streams.topic_ids([mesh.topic]):
        assert datetime.now(UTC) < deadline
    mesh.is_red(mesh.topic, f"M404 the topic {mesh.topic} does not exist", "mesh apply")


def test_a_blocked_version(mesh: Mesh) -> None:
    mesh.chain.send(-1)
    mesh.chain.run(mesh.topic)
    mesh.is_red(mesh.topic, "blocked by ms.minimum", f"mesh failing {mesh.topic} ms.minimum")


def test_tables_that_lack_columns(mesh: Mesh) -> None:
    table = mesh.platform.tables_of(mesh.chain.product(mesh.topic)).load("log")
    with table.update_schema() as update:
        update.delete_column("ms")
    mesh.chain.send(4)
    with pytest.raises(TableOutdated):
        land(mesh.platform, mesh.chain.product(mesh.topic))
    mesh.is_red(mesh.topic, "M410 land failed once: its table log lacks ms", "mesh apply")


def test_poison(settings: Settings, contract: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    name = contract("clicks", CLICKS, more=f"{JSON}\n- {{property: mesh.maxUndecodableShare, value: 0}}")
    platform = applied(settings)
    for _ in range(100):
        send(platform, "poison")
    run(platform)
    [found] = status(platform)
    assert (found.product, found.health) == (name, Health.BAD)
    assert str(found.problem).startswith("M106 land failed once: 100 of 100 events cannot be decoded")
    assert "fix the producer or the schema" in str(found.next_step)


def test_a_derived_product_behind_its_inputs(mesh: Mesh) -> None:
    mesh.chain.send(4)
    mesh.chain.send(5)
    mesh.chain.run(mesh.topic)
    mesh.chain.send(6)
    mesh.chain.run(mesh.topic)
    now = datetime.now(UTC)
    behind = mesh.of(mesh.chain.pages, now)
    assert (behind.versions_behind, behind.lag, behind.health) == (2, 3, Health.GOOD)
    assert behind.behind_since
    assert timedelta() < now - behind.behind_since < timedelta(minutes=5)
    late = mesh.of(mesh.chain.pages, behind.behind_since + timedelta(seconds=31))
    assert late.health is Health.BAD
    assert str(late.problem) == "behind its inputs for 31 seconds, more than 30 seconds"
    assert late.next_step == f"mesh run {mesh.chain.pages}"
    assert mesh.of(mesh.chain.pages, behind.behind_since + timedelta(seconds=29)).health is Health.GOOD
    mesh.chain.run(mesh.chain.pages, mesh.chain.totals)
    caught_up = mesh.of(mesh.chain.pages)
    assert (caught_up.versions_behind, caught_up.lag, caught_up.behind_since) == (0, 0, None)


def test_a_promise_of_its_own_says_how_long_a_derived_product_may_be_behind(mesh: Mesh, settings: Settings) -> None:
    file = settings.assets.joinpath(*mesh.chain.pages.split("."), "contract.yaml")
    file.write_text(f"{file.read_text()}slaProperties:\n  - {{property: latency, value: 2, unit: m}}\n")
    mesh.platform = applied(settings)
    mesh.chain.send(4)
    run(mesh.platform, [mesh.topic, mesh.chain.pages])
    mesh.chain.send(5)
    run(mesh.platform, [mesh.topic])
    since = mesh.of(mesh.chain.pages).behind_since
    assert since
    assert mesh.of(mesh.chain.pages, since + timedelta(seconds=119)).health is Health.GOOD
    assert mesh.of(mesh.chain.pages, since + timedelta(seconds=121)).health is Health.BAD


def test_the_broker_away_is_not_taken_for_well(mesh: Mesh) -> None:
    away = Platform.open(
        mesh.platform.settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1", "timeout_s": 1.0})
    )
    found = {one.product: one for one in status(away)}
    assert found[mesh.topic].health is Health.BAD
    assert str(found[mesh.topic].problem).startswith("M401")
    assert found[mesh.chain.pages].health is Health.GOOD


def test_a_product_that_was_never_applied_is_unknown_and_one_that_lost_its_tables_is_red(
    mesh: Mesh, settings: Settings, contract: Any
) -> None:
    new = contract("new", CLICKS, more=JSON)
    mesh.platform = mesh.platform.reloaded()
    found = mesh.of(new)
    assert (found.health, found.is_well) == (Health.UNKNOWN, False)
    assert str(found.problem).startswith("M405")
    with closing(History.open(settings)) as history:
        observe(mesh.platform, history)
        mesh.platform.catalog.drop_table((*mesh.topic.split("."), "versions"))
        assert mesh.of(mesh.topic).health is Health.BAD
        observe(mesh.platform, history)
        assert [one.health for one in history.current(mesh.topic)] == [Health.BAD]


def test_freshness_and_latency_count_from_the_new_topic(mesh: Mesh, settings: Settings) -> None:
    now = datetime.now(UTC)
    with closing(History.open(settings)) as history:
        observe(mesh.platform, history, now)
        mesh.recreate()
        observe(mesh.platform, history, now + timedelta(seconds=10))
        mesh.chain.send(1)
        for seconds in (20, 50):
            observe(mesh.platform, history, now + timedelta(seconds=seconds))
        latency = history.samples(mesh.topic, "latency", since=now)
        assert latency[-1].value == 30, "the first event of the new topic waits since it was seen"
        resume(mesh.platform, mesh.chain.product(mesh.topic), "recreated")
        mesh.chain.run(mesh.topic)
        observe(mesh.platform, history, now + timedelta(seconds=60))
        [current] = history.current(mesh.topic)
        assert current.lag == 0
        assert current.freshness_s is not None
        assert current.freshness_s < 60, "it is that of an event which came after the first look"


def test_what_was_observed_long_ago_says_nothing_of_now(mesh: Mesh, settings: Settings) -> None:
    file = settings.assets.joinpath(*mesh.topic.split("."), "contract.yaml")
    file.write_text(f"{file.read_text()}slaProperties:\n  - {{property: freshness, value: 1, unit: m}}\n")
    mesh.platform = applied(settings)
    run(mesh.platform)
    now = datetime.now(UTC) + timedelta(minutes=10)
    with closing(History.open(settings)) as history:
        observe(mesh.platform, history, now)
    late = mesh.of(mesh.topic, now + timedelta(minutes=4))
    assert late.health is Health.BAD
    assert str(late.problem).startswith("freshness: ")
    assert mesh.of(mesh.topic, now + timedelta(minutes=6)).health is Health.GOOD
