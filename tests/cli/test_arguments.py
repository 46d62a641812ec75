"""Settings and arguments that are wrong: one error that names them, before anything is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh_pipelines.cli.main import invoke
from mesh_pipelines.cli.output import cell, visible
from mesh_pipelines.errors import SettingInvalid, StorageUnavailable
from mesh_pipelines.kafka.client import Reasons, admin
from mesh_pipelines.kafka.registry import Registry
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.settings import Settings

Told = Callable[..., tuple[int, str, str]]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a command in this process; gives its exit code and what it wrote to either stream."""
    monkeypatch.setenv("MESH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MESH_ASSETS", str(tmp_path / "assets"))
    assert invoke(["init", "shop/orders"]) == 0
    capsys.readouterr()

    def run(*arguments: str) -> tuple[int, str, str]:
        code = invoke(list(arguments))
        out, err = capsys.readouterr()
        assert "M000" not in err
        return code, out, err

    return run


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("KAFKA_CONFIG", text) for text in ("nonsense", "[]", '{"sasl.username": [1]}')),
        ("CATALOG_CONFIG", "{"),
        *(("TIMEOUT_S", text) for text in ("inf", "nan", "1e300", "0")),
        *(("SQL_TIMEOUT_S", text) for text in ("inf", "1e300")),
        *(("MEMORY_LIMIT", text) for text in ("lots", "-1", "1", "1GB'; SELECT 1")),
        ("FETCH_QUEUE_KBYTES", "99999999999"),
        ("REPLICATION_FACTOR", "99999"),
        *(("HOME", f"/tmp/a{letter}b") for letter in "#?*[\\"),
        ("WAREHOUSE", "s3://bucket/a#b"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"MESH_{name}", value)
    with pytest.raises(
        SettingInvalid, match=name.lower() if name.endswith("CONFIG") and value in "nonsense{" else name
    ):
        Settings.load()


def test_an_empty_setting_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_BOOTSTRAP_SERVERS", "")
    monkeypatch.setenv("MESH_HOME", "")
    settings = Settings.load()
    assert settings.uses_local_broker
    assert settings.home.name == ".mesh"


def test_client_properties_that_no_client_has_are_named() -> None:
    with pytest.raises(SettingInvalid, match=r"bogus\.key"):
        admin(Settings(kafka_config={"bogus.key": "x"}), Reasons())
    for wrong in (Settings(schema_registry_url="no address"), Settings(schema_registry_config={"bogus.key": "x"})):
        with pytest.raises(SettingInvalid, match="MESH_SCHEMA_REGISTRY_URL"):
            Registry(wrong).schema(1)


@pytest.mark.parametrize("uri", ["nonsense", "nonsense://x"])
def test_a_catalog_that_is_none_is_named(uri: str, tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="MESH_CATALOG_URI"):
        open_catalog(Settings(home=tmp_path, catalog_uri=uri))


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match="file"):
        open_catalog(Settings(home=tmp_path / "file"))
    with pytest.raises(StorageUnavailable, match="does_not_answer|cannot be opened"):
        open_catalog(Settings(catalog_uri="http://127.0.0.1:9/"))
    monkeypatch.setenv("MESH_HOME", str(tmp_path / "file"))
    code, _, err = told("versions", "shop.orders")
    assert (code, err[:5]) == (3, "M409 ")


@pytest.mark.parametrize(
    "arguments",
    [
        *(("query", "SELECT 1", "--version", f"shop.orders={number}") for number in ("\u00b2", "9" * 5000, "-1", "")),
        ("query", "SELECT 1", "--version", "shop.orders=1"),
        ("query", "SELECT 1", "--limit", "9" * 25),
        ("quarantine", "list", "shop.orders", "--limit", "9" * 25),
        ("quarantine", "show", "shop.orders", "0:" + "9" * 5000),
        ("quarantine", "show", "shop.orders", "\u00b2:1"),
        *(("query", f"SELECT {value}") for value in ("'294000-01-01'::DATE", "'294000-01-01'::TIMESTAMP")),
        *(("query", "SELECT 'infinity'::DATE", "--output", form) for form in ("json", "csv")),
    ],
)
def test_an_argument_out_of_measure_is_wrong_use(told: Told, arguments: tuple[str, ...]) -> None:
    code, _, err = told(*arguments)
    assert code == 2
    assert len(err) < 6000


def test_columns_of_one_name_are_told_apart(told: Told) -> None:
    code, out, _ = told("query", "SELECT 1 AS a, 2 AS a", "--output", "json")
    assert code == 0
    assert json.loads(out) == [{"a": 1, "a_2": 2}]


def test_nothing_that_a_terminal_acts_upon_is_printed(told: Told) -> None:
    assert visible("a\x1b[31m\nb", "\n") == "a\\x1b[31m\nb"
    assert cell(b"\x00\x1b[2J") == "\\x00\\x1b[2J"
    code, _, err = told("versions", "shop.\x1b[31m")
    assert code == 2
    assert "\x1b" not in err
