"""A data product as its contract declares it: frozen values, and nothing that reaches outside them.

The ODCS document is read into these by ``contract.load``; everything the contract compiles to (topic settings, Avro
and table schemas, rules, checks, catalog) is computed from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mesh_pipelines.contract.durations import LONGEST_S, seconds_of

# The file beside a contract with the SELECT of a derived product; those of schemas belong to the wire formats.
TRANSFORM = "transform.sql"
# How deep a field's type may nest.
MAX_TYPE_DEPTH = 8

# The classification of what anybody may see; any other word means that not everybody may.
PUBLIC = "public"

# A number as the contract writes it: a reader of the model's types keeps 1 apart from 1.0.
Number = int | float


class Alignment(StrEnum):
    """What a product is aligned with: its source system, an aggregate of products, or a consumer's need."""

    SOURCE = "source-aligned"
    AGGREGATE = "aggregate-aligned"
    CONSUMER = "consumer-aligned"


class SubjectNameStrategy(StrEnum):
    """What a subject of the registry is named after, as serializers have it."""

    TOPIC = "topic"
    RECORD = "record"
    TOPIC_RECORD = "topic-record"


class EventType(StrEnum):
    """What an event says: the whole state of an entity, a fact measured, a change, or that something happened."""

    STATE = "state"
    MEASUREMENT = "measurement"
    DELTA = "delta"
    NOTIFICATION = "notification"

    @property
    def folds_by_key(self) -> bool:
        """Whether the latest event of a key replaces the earlier ones (else every event is a row)."""
        return self is EventType.STATE


class Compatibility(StrEnum):
    """The registry's compatibility modes (Confluent API)."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"


class Kind(StrEnum):
    """The types a field can have; each has one Avro, one Arrow, one Iceberg and one DuckDB counterpart."""

    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    DECIMAL = "decimal"
    STRING = "string"
    BYTES = "bytes"
    UUID = "uuid"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMP_LOCAL = "timestamp-local"
    LIST = "list"
    MAP = "map"
    STRUCT = "struct"


# What numbers in events may count from 1970 on, in place of a day or an instant: the latter cannot count days.
EPOCHS = ("s", "ms", "us", "ns", "d")


@dataclass(frozen=True)
class FieldType:
    """A field's type. ``precision``/``scale`` for decimals, ``items`` for lists and map values, ``fields`` for structs.

    Times are microseconds; ``timestamp`` is an instant in UTC, ``timestamp-local`` has no zone. Map keys are strings.
    ``epoch`` is what a number counts that events have in place of a day or an instant: one of ``EPOCHS``, or "" where
    they have none. It is how events are read, and no part of what the type is.
    """

    kind: Kind
    precision: int = 0
    scale: int = 0
    items: FieldType | None = None
    fields: tuple[Field, ...] = ()
    epoch: str = field(default="", compare=False)


@dataclass(frozen=True)
class Field:
    """One column. ``default`` (JSON value) fills it for events written before it existed; None means null.

    ``name`` is the column; ``physical_name`` is what the events call it, "" where they call it the same.
    ``key_position`` counts from 1 for members of the primary key and is 0 elsewhere. ``aliases`` are former names, of
    the column or in events.
    ``classification`` is also that of a list's items and of a map's keys and values, where these are not public.
    ``declassified`` is why a derived field is public though it is computed from fields that are not.
    """

    name: str
    type: FieldType
    required: bool = False
    key_position: int = 0
    unique: bool = False
    description: str = ""
    aliases: tuple[str, ...] = ()
    default: Any = None
    has_default: bool = False
    classification: str = PUBLIC
    tags: tuple[str, ...] = ()
    physical_name: str = ""
    declassified: str = ""

    @property
    def event_name(self) -> str:
        """What the events call it."""
        return self.physical_name or self.name

    @property
    def event_names(self) -> tuple[str, ...]:
        """What events may call it, the present name first."""
        return tuple(dict.fromkeys((self.event_name, *self.aliases)))

    @property
    def former_columns(self) -> tuple[str, ...]:
        """The former names that a column can have had: none begins as those of the log's own columns do."""
        return tuple(name for name in self.aliases if not name.startswith("_"))

    @property
    def is_public(self) -> bool:
        """Whether the field and everything inside it is public."""
        return self.classification == PUBLIC and all(field.is_public for field in objects(self.type))


def objects(kind: FieldType) -> tuple[Field, ...]:
    """The fields of an object, or of the objects that a list or a map holds."""
    while kind.items is not None:
        kind = kind.items
    return kind.fields


def all_fields(fields: Iterable[Field], above: str = "") -> Iterator[tuple[str, Field]]:
    """Every field with its dotted path, those inside objects, lists and maps included."""
    for one in fields:
        path = f"{above}{one.name}"
        yield path, one
        yield from all_fields(objects(one.type), f"{path}.")


