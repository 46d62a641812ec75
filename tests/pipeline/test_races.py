"""Two real processes at one product: who loses the race looks at what the other has done, and is content with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer

from mesh_pipelines.errors import ConcurrentWriter
from mesh_pipelines.pipeline import race
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

_PATIENCE_S = 120
CLICKS = "- {name: page, logicalType: string, primaryKey: true}"
JSON = "- {property: mesh.wireFormat, value: json}"

# `mesh`, stopped in the middle of a commit.
_STOPPED = """
import runpy, signal, sys, threading
from mesh_pipelines import failpoints

# To this thread: sent to the process, another thread might take the signal while this one goes on to its commit.
failpoints.arm(sys.argv.pop(1), lambda: signal.pthread_kill(threading.get_ident(), signal.SIGSTOP))
runpy.run_module("mesh_pipelines", run_name="__main__")
"""


@pytest.fixture
def platform(settings: Settings, contract: Any) -> Platform:
    """One product, applied, with events on its topic."""
    name = contract("clicks", CLICKS, more=JSON)
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    send(settings, name, 50)
    return platform


def send(settings: Settings, topic: str, events: int) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers})
    for number in range(events):
        producer.produce(topic, key=f"p{number}", value=f'{{"page": "p{number}"}}')
    assert producer.flush(30) == 0


def stopped_at(settings: Settings, point: str, *command: str) -> subprocess.Popen[str]:
    """`mesh COMMAND` in a process of its own, stopped at a fail point."""
    environment = {
        **os.environ,
        "MESH_HOME": str(settings.home),
        "MESH_ASSETS": str(settings.assets),
        "MESH_BOOTSTRAP_SERVERS": settings.brokers,
        "MESH_SCHEMA_REGISTRY_URL": settings.registry_url.reveal(),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPED, point, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + _PATIENCE_S
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"it never came to {point}"
        time.sleep(0.02)
    return process


def woken(process: subprocess.Popen[str]) -> str:
    """What it says when it goes on to its end, which has to be a good one."""
    psutil.Process(process.pid).resume()
    said, _ = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, said
    return said


@pytest.mark.services
class TestTwoProcesses:
    """One is stopped in the middle of its commit while the other does the same work to its end."""

    def test_landing_what_another_landed(self, platform: Platform) -> None:
        [product] = platform.in_order
        late = stopped_at(platform.settings, "log.written", "land", product.fqn)
        assert land(platform, product).rows == 50
        assert "another run landed" in woken(late)
        assert platform.tables_of(product).log.rows() == 50

    def test_the_rest_of_what_another_landed_is_landed(self, platform: Platform) -> None:
        [product] = platform.in_order
        late = stopped_at(platform.settings, "log.written", "land", product.fqn)
        land(platform, product)
        send(platform.settings, product.fqn, 30)
        woken(late)
        assert platform.tables_of(product).log.rows() == 50
        assert land(platform, product).rows == 30

    def test_the_same_candidate(self, platform: Platform) -> None:
        [product] = platform.in_order
        land(platform, product)
        late = stopped_at(platform.settings, "versions.written", "snapshot", product.fqn)
        stored = snapshot(platform, product).candidate
        assert "another run" in woken(late)
        assert platform.tables_of(product).versions.newest() == stored

    def test_publishing_what_another_published(self, platform: Platform) -> None:
        [product] = platform.in_order
        land(platform, product)
        snapshot(platform, product)
        late = stopped_at(platform.settings, "publish.audited", "publish", product.fqn)
        assert publish(platform, product).changed
        woken(late)
        assert [one.number for one in platform.tables_of(product).versions.all()] == [1]

    def test_publishing_while_another_stores_a_newer_candidate(self, platform: Platform) -> None:
        [product] = platform.in_order
        land(platform, product)
        snapshot(platform, product)
        late = stopped_at(platform.settings, "publish.audited", "publish", product.fqn)
        send(platform.settings, product.fqn, 1)
        land(platform, product)
        newer = snapshot(platform, product).candidate
        woken(late)
        published = platform.tables_of(product).versions.published()
        assert newer
        assert published
        assert published.candidate_id == newer.candidate_id

    def test_a_whole_run(self, platform: Platform) -> None:
        [product] = platform.in_order
        late = stopped_at(platform.settings, "log.written", "run", product.fqn)
        assert run(platform)[0].error is None
        assert "another run" in woken(late)
        assert [one.number for one in platform.tables_of(product).versions.all()] == [1]
        assert platform.tables_of(product).log.rows() == 50


def test_losing_again_and_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "_PAUSE_S", 0.0)
    lost: list[int] = []

    def lose(times: int) -> str:
        if len(lost) < times:
            lost.append(0)
            raise ConcurrentWriter("another was first")
        return "done"

    assert race.outlast(lambda: lose(3)) == ("done", 3)
    with pytest.raises(ConcurrentWriter):
        race.outlast(lambda: lose(99))
