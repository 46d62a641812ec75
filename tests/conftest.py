"""The services every test of a real pipeline shares: one Kafka and one registry for all workers, started once."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import hypothesis
import psutil
import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.local.supervisor import Supervisor, free_ports
from mesh_pipelines.native import extension
from mesh_pipelines.settings import Settings
from tests.building import CASES, Case, case_of, contract_text, product_of, typed_rows, write_contract

# The decoders and sources there are: the one in C, where it was built, and the one without it.
READERS = {"portable": False, "native": True} if extension() else {"portable": False}
_START_S = 240
# An example may take long on a machine that does other work as well: tests hold no times.
hypothesis.settings.register_profile("mesh", deadline=None)
hypothesis.settings.load_profile("mesh")
# "host:port http://host:port/path" of a broker and a registry that run already, so that none are started.
_SERVICES = "TEST_SERVICES"

_RUN_SERVICES = """
import signal, sys, threading
from mesh_pipelines.local.services import Services
from mesh_pipelines.settings import Settings

stop = threading.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stop.set())
with Services(Settings()):
    print("ready", flush=True)
    stop.wait()
"""


@pytest.fixture(params=READERS.values(), ids=READERS)
def native(request: pytest.FixtureRequest) -> bool:
    """Whether the native extension is used; a test that takes this runs over both."""
    return request.param


@pytest.fixture
def ports() -> list[int]:
    """Four free ports."""
    return free_ports(4)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a running Kafka and registry; the last worker to leave stops them."""
    if given := os.environ.get(_SERVICES):
        kafka, registry = given.split()
        yield Settings(bootstrap_servers=kafka, schema_registry_url=registry)
        return
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    folder = shared / "services"
    folder.mkdir(exist_ok=True)
    settings = _join(folder)
    yield settings
    _leave(folder)


def _join(folder: Path) -> Settings:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users = folder / "users"
        if not users.exists():
            _start(folder)
        users.write_text(str(int(users.read_text() or 0) + 1 if users.exists() else 1))
        kafka, registry = (folder / "ports").read_text().split()
    return Settings(
        home=folder / "home",
        bootstrap_servers=f"127.0.0.1:{kafka}",
        schema_registry_url=f"http://127.0.0.1:{registry}/apis/ccompat/v7",
    )


def _start(folder: Path) -> None:
    kafka, controller, registry = free_ports(3)
    environment = {
        **os.environ,
        "MESH_HOME": str(folder / "home"),
        "MESH_KAFKA_PORT": str(kafka),
        "MESH_CONTROLLER_PORT": str(controller),
        "MESH_REGISTRY_PORT": str(registry),
    }
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN_SERVICES], env=environment, stdout=output, stderr=output, close_fds=True
        )
    deadline = time.monotonic() + _START_S
    while "ready" not in (folder / "output").read_text():
        assert process.poll() is None, (folder / "output").read_text()
        assert time.monotonic() < deadline, "the services did not start in time"
        time.sleep(0.1)
    (folder / "pid").write_text(str(process.pid))
    # Whichever worker leaves last stops it; this handle has nothing more to say of it.
    process.returncode = 0
    (folder / "ports").write_text(f"{kafka} {registry}")


def _leave(folder: Path) -> None:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users = folder / "users"
        left = int(users.read_text()) - 1
        users.write_text(str(left))
        if left:
            return
        users.unlink()
        process = psutil.Process(int((folder / "pid").read_text()))
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 30
        # It may be another worker's child, and stay behind as a zombie until that one leaves.
        while psutil.pid_exists(process.pid) and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "the services did not stop"
            time.sleep(0.1)


@pytest.fixture
def settings(services: Settings, tmp_path: Path) -> Settings:
    """The shared broker and registry, with tables, home and assets of the test's own."""
    return services.model_copy(update={"home": tmp_path / "home", "assets": tmp_path / "assets"})


@pytest.fixture
def local_settings(tmp_path: Path) -> Settings:
    """Settings that need no service: tables, home and assets of the test's own."""
    return Settings(home=tmp_path / "home", assets=tmp_path / "assets")


@pytest.fixture(scope="session")
def dagster_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of Dagster's pages, served on loopback without sign-in."""
    from mesh_pipelines.orchestration.instance import children

    folder = tmp_path_factory.mktemp("front")
    settings = Settings(home=folder / "home", assets=folder / "assets", dagster_port=free_ports(1)[0])
    settings.assets.mkdir()
    with Supervisor() as supervisor:
        supervisor.start(children(settings)[:1])
        yield settings


Contract = Callable[..., str]


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    """Writes a contract under the test's assets and gives the product's name, unique in every test."""
    mark = uuid.uuid4().hex[:8]

    def write(
        name: str,
        properties: str,
        *,
        domain: str = "shop",
        kind: str = "state",
        alignment: str = "source-aligned",
        more: str = "",
        quality: str = "[]",
        transform: str = "",
        version: str = "1.0.0",
    ) -> str:
        domain = f"{domain}_{mark}"
        text = contract_text(
            f"{domain}.{name}",
            properties,
            kind=kind,
            alignment=alignment,
            settings=more,
            quality=quality,
            version=version,
        )
        write_contract(tmp_path / "assets", text, transform)
        return f"{domain}.{name}"

    return write


MakeProduct = Callable[[Mapping[str, Any]], DataProduct]


@pytest.fixture(scope="session")
def make_product(tmp_path_factory: pytest.TempPathFactory) -> MakeProduct:
    """The product ``test.things`` of a fragment, loaded as any product is."""
    return lambda fragment: product_of(fragment, tmp_path_factory.mktemp("assets"))


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine with nothing in it."""
    with duckdb.connect() as opened:
        yield opened


@pytest.fixture(params=sorted(path.stem for path in CASES.glob("*.yaml")))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Each file of ``audit/cases``."""
    return case_of(request.param, tmp_path_factory.mktemp("assets"))


@pytest.fixture
def table() -> Callable[[DataProduct, list[Mapping[str, Any]]], pa.Table]:
    """Rows as written in YAML or JSON, in the contract's columns and types."""
    return typed_rows
