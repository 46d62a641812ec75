"""Every error the mesh raises on purpose, as one tree.

    MeshError
    ├── UsageError            exit 2   the command or call itself is wrong
    │   ├── UnknownProduct
    │   ├── UnknownVersion
    │   ├── NothingPublished
    │   ├── QueryInvalid
    │   └── SettingInvalid
    ├── Violation             exit 1   a promise does not hold
    │   ├── ContractInvalid
    │   ├── ApplyRefused
    │   ├── AuditBlocked
    │   ├── Unaudited
    │   ├── TransformInvalid
    │   ├── Undecodable
    │   ├── RebuildRefused
    │   ├── AuditDiffers
    │   └── VersionDiffers
    ├── StreamDiscontinuity   exit 1   the stream is not the one that the log was read from
    │   ├── TopicRecreated
    │   ├── OffsetsTrimmed
    │   ├── ClusterChanged
    │   ├── StreamTruncated
    │   ├── PartitionsAdded
    │   └── TopicRenamed
    └── EnvironmentFault      exit 3   something outside the product does not work
        ├── BrokerUnreachable     transient
        ├── RegistryUnreachable   transient
        ├── ConcurrentWriter      transient
        ├── NotAuthorized
        ├── TopicMissing
        ├── ContractNotApplied
        ├── TableMissing
        ├── PortTaken
        ├── ServiceFailed
        ├── DownloadFailed
        ├── StorageUnavailable    transient
        ├── TableOutdated
        ├── TableDamaged
        ├── TablesLost
        ├── TokenUnavailable      transient
        └── WrittenByNewer

Whether an error may pass by itself (``transient``) is part of its type and decides whether anything retries.
A message names what is wrong and where; ``next_step`` is the command or the edit that goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mesh_pipelines.confidential import masked
from mesh_pipelines.counted import counted

# Room for what an engine says of a statement, and not for the statement; and for any path.
_SENTENCES = 1000
_PATH = 4096


class MeshError(Exception):
    """Base of all intended errors: a stable ``code``, an ``exit_code``, and the ``next_step`` to take.

    Its texts hold no secret of the settings, whatever a library said that they quote.
    """

    code: ClassVar[str] = "M000"
    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        self.message = masked(message)
        self.next_step = masked(next_step) if next_step else next_step
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message


class UsageError(MeshError):
    """The command or call itself is wrong."""

    code = "M200"
    exit_code = 2


class UnknownProduct(UsageError):
    """No contract declares the product that was named."""

    code = "M201"


class UnknownVersion(UsageError):
    """The product has no such version, or none at that time."""

    code = "M202"


class NothingPublished(UsageError):
    """The product exists but no version of it has been published."""

    code = "M203"


class QueryInvalid(UsageError):
    """The SQL of a query does not run."""

    code = "M204"


class SettingInvalid(UsageError):
    """A ``MESH_*`` setting has a value that cannot be used."""

    code = "M205"


class Violation(MeshError):
    """A promise does not hold: a contract, an audit, a safe change."""

    code = "M100"


def printable(text: str, limit: int = 80) -> str:
    """Other people's text as one short line that no terminal acts upon."""
    if not text.isprintable():
        text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return text if len(text) <= limit else f"{text[:limit]}..."


@dataclass(frozen=True, order=True)
class Fault:
    """One thing wrong in one file: where it is, what it is, and how to fix it.

    ``line`` and ``column`` count from 1 and are 0 where they are not known; ``field`` is a dotted path into the file,
    or names a rule or a column of it.
    """

    file: Path
    line: int
    field: str
    problem: str
    fix: str
    column: int = 0

    def __post_init__(self) -> None:
        # Whoever's words are in it: patterns, names of files, what an engine or a library says.
        for name in ("problem", "fix"):
            object.__setattr__(self, name, printable(getattr(self, name), _SENTENCES))

    def __str__(self) -> str:
        file = printable(str(self.file), _PATH)
        where = ":".join(map(str, filter(None, (file, self.line, self.column))))
        field = f" {printable(self.field, _SENTENCES)}:" if self.field else ""
        return f"{where}:{field} {self.problem} ({self.fix})"


class ContractInvalid(Violation):
    """A contract has faults; all of them are in ``faults``."""

    code = "M101"

    def __init__(self, product: str, faults: tuple[Fault, ...]) -> None:
        listed = "\n".join(f"  {fault}" for fault in faults)
        super().__init__(f"{product}: {counted(len(faults), 'fault')} in its contract\n{listed}", next_step="mesh lint")
        self.product = product
        self.faults = faults


class ApplyRefused(Violation):
    """Applying the contract would lose data or break readers."""

    code = "M102"


class AuditBlocked(Violation):
    """The candidate broke a blocking rule; the published version stays as it was."""

    code = "M103"


