"""The log's own columns: the coordinates and the fate of every landed event, before the contract's fields.

Contract fields may not start with an underscore, so the two never collide. ``_key`` and ``_raw`` are the bytes as they
were on the topic; ``_raw`` is kept only if an event was held back, so that it can be fixed and sent again.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

GENERATION = "_generation"
PARTITION = "_partition"
OFFSET = "_offset"
TIMESTAMP = "_timestamp"
KEY = "_key"
OP = "_op"
SCHEMA_ID = "_schema_id"
FATE = "_fate"
RULE = "_rule"
REASON = "_reason"
RAW = "_raw"
# Which redrive took the event over, counted from 1; null where landing did.
REDRIVE = "_redrive"
# Of a keyed stream's base only: a digest of the key, and the row rules that the row breaks, as bits.
DIGEST = "_digest"
BREAKS = "_breaks"


class Op(StrEnum):
    """What an event does to its key: set it, delete it (a tombstone), or add a row of its own."""

    UPSERT = "upsert"
    DELETE = "delete"
    APPEND = "append"


class Fate(StrEnum):
    """What became of an event: taken over, not decodable, or held back by a diverting rule."""

    OK = "ok"
    UNDECODABLE = "undecodable"
    DIVERTED = "diverted"


ENVELOPE = pa.schema(
    [
        pa.field(GENERATION, pa.int32(), nullable=False),
        pa.field(PARTITION, pa.int32(), nullable=False),
        pa.field(OFFSET, pa.int64(), nullable=False),
        pa.field(TIMESTAMP, pa.timestamp("us", tz="UTC")),
        pa.field(KEY, pa.large_binary()),
        pa.field(OP, pa.string(), nullable=False),
        pa.field(SCHEMA_ID, pa.int32()),
        pa.field(FATE, pa.string(), nullable=False),
        pa.field(RULE, pa.string()),
        pa.field(REASON, pa.string()),
        pa.field(RAW, pa.large_binary()),
        pa.field(REDRIVE, pa.int32()),
    ]
)
