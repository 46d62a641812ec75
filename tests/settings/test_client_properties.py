"""Properties of clients are JSON scalars, reach each client in its own types, and are named where they are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.kafka.client import Reasons, admin
from mesh_pipelines.kafka.native_source import NativeSource
from mesh_pipelines.kafka.registry import Registry
from mesh_pipelines.kafka.registry_config import registry_config
from mesh_pipelines.native import extension
from mesh_pipelines.settings import Settings

SCALARS = {"socket.timeout.ms": 500, "socket.keepalive.enable": True, "reconnect.backoff.ms": 20.0, "client.id": "me"}
TEXTS = {
    "socket.timeout.ms": "500",
    "socket.keepalive.enable": "true",
    "reconnect.backoff.ms": "20",
    "client.id": "me",
}


def loaded(monkeypatch: pytest.MonkeyPatch, variable: str, value: object) -> Settings:
    monkeypatch.setenv(variable, json.dumps(value))
    return Settings.load()


def test_kafkas_properties_may_be_numbers_and_truth_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = loaded(monkeypatch, "MESH_KAFKA_CONFIG", SCALARS)
    assert settings.client_config() == {"bootstrap.servers": settings.brokers, **TEXTS}
    admin(settings, Reasons())
    if extension():
        NativeSource(settings, "topic", Reasons()).close()
    monkeypatch.delenv("MESH_KAFKA_CONFIG")
    lines = [f'"{name}" = {json.dumps(value)}' for name, value in SCALARS.items()]
    (tmp_path / "mesh.toml").write_text("\n".join(["[kafka_config]", *lines]))
    monkeypatch.setenv("MESH_CONFIG", str(tmp_path / "mesh.toml"))
    in_file = Settings.load()
    assert in_file.client_config() == {"bootstrap.servers": in_file.brokers, **TEXTS}


@pytest.mark.parametrize("variable", ["MESH_KAFKA_CONFIG", "MESH_SCHEMA_REGISTRY_CONFIG", "MESH_CATALOG_CONFIG"])
@pytest.mark.parametrize("wrong", [None, [1], {"a": "hush-hush"}])
def test_what_is_no_scalar_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, wrong: object) -> None:
    with pytest.raises(
        SettingInvalid, match=rf"{variable}: .*some\.name must be text, a number, true or false"
    ) as caught:
        loaded(monkeypatch, variable, {"some.name": wrong})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["oauth_cb", "error_cb", "stats_cb", "logger", "on_delivery"])
def test_a_function_is_no_property(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(SettingInvalid, match=f"{name} is a function, which a setting cannot hold") as caught:
        loaded(monkeypatch, "MESH_KAFKA_CONFIG", {name: "module:function"})
    assert ("MESH_KAFKA_OAUTH" in str(caught.value)) == (name == "oauth_cb")


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("timeout", 2.5, 2.5),
        ("timeout", "3", 3),
        ("max.retries", 0, 0),
        ("max.retries", "5", 5),
        ("retries.wait.ms", 10, 10),
        ("retries.max.wait.ms", "20", 20),
        ("cache.capacity", 100, 100),
        ("cache.latest.ttl.sec", 1.5, 1.5),
        ("ssl.ca.location", False, False),
        ("ssl.ca.location", "false", False),
        ("basic.auth.user.info", "me:500", "me:500"),
    ],
)
def test_the_registrys_properties_have_their_types(
    monkeypatch: pytest.MonkeyPatch, name: str, given: Any, taken: Any
) -> None:
    settings = loaded(monkeypatch, "MESH_SCHEMA_REGISTRY_CONFIG", {name: given})
    typed = registry_config(settings)[name]
    assert (typed, type(typed)) == (taken, type(taken))
    assert Registry(settings)._client


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("timeout", "soon"),
        ("timeout", 0),
        ("timeout", "nan"),
        ("max.retries", -1),
        ("max.retries", "inf"),
        ("retries.wait.ms", -5),
        ("cache.capacity", 0),
        ("cache.latest.ttl.sec", "x"),
        ("ssl.ca.location", True),
        ("ssl.ca.location", "/no/such/file.pem"),
        ("ssl.certificate.location", "/no/such/file.pem"),
        ("ssl.key.location", "/no/such/file.pem"),
        ("basic.auth.user.info", "nocolon"),
        ("bearer.auth.token", "two\nlines"),
        ("bearer.auth.token", "clé"),
        ("bearer.auth.credentials.source", "NOBODY"),
        ("bearer.auth.credentials.source", "OAUTHBEARER"),
        ("bearer.auth.custom.provider.function", "a:b"),
        ("proxy", "no proxy"),
        ("proxy", 5),
        ("url", "nonsense"),
        ("bogus.key", 1),
    ],
)
def test_a_wrong_property_is_a_wrong_setting_and_no_silence(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: Any
) -> None:
    settings = loaded(monkeypatch, "MESH_SCHEMA_REGISTRY_CONFIG", {name: wrong})
    with pytest.raises(SettingInvalid, match="MESH_SCHEMA_REGISTRY_CONFIG") as caught:
        Registry(settings).schema(1)
    assert "does not answer" not in str(caught.value)
