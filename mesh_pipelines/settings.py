"""Every setting of the platform, read once and handed down as one object.

They come from ``MESH_*`` variables and from a file ``mesh.toml`` (``settings_file.py``); the environment wins. Nothing
else in the package reads either. A ``.env`` file is not read. Settings that may hold a secret do not show it when they
are printed, and all secrets are hidden in errors and logs (``confidential.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from mesh_pipelines import native
from mesh_pipelines.confidential import Address, remember, secrets_of
from mesh_pipelines.errors import EnvironmentFault, SettingInvalid
from mesh_pipelines.settings_file import SettingsFile

# Table addresses are URIs to some of their readers and patterns to others.
_UNADDRESSABLE = set("#?*[\\")

# What an address of these settings begins with, and goes on with.
_FORMS = {
    "openlineage_url": (re.compile(r"https?://[^/]+.*"), "http://host:port or https://host"),
    "smtp_url": (re.compile(r"smtps?://[^/?#]+/?"), "smtp://user:password@host:port or smtps://..."),
}


def _listed(value: object) -> object:
    """A list that was written as text, its values separated by commas."""
    given = value.split(",") if isinstance(value, str) else value
    return tuple(name for one in given if (name := str(one).strip())) if isinstance(given, list | tuple) else given


def _as_texts(value: object) -> object:
    """Properties whose values are numbers or truth values, as JSON and TOML have them, in the clients' own words."""
    if not isinstance(value, Mapping):
        return value
    return {str(name): _as_text(str(name), one) for name, one in value.items()}


def _as_text(name: str, value: object) -> object:
    match value:
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case int() | float():
            return str(value)
        case str() | SecretStr():
            return value
        case _:
            raise ValueError(f"{name} must be text, a number, true or false")


