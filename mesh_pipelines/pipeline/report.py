"""Every step tells what it read and wrote, where that is asked for: the one place at which steps report.

``reported`` stands at a step's head and sees it begin and end, whoever called it. An audit is a run of its own inside
the snapshot's: it reads the candidate that the snapshot wrote, so its verdict belongs to what it read. Telling never
fails or holds up a step (``openlineage/delivery.py``); where it is off, nothing of it is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, runtime_checkable
from weakref import WeakKeyDictionary

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import AuditBlocked
from mesh_pipelines.positions import Version

if TYPE_CHECKING:
    from mesh_pipelines.lake.catalog import Kind
    from mesh_pipelines.openlineage.facts import Done, Outcome, Step, StepRun
    from mesh_pipelines.platform import Platform
    from mesh_pipelines.rules.results import Audit

P = ParamSpec("P")
T = TypeVar("T")

_ADDED = "added-files-size"
_log = logging.getLogger(__name__)
# The run around a step, by its id and its job: an orchestrator's, or that of the step which calls this one.
_around: ContextVar[tuple[str, str] | None] = ContextVar("_around", default=None)


def reported(
    name: Step,
) -> Callable[[Callable[Concatenate[Platform, DataProduct, P], T]], Callable[Concatenate[Platform, DataProduct, P], T]]:
    """A step that reports its beginning and its end, good or bad; a derived product's snapshot is its transform."""

    def decorate(
        step: Callable[Concatenate[Platform, DataProduct, P], T],
    ) -> Callable[Concatenate[Platform, DataProduct, P], T]:
        @wraps(step)
        def reporting(platform: Platform, product: DataProduct, *args: P.args, **kwargs: P.kwargs) -> T:
            if not platform.settings.reports_lineage:
                return step(platform, product, *args, **kwargs)
            kind = "transform" if name == "snapshot" and product.transform else name
            with _reporter(platform).run(kind, product) as end:
                result = step(platform, product, *args, **kwargs)
                end.append(result)
            return result

        return reporting

    return decorate


@contextmanager
def within_run(run_id: str, job: str) -> Generator[None]:
    """Steps called inside are children of this run."""
    token = _around.set((run_id, job))
    try:
        yield
    finally:
        _around.reset(token)


_reporters: WeakKeyDictionary[Platform, Reporter] = WeakKeyDictionary()


def _reporter(platform: Platform) -> Reporter:
    """The one reporter of a platform."""
    if platform not in _reporters:
        _reporters[platform] = Reporter(platform)
    return _reporters[platform]


class Reporter:
    """Tells of a platform's steps to whatever its settings name."""

    def __init__(self, platform: Platform) -> None:
        from mesh_pipelines.openlineage.delivery import deliveries
        from mesh_pipelines.openlineage.events import Events

        self._platform = platform
        self._events = Events(platform.settings, platform.products)
        self._ways = deliveries(platform.settings)

    @contextmanager
    def run(self, step: Step, product: DataProduct) -> Generator[list[Any]]:
        """One run of a step: it has begun, and ends with the block; the step's result is put into the list."""
        from openlineage.client.uuid import generate_new_uuid

        from mesh_pipelines.openlineage.facts import RunOf, StepRun

        around = _around.get()
        run, parent = RunOf(str(generate_new_uuid()), f"{product.fqn}.{step}"), RunOf(*around) if around else None
        told = StepRun(step, product, run, parent)
        self._tell("START", told)
        results: list[Any] = []
        try:
            with within_run(run.run_id, run.job):
                yield results
        except Exception as error:
            self._tell("FAIL", told, error=error)
            raise
        except BaseException as error:
            self._tell("ABORT", told, error=error)
            raise
        self._tell("COMPLETE", told, result=results[0])

    def _tell(self, outcome: Outcome, told: StepRun, *, result: Any = None, error: BaseException | None = None) -> None:
        try:
            done = _done(self._platform, told.product, result) if outcome == "COMPLETE" else None
            if done and (error := _refusal(told.product, done)):
                outcome = "FAIL"
            event = self._events.event(outcome, told, done, error)
        except Exception as fault:  # whatever it is, no run may feel it
            _log.warning("the lineage of %s was not sent: %s: %s", told.run.job, type(fault).__name__, fault)
            return
        for way in self._ways:
            way.put(event)
        if outcome != "START":
            for way in self._ways:
                way.wait()


def _refusal(product: DataProduct, done: Done) -> AuditBlocked | None:
    """An audit that came to an end has failed all the same, where its verdict is that nothing may be published."""
    if done.audit is None or done.audit.verdict.passed:
        return None
    return AuditBlocked(f"{product.fqn}: version {done.version} broke {', '.join(done.audit.verdict.blocking)}")


@runtime_checkable
class Tells(Protocol):
    """A step's result that says what the step read and wrote."""

    def done(self, platform: Platform, product: DataProduct) -> Done:
        """Rows, bytes, version and position, as far as the step has them."""
        ...


def _done(platform: Platform, product: DataProduct, result: Any) -> Done:
    """What a step's result says of it."""
    from mesh_pipelines.openlineage.facts import Done

    match result:
        case Tells():
            return result.done(platform, product)
        case (Version() as version, audit):
            return done_of(version, audit=audit)
        case _:
            return Done()


def done_of(version: Version, size: int | None = None, audit: Audit | None = None) -> Done:
    """What a step says that came to a version; ``size`` is the bytes it wrote, where that is known."""
    from mesh_pipelines.openlineage.facts import Done

    rows = audit.rows if audit else version.rows
    return Done(rows, size, version.number, version.position, version.input_versions, audit)


def landed_bytes(platform: Platform, product: DataProduct, commits: int) -> int | None:
    """The bytes of the files that the newest commits to the log added; None where they are not all known any more."""
    from pyiceberg.table.snapshots import Operation

    snapshots = platform.tables_of(product).load("log").metadata.snapshots
    newest = sorted(snapshots, key=lambda one: one.sequence_number or 0, reverse=True)[:commits]
    known = [one.summary for one in newest if one.summary and one.summary.operation is Operation.APPEND]
    if len(known) < commits:
        return None
    return sum(int(one.additional_properties.get(_ADDED, 0)) for one in known)


def written_bytes(platform: Platform, product: DataProduct, kind: Kind, snapshot_id: int | None) -> int | None:
    """The bytes that one commit wrote."""
    snapshot = platform.tables_of(product).load(kind).snapshot_by_id(snapshot_id) if snapshot_id else None
    written = snapshot.summary.additional_properties.get(_ADDED) if snapshot and snapshot.summary else None
    return int(written) if written else None
