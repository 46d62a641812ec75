"""A product's versions: an append-only table of transitions, and the pointer that readers follow.

Each transition is one commit that appends a row and sets a table property. The appended row makes the commit a
compare-and-set, the property makes the pointer cheap to read, and neither can be there without the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mesh_pipelines.errors import ConcurrentWriter, NothingPublished, Unaudited, UnknownVersion, UsageError
from mesh_pipelines.lake import applied
from mesh_pipelines.lake.applied import AppliedContract
from mesh_pipelines.lake.commit import append
from mesh_pipelines.lake.filters import all_of, at_least, equal, none_of
from mesh_pipelines.lake.tables import VERSIONS_SCHEMA, ProductTable
from mesh_pipelines.positions import Version

if TYPE_CHECKING:
    from pyiceberg.table import Table

NEWEST = "mesh.newest"
PUBLISHED = "mesh.published"
# The highest number ever published: after a rollback it is not the published one's.
LAST = "mesh.last"
TAGS = "mesh.tag."
# Where readers' pointer went last and when, as [[number, time], ...], oldest first.
MOVES = "mesh.moves"
# At a version a second a product that follows within its promise is never further behind than this.
_MOVES_KEPT = 64

CANDIDATE = "candidate"
PUBLISH = "published"
REBUILD = "rebuilt"
WITHDRAW = "withdrawn"
ROLL_BACK = "rolled back"
TAG = "tagged"
UNTAG = "untagged"
APPLY = "applied"


class Versions:
    """One product's versions table. All reads raise TableMissing where the product was not applied."""

    def __init__(self, table: ProductTable) -> None:
        self._table = table
        self._product = table.product

    def published(self) -> Version | None:
        """The version that readers see."""
        return published_in(self._load().properties)

    def newest(self) -> Version | None:
        """The newest candidate, whether or not it has been published since."""
        return newest_in(self._load().properties)

    def all(self) -> list[Version]:
        """Every version ever published, oldest first, withdrawn ones included."""
        known = {version.number: version for _, version, _ in self._history()}
        return [known[number] for number in sorted(known)]

    def published_since(self, moment: datetime) -> list[Version]:
        """The versions published since a moment, oldest first."""
        rows = all_of(equal("transition", PUBLISH), at_least("at", moment.isoformat()))
        found = self._load().scan(row_filter=rows, selected_fields=("number", "version")).to_arrow()
        return [Version.from_json(text) for text in found.sort_by("number")["version"].to_pylist()]

    def next_number(self) -> int:
        """The number of the version after the last one ever published."""
        return _next_number(self._load())

    def at(self, number: int) -> Version:
        """The published version of this number.

        Raises:
            UnknownVersion: that version does not exist.
        """
        published = self.current()
        if number == published.number:
            return published
        found = next((version for version in self.all() if version.number == number), None)
        if found is None:
            raise UnknownVersion(
                f"{self._product.fqn}: the version must be 1 to {self.next_number() - 1}, got {number}",
                next_step=f"mesh versions {self._product.fqn}",
            )
        return found

    def as_of(self, moment: datetime) -> Version:
        """The version that was published at this moment.

        Raises:
            UnknownVersion: the first version came later.
        """
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        number: int | None = None
        for transition, version, at in self._history():
            if transition == PUBLISH and version.published_at:
                at = datetime.fromisoformat(version.published_at)
            if transition in (PUBLISH, ROLL_BACK) and at <= moment:
                number = version.number
        if number is None:
            raise UnknownVersion(
                f"{self._product.fqn}: nothing was published at {moment.isoformat()}",
                next_step=f"mesh versions {self._product.fqn}",
            )
        return self.at(number)

    def current(self) -> Version:
        """The version that readers see.

        Raises:
            NothingPublished: nothing is published yet.
        """
        published = self.published()
        if published is None:
            raise NothingPublished(
                f"{self._product.fqn}: nothing is published yet", next_step=f"mesh run {self._product.fqn}"
            )
        return published

    def propose(self, candidate: Version) -> None:
        """Store a candidate together with its verdict.

        Raises:
            ConcurrentWriter: a candidate that has read further, or a newer version, is there already.
        """
        table = self._load()
        newest = _property(table, NEWEST)
        behind = newest and newest.position and candidate.position and not candidate.position.covers(newest.position)
        if behind or candidate.number != _next_number(table):
            raise ConcurrentWriter(
                f"{self._product.fqn}: another run stored a newer candidate",
                next_step=f"mesh snapshot {self._product.fqn}",
            )
        self._commit(table, [(CANDIDATE, candidate)], {NEWEST: candidate.to_json()})

    def publish(self, candidate_id: str, contract_hash: str, at: str) -> Version:
        """Move the pointer to this candidate; where it is there already, nothing happens.

        Raises:
            Unaudited: no passing verdict for exactly this candidate under exactly this contract is stored.
            ConcurrentWriter: another writer moved on first.
        """
        table = self._load()
        newest, published = _property(table, NEWEST), _property(table, PUBLISHED)
        if published and published.candidate_id == candidate_id and published.contract_hash == contract_hash:
            return published
        if newest is None or newest.candidate_id != candidate_id or newest.number != _next_number(table):
            raise self._unaudited(f"candidate {candidate_id} is not the newest one")
        self._require_verdict(newest, contract_hash)
        version = replace(newest, published_at=at)
        text = version.to_json()
        moves = _moved(table, version.number, at)
        properties = {NEWEST: text, PUBLISHED: text, LAST: str(version.number), MOVES: moves}
        self._commit(table, [(PUBLISH, version)], properties)
        return version

    def roll_back(self, number: int, reason: str) -> Version:
        """Take readers back to a published version in one commit, and mark every later one as withdrawn.

        The stream's side stays: the next version gets a number of its own and goes on from all that was landed.

        Raises:
            UnknownVersion: that version does not exist.
            ConcurrentWriter: another writer moved the pointer first.
        """
        table = self._load()
        target = replace(self.at(number), withdrawn=None)
        later = [
            replace(version, withdrawn=reason)
            for version in self.all()
            if version.number > number and version.withdrawn is None
        ]
        properties = {PUBLISHED: target.to_json(), MOVES: _moved(table, number, datetime.now(UTC).isoformat())}
        newest = _property(table, NEWEST)
        for version in (target, *later):
            if newest and newest.candidate_id == version.candidate_id:
                properties[NEWEST] = version.to_json()
        self._commit(table, [*((WITHDRAW, version) for version in later), (ROLL_BACK, target)], properties)
        return target

    def tag(self, number: int, name: str, *, move: bool = False) -> None:
        """Give a published version a name, by which upkeep keeps it for good; ``move`` takes it from another version.

        Raises:
            UnknownVersion: that version does not exist.
            UsageError: another version has the name: it would no longer be kept.
        """
        taken = self.tags().get(name)
        if taken is not None and taken != number and not move:
            raise UsageError(
                f"{self._product.fqn}: version {taken} has the tag {name}, and would no longer be kept",
                next_step=f"choose another name, or mesh tag {self._product.fqn} {number} {name} --move",
            )
        version = self.at(number)
        self._commit(self._load(), [(TAG, version)], {TAGS + name: str(number)})

    def untag(self, name: str) -> None:
        """Take a name away.

        Raises:
            UnknownVersion: no version has it.
        """
        tags = self.tags()
        if name not in tags:
            raise UnknownVersion(
                f"{self._product.fqn}: no version has the tag {name}", next_step=f"mesh versions {self._product.fqn}"
            )
        self._commit(self._load(), [(UNTAG, self.at(tags[name]))], {TAGS + name: ""})

    def tags(self) -> dict[str, int]:
        """Version numbers by tag."""
        properties = self._load().properties
        return {
            name.removeprefix(TAGS): int(text) for name, text in properties.items() if name.startswith(TAGS) and text
        }

    def apply(self, contract: AppliedContract, by: str, topic: str | None = None) -> None:
        """Keep a contract and let it rule from now on, in one commit; ``by`` is who applied it.

        ``topic`` is the id of its topic if that is the product's own, ``applied.FOREIGN`` if it is not.

        Raises:
            ConcurrentWriter: another writer committed meanwhile; transient.
        """
        table, product = self._load(), contract.product
        applied.store(table, contract)
        about = {"contract_version": product.contract_version, "contract_hash": product.contract_hash, "by": by}
        row = _row(datetime.now(UTC), APPLY, 0, product.contract_hash, json.dumps(about))
        owned = {applied.TOPIC: topic} if topic else {}
        self._append(table, [row], {applied.APPLIED: product.contract_hash, **owned})

    def own_topic(self, topic_id: str) -> None:
        """Record that a topic was created for the product, or taken over.

        Raises:
            ConcurrentWriter: another writer committed meanwhile; transient.
        """
        append(self._load(), [], {applied.TOPIC: topic_id})

    def contract(self, contract_hash: str) -> AppliedContract | None:
        """What was applied under this hash; None where it was not kept.

        Raises:
            TableDamaged: the file is there and does not hold that contract.
        """
        return applied.find(self._load(), self._product.folder, contract_hash)

    def restore(self, version: Version) -> None:
        """Store that a published version's rows were rebuilt (another base snapshot, the same rows)."""
        table = self._load()
        properties = {
            name: version.to_json()
            for name in (NEWEST, PUBLISHED)
            if (known := _property(table, name)) and known.candidate_id == version.candidate_id
        }
        self._commit(table, [(REBUILD, version)], properties)

    def _require_verdict(self, candidate: Version, contract_hash: str) -> None:
        verdict = candidate.verdict
        if verdict is None:
            raise self._unaudited(f"candidate {candidate.candidate_id} was never audited")
        if verdict.candidate_id != candidate.candidate_id:
            raise self._unaudited(f"the stored verdict is for candidate {verdict.candidate_id}")
        if not verdict.contract_hash == candidate.contract_hash == contract_hash:
            raise self._unaudited("the contract has changed since the candidate was audited")
        if not verdict.passed:
            raise self._unaudited(f"its audit failed ({', '.join(verdict.blocking)})")

    def _unaudited(self, reason: str) -> Unaudited:
        return Unaudited(
            f"{self._product.fqn}: not published: {reason}", next_step=f"mesh snapshot {self._product.fqn}"
        )

    def _commit(self, table: Table, transitions: Sequence[tuple[str, Version]], properties: Mapping[str, str]) -> None:
        at = datetime.now(UTC)
        rows = [
            _row(at, transition, version.number, version.candidate_id, version.to_json())
            for transition, version in transitions
        ]
        self._append(table, rows, properties)

    def _append(self, table: Table, rows: list[dict[str, Any]], properties: Mapping[str, str]) -> None:
        append(table, pa.Table.from_pylist(rows, schema=VERSIONS_SCHEMA), properties)

    def _history(self) -> list[tuple[str, Version, datetime]]:
        """What happened to versions, in the order it did; candidates and contracts are left out."""
        scan = self._load().scan(
            row_filter=none_of("transition", (CANDIDATE, APPLY)), selected_fields=("at", "transition", "version")
        )
        rows = scan.to_arrow().sort_by("at").to_pylist()
        return [(row["transition"], Version.from_json(row["version"]), row["at"]) for row in rows]

    def _load(self) -> Table:
        return self._table.load()


