"""The fold, as SQL text: events in (generation, partition, offset) order to the current state by key.

The latest event of a key wins, so the fold is an associative maximum over coordinates: folding a base and the events
after it gives what folding all events gives. For that the base keeps tombstones as rows; readers leave them out.
Two grouping passes over narrow columns (key and coordinate) were preferred to a window over whole rows, whose sort
costs memory in proportion to the row width.
"""

from __future__ import annotations

from mesh_pipelines.contract.log import FATE, GENERATION, KEY, OFFSET, OP, PARTITION, REDRIVE, Fate, Op
from mesh_pipelines.contract.sql import literal, quote
from mesh_pipelines.positions import Position

# One number that orders as the triple does: offsets take 63 bits, partitions and generations 31 each.
COORDINATE = f"({GENERATION}::HUGEINT * {2**94} + {PARTITION}::HUGEINT * {2**63} + {OFFSET})"
TAKEN_OVER = f"{FATE} = {literal(str(Fate.OK))}"
LIVE = f"{OP} <> {literal(str(Op.DELETE))}"


def latest(events: str) -> str:
    """The latest event of each key of a relation (SQL text after FROM), tombstones included."""
    return (
        f"(WITH events AS (SELECT *, {COORDINATE} AS coordinate FROM {events}), "
        f"latest AS (SELECT max(coordinate) AS coordinate FROM events GROUP BY {KEY}) "
        "SELECT events.* EXCLUDE (coordinate) FROM events SEMI JOIN latest USING (coordinate))"
    )


def before(position: Position) -> str:
    """The condition that an event of the log lies before a position."""
    partitions = " OR ".join(
        f"({PARTITION} = {number} AND {OFFSET} < {offset.next_offset})"
        for number, offset in sorted(position.partitions.items())
    )
    generation = position.generation
    lies_before = f"{GENERATION} < {generation} OR ({GENERATION} = {generation} AND ({partitions or 'FALSE'}))"
    return f"(({lies_before}) AND coalesce({REDRIVE}, 0) <= {position.redrives})"


def between(after: Position | None, until: Position) -> str:
    """The condition that an event lies at or past ``after`` (None: from the first) and before ``until``."""
    return f"{before(until)} AND NOT {before(after)}" if after else before(until)


def columns(names: list[str]) -> str:
    """A select list of quoted names."""
    return ", ".join(quote(name) for name in names)
