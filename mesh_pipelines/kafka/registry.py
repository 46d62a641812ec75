"""The schema registry, through its Confluent API: schemas by id for reading, subjects for applying a contract.

An id that the registry does not know is a fact about an event; a registry that does not answer is not. The two are
told apart here, because the first quarantines an event and the second must only be waited out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from mesh_pipelines.errors import EnvironmentFault, MeshError, NotAuthorized, RegistryUnreachable, SettingInvalid
from mesh_pipelines.formats.format import Schemas, UnknownSchema
from mesh_pipelines.settings import Settings, revealed

if TYPE_CHECKING:
    from mesh_pipelines.bounded_http import Bounds

T = TypeVar("T")

# The registry's own codes for what it does not have: any other 404 comes from something that is not a registry.
_NOT_FOUND = range(40401, 40500)
_PASSING = (404, 408, 429)
# A schema that was refused is compared with so many versions of its subject, the newest ones.
_COMPARED = 20


class Registry:
    """A schema registry. Every method raises RegistryUnreachable (transient) when it does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._schemas: dict[int, str] = {}

    @cached_property
    def _client(self) -> Any:
        from confluent_kafka.schema_registry import SchemaRegistryClient

        from mesh_pipelines.bounded_http import Bounds

        config = {
            "url": self._settings.registry_url.reveal(),
            "timeout": self._settings.timeout_s,
            "max.retries": 1,
            **revealed(self._settings.schema_registry_config),
        }
        try:
            client = SchemaRegistryClient(config)
            _limit(client, Bounds(self._settings.timeout_s))
            return client
        except (ValueError, TypeError, OSError) as error:
            raise SettingInvalid(
                f"MESH_SCHEMA_REGISTRY_URL or MESH_SCHEMA_REGISTRY_CONFIG: {error}", next_step="see docs/settings.md"
            ) from error

    def prepare(self, subject: str) -> None:
        """Ask for the subject's latest schema, which most events have; for a thread of its own, ahead of the first.

        Once events are being fetched, the first question, for which a client has to be made, takes a tenth of a second.
        What is wrong is said when a schema is needed.
        """
        with suppress(MeshError):
            latest = self.latest(subject)
            if latest:
                self._schemas[latest[0]] = latest[1]

    def schema(self, schema_id: int) -> str:
        """The schema's text, kept after the first time: an id never changes its meaning.

        Raises:
            UnknownSchema: the registry has no such id.
        """
        if schema_id not in self._schemas:
            found = self._ask(lambda: self._client.get_schema(schema_id))
            if found is None:
                raise UnknownSchema(schema_id)
            if not isinstance(found.schema_str, str):
                raise self._unreachable("its answer has no schema")
            self._schemas[schema_id] = found.schema_str
        return self._schemas[schema_id]

    def latest(self, subject: str) -> tuple[int, str] | None:
        """Id and text of the subject's latest schema; None if the subject does not exist."""
        self._client.clear_latest_caches()
        found = self._ask(lambda: self._client.get_latest_version(subject))
        return (found.schema_id, str(found.schema.schema_str)) if found else None

    def registered_id(self, subject: str, schema: str, schema_type: str) -> int | None:
        """The id of a schema under a subject, as any of its versions; None where it is not registered there."""
        from confluent_kafka.schema_registry import Schema

        self._client.clear_caches()
        found = self._ask(lambda: self._client.lookup_schema(subject, Schema(schema, schema_type)))
        return found.schema_id if found else None

    def register(self, subject: str, schema: str, schema_type: str) -> int:
        """Register a schema and give its id; one that is registered already keeps its id."""
        from confluent_kafka.schema_registry import Schema

        return self._require(lambda: self._client.register_schema(subject, Schema(schema, schema_type)), subject)

    def objections(self, subject: str, schema: str, schemas: Schemas) -> list[str]:
        """Why the subject's mode does not allow this schema next, one reason a field; empty where it does.

        Registries say no more than that it is refused, so the reasons come from comparing it with the versions that
        the mode speaks of, by the rules of the format.
        """
        from confluent_kafka.schema_registry import Schema

        mode = self.compatibility(subject) or self._ask(self._client.get_compatibility) or ""
        is_transitive = mode.endswith("_TRANSITIVE")
        # Asked about all versions, some registries (Apicurio) compare with all of them whatever the mode is.
        test = self._client.test_compatibility_all_versions if is_transitive else self._client.test_compatibility
        if self._require(lambda: test(subject, Schema(schema, schemas.type)), subject):
            return []
        reasons = [
            f"version {version}: {reason}"
            for version, registered in self._versions(subject, _COMPARED if is_transitive else 1)
            for reason in _reasons(schemas, schema, registered, mode)
        ]
        return reasons or [f"the registry refuses it (mode {mode or 'unknown'}) and gives no reason"]

    def _versions(self, subject: str, count: int) -> Iterator[tuple[int, str]]:
        """Number and schema of a subject's newest versions, newest first."""
        numbers = sorted(self._require(lambda: self._client.get_versions(subject), subject), reverse=True)
        for number in numbers[:count]:
            found = self._ask(lambda number=number: self._client.get_version(subject, number))
            if found:
                yield number, str(found.schema.schema_str)

    def compatibility(self, subject: str) -> str | None:
        """The mode set for the subject itself; None where it follows the registry's default."""
        return self._ask(lambda: self._client.get_compatibility(subject))

    def set_compatibility(self, subject: str, mode: str) -> None:
        """Set the subject's mode; a registry may refuse who comes second with what another just set."""
        try:
            self._require(lambda: self._client.set_compatibility(subject, mode), subject)
        except EnvironmentFault:
            if self.compatibility(subject) != mode:
                raise

    def _require(self, call: Callable[[], T], subject: str) -> T:
        answer = self._ask(call)
        if answer is None:
            raise EnvironmentFault(
                f"the schema registry at {self._settings.registry_url} has no subject {subject}", next_step="mesh apply"
            )
        return answer

    def _ask(self, call: Callable[[], T]) -> T | None:
        """The answer, or None for "not found"."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return call()
        except SchemaRegistryError as error:
            if error.http_status_code == 404 and error.error_code in _NOT_FOUND:
                return None
            if error.http_status_code in (401, 403):
                raise NotAuthorized(
                    f"the schema registry at {self._settings.registry_url} refused: {error.error_message}",
                    next_step="check MESH_SCHEMA_REGISTRY_CONFIG, and docs/services.md for the rights that are needed",
                ) from error
            if error.http_status_code in _PASSING or error.http_status_code >= 500 or error.http_status_code < 0:
                raise self._unreachable(str(error)) from error
            raise EnvironmentFault(
                f"the schema registry at {self._settings.registry_url} refused: {error.error_message}",
                next_step="check MESH_SCHEMA_REGISTRY_CONFIG",
            ) from error
        except MeshError:
            raise
        except Exception as error:  # of the connection, or from an answer that is not a registry's
            raise self._unreachable(f"{type(error).__name__}: {error}") from error

    def _unreachable(self, reason: str) -> RegistryUnreachable:
        local = self._settings.uses_local_registry
        step = "mesh up --services" if local else "check MESH_SCHEMA_REGISTRY_URL"
        return RegistryUnreachable(
            f"the schema registry at {self._settings.registry_url} does not answer: {reason}", next_step=step
        )


def _limit(client: Any, bounds: Bounds) -> None:
    """Hold a registry's client, and the one that gets its tokens, to bounds: it has no setting for either."""
    from mesh_pipelines.bounded_http import limit

    rest = client._rest_client
    limit(rest.session, bounds)
    if own := getattr(rest.bearer_field_provider, "client", None):
        limit(own, bounds)


def _reasons(schemas: Schemas, ours: str, registered: str, mode: str) -> list[str]:
    """Why a mode does not allow one schema after the other: whose events could not be read."""
    found: list[str] = []
    if not mode.startswith("FORWARD"):
        found += schemas.incompatibilities(ours, registered, backward=True)
    if mode.startswith(("FORWARD", "FULL")):
        found += schemas.incompatibilities(ours, registered, backward=False)
    return list(dict.fromkeys(found))