def _no_functions(value: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    """Properties of the Kafka client that are functions to it cannot be set by a text."""
    for name in value:
        if name.endswith("_cb") or name in ("logger", "on_delivery", "on_commit"):
            fix = "name it in MESH_KAFKA_OAUTH" if name == "oauth_cb" else "leave it out"
            raise ValueError(f"{name} is a function, which a setting cannot hold; {fix}")
    return value


# Properties of a client, by the client's own names.
Properties = Annotated[dict[str, SecretStr], BeforeValidator(_as_texts)]
# In a variable separated by commas; a list in the file.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """The platform's settings; each field ``x`` is the variable ``MESH_X``, and the key ``x`` of ``mesh.toml``."""

    model_config = SettingsConfigDict(
        env_prefix="MESH_", env_ignore_empty=True, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    config: Path | None = Field(
        default=None,
        description="The settings file. Unset: mesh.toml of the current folder or the nearest one above it.",
    )

    home: Path = Field(default=Path(".mesh"), description="Folder of all local state: services, tables, Dagster.")
    cache: Path = Field(
        default=Path("~/.cache/mesh-pipelines"), description="Folder of downloaded jars, shared by all home folders."
    )
    assets: Path = Field(
        default=Path("assets"), description="Folder of the contracts: <domain>/<product>/contract.yaml."
    )

    files_group: str | None = Field(
        default=None,
        description="A group that may read the files of the home folder. Unset: only their owner may.",
    )

    bootstrap_servers: str | None = Field(
        default=None, description="Kafka's bootstrap servers. Unset: the local broker of `mesh up`."
    )
    schema_registry_url: Address | None = Field(
        default=None, description="Base URL of a registry with the Confluent API. Unset: the local one of `mesh up`."
    )
    kafka_config: Annotated[Properties, AfterValidator(_no_functions)] = Field(
        default_factory=dict[str, SecretStr],
        description="More client properties as JSON: security.protocol, sasl.mechanisms, sasl.username, ...",
    )
    kafka_oauth: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")] | None = Field(
        default=None,
        description="A Python function that gives tokens for the broker, as module:function. Unset: none.",
    )
    schema_registry_config: Properties = Field(
        default_factory=dict[str, SecretStr],
        description="More registry client properties as JSON: basic.auth.user.info, ssl.ca.location, ...",
    )
    replication_factor: Annotated[int, Field(ge=-1, le=10_000)] = Field(
        default=-1, description="Replication factor of topics that apply creates; -1 is the broker's default."
    )
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=10.0, description="Seconds to wait for an answer of a broker or the registry."
    )

    catalog_uri: Address | None = Field(
        default=None,
        description="Iceberg catalog: an http(s) REST address or a SQL URI. Unset: SQLite under the home folder.",
    )
    catalog_config: Properties = Field(
        default_factory=dict[str, SecretStr], description="More Iceberg catalog properties as JSON."
    )
    warehouse: str | None = Field(
        default=None, description="Where table files live. Unset: a folder under the home folder."
    )

    chunk_rows: Annotated[int, Field(ge=1)] = Field(
        default=196_608, description="Events landed per commit; bounds the memory of landing whatever the backlog."
    )
    max_event_bytes: Annotated[int, Field(ge=1)] = Field(
        default=16_777_216,
        description="Bytes of the largest value that is decoded; larger ones are quarantined unread.",
    )
    fetch_queue_kbytes: Annotated[int, Field(ge=1024, le=2_097_151)] = Field(
        default=4_096, description="KiB of fetched but not yet consumed messages the Kafka client may hold."
    )
    base_tail_rows: Annotated[int, Field(ge=1)] = Field(
        default=50_000,
        description="Events that a keyed product's base may lag behind before it takes them in, however small it is.",
    )
    native: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Landing in C: if the extension was built (auto), an error without it (on), or never (off).",
    )
    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?([KMGT]i?B|%)$")] = Field(
        default="600MB", description="DuckDB's memory limit; it spills to the home folder above it."
    )

    sql_timeout_s: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        default=600.0, description="Seconds the SQL of a query, a rule or a transform may compute before it is stopped."
    )

    openlineage_file: Path | None = Field(
        default=None, description="File to which OpenLineage events are appended, one JSON object a line. Unset: none."
    )
    openlineage_url: Address | None = Field(
        default=None, description="OpenLineage backend that receives events, such as http://marquez:5000. Unset: none."
    )
    openlineage_api_key: SecretStr | None = Field(default=None, description="Bearer token for the OpenLineage backend.")
    openlineage_namespace: Annotated[str, Field(min_length=1)] = Field(
        default="mesh", description="Namespace of jobs and tables in OpenLineage events: the name of this mesh."
    )

    host: str = Field(default="127.0.0.1", description="Address the portal and Dagster's pages listen on.")
    services_host: str = Field(
        default="127.0.0.1", description="Address the local broker and registry listen on; they know no sign-in."
    )
    kafka_port: Port = Field(default=19092, description="Port of the local broker.")
    controller_port: Port = Field(default=19093, description="Port of the local broker's KRaft controller.")
    registry_port: Port = Field(default=18081, description="Port of the local schema registry.")
    dagster_port: Port = Field(default=3000, description="Port of Dagster's web UI.")
    portal_port: Port = Field(default=3001, description="Port of the portal.")
    portal_url: str | None = Field(
        default=None, description="The portal's address as its users see it. Unset: http with its host and port."
    )
    dagster_url: str | None = Field(
        default=None,
        description="The address of Dagster's web UI that the portal links to. Unset: the one of `mesh up`.",
    )

    observe_interval_s: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=10.0, description="Seconds between two observations of the mesh."
    )
    history_days: Annotated[int, Field(ge=31, le=10_000)] = Field(
        default=400, description="Days that daily sums and incidents are kept."
    )
    smtp_url: Address | None = Field(
        default=None,
        description="The mail server of notifications: smtp://user:password@host:port, or smtps. Unset: no mail.",
    )
    mail_from: str = Field(default="mesh-pipelines@localhost", description="The sender of notifications by mail.")

    notify_allow: Names = Field(
        default=(),
        description="Where notifications may go: hosts, prefixes of addresses, mail domains. Unset: public addresses.",
    )

    oidc_issuer: str | None = Field(
        default=None,
        description="The OpenID Connect provider that signs people in to the portal. Unset: sign-in on loopback only.",
    )
    oidc_client_id: str | None = Field(default=None, description="The portal's client id at that provider.")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="Its client secret; a public client has none."
    )
    dagster_launch: Names = Field(
        default=(),
        description="Who may launch and stop runs in Dagster's pages: values of the claim, or * for everybody.",
    )
    dagster_administer: Names = Field(
        default=(), description="Who may do everything in Dagster's pages: values of the claim, or * for everybody."
    )
    oidc_claim: str = Field(
        default="email", description="The id token's claim that is compared with the usernames of a contract's team."
    )

    @field_validator("openlineage_url", "smtp_url")
    @classmethod
    def _well_formed(cls, address: Address | None, info: ValidationInfo) -> Address | None:
        form, example = _FORMS[str(info.field_name)]
        if address and not form.fullmatch(address.reveal()):
            raise ValueError(f"must be an address like {example}")
        return address

    @field_validator("bootstrap_servers", "warehouse", "portal_url", "dagster_url", "oidc_issuer")
    @classmethod
    def _without_password(cls, place: str | None, info: ValidationInfo) -> str | None:
        if place and any(Address(place).secrets()):
            other = {"bootstrap_servers": "MESH_KAFKA_CONFIG", "warehouse": "MESH_CATALOG_CONFIG"}
            into = other.get(str(info.field_name))
            raise ValueError(f"must have no password or token in it{f'; put it into {into}' if into else ''}")
        return place

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        """A function that gives tokens leaves no other way to sign in."""
        given = revealed(self.kafka_config)
        mechanism = given.get("sasl.mechanisms", given.get("sasl.mechanism", "OAUTHBEARER"))
        if self.kafka_oauth and (mechanism != "OAUTHBEARER" or given.get("sasl.oauthbearer.method") == "oidc"):
            raise ValueError("MESH_KAFKA_OAUTH gives tokens for OAUTHBEARER; take other ways out of MESH_KAFKA_CONFIG")
        return self

    @model_validator(mode="after")
    def _hide_secrets(self) -> Self:
        remember(self.secrets())
        return self

    @field_validator("home", "assets", "cache", "openlineage_file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path else None

    @field_validator("home", "warehouse")
    @classmethod
    def _addressable(cls, place: Path | str | None) -> Path | str | None:
        if found := _UNADDRESSABLE.intersection(str(place)):
            raise ValueError(f"the path of a folder of tables must not contain {' '.join(sorted(found))}")
        return place

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where settings come from: arguments, then the environment, then the file."""
        return init_settings, env_settings, SettingsFile(settings_cls)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The same settings but for ``update``, checked like any others."""
        copied = type(self).__new__(type(self))
        # Not the settings' own constructor, which would read the environment again.
        BaseModel.__init__(copied, **{**super().model_copy(deep=deep).__dict__, **(update or {})})
        return copied

    def secrets(self) -> Iterator[str]:
        """Every text in these settings that must not be shown."""
        for _, value in self:
            match value:
                case Address():
                    yield from value.secrets()
                case SecretStr():
                    yield value.get_secret_value()
                case Mapping():
                    yield from secrets_of(revealed(value))
                case _:
                    pass

    @classmethod
    def load(cls) -> Settings:
        """The settings of this process: its environment, and the file.

        Raises:
            SettingInvalid: a variable has a value that cannot be used; all such are named.
        """
        try:
            return cls()  # pyright: ignore[reportCallIssue]
        except ValidationError as error:
            wrong = [
                ": ".join([f"MESH_{str(name).upper()}", *map(str, inner), fault["msg"]])
                for fault in error.errors()
                for name, *inner in [fault["loc"]]
            ]
            raise SettingInvalid("; ".join(wrong), next_step="see docs/settings.md") from error
        except SettingsError as error:
            raise SettingInvalid(
                f"a setting with several values must be JSON: {error}", next_step="see docs/settings.md"
            ) from error

    @property
    def uses_local_broker(self) -> bool:
        """Whether the broker is the one `mesh up` starts."""
        return self.bootstrap_servers is None

    @property
    def uses_local_registry(self) -> bool:
        """Whether the schema registry is the one `mesh up` starts."""
        return self.schema_registry_url is None

    @property
    def brokers(self) -> str:
        """The bootstrap servers in use."""
        return self.bootstrap_servers or f"{self.services_host}:{self.kafka_port}"

    @property
    def registry_url(self) -> Address:
        """The registry's base URL in use (Confluent API)."""
        return self.schema_registry_url or Address(f"http://{self.services_host}:{self.registry_port}/apis/ccompat/v7")

    @property
    def near_host(self) -> str:
        """The address by which programs on this machine reach the portal and Dagster's pages."""
        return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)

    @property
    def warehouse_uri(self) -> str:
        """Where table files live."""
        # As it is: who writes there takes the path of the address literally, an escaped blank included.
        return self.warehouse or f"file://{self.home / 'warehouse'}"

    @property
    def catalog(self) -> Address:
        """The Iceberg catalog's URI in use."""
        # SQLAlchemy reads what is escaped in the path of a file as what it stands for.
        return self.catalog_uri or Address(f"sqlite:///{quote(str(self.home / 'catalog.db'))}")

    @property
    def reports_lineage(self) -> bool:
        """Whether steps report what they read and wrote."""
        return self.openlineage_file is not None or self.openlineage_url is not None

    @property
    def serving_file(self) -> Path:
        """The DuckDB file with a view per published product, for BI tools."""
        return self.home / "serving.duckdb"

    @property
    def portal_address(self) -> str:
        """The portal's base address, without a slash at its end."""
        return (self.portal_url or f"http://{self.host}:{self.portal_port}").rstrip("/")

    @property
    def dagster_address(self) -> str:
        """The base address of Dagster's web UI, without a slash at its end."""
        return (self.dagster_url or f"http://{self.host}:{self.dagster_port}").rstrip("/")

    def uses_native(self) -> bool:
        """Whether the native extension lands and decodes.

        Raises:
            EnvironmentFault: the settings insist on it, and it is not there.
        """
        usable, why = native.in_use(self.native)
        if self.native == "on" and not usable:
            raise EnvironmentFault(f"MESH_NATIVE=on, but the native extension is {why}", next_step="mesh doctor")
        return usable

    def client_config(self) -> dict[str, str]:
        """The Kafka client properties that every consumer, producer and admin client shares."""
        signed_in = {"security.protocol": "SASL_SSL", "sasl.mechanisms": "OAUTHBEARER"} if self.kafka_oauth else {}
        return {"bootstrap.servers": self.brokers, **signed_in, **revealed(self.kafka_config)}


def revealed(properties: Mapping[str, SecretStr]) -> dict[str, str]:
    """Client properties with their real values, for a client."""
    return {name: value.get_secret_value() for name, value in properties.items()}
