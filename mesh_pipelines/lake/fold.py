"""The fold, as SQL text: events in (generation, partition, offset) order to the current state by key.

The latest event of a key wins, so the fold is an associative maximum over coordinates: folding a base and the events
after it gives what folding all events gives. For that the base keeps tombstones as rows; readers leave them out.
Two grouping passes over narrow columns (key and coordinate) were preferred to a window over whole rows, whose sort
costs memory in proportion to the row width. A base is never grouped: its rows are those that no later event replaced.
"""

from __future__ import annotations

from mesh_pipelines.contract.envelope import FATE, GENERATION, KEY, OFFSET, OP, PARTITION, REDRIVE, Fate, Op
from mesh_pipelines.positions import Position
from mesh_pipelines.sql.quote import literal, quote

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


def onto(base: str, events: str) -> str:
    """The latest event of each key of a base (one row a key) and of events, both SQL text after FROM.

    An event does not win by being read later: a redrive, or a key that changed its partition, can lie before its row.
    """
    tail = f"(SELECT *, {COORDINATE} AS coordinate FROM {latest(events)})"
    placed = f"(SELECT *, {COORDINATE} AS coordinate FROM {base})"

    def without(rows: str, others: str) -> str:
        return (
            f"SELECT * EXCLUDE (coordinate) FROM {rows} AS one ANTI JOIN {others} AS other "
            f"ON one.{KEY} = other.{KEY} AND other.coordinate > one.coordinate"
        )

    return f"({without(placed, tail)} UNION ALL BY NAME {without(tail, placed)})"


def digest(key: str) -> str:
    """128 bits of a key's SHA-256 as hexadecimal text: no two keys share them, neither by chance nor by design.

    Among ten million keys the chance is 10^14 / 2^129, less than that of a memory error going unseen.
    """
    return f"substr(sha256({key}), 1, 32)"


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
