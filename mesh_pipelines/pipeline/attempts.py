"""What came of a product's last attempt, where it failed: remembered so that the next one waits.

A blocked product on a busy stream is due again at every look, and each attempt fails in the same way. So a failure is
kept with its cause and with where the product stood, and each one like it doubles the wait. The files lie under the
home folder, where the ticks and runs of every process see them. They are a hint: one that is lost means one more
attempt. The tables were ruled out as the place, since a step that failed has written nothing to them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import msgspec

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import AuditBlocked, ConcurrentWriter, MeshError, UsageError
from mesh_pipelines.lake.storage import fault_of
from mesh_pipelines.platform import Platform, discreet
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    from mesh_pipelines.lake.standing import Standing
    from mesh_pipelines.positions import Position

P = ParamSpec("P")
T = TypeVar("T")

# Thirty seconds, a minute, two, and so on up to an hour; where the cause may pass by itself, five seconds to a minute.
_FIRST = timedelta(seconds=30)
_LONGEST = timedelta(hours=1)
_FIRST_TRANSIENT = timedelta(seconds=5)
_LONGEST_TRANSIENT = timedelta(minutes=1)
# A lost race and a wrong command say nothing of the next attempt.
_NOT_KEPT = (ConcurrentWriter, UsageError)
_UNEXPECTED = "M000"
# What a step's success says of steps before it.
_SETTLES = {"publish": ("snapshot", "audit")}
_SUFFIX = ".json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mark:
    """Where a product stood when an attempt failed: of what only an operator moves, and of what failed.

    ``counts`` are the log's generation, redrives and rebuilds. ``offsets`` is where the log stood, for a failed
    landing; a failed audit does not have it, since landing moves on before each one. ``inputs`` are the versions that
    readers of the inputs saw: a lower one later is a rollback.
    """

    contract_hash: str
    counts: tuple[int, int, int] | None = None
    offsets: Mapping[int, int] | None = None
    inputs: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Failure:
    """The last attempt, which failed: its cause, how often in a row, and until when the next one waits."""

    step: str
    code: str
    message: str
    next_step: str
    transient: bool
    mark: Mark
    first_at: datetime
    at: datetime
    count: int = 1
    until: datetime | None = None

    def follows(self, before: Failure | None) -> Failure:
        """This failure as the next in a row, with its wait; one that came before its time makes the wait no longer."""
        if before is None or before.until is None or not self._is_like(before):
            return replace(self, until=self.at + self._wait(1))
        if self.at < before.until:
            return replace(self, count=before.count, first_at=before.first_at, until=before.until)
        count = before.count + 1
        return replace(self, count=count, first_at=before.first_at, until=self.at + self._wait(count))

    def _is_like(self, before: Failure) -> bool:
        return (before.step, before.code) == (self.step, self.code) and not mends(self.mark, before.mark)

    def _wait(self, count: int) -> timedelta:
        first, longest = (_FIRST_TRANSIENT, _LONGEST_TRANSIENT) if self.transient else (_FIRST, _LONGEST)
        return min(longest, first * 2 ** min(count - 1, 16))


def remembered(
    step: str,
) -> Callable[[Callable[Concatenate[Platform, DataProduct, P], T]], Callable[Concatenate[Platform, DataProduct, P], T]]:
    """A step whose failure is remembered, whoever called it, and forgotten when the step succeeds.

    The failure tells no value of a field that is not public, whatever a library said.
    """

    def decorate(
        work: Callable[Concatenate[Platform, DataProduct, P], T],
    ) -> Callable[Concatenate[Platform, DataProduct, P], T]:
        @wraps(work)
        def attempt(platform: Platform, product: DataProduct, *args: P.args, **kwargs: P.kwargs) -> T:
            try:
                with discreet(platform, product):
                    done = work(platform, product, *args, **kwargs)
            except Exception as error:
                note(platform, product, step, error)
                raise
            _forget_step(platform.settings, product.fqn, step)
            return done

        return attempt

    return decorate


def note(platform: Platform, product: DataProduct, step: str, error: Exception, now: datetime | None = None) -> None:
    """Remember that a step failed. It never fails itself: the error that it tells of is the one that counts."""
    if isinstance(error, _NOT_KEPT):
        return
    try:
        mark = _mark(platform, product, step)
        at = now or datetime.now(UTC)
        failure = _failure(step, error, mark, at).follows(failure_of(platform.settings, product.fqn))
        _write(platform.settings, product.fqn, failure)
    except Exception as fault:
        _log.warning("a failure of %s could not be recorded: %s: %s", product.fqn, type(fault).__name__, fault)


def failures(settings: Settings) -> dict[str, Failure]:
    """The last failure of each product whose last attempt failed."""
    try:
        names = [name.removesuffix(_SUFFIX) for name in os.listdir(_folder(settings)) if name.endswith(_SUFFIX)]
    except OSError:
        return {}
    return {name: failure for name in names if (failure := failure_of(settings, name))}


def failure_of(settings: Settings, product: str) -> Failure | None:
    """A product's last failure; a file that cannot be read is as good as none."""
    try:
        return msgspec.json.decode(_file(settings, product).read_bytes(), type=Failure)
    except (OSError, msgspec.MsgspecError):
        return None


