"""Secrets of the settings: none is shown, and clients still get the real ones."""

from __future__ import annotations

import io
import logging
from urllib.parse import unquote, urlsplit

import pytest

from mesh_pipelines import confidential
from mesh_pipelines.confidential import Address, hiding, is_secret, masked, remember, secrets_of
from mesh_pipelines.errors import RegistryUnreachable
from mesh_pipelines.settings import Settings, revealed


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test plants is unknown to the other tests."""
    monkeypatch.setattr(confidential, "_known", set())
    monkeypatch.setattr(confidential, "_pattern", None)
    monkeypatch.setattr(logging, "_logRecordFactory", logging.getLogRecordFactory())


PASSWORDS = [
    "plain-password",
    "with@at",
    "two@at@signs",
    "with/slash",
    "with:colon",
    "100%sure",
    "p%40ss%2Fword",
    "pässwörd-日本",
    "a@b/c:d%e@f",
    "?question#hash",
]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["https", "smtp", "postgresql+psycopg"])
def test_a_password_is_hidden_and_reaches_the_client(password: str, scheme: str) -> None:
    address = Address(f"{scheme}://user:{password}@host.example:8443/path")
    for shown in (str(address), repr(address), f"{address}", f"{address:>80}", "%s" % address):  # noqa: UP031
        assert password not in shown
        assert f"{scheme}://user:***@host.example:8443/path" in shown
    taken = urlsplit(address.reveal())
    assert (taken.hostname, taken.port, taken.path) == ("host.example", 8443, "/path")
    assert unquote(taken.password or "") == unquote(password)


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_is_hidden_in_what_a_library_says(password: str) -> None:
    address = Address(f"https://user:{password}@host.example/path")
    remember(address.secrets())
    for text in (address.given(), address.reveal(), password, unquote(password), repr(password)):
        error = RegistryUnreachable(f"cannot ask {text}", next_step=f"look at {text}")
        for shown in (error.message, str(error), repr(error), error.next_step or ""):
            assert password not in shown
            assert unquote(password) not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:8081", "http://host:8081"),
        ("sqlite:////home/a@b/catalog.db", "sqlite:////home/a@b/catalog.db"),
        ("http://host/path@version", "http://host/path@version"),
        ("http://host/search?mail=a@b.example", "http://host/search?mail=a@b.example"),
        ("http://host?password=one&b=2&api_key=two&token=three", "http://host?password=***&b=2&api_key=***&token=***"),
        ("https://token@host/x", "https://***@host/x"),
        ("http://a:b@one,http://c:d@two", "http://a:***@one,http://c:***@two"),
        ("not an address", "not an address"),
    ],
)
def test_only_secrets_of_an_address_are_hidden(text: str, shown: str) -> None:
    assert str(Address(text)) == shown
    assert Address(text).reveal() == text


def test_a_path_that_looks_like_a_password_is_handed_on_as_it_is() -> None:
    address = Address("http://host:8080/iceberg@main")
    assert address.reveal() == "http://host:8080/iceberg@main"
    assert "8080" not in str(address)


@pytest.mark.parametrize(
    "name",
    [
        *("sasl.password", "ssl.key.password", "ssl.keystore.password", "basic.auth.user.info", "sasl.jaas.config"),
        *("bearer.auth.token", "credential", "token", "s3.secret-access-key", "s3.access-key-id", "s3.session-token"),
        *("adls.account-key", "adls.sas-token", "header.Authorization", "sasl.oauthbearer.client.secret", "api_key"),
        *("apikey", "pwd", "ssl.key.pem", "sig", "gcs.oauth2.token", "client_secret"),
    ],
)
def test_a_property_with_a_secret_is_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("sasl.username", "sasl.mechanisms", "security.protocol", "ssl.key.location", "ssl.ca.location", "user"),
        *(
            "basic.auth.credentials.source",
            "oauth2-server-uri",
            "s3.endpoint",
            "keyspace",
            "sasl.oauthbearer.token.endpoint.url",
        ),
    ],
)
def test_a_property_without_one_is_left(name: str) -> None:
    assert not is_secret(name)


def test_secrets_of_properties_are_found_in_their_parts() -> None:
    found = set(
        secrets_of(
            {
                "basic.auth.user.info": "alice:registry-secret",
                "sasl.jaas.config": 'org.apache.Plain required username="u" password="jaas-secret";',
                "uri": "https://u:uri-secret@host",
                "sasl.username": "alice",
            }
        )
    )
    assert {"alice:registry-secret", "registry-secret", "jaas-secret", "uri-secret"} <= found
    assert "alice" not in found


def test_settings_show_no_secret_and_clients_get_it() -> None:
    settings = Settings(
        kafka_config={"sasl.password": "kafka-secret"},
        schema_registry_url="https://u:registry@secret@host",
        openlineage_api_key="lineage-secret",
        oidc_client_secret="oidc-secret",
        smtp_url="smtp://u:smtp/secret@host:25",
    )
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump(mode="json"))):
        for secret in ("kafka-secret", "registry@secret", "lineage-secret", "oidc-secret", "smtp/secret"):
            assert secret not in shown
    assert settings.client_config()["sasl.password"] == "kafka-secret"
    assert revealed(settings.kafka_config) == {"sasl.password": "kafka-secret"}
    assert settings.registry_url.reveal() == "https://u:registry%40secret@host"
    assert (
        settings.model_copy(update={"schema_registry_url": "http://u:other@host"})
        .registry_url.reveal()
        .endswith("u:other@host")
    )


def test_an_exception_loses_its_secrets_and_its_causes_too() -> None:
    remember(["the-secret"])

    def fail() -> None:
        try:
            raise OSError("cannot log in with the-secret")
        except OSError as error:
            raise ValueError("failed: the-secret") from error

    with pytest.raises(ValueError, match=r"failed: \*\*\*") as caught, hiding():
        fail()
    assert str(caught.value.__cause__) == "cannot log in with ***"


def test_log_records_and_their_tracebacks_have_no_secret() -> None:
    remember(["the-secret"])
    stream = io.StringIO()
    log = logging.getLogger("mesh_pipelines.test")
    handler = logging.StreamHandler(stream)
    log.addHandler(handler)
    try:
        raise OSError("cannot log in with the-secret")
    except OSError:
        log.exception("asked %s", "https://u:the-secret@host")
    finally:
        log.removeHandler(handler)
    text = stream.getvalue()
    assert "the-secret" not in text
    assert "asked https://u:***@host" in text
    assert "OSError: cannot log in with ***" in text


def test_a_short_password_hides_no_words() -> None:
    remember(Address("https://mesh:mesh@host").secrets())
    assert masked("mesh apply at https://mesh:mesh@host") == "mesh apply at https://mesh:***@host"
