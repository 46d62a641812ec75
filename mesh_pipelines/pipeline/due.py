"""What is due: the one question that scheduler, commands and pages ask, answered by comparing levels.

A product is due when its newest candidate was not made from what is there now: the end of its stream, the versions of
its inputs that readers see, the contract that is applied. A candidate that may be published and is not is due, too.
Nothing is followed by events: a version that is published while a run is in flight is there at the next look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.counted import counted
from mesh_pipelines.pipeline.attempts import mark_of, mends
from mesh_pipelines.pipeline.level import Level, ask, levels
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Bounds, Position, Version

# Looks take at most a twentieth of the time; between two of them lies no less than this.
_PAUSE_S = 0.2
_PAUSE_SHARE = 20
# Events come to many products at nearly the same time: who is due first waits this long for others, so that one run
# takes them all.
_GATHER_S = 0.5


@dataclass(frozen=True)
class Need:
    """What a product lacks: ``what`` is there that its newest candidate does not have; None where it has everything.

    ``held`` says why a run would be of no use now, whatever is lacking. ``level`` is what was compared.
    """

    level: Level
    what: str | None = None
    held: str | None = None

    @property
    def product(self) -> DataProduct:
        """The product."""
        return self.level.product

    @property
    def is_due(self) -> bool:
        """Whether a run has something to do and can do it."""
        return self.what is not None and self.held is None


def await_due(platform: Platform, products: Callable[[], Sequence[DataProduct]], patience_s: float) -> list[Need]:
    """What products lack, looked at again and again until one of them is due or the time is up.

    ``products`` gives those to look at, and is asked each time. Where a look takes long, as it does for a thousand
    products, there is one.

    Raises:
        BrokerUnreachable: transient; only where nothing is due without the broker.
    """
    deadline = time.monotonic() + patience_s
    while True:
        began = time.monotonic()
        found = needs(platform, products())
        is_due = any(one.is_due for one in found)
        pause = max(_PAUSE_S, _PAUSE_SHARE * (time.monotonic() - began))
        if time.monotonic() + pause > deadline:
            return found
        if is_due:
            time.sleep(_GATHER_S)
            return needs(platform, products())
        time.sleep(pause)


def due(platform: Platform, products: Sequence[DataProduct], now: datetime | None = None) -> list[DataProduct]:
    """The products that are due, of these.

    Raises:
        BrokerUnreachable: transient; only where nothing is due without the broker.
    """
    return [one.product for one in needs(platform, products, now) if one.is_due]


def needs(platform: Platform, products: Sequence[DataProduct], now: datetime | None = None) -> list[Need]:
    """What each of these products lacks now.

    Raises:
        BrokerUnreachable: transient; only where nothing is due without the broker.
        StorageUnavailable: the catalog cannot be asked; transient.
    """
    streams = ask(platform, products)
    moment = now or datetime.now(UTC)
    found = [need(level, moment) for level in levels(platform, products, streams).values()]
    if streams.problem and not any(one.is_due for one in found):
        raise streams.problem
    return found


def need(level: Level, now: datetime) -> Need:
    """What one product lacks; pure."""
    if not level.standing.applied:
        return Need(level, held="it is not applied")
    return Need(level, _lacking(level), _no_topic(level) or _no_input(level) or _waits(level, now))


def to_run(needs: Sequence[Need]) -> list[DataProduct]:
    """What one look should have run: whatever is due, and what is derived from a derived product that is.

    ``needs`` are of products each after its inputs. A product that is made of one that will have a new version is taken
    along, so that a chain of derived products takes one run and not one for each of its levels. Sources take nothing
    along: their runs are long, and who follows them would have to wait for their end.
    """
    coming: set[str] = set()
    for one in needs:
        follows = one.held is None and coming.intersection(one.product.inputs)
        if one.product.transform and (one.is_due or follows):
            coming.add(one.product.fqn)
    return [one.product for one in needs if one.is_due or one.product.fqn in coming]


def waiting(position: Position | None, bounds: Bounds) -> int:
    """The offsets of a topic that were not read up to a position: all that it holds, where that is of another topic."""
    begin, end = bounds.begin, bounds.end
    known = position if position and position.is_in(end) else begin
    return sum(
        max(0, offset.next_offset - max(known.next_offset(number), begin.next_offset(number)))
        for number, offset in end.partitions.items()
    )


def _lacking(level: Level) -> str | None:
    newest = level.standing.newest
    if newest is None:
        return _first(level)
    if newest.contract_hash != level.contract_hash:
        return "its contract changed"
    if what := _new_data(level, newest):
        return what
    publishable = newest.published_at is None and newest.verdict is not None and newest.verdict.passed
    return f"version {newest.number} is not published" if publishable else None


def _first(level: Level) -> str | None:
    """What the first candidate would be made from."""
    if level.product.transform:
        return "it was never computed"
    events = waiting(None, level.bounds) if level.bounds else 0
    # All that a topic ever held may be gone by now.
    written = level.bounds and any(offset.next_offset for offset in level.bounds.end.partitions.values())
    return counted(events, "event waits", "events wait") if written else None


def _new_data(level: Level, newest: Version) -> str | None:
    if level.product.transform:
        seen = {name: one.published.number for name, one in level.inputs.items() if one.published}
        newer = sorted(name for name in level.product.inputs if newest.input_versions.get(name) != seen.get(name))
        return f"{', '.join(newer)} changed" if newer else None
    if level.standing.position != newest.position:
        return "landed events are in no version yet"
    if level.bounds is None or newest.position is None:
        return None
    if level.broken or newest.position.lag_to(level.bounds.end) > 0:
        return counted(waiting(newest.position, level.bounds), "event waits", "events wait")
    return None


def _no_topic(level: Level) -> str | None:
    """Why there is nothing to land from."""
    if level.product.topic is None or level.bounds:
        return None
    return level.unasked.message if level.unasked else f"its topic {level.product.topic.name} does not exist"


def _no_input(level: Level) -> str | None:
    """The inputs that there is nothing to read of."""
    for name in level.product.inputs:
        standing = level.inputs.get(name)
        if standing is None:
            return f"the contract of its input {name} has faults"
        if standing.published is None:
            return f"its input {name} has no published version"
    return None


def _waits(level: Level, now: datetime) -> str | None:
    """Until when it waits after its last attempt failed; None if that is over, or the cause is fixed."""
    failure = level.failure
    if failure is None or failure.until is None or failure.until <= now:
        return None
    if mends(mark_of(level.contract_hash, level.standing, failure.step, level.inputs), failure.mark):
        return None
    if level.broken and level.broken.code != failure.code:
        return None
    tries = f"attempt {failure.count + 1}" if failure.count > 1 else "the next attempt"
    return f"waiting after {failure.code}: {tries} is at {failure.until:%H:%M:%S} UTC"