def published_in(properties: Mapping[str, str]) -> Version | None:
    """The version that readers see, as the table's properties say it."""
    return _version_in(properties, PUBLISHED)


def newest_in(properties: Mapping[str, str]) -> Version | None:
    """The newest candidate, as the table's properties say it."""
    return _version_in(properties, NEWEST)


def _row(at: datetime, transition: str, number: int, candidate_id: str, version: str) -> dict[str, Any]:
    return {"at": at, "transition": transition, "number": number, "candidate_id": candidate_id, "version": version}


def moved_since(properties: Mapping[str, str], number: int) -> datetime | None:
    """When readers' pointer left a version: the first move after it last came there.

    None where it is still there, or where the table does not say. Moves that are too long ago to be known make it the
    oldest known one, which is later than it was.
    """
    moves: list[tuple[int, str]] = json.loads(properties.get(MOVES, "[]"))
    place = max((at for at, (reached, _) in enumerate(moves) if reached == number), default=-1)
    return datetime.fromisoformat(moves[place + 1][1]) if place + 1 < len(moves) else None


def _moved(table: Table, number: int, at: str) -> str:
    """The moves of the pointer with one more."""
    moves = [*json.loads(table.properties.get(MOVES, "[]")), (number, at)]
    return json.dumps(moves[-_MOVES_KEPT:], separators=(",", ":"))


def _property(table: Table, name: str) -> Version | None:
    return _version_in(table.properties, name)


def _version_in(properties: Mapping[str, str], name: str) -> Version | None:
    text = properties.get(name)
    return Version.from_json(text) if text else None


def _next_number(table: Table) -> int:
    """Tables from before rollbacks existed do not have the last number; then it is the published version's."""
    published = _property(table, PUBLISHED)
    last = table.properties.get(LAST, published.number if published else 0)
    return int(last) + 1
