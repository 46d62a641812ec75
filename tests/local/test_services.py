"""The local services: state that survives, ports that are taken, children that crash, and nothing left behind."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mesh_pipelines.errors import PortTaken, RegistryUnreachable, ServiceFailed
from mesh_pipelines.kafka.admin import StreamAdmin
from mesh_pipelines.kafka.registry import Registry
from mesh_pipelines.local import jars
from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import Child, Supervisor
from mesh_pipelines.settings import Settings

SCHEMA = '{"type":"record","name":"r","fields":[{"name":"a","type":"long"}]}'


def sleeper(tmp_path: Path, code: str = "import time; time.sleep(600)", **options: object) -> Child:
    log = tmp_path / "child.log"
    return Child(name="a child", argv=[sys.executable, "-c", code], log=log, ready=lambda: True, **options)  # type: ignore[arg-type]


@pytest.fixture
def own(tmp_path: Path, ports: list[int]) -> Settings:
    return Settings(home=tmp_path / "home", kafka_port=ports[0], controller_port=ports[1], registry_port=ports[2])


@pytest.mark.services
@pytest.mark.slow
def test_cluster_and_schema_ids_survive_a_restart(own: Settings) -> None:
    with Services(own) as services:
        cluster = StreamAdmin(own).cluster_id()
        ids = [
            Registry(own).register(f"subject-{number}", SCHEMA.replace('"r"', f'"r{number}"'), "AVRO")
            for number in range(3)
        ]
        children = [process.pid for _, process in services.supervisor._running]
        with pytest.raises(PortTaken, match="MESH_KAFKA_PORT"):
            Services(own.model_copy(update={"home": own.home.parent / "other"})).start()
    assert not any(psutil.pid_exists(pid) for pid in children)
    with Services(own):
        assert StreamAdmin(own).cluster_id() == cluster
        registry = Registry(own)
        assert [registry.latest(f"subject-{number}")[0] for number in range(3)] == ids  # type: ignore[index]
        assert registry.schema(ids[0]).text == SCHEMA.replace('"r"', '"r0"')
        ahead = Registry(own)
        ahead.prepare("subject-1")
    assert ahead.schema(ids[1]).text == SCHEMA.replace('"r"', '"r1"')
    late = Registry(own)
    late.prepare("subject-1")
    with pytest.raises(RegistryUnreachable):
        late.schema(ids[1])


def test_a_crash_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        with pytest.raises(ServiceFailed, match="exit code 3"):
            supervisor.start([sleeper(tmp_path, "print('the reason'); raise SystemExit(3)", ready_s=20.0)])
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                supervisor.check()
        assert "the reason" in (tmp_path / "child.log").read_text()


def test_stop_leaves_nothing_even_of_children_that_ignore_it(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    supervisor = Supervisor()
    supervisor.start([sleeper(tmp_path, stubborn)])
    log = tmp_path / "child.log"
    deadline = time.monotonic() + 20
    while not log.read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.05)
    grandchild = int(log.read_text())
    pid = supervisor._running[0][1].pid
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 10
    assert not psutil.pid_exists(pid)
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from mesh_pipelines.local.supervisor import Child, Supervisor\n"
        "supervisor = Supervisor()\n"
        "argv = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        f"child = Child('child', argv, Path({str(tmp_path / 'log')!r}), lambda: True)\n"
        "supervisor.start([child])\n"
        "print(supervisor._running[0][1].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(timeout=10)
    child.wait(timeout=10)
    assert not child.is_running()


def test_the_lock_names_files_by_checksum_and_no_host() -> None:
    locked = jars.locked()
    assert {jar.service for jar in locked} == {"kafka", "registry"}
    assert all(len(jar.sha256) == 64 for jar in locked)
    text = Path(jars.__file__).with_name("jars.lock").read_text()
    assert "http" not in text.replace("http-", "")


@pytest.mark.services
def test_a_damaged_jar_is_fetched_again(own: Settings, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    jar = min((one for one in jars.locked() if one.artifact == "jopt-simple"), key=str)
    path = jars._fetch_one(cache, jar)
    path.write_bytes(b"damaged")
    assert jars._sha256(jars._fetch_one(cache, jar)) == jar.sha256


def test_a_jar_that_is_changed_in_place_with_its_size_and_time_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"the jar of this test"
    jar = jars.Jar("kafka", "a", "b", "1", "jar", "", hashlib.sha256(content).hexdigest(), len(content))
    path = Path(jars._context(tmp_path).project("a", "b").at_version("1").artifact("", "jar").cached_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert jars._fetch_one(tmp_path, jar) == path
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"THE")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    fetched: list[Path] = []

    def download(artifact: object, path: Path, jar: object) -> None:
        fetched.append(path)
        path.write_bytes(content)

    monkeypatch.setattr(jars, "_download", download)
    assert jars._fetch_one(tmp_path, jar).read_bytes() == content
    assert fetched == [path]


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3"])
def test_services_stay_on_loopback_wherever_pages_are_served(tmp_path: Path, host: str) -> None:
    settings = Settings(home=tmp_path, host=host)
    assert settings.brokers == "127.0.0.1:19092"
    assert str(settings.registry_url) == "http://127.0.0.1:18081/apis/ccompat/v7"
    listeners = Services(settings).broker_properties(tmp_path)
    assert host not in " ".join([listeners["listeners"], listeners["advertised.listeners"]])
    other = Settings(home=tmp_path, services_host=host)
    assert f"PLAINTEXT://{host}:" in Services(other).broker_properties(tmp_path)["listeners"]
