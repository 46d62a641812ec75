"""The settings file: found beside the contracts, overruled by the environment, and exact about its keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.orchestration.instance import environment_of
from mesh_pipelines.settings import Settings, revealed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a settings file; the current folder lies two below it, and no variable is set."""
    for name in [name for name in os.environ if name.startswith("MESH_")]:
        monkeypatch.delenv(name)
    below = tmp_path / "assets" / "shop"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path


def test_the_nearest_file_above_counts_and_paths_are_relative_to_it(folder: Path) -> None:
    (folder / "mesh.toml").write_text('[mesh]\nkafka_port = 29999\nwarehouse = "tables"\nopenlineage_file = "l.json"\n')
    settings = Settings.load()
    assert (settings.config, settings.kafka_port) == (folder / "mesh.toml", 29999)
    assert (settings.home, settings.assets) == (folder / ".mesh", folder / "assets")
    assert (settings.warehouse, settings.openlineage_file) == (str(folder / "tables"), folder / "l.json")
    (folder / "assets" / "mesh.toml").write_text('home = "/elsewhere"\n')
    assert Settings.load().home == Path("/elsewhere")
    assert Settings.load().kafka_port == 19092


def test_the_environment_wins_over_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mesh.toml").write_text('kafka_port = 29999\nhost = "127.0.0.2"\nhome = "here"\n')
    monkeypatch.setenv("MESH_KAFKA_PORT", "29998")
    monkeypatch.setenv("MESH_HOME", "there")
    monkeypatch.setenv("MESH_HOST", "")
    settings = Settings.load()
    assert (settings.kafka_port, settings.host) == (29998, "127.0.0.2")
    assert settings.home == Path.cwd() / "there"


def test_a_file_may_be_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "other.toml").write_text("kafka_port = 29997\n")
    (folder / "mesh.toml").write_text("kafka_port = 29996\n")
    monkeypatch.setenv("MESH_CONFIG", str(folder / "other.toml"))
    assert Settings.load().kafka_port == 29997
    monkeypatch.setenv("MESH_CONFIG", os.devnull)
    assert (Settings.load().kafka_port, Settings.load().home) == (19092, Path.cwd() / ".mesh")
    monkeypatch.setenv("MESH_CONFIG", str(folder / "none.toml"))
    with pytest.raises(SettingInvalid, match=r"MESH_CONFIG names .*none\.toml, which does not exist"):
        Settings.load()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kafka_prot = 1", "'kafka_prot' is not a setting; did you mean kafka_port?"),
        ("MESH_KAFKA_PORT = 1", "'MESH_KAFKA_PORT' is not a setting; did you mean kafka_port?"),
        ("[mesh]\nbootstrap_server = 'x'", "'bootstrap_server' is not a setting; did you mean bootstrap_servers?"),
        ("[mash]\nkafka_port = 1", "'mash' is not a setting"),
        ("config = 'other.toml'", "'config' is not a setting"),
        ("mesh = 1", "mesh must be a table, got 1"),
        ("kafka_port = ", "cannot be read"),
        ("kafka_port = 'many'", "MESH_KAFKA_PORT: Input should be a valid integer"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(folder: Path, text: str, problem: str) -> None:
    (folder / "mesh.toml").write_text(text)
    with pytest.raises(SettingInvalid) as caught:
        Settings.load()
    assert problem in caught.value.message


def test_client_properties_are_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mesh.toml").write_text(
        '[mesh.kafka_config]\n"security.protocol" = "SASL_SSL"\nsasl.username = "mesh"\n'
        'enable.ssl.certificate.verification = false\n"socket.timeout.ms" = 500\n'
    )
    monkeypatch.setenv("MESH_KAFKA_CONFIG", '{"sasl.password": "from-outside"}')
    assert revealed(Settings.load().kafka_config) == {
        "security.protocol": "SASL_SSL",
        "sasl.username": "mesh",
        "enable.ssl.certificate.verification": "false",
        "socket.timeout.ms": "500",
        "sasl.password": "from-outside",
    }


def test_child_processes_get_the_same_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mesh.toml").write_text(
        'smtp_url = "smtp://u:pa@ss@host:25"\nkafka_port = 29999\n[kafka_config]\nsasl.password = "secret-1"\n'
    )
    settings = Settings.load()
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    child = Settings.load()
    assert {name: value for name, value in child if name != "config"} == {
        name: value for name, value in settings if name != "config"
    }
    monkeypatch.chdir(folder)
    assert Settings.load() == child
