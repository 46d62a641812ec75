"""A function that gives no token is said as what it is, in time, and never as a broker that does not answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mesh_pipelines.errors import MeshError, SettingInvalid, TokenUnavailable
from mesh_pipelines.kafka.admin import StreamAdmin
from mesh_pipelines.kafka.client import Reasons, admin, consumer, producer
from mesh_pipelines.kafka.native_source import NativeSource
from mesh_pipelines.kafka.oauth import token
from mesh_pipelines.native import extension
from mesh_pipelines.settings import Settings
from tests.kafka import tokens

CLIENTS: dict[str, Callable[[Settings], Any]] = {
    "admin": lambda settings: admin(settings, Reasons()),
    "consumer": lambda settings: consumer(settings, Reasons()),
    "producer": producer,
    "question": lambda settings: StreamAdmin(settings).cluster_id(),
}
if extension():
    CLIENTS["native"] = lambda settings: NativeSource(settings, "topic", Reasons())

FAULTS: dict[str, tuple[type[MeshError], str]] = {
    "tests.kafka.tokens:fails": (TokenUnavailable, "gave no token: PermissionError: no role is attached"),
    "tests.kafka.tokens:hangs": (TokenUnavailable, r"gave no token in 0\.3 s"),
    "tests.kafka.tokens:milliseconds": (SettingInvalid, "divide milliseconds by 1000"),
    "tests.kafka.tokens:over": (SettingInvalid, "returned a token that ended 100 s ago"),
    "tests.kafka.tokens:text": (SettingInvalid, r"must return \(token, seconds since 1970"),
    "tests.kafka.tokens:odd": (SettingInvalid, "returned a token that cannot be used"),
    "tests.kafka.tokens:NOT_A_FUNCTION": (SettingInvalid, "must be a function"),
    "tests.kafka.tokens:absent": (SettingInvalid, "cannot be imported: AttributeError"),
    "tests.kafka.nowhere:good": (SettingInvalid, "cannot be imported: ModuleNotFoundError"),
}


def settings_of(function: str, **more: Any) -> Settings:
    return Settings(bootstrap_servers="127.0.0.1:1", kafka_oauth=function, timeout_s=0.3, **more)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("function", FAULTS)
def test_what_is_wrong_with_a_function_is_said_by_every_client(client: str, function: str) -> None:
    kind, said = FAULTS[function]
    with pytest.raises(kind, match=said) as caught:
        CLIENTS[client](settings_of(function))
    assert "does not answer" not in caught.value.message
    assert function in caught.value.message


def test_clients_of_a_process_share_a_token_until_most_of_its_life_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("tests.kafka.tokens:good", kafka_config={"sasl.oauthbearer.config": "shared"})
    tokens.calls.clear()
    first = token(settings)
    assert first
    for client in CLIENTS.values():
        if client is not CLIENTS["question"]:
            client(settings)
    assert tokens.calls == ["shared"]
    monkeypatch.setattr("mesh_pipelines.kafka.oauth.time.time", lambda: first.renew_at + 1)
    assert token(settings) != first
    assert tokens.calls == ["shared", "shared"]
    assert first.value not in str(MeshError(f"a library says {first.value}"))


@pytest.mark.parametrize("name", ["function", "module:", ":function", "a b:c", "module:function()", "module.py:f;g"])
def test_a_name_that_is_none_of_a_function_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_KAFKA_OAUTH", name)
    with pytest.raises(SettingInvalid, match="MESH_KAFKA_OAUTH"):
        Settings.load()


def test_a_function_is_the_one_way_to_sign_in() -> None:
    own = settings_of("tests.kafka.tokens:good").client_config()
    assert (own["security.protocol"], own["sasl.mechanisms"]) == ("SASL_SSL", "OAUTHBEARER")
    plain = settings_of("tests.kafka.tokens:good", kafka_config={"security.protocol": "SASL_PLAINTEXT"})
    assert plain.client_config()["security.protocol"] == "SASL_PLAINTEXT"
    for other in ({"sasl.mechanism": "PLAIN"}, {"sasl.mechanisms": "PLAIN"}, {"sasl.oauthbearer.method": "oidc"}):
        with pytest.raises(ValueError, match="take other ways out of MESH_KAFKA_CONFIG"):
            settings_of("tests.kafka.tokens:good", kafka_config=other)