class Unaudited(Violation):
    """A candidate can be published only with a passing verdict for exactly this candidate and contract."""

    code = "M104"


class TransformInvalid(Violation):
    """A derived product's SQL cannot be compiled or run: undeclared input, syntax, wrong columns."""

    code = "M105"


class Undecodable(Violation):
    """More events cannot be decoded than the contract allows; landing stopped before them."""

    code = "M106"


class RebuildRefused(Violation):
    """The topic no longer has everything that the log has; a log rebuilt from it would lose events."""

    code = "M107"


class AuditDiffers(Violation):
    """A version's stored counts of bad rows differ from an audit of all its rows."""

    code = "M108"


class VersionDiffers(Violation):
    """A published version does not have the rows that its log or its inputs give."""

    code = "M109"


class StreamDiscontinuity(MeshError):
    """The stream is not the one that the log was read from, so going on would lose or double events.

    ``accept`` is the word by which an operator accepts the loss.
    """

    code = "M300"
    accept: ClassVar[str]

    def __init__(self, product: str, problem: str) -> None:
        super().__init__(f"{product}: {problem}", next_step=f"mesh resume {product} --accept-loss {self.accept}")


class TopicRecreated(StreamDiscontinuity):
    """The topic was deleted and created again: same name, another topic id."""

    code = "M301"
    accept = "recreated"


class OffsetsTrimmed(StreamDiscontinuity):
    """The broker dropped offsets (retention, delete records) before they were landed."""

    code = "M302"
    accept = "trimmed"


class ClusterChanged(StreamDiscontinuity):
    """The broker is a different cluster from the one that the log was read from."""

    code = "M303"
    accept = "moved"


class StreamTruncated(StreamDiscontinuity):
    """The broker no longer has events that were landed: a disk or replica lost them, or an old copy was restored."""

    code = "M304"
    accept = "truncated"


class PartitionsAdded(StreamDiscontinuity):
    """The topic of a keyed product has more partitions than before: keys may have moved from one to another."""

    code = "M305"
    accept = "repartitioned"


class TopicRenamed(StreamDiscontinuity):
    """The contract names a different topic from the one that the log was read from."""

    code = "M306"
    accept = "renamed"


class EnvironmentFault(MeshError):
    """Something outside the product does not work: a service, a port, a table."""

    code = "M400"
    exit_code = 3


class BrokerUnreachable(EnvironmentFault):
    """Kafka did not answer in time."""

    code = "M401"
    transient = True


class RegistryUnreachable(EnvironmentFault):
    """The schema registry did not answer, failed, or asks to come back later."""

    code = "M402"
    transient = True


class ConcurrentWriter(EnvironmentFault):
    """Another writer committed to the table first; nothing of this attempt was kept."""

    code = "M403"
    transient = True


class TopicMissing(EnvironmentFault):
    """The product's topic does not exist on the broker."""

    code = "M404"


class TableMissing(EnvironmentFault):
    """The product's tables do not exist in the catalog."""

    code = "M405"


class PortTaken(EnvironmentFault):
    """A local service's port is in use by another process."""

    code = "M406"


class ServiceFailed(EnvironmentFault):
    """A local service crashed or did not become ready."""

    code = "M407"


class DownloadFailed(EnvironmentFault):
    """A jar could not be fetched, or its checksum is not the one in the lock."""

    code = "M408"


class StorageUnavailable(EnvironmentFault):
    """The catalog or the warehouse cannot be written or read: locked, full, or missing."""

    code = "M409"
    transient = True


class TableOutdated(EnvironmentFault):
    """The product's tables do not have columns that its contract needs."""

    code = "M410"


class ContractNotApplied(EnvironmentFault):
    """No applied contract of the product's tables is known, and the file's is not applied."""

    code = "M412"


class TableDamaged(EnvironmentFault):
    """Files of the product's tables are missing or unreadable."""

    code = "M411"


class NotAuthorized(EnvironmentFault):
    """Broker or registry does not let this client do what is needed; the message names the right that it lacks."""

    code = "M413"


class TablesLost(EnvironmentFault):
    """The warehouse has tables of the product that the catalog does not know: it was lost, or is another one."""

    code = "M414"


class TokenUnavailable(EnvironmentFault):
    """The function of MESH_KAFKA_OAUTH gave no token for the broker."""

    code = "M416"
    transient = True


class WrittenByNewer(EnvironmentFault):
    """State has a form that this release does not know: a newer one wrote it."""

    code = "M415"

    def __init__(self, what: str, unknown: Iterable[str]) -> None:
        super().__init__(
            f"{what} has {', '.join(sorted(unknown))}, which this release does not know",
            next_step="use the release that wrote it, or a newer one",
        )
