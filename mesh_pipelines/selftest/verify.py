"""What landed and what is published, compared with the ledger, event by event and key by key.

The comparison has a fold and a rule of its own: latest event of a key in (generation, partition, offset) order, and no
amount below zero.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh_pipelines.contract.envelope import FATE, GENERATION, KEY, OFFSET, PARTITION, Fate
from mesh_pipelines.positions import Position, Version
from mesh_pipelines.selftest.ledger import Entry, Ledger
from mesh_pipelines.selftest.subject import Subject
from mesh_pipelines.serve.reading import read_version

Coordinate = tuple[int, int, int]
COLUMNS = ("id", "number", "amount", "note")


@dataclass(frozen=True)
class Findings:
    """Events or keys that differ from the ledger, and versions that readers saw without a passing audit of them.

    ``lost``: missing, or not what was sent; ``doubled``: there more than once, or never acknowledged.
    """

    lost: int = 0
    doubled: int = 0
    unaudited: int = 0

    def __add__(self, other: Findings) -> Findings:
        return Findings(self.lost + other.lost, self.doubled + other.doubled, self.unaudited + other.unaudited)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return self == Findings()


def compare(subject: Subject, *, settled: bool = False) -> Findings:
    """Compare the log and the published version with the ledger.

    ``settled`` says that everything acknowledged should have been landed and published by now.
    """
    platform = subject.platform()
    found = _log(subject, settled=settled)
    versions = platform.tables_of(subject.product).versions
    found += Findings(unaudited=sum(not _is_audited(version) for version in versions.all()))
    published = versions.published()
    if published is None:
        return found + Findings(lost=len(subject.ledger.entries) if settled else 0)
    if settled:
        unread = sum(not _before(at, published.position) for at in subject.ledger.entries)
        found += Findings(lost=unread)
    return found + state(subject, published)


def state(subject: Subject, version: Version) -> Findings:
    """Compare what readers see at a version with the ledger's fold at the version's position."""
    platform = subject.platform()
    table = read_version(platform.catalog, subject.product, version=version.number).arrow()
    rows = table.to_pylist()
    got = {row["id"]: {name: row[name] for name in COLUMNS} for row in rows}
    wanted = fold(subject.ledger, version.position)
    return Findings(
        lost=sum(got.get(key) != content for key, content in wanted.items()),
        doubled=len(rows) - len(got) + len(got.keys() - wanted.keys()),
        unaudited=int(any(row["amount"] < 0 for row in rows)),
    )


def as_sent(subject: Subject) -> Findings:
    """Compare what readers see with the last event that was sent of each key, wherever it lies."""
    rows = read_version(subject.platform().catalog, subject.product).arrow().to_pylist()
    last: dict[str, Entry] = {}
    for entry in sorted(subject.ledger.entries.values(), key=lambda one: one.sent):
        last[entry.key] = entry
    wanted = {key: entry.content["number"] for key, entry in last.items() if entry.content}
    got = {row["id"]: row["number"] for row in rows}
    return Findings(sum(got.get(key) != number for key, number in wanted.items()), len(got.keys() - wanted.keys()))


def fold(ledger: Ledger, until: Position | None) -> dict[str, Any]:
    """The current content by key of the acknowledged events before a position."""
    current: dict[str, Any] = {}
    for at in sorted(ledger.entries):
        entry = ledger.entries[at]
        if until is None or not _before(at, until) or not entry.counts(until.redrives):
            continue
        if entry.content is None:
            current.pop(entry.key, None)
        else:
            current[entry.key] = {name: entry.content[name] for name in COLUMNS}
    return current


def digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """One hash of rows in any order."""
    lines = sorted(json.dumps(dict(row), sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _log(subject: Subject, *, settled: bool) -> Findings:
    table = subject.platform().tables_of(subject.product).load("log")
    columns = (GENERATION, PARTITION, OFFSET, KEY, FATE, *COLUMNS)
    rows = table.scan(selected_fields=columns).to_arrow().to_pylist()
    position = Position.from_json(table.properties["mesh.position"]) if "mesh.position" in table.properties else None
    landed = Counter((row[GENERATION], row[PARTITION], row[OFFSET]) for row in rows)
    entries = subject.ledger.entries
    due = [at for at in entries if settled or _before(at, position)]
    redrives = position.redrives if position else 0
    changed = sum(
        at in entries and not _is_as_sent(row, entries[at], redrives)
        for row in rows
        for at in [(row[GENERATION], row[PARTITION], row[OFFSET])]
    )
    return Findings(
        lost=sum(at not in landed for at in due) + changed,
        doubled=sum(count - 1 for count in landed.values()) + sum(at not in entries for at in landed),
    )


def _is_as_sent(row: dict[str, Any], entry: Entry, redrives: int) -> bool:
    if row[KEY].decode() != entry.key or (row[FATE] == Fate.OK) is not entry.counts(redrives):
        return False
    if entry.content is None or not entry.counts(redrives):
        return row["number"] is None
    return all(row[name] == entry.content[name] for name in COLUMNS)


def _before(at: Coordinate, position: Position | None) -> bool:
    if position is None:
        return False
    generation, partition, offset = at
    if generation != position.generation:
        return generation < position.generation
    return offset < position.next_offset(partition)


def _is_audited(version: Version) -> bool:
    verdict = version.verdict
    return (
        verdict is not None
        and verdict.passed
        and verdict.candidate_id == version.candidate_id
        and verdict.contract_hash == version.contract_hash
    )
