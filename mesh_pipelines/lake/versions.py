"""A product's versions: an append-only table of transitions, and the pointer that readers follow.

Each transition is one commit that appends a row and sets a table property. The appended row makes the commit a
compare-and-set, the property makes the pointer cheap to read, and neither can be there without the other.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import ConcurrentWriter, NothingPublished, Unaudited, UnknownVersion
from mesh_pipelines.lake.catalog import load
from mesh_pipelines.lake.commit import append
from mesh_pipelines.lake.tables import VERSIONS_SCHEMA
from mesh_pipelines.positions import Version

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

NEWEST = "mesh.newest"
PUBLISHED = "mesh.published"


class Versions:
    """One product's versions table. All reads raise TableMissing where the product was not applied."""

    def __init__(self, catalog: Catalog, product: DataProduct) -> None:
        self._catalog = catalog
        self._product = product

    def published(self) -> Version | None:
        """The version that readers see."""
        return _property(self._load(), PUBLISHED)

    def newest(self) -> Version | None:
        """The newest candidate, whether or not it has been published since."""
        return _property(self._load(), NEWEST)

    def all(self) -> list[Version]:
        """Every version ever published, oldest first."""
        from pyiceberg.expressions import EqualTo

        rows = self._load().scan(row_filter=EqualTo("transition", "published"), selected_fields=("version",)).to_arrow()
        newest = {version.number: version for version in map(Version.from_json, rows["version"].to_pylist())}
        return [newest[number] for number in sorted(newest)]

    def at(self, number: int) -> Version:
        """The published version of this number.

        Raises:
            UnknownVersion: there is none.
        """
        published = self.current()
        if number == published.number:
            return published
        found = next((version for version in self.all() if version.number == number), None)
        if found is None:
            raise UnknownVersion(
                f"{self._product.fqn}: there is no version {number}; its versions are 1 to {published.number}",
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
        earlier = [v for v in self.all() if v.published_at and datetime.fromisoformat(v.published_at) <= moment]
        if not earlier:
            raise UnknownVersion(
                f"{self._product.fqn}: nothing was published at {moment.isoformat()}",
                next_step=f"mesh versions {self._product.fqn}",
            )
        return earlier[-1]

    def current(self) -> Version:
        """The version that readers see.

        Raises:
            NothingPublished: there is none yet.
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
        newest, published = _property(table, NEWEST), _property(table, PUBLISHED)
        behind = newest and newest.position and candidate.position and not candidate.position.covers(newest.position)
        if behind or candidate.number != _following(published):
            raise ConcurrentWriter(
                f"{self._product.fqn}: a newer candidate was stored meanwhile",
                next_step=f"mesh snapshot {self._product.fqn}",
            )
        self._transition(table, "candidate", candidate, {NEWEST: candidate.to_json()})

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
        if newest is None or newest.candidate_id != candidate_id or newest.number != _following(published):
            raise self._unaudited(f"candidate {candidate_id} is not the newest one")
        self._require_verdict(newest, contract_hash)
        version = replace(newest, published_at=at)
        text = version.to_json()
        self._transition(table, "published", version, {NEWEST: text, PUBLISHED: text})
        return version

    def restore(self, version: Version) -> None:
        """Store that a published version's rows were rebuilt (another base snapshot, the same rows)."""
        table = self._load()
        properties = {
            name: version.to_json()
            for name in (NEWEST, PUBLISHED)
            if (known := _property(table, name)) and known.candidate_id == version.candidate_id
        }
        self._transition(table, "published", version, properties)

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

    def _transition(self, table: Table, transition: str, version: Version, properties: dict[str, str]) -> None:
        import pyarrow as pa

        row = pa.Table.from_pylist(
            [
                {
                    "at": datetime.now(UTC),
                    "transition": transition,
                    "number": version.number,
                    "candidate_id": version.candidate_id,
                    "version": version.to_json(),
                }
            ],
            schema=VERSIONS_SCHEMA,
        )
        append(table, row, properties, f"{self._product.fqn}.versions")

    def _load(self) -> Table:
        return load(self._catalog, self._product, "versions")


def _property(table: Table, name: str) -> Version | None:
    text = table.properties.get(name)
    return Version.from_json(text) if text else None


def _following(published: Version | None) -> int:
    return published.number + 1 if published else 1