def forget(settings: Settings, *products: str) -> None:
    """Let these products be tried at once; all of them where none is named."""
    for name in products or failures(settings):
        _file(settings, name).unlink(missing_ok=True)


def mark_of(contract_hash: str, standing: Standing, step: str, inputs: Mapping[str, Standing]) -> Mark:
    """Where a product stands, as it matters to a step that failed."""
    position = standing.position
    seen = {name: one.published.number for name, one in inputs.items() if one.published}
    offsets = _offsets(position) if position and step == "land" else None
    return Mark(contract_hash, _counts(position) if position else None, offsets, seen)


def mends(now: Mark, before: Mark) -> bool:
    """Whether an operator did something since: applied a contract, moved the log, took an input back."""
    rolled_back = any(number < before.inputs.get(name, number) for name, number in now.inputs.items())
    same = (now.contract_hash, now.counts, now.offsets) == (before.contract_hash, before.counts, before.offsets)
    return rolled_back or not same


def _forget_step(settings: Settings, product: str, step: str) -> None:
    before = failure_of(settings, product)
    if before and before.step in (step, *_SETTLES.get(step, ())):
        forget(settings, product)


def _failure(step: str, error: Exception, mark: Mark, at: datetime) -> Failure:
    fault = error if isinstance(error, MeshError) else fault_of(error)
    if fault is None:
        text = f"{type(error).__name__}: {error}"
        return Failure(step, _UNEXPECTED, text, "MESH_DEBUG=1 shows where", False, mark, at, at)
    # Both its audit and publishing it report a blocked candidate.
    step = "audit" if isinstance(fault, AuditBlocked) else step
    return Failure(step, fault.code, fault.message, fault.next_step or "", fault.transient, mark, at, at)


def _mark(platform: Platform, product: DataProduct, step: str) -> Mark:
    from mesh_pipelines.lake.standing import standings

    inputs = [platform.products[name] for name in product.inputs if name in platform.products]
    found = standings(platform.tables, [product, *inputs])
    return mark_of(product.contract_hash, found[product.fqn], step, {one.fqn: found[one.fqn] for one in inputs})


def _counts(position: Position) -> tuple[int, int, int]:
    return position.generation, position.redrives, position.rebuilds


def _offsets(position: Position) -> dict[int, int]:
    return {number: offset.next_offset for number, offset in position.partitions.items()}


def _write(settings: Settings, product: str, failure: Failure) -> None:
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    # A reader sees the file before or the one after, and two writers do not share one.
    draft = folder / f".{product}.{os.getpid()}"
    draft.write_bytes(msgspec.json.encode(failure))
    draft.replace(_file(settings, product))


def _file(settings: Settings, product: str) -> Path:
    return _folder(settings) / f"{product}{_SUFFIX}"


def _folder(settings: Settings) -> Path:
    return settings.home / "attempts"
