"""The schema registry, through its Confluent API: schemas by id for reading, subjects for applying a contract.

An id that the registry does not know is a fact about an event; a registry that does not answer is not. The two are
told apart here, because the first quarantines an event and the second must only be waited out.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from mesh_pipelines.errors import EnvironmentFault, MeshError, SettingInvalid
from mesh_pipelines.formats.format import BrokenReferences, RegisteredSchema, SchemaId, Schemas, UnknownSchema
from mesh_pipelines.kafka.references import follow
from mesh_pipelines.kafka.registry_config import registry_config
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    from mesh_pipelines.bounded_http import Bounds

T = TypeVar("T")

# The registry's own codes for what it does not have: any other 404 comes from something that is not a registry.
_NOT_FOUND = range(40401, 40500)
# A schema that was refused is compared with so many versions of its subject, the newest ones.
_COMPARED = 20


class Registry:
    """A schema registry. Every method raises RegistryUnreachable (transient) when it does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._schemas: dict[SchemaId, RegisteredSchema] = {}

    @cached_property
    def _client(self) -> Any:
        from confluent_kafka.schema_registry import SchemaRegistryClient

        from mesh_pipelines.bounded_http import Bounds

        config = registry_config(self._settings)
        try:
            client = SchemaRegistryClient(config)
            _watch(client, self._settings, Bounds(self._settings.timeout_s))
            return client
        except Exception as error:  # of the client or what it is made of, before anything was asked
            raise SettingInvalid(
                f"MESH_SCHEMA_REGISTRY_URL or MESH_SCHEMA_REGISTRY_CONFIG: {error}", next_step="see docs/settings.md"
            ) from error

    def prepare(self, subject: str) -> None:
        """Ask for the subject's latest schema, which most events have; for a thread of its own, ahead of the first.

        Once events are being fetched, the first question, for which a client has to be made, takes a tenth of a second.
        What is wrong is said when a schema is needed.
        """
        with suppress(MeshError, BrokenReferences):
            latest = self.latest(subject)
            if latest:
                self._schemas[latest[0]] = latest[1]

    def schema(self, schema_id: SchemaId) -> RegisteredSchema:
        """The schema of an id with those that it refers to, kept after the first time: an id keeps its meaning.

        Raises:
            UnknownSchema: the registry has no such id.
            BrokenReferences: what it refers to is not there, or cannot be followed within limits.
        """
        if schema_id not in self._schemas:
            found = self._by_guid(schema_id) if isinstance(schema_id, UUID) else self._by_number(schema_id)
            if found is None:
                raise UnknownSchema(schema_id)
            self._schemas[schema_id] = self._with_references(found)
        return self._schemas[schema_id]

    def _by_number(self, schema_id: int) -> Any:
        return self._ask(lambda: self._client.get_schema(schema_id))

    def _by_guid(self, guid: UUID) -> Any:
        # A registry without GUIDs has no such page, which it says in words of its own.
        return self._ask(lambda: self._client.get_schema_by_guid(str(guid)), missing=(*_NOT_FOUND, 404, None, -1))

    def _with_references(self, found: Any) -> RegisteredSchema:
        if not isinstance(found.schema_str, str):
            from mesh_pipelines.kafka.registry_answers import alien

            raise alien("it has no schema", self._settings)
        return RegisteredSchema(found.schema_str, str(found.schema_type or "AVRO"), follow(found, self._version))

    def _version(self, subject: str, version: int) -> Any:
        """The schema of a subject's version, deleted ones included; None where there is none."""
        number = "latest" if version == -1 else version
        found = self._ask(lambda: self._client.get_version(subject, number, deleted=version != -1))
        return found.schema if found else None

    def latest(self, subject: str) -> tuple[int, RegisteredSchema] | None:
        """Id and schema of the subject's latest version; None if the subject does not exist.

        Raises:
            BrokenReferences: what it refers to is not there, or cannot be followed within limits.
        """
        self._client.clear_latest_caches()
        found = self._ask(lambda: self._client.get_latest_version(subject))
        return (found.schema_id, self._with_references(found.schema)) if found else None

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

    def _versions(self, subject: str, count: int) -> Iterator[tuple[int, RegisteredSchema]]:
        """Number and schema of a subject's newest versions, newest first."""
        numbers = sorted(self._require(lambda: self._client.get_versions(subject), subject), reverse=True)
        for number in numbers[:count]:
            found = self._ask(lambda number=number: self._client.get_version(subject, number))
            if found:
                yield number, self._with_references(found.schema)

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

    def _ask(self, call: Callable[[], T], missing: Container[int | None] = _NOT_FOUND) -> T | None:
        """The answer, or None for "not found", which has one of these codes."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        from mesh_pipelines.kafka.registry_answers import alien, fault_of, silent

        try:
            return call()
        except SchemaRegistryError as error:
            if error.http_status_code == 404 and error.error_code in missing:
                return None
            raise fault_of(error.http_status_code, error.error_code, error.error_message, self._settings) from error
        except MeshError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise alien(f"{type(error).__name__}: {error}", self._settings) from error
        except Exception as error:  # of the connection
            raise silent(f"{type(error).__name__}: {error}", self._settings) from error


def _watch(client: Any, settings: Settings, bounds: Bounds) -> None:
    """Hold a registry's client, and the one that gets its tokens, to bounds, and look at the registry's answers.

    It has no setting for either.
    """
    from mesh_pipelines.bounded_http import limit, wrap
    from mesh_pipelines.kafka.registry_answers import Answers

    rest = client._rest_client
    limit(rest.session, bounds)
    wrap(rest.session, lambda inner: Answers(inner, settings))
    if own := getattr(rest.bearer_field_provider, "client", None):
        limit(own, bounds)


def _reasons(schemas: Schemas, ours: str, registered: RegisteredSchema, mode: str) -> list[str]:
    """Why a mode does not allow one schema after the other: whose events could not be read."""
    try:
        theirs = schemas.whole(registered)
    except BrokenReferences as error:
        return [f"the registered schema cannot be compared: {error}"]
    found: list[str] = []
    if not mode.startswith("FORWARD"):
        found += schemas.incompatibilities(ours, theirs, backward=True)
    if mode.startswith(("FORWARD", "FULL")):
        found += schemas.incompatibilities(ours, theirs, backward=False)
    return list(dict.fromkeys(found))
