"""`mesh doctor --security` names what is open, and ends with 3 where something is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh_pipelines.cli.main import invoke
from mesh_pipelines.observe.exposure import exposure
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.security import is_loopback


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESH_HOME", str(tmp_path / "home"))
    return tmp_path


def opened() -> dict[str, str]:
    return {one.what: one.found for one in exposure(Settings.load(), is_loopback) if one.next_step}


def test_nothing_is_open_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert opened() == {}
    assert invoke(["doctor", "--security"]) == 0
    assert "nothing is open" in capsys.readouterr().out


def test_listeners_off_loopback_and_no_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_HOST", "0.0.0.0")
    assert set(opened()) == {"portal and Dagster", "sign-in"}
    monkeypatch.setenv("MESH_OIDC_ISSUER", "https://id.example.com")
    monkeypatch.setenv("MESH_SERVICES_HOST", "10.0.0.1")
    assert set(opened()) == {"portal and Dagster", "broker and registry"}


def test_files_that_others_can_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = folder / "home"
    (home / "warehouse").mkdir(parents=True, mode=0o755)
    home.chmod(0o755)
    assert str(home) in opened()["home folder"]
    home.chmod(0o700)
    (home / "warehouse").chmod(0o755)
    assert str(home / "warehouse") in opened()["home folder"]
    assert invoke(["doctor", "--security"]) == 3
    assert "open: home folder" in capsys.readouterr().out


def test_secrets_in_the_environment_in_files_and_on_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_KAFKA_CONFIG", '{"sasl.password": "hush"}')
    monkeypatch.setenv("MESH_SCHEMA_REGISTRY_URL", "http://ann:hush@registry.example.com")
    (folder / "mesh.toml").write_text("smtp_url = 'smtps://ann:hush@mail.example.com'")
    (folder / "mesh.toml").chmod(0o644)
    found = opened()
    assert found["secrets in the environment"] == "MESH_SCHEMA_REGISTRY_URL, MESH_KAFKA_CONFIG"
    assert found["secrets on the network"] == "without TLS: MESH_SCHEMA_REGISTRY_URL"
    assert "mesh.toml" in found["settings file"]
    assert "hush" not in str(found)
    (folder / "mesh.toml").chmod(0o600)
    assert "settings file" not in opened()