class RuleKind(StrEnum):
    """How a rule is computed.

    ROW: a predicate over one row, true where the row breaks the rule. UNIQUE: rows sharing values of ``fields``.
    ROW_COUNT: the number of rows. SQL: a query giving one number or boolean. EXPECTATION: a Great Expectations
    expectation. TEXT: documentation only. NOT_CHECKED: a promise that nothing here checks, and the contract says so.
    """

    ROW = "row"
    UNIQUE = "unique"
    ROW_COUNT = "row-count"
    SQL = "sql"
    EXPECTATION = "expectation"
    TEXT = "text"
    NOT_CHECKED = "not-checked"


# What no audit computes.
NOT_COMPUTED = (RuleKind.TEXT, RuleKind.NOT_CHECKED)


class OnFailure(StrEnum):
    """What a broken rule does: block the publish, warn, or divert the events to quarantine at landing."""

    BLOCK = "block"
    WARN = "warn"
    DIVERT = "divert"


class Operator(StrEnum):
    """The standard's comparison operators; between is inclusive at both ends."""

    MUST_BE = "mustBe"
    MUST_NOT_BE = "mustNotBe"
    GREATER = "mustBeGreaterThan"
    GREATER_OR_EQUAL = "mustBeGreaterOrEqualTo"
    LESS = "mustBeLessThan"
    LESS_OR_EQUAL = "mustBeLessOrEqualTo"
    BETWEEN = "mustBeBetween"
    NOT_BETWEEN = "mustNotBeBetween"


class Unit(StrEnum):
    """What a measured count is expressed in; a percentage of no rows is 0."""

    ROWS = "rows"
    PERCENT = "percent"


@dataclass(frozen=True)
class Rule:
    """One promise about the data, engine-neutral.

    ``id`` is unique in the product and stable under reordering. ``check`` names what is checked (``nullValues``,
    ``pattern``, ``minimum``, ``duplicateValues``, ``rowCount``, ``sql``, an expectation's name, ...) and ``arguments``
    holds its parameters as in the contract. ``threshold`` is a number, or a pair for the between operators.
    """

    id: str
    kind: RuleKind
    check: str
    fields: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    operator: Operator = Operator.MUST_BE
    threshold: Number | tuple[Number, Number] | bool = 0
    unit: Unit = Unit.ROWS
    on_failure: OnFailure = OnFailure.BLOCK
    dimension: str = ""
    description: str = ""
    line: int = 0


@dataclass(frozen=True)
class TopicSettings:
    """The stream: topic name, partitions, Kafka topic config, wire format and registry compatibility.

    None is what the contract does not state: a topic or subject that exists keeps what it has, and a new one gets the
    default. ``wire_format`` is the name of one of ``formats.registered.FORMATS``.
    ``named_subject`` is the subject's name where it is not made of the topic's alone.
    ``max_undecodable_share`` (0 to 1) is how much of what is landed at once may be undecodable before landing stops.
    """

    name: str
    partitions: int | None = None
    cleanup_policy: str | None = None
    retention_ms: int | None = None
    wire_format: str = "avro"
    compatibility: Compatibility | None = None
    config: Mapping[str, str] = field(default_factory=dict[str, str])
    max_undecodable_share: Number = 0.5
    named_subject: str = ""

    @property
    def stated(self) -> dict[str, str]:
        """The topic settings that the contract states, by Kafka's names."""
        own = {
            "cleanup.policy": self.cleanup_policy,
            "retention.ms": None if self.retention_ms is None else str(self.retention_ms),
        }
        return {name: value for name, value in own.items() if value is not None} | dict(self.config)

    @property
    def initial(self) -> dict[str, str]:
        """The settings of a topic that is created: without a word in the contract it keeps its events for ever."""
        return {"cleanup.policy": "delete", "retention.ms": "-1"} | self.stated

    @property
    def initial_partitions(self) -> int:
        """How many partitions a topic gets that is created."""
        return self.partitions or 1

    @property
    def subject(self) -> str:
        """The registry's subject of the events' schemas; without a name of its own it is the topic's."""
        return self.named_subject or f"{self.name}-value"


class Output(StrEnum):
    """A port that a product is read by: its table, or a topic with its events."""

    TABLE = "table"
    STREAM = "stream"


@dataclass(frozen=True)
class Transform:
    """Where a derived product's rows come from: one SELECT, ``sql``, over the published versions of ``inputs``."""

    inputs: tuple[str, ...]
    sql: str


