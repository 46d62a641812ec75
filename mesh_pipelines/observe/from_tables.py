"""What a product's own tables say of its past: audits and publications that the history does not have yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from mesh_pipelines.contract.model import DataProduct, Kind
from mesh_pipelines.contract.objectives import objectives
from mesh_pipelines.engine import connect
from mesh_pipelines.observe.measure import Memory, Seen
from mesh_pipelines.observe.store.records import Publication, RuleState
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Version
from mesh_pipelines.rules.results import RuleResult
from mesh_pipelines.serve import stored_results
from mesh_pipelines.sql.quote import quote

# Audits are read from a little before the last that is known: two may be stored in another order than they were made.
_AGAIN = timedelta(minutes=10)
_EVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class News:
    """Of one product: audits, each its rules' results, and publications; both oldest first."""

    audits: Sequence[Sequence[RuleState]] = ()
    publications: Sequence[Publication] = ()


def news(platform: Platform, seen: Seen, audited: datetime | None, published: datetime | None) -> News:
    """What is new since the newest audit and publication that are known; reads no table where nothing is."""
    newest, current = seen.newest, seen.published
    verdict = newest.verdict if newest else None
    versions: list[Version] = []
    if current and current.published_at and (published is None or _at(current.published_at) > published):
        versions = platform.tables_of(seen.product).versions.published_since(published or _EVER)
    audits: list[list[RuleState]] = []
    if newest and verdict and (audited is None or _at(verdict.at) > audited):
        since = audited - _AGAIN if audited else _EVER
        runs = {version.candidate_id: version.run for version in [*versions, newest]}
        stored = reversed(stored_results.audits(platform, seen.product, since))
        audits = [[_state(row, result, runs.get(row["candidate_id"])) for result in results] for row, results in stored]
    return News(audits, _publications(versions, first=published is None))


def with_times(platform: Platform, seen: Seen, memory: Memory) -> Memory:
    """The memory with what takes a read of data: once a version, or once a log."""
    memory = _with_newest(platform, seen, memory)
    standing = seen.standing
    if not standing or not standing.position or not _promises(seen.product, "retention"):
        return memory
    if memory.oldest_of == standing.position.rebuilds and memory.oldest:
        return memory
    from mesh_pipelines.lake.log import oldest_in

    oldest = oldest_in(platform.tables_of(seen.product).load("log"))
    return replace(memory, oldest=oldest, oldest_of=standing.position.rebuilds)


def _with_newest(platform: Platform, seen: Seen, memory: Memory) -> Memory:
    """The memory with the greatest value of each field whose freshness is promised, in the published version."""
    published = seen.published
    names = sorted({one.element for one in objectives(seen.product) if one.element})
    of = f"{published.candidate_id} {names}" if published and names else ""
    if published is None or memory.newest_of == of:
        return memory
    newest = _newest(platform, seen.product, published, names) if names else {}
    return replace(memory, newest=newest, newest_of=of)


def _newest(platform: Platform, product: DataProduct, version: Version, names: Sequence[str]) -> dict[str, datetime]:
    kinds = {field.name: field.type.kind for field in product.fields}
    # A day is over when it ends.
    ends = {name: " + INTERVAL 1 DAY" if kinds[name] is Kind.DATE else "" for name in names}
    columns = ", ".join(f"epoch_us(CAST(max({quote(name)}){ends[name]} AS TIMESTAMPTZ))" for name in names)
    with closing(connect(platform.settings)) as engine:
        rows = platform.tables_of(product).state.sql(version)
        found = engine.execute(f"SELECT {columns} FROM ({rows})").fetchall()[0]
    return {
        name: _EVER + timedelta(microseconds=value)
        for name, value in zip(names, found, strict=True)
        if value is not None
    }


def _promises(product: DataProduct, name: str) -> bool:
    return any(one.property == name for one in objectives(product))


def _state(row: Mapping[str, Any], result: RuleResult, run: str | None) -> RuleState:
    """A result of the audit that one of its stored rows tells of."""
    return RuleState(
        product=row["product"],
        rule=result.rule,
        check=result.check,
        dimension=result.dimension,
        on_failure=result.on_failure,
        state=str(result.state),
        rows=result.rows,
        bad=result.bad,
        measured=result.measured,
        threshold=result.threshold,
        message=result.message,
        version=row["version"],
        candidate_id=row["candidate_id"],
        contract_version=row["contract_version"],
        at=row["at"],
        run=run,
        blocks=result.blocks,
        since=None,
    )


def _publications(versions: Sequence[Version], *, first: bool) -> list[Publication]:
    """The publications of these versions but the first, which is known already unless nothing was."""
    pairs: list[tuple[Version | None, Version]] = [*pairwise(versions)]
    if first and versions:
        pairs.insert(0, (None, versions[0]))
    return [_publication(before, version) for before, version in pairs]


def _publication(before: Version | None, version: Version) -> Publication:
    at = _at(version.published_at or version.created_at)
    return Publication(
        product=version.product,
        version=version.number,
        at=at,
        rows=version.rows,
        new_rows=_new_rows(before, version),
        seconds=(at - _at(version.created_at)).total_seconds(),
        quarantined=version.quarantined,
        run=version.run,
        anomalous=False,
    )


def _new_rows(before: Version | None, version: Version) -> int | None:
    if version.position is None:
        return version.rows - (before.rows if before else 0)
    if before is None or before.position is None:
        return sum(offset.next_offset for offset in version.position.partitions.values())
    return before.position.lag_to(version.position) if version.position.follows(before.position) else None


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)
