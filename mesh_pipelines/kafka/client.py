"""Kafka clients made from the settings, and the broker's real reason when it cannot be reached.

librdkafka reports only "transport failure" or a timeout to the caller; why (wrong password, unknown CA, refused) goes
to an error callback, and only while the client is polled. Each client made here keeps the last such reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from mesh_pipelines.errors import BrokerUnreachable, EnvironmentFault, NotAuthorized, SettingInvalid
from mesh_pipelines.kafka.oauth import callbacks
from mesh_pipelines.settings import Settings

_UNREACHABLE = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
}

_UNAUTHORIZED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional-id",
}

# What exactly-once rests on; MESH_KAFKA_CONFIG does not reach it.
_PROMISED: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
}

Client = TypeVar("Client")
# The consumer's group, unless MESH_KAFKA_CONFIG names another. Nothing is committed to it, and it takes no right.
GROUP = "mesh-pipelines"


@dataclass(frozen=True)
class Right:
    """An operation on a resource of the broker's, in the words of its access control lists."""

    operation: str
    topic: str = ""


class Reasons:
    """The last error a client reported; most specific first."""

    def __init__(self) -> None:
        self._reasons: dict[int, str] = {}

    def note(self, error: KafkaError) -> None:
        """The client's error callback."""
        self._reasons[error.code()] = error.str()

    def last(self) -> str:
        """The reason to show: one about credentials before one about the connection."""
        for code in (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._RESOLVE, KafkaError._TRANSPORT):
            if code in self._reasons:
                return self._reasons[code]
        return next(iter(self._reasons.values()), "no answer in time")


def consumer_config(settings: Settings) -> dict[str, Any]:
    """What makes a consumer read only what is committed and stop, loudly, where the log does not go on.

    It belongs to no group that matters: positions live in the tables.
    """
    return {
        "group.id": GROUP,
        "queued.max.messages.kbytes": settings.fetch_queue_kbytes,
        "queued.min.messages": 500_000,
        "fetch.message.max.bytes": 4 * 1024 * 1024,
        # A read ends at the end that it began with; an answer that waits for more only holds up its last event.
        "fetch.wait.max.ms": 20,
        # The queue is short, so it is full again and again; a client waits a second then, if it is not told otherwise.
        "fetch.queue.backoff.ms": 5,
        "log_level": 0,
        **settings.client_config(),
        **_PROMISED,
    }


def consumer(settings: Settings, reasons: Reasons, **config: Any) -> Consumer:
    """A consumer of ``consumer_config``; further properties override."""
    return _make(Consumer, {**consumer_config(settings), **callbacks(settings), "error_cb": reasons.note, **config})


def producer(settings: Settings, **config: Any) -> Producer:
    """An idempotent producer with lz4 compression; further properties override."""
    return _make(
        Producer,
        {
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
            "batch.size": 512 * 1024,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 256 * 1024,
            "log_level": 0,
            **settings.client_config(),
            **callbacks(settings),
            **config,
        },
    )


def admin(settings: Settings, reasons: Reasons) -> AdminClient:
    """An admin client."""
    config: dict[str, Any] = {
        "error_cb": reasons.note,
        "log_level": 0,
        **settings.client_config(),
        **callbacks(settings),
    }
    return _make(AdminClient, config)


def _make(kind: Callable[[dict[str, Any]], Client], config: dict[str, Any]) -> Client:
    try:
        return kind(config)
    except KafkaException as error:
        raise SettingInvalid(f"MESH_KAFKA_CONFIG: {error.args[0].str()}", next_step="see docs/settings.md") from error
    except (TypeError, ValueError, ImportError) as error:
        raise SettingInvalid(f"MESH_KAFKA_CONFIG: {error}", next_step="see docs/settings.md") from error


def is_unreachable(error: KafkaError) -> bool:
    """Whether an error says that the broker cannot be reached, rather than that it refuses."""
    return error.code() in _UNREACHABLE


def is_of_the_group(error: KafkaError) -> bool:
    """Whether an error is about the consumer's group alone, which nothing is read from or committed to.

    The client looks up the group's coordinator all the same, and says so where it may not.
    """
    return error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def refused(settings: Settings, error: KafkaError, right: Right) -> EnvironmentFault:
    """The error for a broker that answers and does not do what it was asked for; ``right`` is what that takes."""
    kind = _UNAUTHORIZED.get(error.code())
    if kind is None:
        about = f"topic {right.topic}: " if right.topic else ""
        return EnvironmentFault(f"{about}Kafka at {settings.brokers} refused: {error.str()}", next_step="mesh doctor")
    who = _principal(settings.client_config())
    resource = f"{kind} {right.topic}" if kind == "topic" else kind
    return NotAuthorized(
        f"Kafka at {settings.brokers} does not let {who} {right.operation} the {resource}",
        next_step=f"grant it: kafka-acls --add --allow-principal {who if ':' in who else 'User:...'} "
        f"--operation {right.operation} --{resource}, or see docs/services.md, Rights on a broker",
    )


def _principal(config: Mapping[str, str]) -> str:
    """Whom the broker takes this client for, as far as the client can know."""
    if user := config.get("sasl.username"):
        return f"User:{user}"
    protocol = str(config.get("security.protocol", "PLAINTEXT")).upper()
    if protocol.startswith("SASL"):
        return "the principal of its token or ticket"
    if protocol == "SSL" and {"ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"} & {*config}:
        return "the subject of its certificate"
    return "User:ANONYMOUS"


def unreachable(settings: Settings, reason: str) -> BrokerUnreachable:
    """The error for a broker that does not answer, with what to do about it."""
    step = "mesh up --services" if settings.uses_local_broker else "check MESH_BOOTSTRAP_SERVERS and MESH_KAFKA_CONFIG"
    return BrokerUnreachable(f"Kafka at {settings.brokers} does not answer: {reason}", next_step=step)
