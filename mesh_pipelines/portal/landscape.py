"""What the pages are made from: all contracts and where every product stands, read together and kept in memory.

A page reads no contract and asks no broker: it takes the newest landscape, which a thread replaces whenever files or
observations have changed. So a page of a thousand products costs what it shows, and shows one moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TypeAlias

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import ContractInvalid
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.records import Current, Health, Incident, ObjectiveState
from mesh_pipelines.platform import Platform
from mesh_pipelines.portal.search import Hit, Index
from mesh_pipelines.settings import Settings

_NEVER = "not observed yet"
_Files: TypeAlias = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Entry:
    """One product on the shelf: its contract, or the error that keeps it from being read, and where it stands.

    ``unapplied`` says what its contract's file has that is not applied.
    """

    fqn: str
    product: DataProduct | None
    error: ContractInvalid | None
    unapplied: str | None
    current: Current
    objectives: tuple[ObjectiveState, ...] = ()
    incidents: tuple[Incident, ...] = ()

    @property
    def domain(self) -> str:
        """The domain, the first part of the name."""
        return self.fqn.partition(".")[0]

    @property
    def name(self) -> str:
        """The product's own name."""
        return self.fqn.partition(".")[2]

    @property
    def owner(self) -> str:
        """Who owns it; "" where the contract cannot be read."""
        return self.product.owner if self.product else ""

    @property
    def rules(self) -> int:
        """Rules of its newest audit."""
        current = self.current
        return (current.rules_passed or 0) + (current.rules_warned or 0) + (current.rules_failed or 0)

    @cached_property
    def facets(self) -> Mapping[str, frozenset[str]]:
        """Its values under each of ``FACETS``."""
        return {name: _facet(self, name) for name in FACETS}

    @property
    def pass_rate(self) -> float | None:
        """Share of rules that hold in its newest audit; None where there was none."""
        return (self.current.rules_passed or 0) / self.rules if self.rules else None


@dataclass(frozen=True)
class Landscape:
    """All products at one moment, by name."""

    entries: Mapping[str, Entry]
    platform: Platform
    loaded_at: datetime
    observed_at: datetime | None
    index: Index = field(repr=False)

    def search(self, query: str) -> list[Hit]:
        """The products a query finds, best first."""
        return self.index.search(query)

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """By product: those computed from it."""
        found: dict[str, list[str]] = {}
        for fqn, entry in self.entries.items():
            for source in entry.product.inputs if entry.product else ():
                found.setdefault(source, []).append(fqn)
        return {name: tuple(sorted(consumers)) for name, consumers in found.items()}

    def where(self, **wanted: str) -> Iterator[Entry]:
        """The entries that fit all given facets; an empty value fits everything."""
        chosen = [(name, value) for name, value in wanted.items() if value]
        for entry in self.entries.values():
            if not chosen or all(value in entry.facets[name] for name, value in chosen):
                yield entry


FACETS = ("domain", "alignment", "event_type", "status", "quality", "tag", "owner", "classification")


def _facet(entry: Entry, name: str) -> frozenset[str]:
    """The values of an entry under a facet; most have one."""
    product = entry.product
    if name == "domain":
        return frozenset({entry.domain})
    if name == "quality":
        return frozenset({str(entry.current.health)})
    if product is None:
        return frozenset()
    match name:
        case "tag":
            return frozenset(product.tags)
        case "owner":
            return frozenset({product.owner})
        case "classification":
            return frozenset(one.classification for one in product.fields)
        case _:
            return frozenset({str(getattr(product, name))})


class Watcher:
    """The newest landscape; ``refresh`` replaces it where anything has changed."""

    def __init__(self, settings: Settings, history: History) -> None:
        self._settings = settings
        self._history = history
        self._lock = threading.Lock()
        self._seen: tuple[_Files, datetime | None] = ((), None)
        self._newest: Landscape | None = None

    @property
    def newest(self) -> Landscape:
        """The landscape now; the first call reads it."""
        return self._newest or self.refresh()

    def refresh(self, *, anew: bool = False) -> Landscape:
        """Read what has changed, if anything; ``anew`` reads the history in any case."""
        with self._lock:
            files, observed = self._fingerprint(), self._history.observed_at()
            if anew or self._newest is None or (files, observed) != self._seen:
                kept = self._newest if self._seen[0] == files else None
                self._newest = self._load(kept, observed)
                self._seen = files, observed
            return self._newest

    def _load(self, kept: Landscape | None, observed_at: datetime | None) -> Landscape:
        before = kept.platform.products if kept else {}
        platform = kept.platform if kept else Platform.open(self._settings)
        platform.contracts_changed()
        same = kept and before == platform.products
        index = kept.index if kept and same else Index(platform.products.values())
        unapplied = platform.unapplied([*platform.proposed, *platform.broken])
        current = {one.product: one for one in self._history.current()}
        objectives: dict[str, list[ObjectiveState]] = {}
        for one in self._history.objectives():
            objectives.setdefault(one.product, []).append(one)
        incidents: dict[str, list[Incident]] = {}
        for incident in self._history.incidents(open_only=True):
            incidents.setdefault(incident.product, []).append(incident)
        entries = {
            fqn: Entry(
                fqn,
                platform.products.get(fqn),
                platform.broken.get(fqn),
                unapplied.get(fqn),
                current.get(fqn) or _unobserved(fqn, platform.broken.get(fqn)),
                tuple(objectives.get(fqn, ())),
                tuple(incidents.get(fqn, ())),
            )
            for fqn in sorted({*platform.products, *platform.broken})
        }
        return Landscape(entries, platform, datetime.now(UTC), observed_at, index)

    def _fingerprint(self) -> _Files:
        """Name, time and size of every file that makes a product: a thousand cost three milliseconds."""
        found: list[tuple[str, int, int]] = []
        for file in sorted(self._settings.assets.glob("*/*/*")):
            try:
                state = file.stat()
            except OSError:
                continue
            found.append((str(file), state.st_mtime_ns, state.st_size))
        return tuple(found)


def _unobserved(fqn: str, error: ContractInvalid | None) -> Current:
    health = Health.BAD if error else Health.UNKNOWN
    reason = f"{error.code} its contract has {counted(len(error.faults), 'fault')}" if error else _NEVER
    return Current(
        product=fqn,
        health=health,
        reasons=(reason,),
        version=None,
        rows=None,
        published_at=None,
        lag=None,
        freshness_s=None,
        rules_passed=None,
        rules_warned=None,
        rules_failed=None,
        quarantined=None,
        redriven=None,
        problem=reason if error else None,
        observed_at=datetime.now(UTC),
    )