@dataclass(frozen=True)
class ServiceLevel:
    """One SLA property of the contract: e.g. ``freshness`` of 60 with unit ``min`` on the field ``element``.

    One that is not ``checked`` is shown as its author wrote it: the contract says that nothing here measures it.
    """

    property: str
    value: Number | str | bool | None
    unit: str = ""
    element: str = ""
    checked: bool = True

    def seconds(self) -> float | None:
        """The value as a duration; None if it is not one, such as a date."""
        seconds = seconds_of(self.value, self.unit)
        return None if seconds is None else min(seconds, LONGEST_S)


@dataclass(frozen=True)
class Unchecked:
    """A promise that nothing here checks: a rule by its id, or a service level in its author's words; ``by`` whom."""

    promise: str
    by: str = ""

    def __str__(self) -> str:
        return f"{self.promise} ({self.by})" if self.by else self.promise


@dataclass(frozen=True)
class SupportChannel:
    """A way to reach those behind a product: ``tool`` is what the address is of (``email``, ``slack``, ``webhook``).

    ``scope`` says what for: ``interactive``, ``announcements``, ``issues`` or ``notifications``; "" for anything.
    """

    channel: str
    url: str = ""
    tool: str = ""
    scope: str = ""
    description: str = ""


@dataclass(frozen=True)
class Link:
    """A source that tells more: ``kind`` is the standard's type of it, such as ``tutorial`` or ``glossary``."""

    kind: str
    url: str
    description: str = ""


@dataclass(frozen=True)
class Role:
    """A role that gives access, as the contract writes it; who is asked for it first, ``approvers``."""

    name: str
    access: str = ""
    description: str = ""
    approvers: str = ""


@dataclass(frozen=True)
class About:
    """What people are told of a product, as its contract writes it; Markdown in the first three."""

    purpose: str = ""
    usage: str = ""
    limitations: str = ""
    team_name: str = ""
    support: tuple[SupportChannel, ...] = ()
    links: tuple[Link, ...] = ()
    roles: tuple[Role, ...] = ()
    price: str = ""

    @property
    def text(self) -> str:
        """Purpose, usage and limitations as Markdown paragraphs."""
        headed = [
            f"**{name}**: {text}" for name, text in (("Usage", self.usage), ("Limitations", self.limitations)) if text
        ]
        return "\n\n".join([self.purpose, *headed] if self.purpose else headed)


@dataclass(frozen=True)
class DataProduct:
    """A data product: data, contract, code and ports, owned by one domain.

    ``contract_hash`` is the SHA-256 of the canonical contract with ``transform.sql`` and the schema beside it: any
    change of what is promised changes it. A product has one source: ``topic``, whose events it lands, or ``transform``.
    ``outputs`` are the ports it is read by; ``stream`` is the topic of its stream port, None where it has none.
    ``value_schema`` is the text of the events' schema in their wire format: compiled from the fields, or the file
    beside the contract as it stands; "" where events have none.
    ``objective_target`` is the percentage of observations in which service levels have to be met.
    """

    domain: str
    name: str
    contract_version: str
    contract_hash: str
    status: str
    alignment: Alignment
    event_type: EventType
    about: About
    owner: str
    team: tuple[str, ...]
    tags: tuple[str, ...]
    fields: tuple[Field, ...]
    rules: tuple[Rule, ...]
    service_levels: tuple[ServiceLevel, ...]
    folder: Path
    topic: TopicSettings | None = None
    transform: Transform | None = None
    outputs: tuple[Output, ...] = (Output.TABLE,)
    value_schema: str = ""
    objective_target: Number = 99

    @property
    def fqn(self) -> str:
        """``domain.name``: how SQL, the CLI and other contracts name the product."""
        return f"{self.domain}.{self.name}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The products it is computed from, as ``domain.name``."""
        return self.transform.inputs if self.transform else ()

    @property
    def stream(self) -> TopicSettings | None:
        """The topic of its stream port: of a product that lands a topic, that topic."""
        return self.topic if Output.STREAM in self.outputs else None

    @property
    def has_log(self) -> bool:
        """Whether its events are kept in a log, from which its state is folded."""
        return self.topic is not None

    @property
    def not_checked(self) -> tuple[Unchecked, ...]:
        """What it promises and nothing here checks; never counted as kept."""
        rules = (rule for rule in self.rules if rule.kind is RuleKind.NOT_CHECKED)
        levels = (level for level in self.service_levels if not level.checked)
        return (
            *(Unchecked(rule.id, str(rule.arguments.get("by", ""))) for rule in rules),
            *(Unchecked(" ".join(map(str, (one.property, one.value, one.unit))).rstrip()) for one in levels),
        )

    @property
    def key(self) -> tuple[Field, ...]:
        """The primary key's fields in key order."""
        return tuple(sorted((f for f in self.fields if f.key_position), key=lambda f: f.key_position))
