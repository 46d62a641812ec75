"""Every setting of the platform, read once from ``MESH_*`` variables and handed down as one object.

Nothing else in the package reads the environment. A ``.env`` file is not read: what a process runs with is what its
environment says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from mesh_pipelines import native
from mesh_pipelines.errors import EnvironmentFault, SettingInvalid

# Table addresses are URIs to some of their readers and patterns to others.
_UNADDRESSABLE = set("#?*[\\")

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """The platform's settings; each field ``x`` is the variable ``MESH_X``."""

    model_config = SettingsConfigDict(env_prefix="MESH_", env_ignore_empty=True, frozen=True, extra="ignore")

    home: Path = Field(Path(".mesh"), description="Folder of all local state: services, tables, Dagster.")
    cache: Path = Field(
        Path("~/.cache/mesh-pipelines"), description="Folder of downloaded jars, shared by all home folders."
    )
    assets: Path = Field(Path("assets"), description="Folder of the contracts: <domain>/<product>/contract.yaml.")

    bootstrap_servers: str | None = Field(
        None, description="Kafka's bootstrap servers. Unset: the local broker of `mesh up`."
    )
    schema_registry_url: str | None = Field(
        None, description="Base URL of a registry with the Confluent API. Unset: the local one of `mesh up`."
    )
    kafka_config: dict[str, str] = Field(
        default_factory=dict,
        description="More client properties as JSON: security.protocol, sasl.mechanisms, sasl.username, ...",
    )
    schema_registry_config: dict[str, str] = Field(
        default_factory=dict,
        description="More registry client properties as JSON: basic.auth.user.info, ssl.ca.location, ...",
    )
    replication_factor: Annotated[int, Field(ge=-1, le=10_000)] = Field(
        -1, description="Replication factor of topics that apply creates; -1 is the broker's default."
    )
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        10.0, description="Seconds to wait for a broker's or registry's answer."
    )

    catalog_uri: str | None = Field(
        None,
        description="Iceberg catalog: an http(s) REST address or an SQL URI. Unset: SQLite under the home folder.",
    )
    catalog_config: dict[str, str] = Field(default_factory=dict, description="More Iceberg catalog properties as JSON.")
    warehouse: str | None = Field(None, description="Where table files live. Unset: a folder under the home folder.")

    chunk_rows: Annotated[int, Field(ge=1)] = Field(
        196_608, description="Events landed per commit; bounds the memory of landing whatever the backlog."
    )
    max_event_bytes: Annotated[int, Field(ge=1)] = Field(
        16_777_216, description="Bytes of the largest value that is decoded; larger ones are quarantined unread."
    )
    fetch_queue_kbytes: Annotated[int, Field(ge=1024, le=2_097_151)] = Field(
        4_096, description="KiB of fetched but not yet consumed messages the Kafka client may hold."
    )
    base_tail_rows: Annotated[int, Field(ge=1)] = Field(
        50_000, description="Events behind a keyed product's base that it does not take in, however small it is."
    )
    native: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Landing in C: where the extension was built (auto), or an error without it (on), or never (off).",
    )
    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?([KMGT]i?B|%)$")] = Field(
        "600MB", description="DuckDB's memory limit; it spills to the home folder above it."
    )

    sql_timeout_s: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        600.0, description="Seconds the SQL of a query, a rule or a transform may compute before it is stopped."
    )

    openlineage_file: Path | None = Field(
        None, description="File to which OpenLineage events are appended, one JSON object a line. Unset: none."
    )
    openlineage_url: Annotated[str, Field(pattern=r"^https?://[^/]+")] | None = Field(
        None, description="OpenLineage backend that is sent events, such as http://marquez:5000. Unset: none."
    )
    openlineage_api_key: str | None = Field(None, description="Bearer token for the OpenLineage backend.", repr=False)
    openlineage_namespace: Annotated[str, Field(min_length=1)] = Field(
        "mesh", description="Namespace of jobs and tables in OpenLineage events: the name of this mesh."
    )

    host: str = Field("127.0.0.1", description="Address local services and Dagster listen on.")
    kafka_port: Port = Field(19092, description="Port of the local broker.")
    controller_port: Port = Field(19093, description="Port of the local broker's KRaft controller.")
    registry_port: Port = Field(18081, description="Port of the local schema registry.")
    dagster_port: Port = Field(3000, description="Port of Dagster's web UI.")
    portal_port: Port = Field(3001, description="Port of the portal.")
    portal_url: str | None = Field(
        None, description="The portal's address as its users have it. Unset: its host and port, by http."
    )
    dagster_url: str | None = Field(
        None, description="The address of Dagster's web UI as the portal links to it. Unset: that of `mesh up`."
    )

    observe_interval_s: Annotated[float, Field(ge=1, le=3600)] = Field(
        10.0, description="Seconds between two observations of the mesh."
    )
    history_days: Annotated[int, Field(ge=31, le=10_000)] = Field(
        400, description="Days that daily sums and incidents are kept."
    )
    smtp_url: Annotated[str, Field(pattern=r"^smtps?://[^/?#]+/?$")] | None = Field(
        None, description="The mail server of notifications: smtp://user:password@host:port, or smtps. Unset: no mail."
    )
    mail_from: str = Field("mesh-pipelines@localhost", description="The sender of notifications by mail.")

    oidc_issuer: str | None = Field(
        None,
        description="The OpenID Connect provider that signs people in to the portal. Unset: nobody but on loopback.",
    )
    oidc_client_id: str | None = Field(None, description="The portal's client id at that provider.")
    oidc_client_secret: str | None = Field(None, description="Its client secret; a public client has none.")
    oidc_claim: str = Field(
        "email", description="The id token's claim that is compared with the usernames of a contract's team."
    )

    @field_validator("home", "assets", "cache", "openlineage_file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path else None

    @field_validator("home", "warehouse")
    @classmethod
    def _addressable(cls, place: Path | str | None) -> Path | str | None:
        if found := _UNADDRESSABLE.intersection(str(place)):
            raise ValueError(f"a folder of tables cannot have {' '.join(sorted(found))} in its path")
        return place

    @classmethod
    def load(cls) -> Settings:
        """The settings of this process's environment.

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
            raise SettingInvalid(f"a mapping is no JSON: {error}", next_step="see docs/settings.md") from error

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
        return self.bootstrap_servers or f"{self.host}:{self.kafka_port}"

    @property
    def registry_url(self) -> str:
        """The registry's base URL in use (Confluent API)."""
        return self.schema_registry_url or f"http://{self.host}:{self.registry_port}/apis/ccompat/v7"

    @property
    def warehouse_uri(self) -> str:
        """Where table files live."""
        # As it is: who writes there takes the path of the address literally, an escaped blank included.
        return self.warehouse or f"file://{self.home / 'warehouse'}"

    @property
    def catalog(self) -> str:
        """The Iceberg catalog's URI in use."""
        return self.catalog_uri or f"sqlite:///{self.home / 'catalog.db'}"

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

    def client_config(self) -> dict[str, str | int]:
        """The Kafka client properties that every consumer, producer and admin client shares."""
        return {"bootstrap.servers": self.brokers, **self.kafka_config}
