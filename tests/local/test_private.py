"""The home folder's files are their owner's alone, or a group's: every file, whoever writes it."""

from __future__ import annotations

import grp
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from mesh_pipelines.cli.main import invoke
from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.local import private
from mesh_pipelines.local.private import for_others, keep_private, open_to_others
from mesh_pipelines.local.supervisor import Child, Supervisor
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.portal.app import create_app
from mesh_pipelines.settings import Settings

JSON = "- {property: mesh.wireFormat, value: json}"


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """A process that started with the usual umask."""
    before = os.umask(0o022)
    private._before = None
    yield
    os.umask(before)
    private._before = None


def modes(home: Path) -> dict[str, int]:
    """The mode of the folder and of everything in it."""
    return {str(path.relative_to(home)): stat.S_IMODE(path.lstat().st_mode) for path in (home, *home.rglob("*"))}


@pytest.mark.services
def test_no_file_of_a_whole_home_folder_is_open_to_others(
    settings: Settings, contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks = contract("clicks", "- {name: page, logicalType: string}", kind="measurement", more=JSON)
    environment = {**os.environ, "MESH_OPENLINEAGE_FILE": str(settings.home / "lineage.json")}
    for name in ("home", "assets", "bootstrap_servers", "schema_registry_url"):
        environment[f"MESH_{name.upper()}"] = str(getattr(settings, name))

    def mesh(*command: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "mesh_pipelines", *command], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    mesh("apply")
    producer = Producer({"bootstrap.servers": settings.brokers})
    producer.produce(clicks, value=json.dumps({"page": "/"}))
    assert producer.flush(30) == 0
    for command in (["run"], ["compact"], ["status"], ["query", f"SELECT * FROM {clicks}"]):
        mesh(*command)
    keep_private(settings)
    create_app(settings, History.open(settings))
    with Supervisor() as supervisor:
        file, log = settings.home / "of_a_child.db", settings.home / "logs" / "one.log"
        code = f"open({str(file)!r}, 'w'); import time; time.sleep(600)"
        supervisor.start([Child("one", [sys.executable, "-c", code], log, file.exists)])
    found = modes(settings.home)
    assert len(found) > 20
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
    assert {mode & 0o700 for mode in found.values()} == {0o700, 0o600}


def test_a_home_folder_of_an_earlier_release_is_put_right_once_and_said(local_settings: Settings) -> None:
    home = local_settings.home
    (home / "warehouse" / "a.b").mkdir(parents=True)
    (home / "warehouse" / "a.b" / "data.parquet").touch()
    (home / "catalog.db").touch()
    (home / "notes").mkdir()
    outside = home.parent / "outside"
    outside.touch()
    (home / "logs").mkdir()
    (home / "logs" / "link").symlink_to(outside)
    assert len(open_to_others(local_settings)) == 6
    said = keep_private(local_settings)
    assert said
    assert "5 files and folders in it were open to others; now only its owner can read them" in said
    assert open_to_others(local_settings) == []
    found = modes(home)
    assert (found["."], found["catalog.db"], found["warehouse/a.b/data.parquet"]) == (0o700, 0o600, 0o600)
    # What is not the mesh's, and what links lead to, is as it was.
    assert found["notes"] == 0o755
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644
    assert keep_private(local_settings) is None


def test_a_folder_that_is_no_home_folder_is_left_alone(local_settings: Settings) -> None:
    local_settings.home.mkdir()
    (local_settings.home / "photos").mkdir()
    assert keep_private(local_settings) is None
    assert modes(local_settings.home) == {".": 0o755, "photos": 0o755}


def test_a_group_reads_what_the_owner_reads(local_settings: Settings) -> None:
    group = grp.getgrgid(os.getgroups()[0] if os.getgroups() else os.getgid()).gr_name
    shared = local_settings.model_copy(update={"files_group": group})
    keep_private(shared)
    (shared.home / "warehouse").mkdir()
    (shared.home / "warehouse" / "file").touch()
    found = modes(shared.home)
    assert found == {".": 0o2750, "warehouse": 0o2750, "warehouse/file": 0o640}
    assert open_to_others(shared) == []
    assert open_to_others(local_settings)


def test_a_group_that_is_none_is_said(local_settings: Settings) -> None:
    with pytest.raises(SettingInvalid, match="MESH_FILES_GROUP must be a group of this machine, got 'no such'"):
        keep_private(local_settings.model_copy(update={"files_group": "no such"}))


def test_contracts_that_a_command_writes_are_for_others_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESH_HOME", str(tmp_path / "home"))
    assert invoke(["init", "shop/orders"]) == 0
    assert stat.S_IMODE((tmp_path / "assets/shop/orders/contract.yaml").stat().st_mode) == 0o644
    with for_others():
        (tmp_path / "other").touch()
    (tmp_path / "own").touch()
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o600
