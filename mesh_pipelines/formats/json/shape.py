"""Events of another shape: an object that has none of the contract's fields is no row of nulls.

A reader that passes over what it does not know, and fills in what it misses, cannot tell a sparse event from one of
another kind: a whole topic of the latter would land as nulls that no rule need notice. So one of the fields has to be
there, be it null. ``{}`` is no exception: it says as little where every field may be null, and a producer whose events
are all that sparse has one field to write.

The reason names the keys that are there, for that is how to find the cause. Keys are names, but those of an object that
is used as a map are values; so where a field of the contract is not public, only keys are told that are known words of
envelopes or those of the contract in another spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set

import msgspec
import numpy as np
import pyarrow as pa

from mesh_pipelines.arrow_compute import pc
from mesh_pipelines.contract.model import Field
from mesh_pipelines.contract.telling import may_tell
from mesh_pipelines.formats.json.parse import names, unmarked

_Members = Mapping[str, msgspec.Raw]

_NONE = "has none of the contract's fields"
_TOLD = 8
_LONGEST = 40
# Keys of Kafka Connect's envelope, of Debezium's and of a CloudEvent.
_WORDS = frozenset({"schema", "payload", "before", "after", "op", "source", "ts_ms", "specversion", "type", "data"})
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def strangers(
    fields: Sequence[Field], columns: Sequence[pa.Array], texts: Sequence[bytes | None]
) -> Iterator[tuple[int, str | None]]:
    """Rows whose text has none of the fields, and why they are no rows; None where it says that there is nothing.

    ``columns`` are those of the fields, ``texts`` the objects that they were read from (None where there was none).
    """
    known = frozenset(names(fields))
    for row in _blank(fields, columns, len(texts)):
        text = texts[row]
        if text is None:
            continue
        try:
            members = _members.decode(unmarked(text))
        except (msgspec.MsgspecError, ValueError):
            yield row, f"{_NONE}, and a key that is not text"
            continue
        if known.isdisjoint(members):
            yield row, None if _wraps_nothing(members) else _reason(members, fields)


def _blank(fields: Sequence[Field], columns: Sequence[pa.Array], count: int) -> list[int]:
    """The rows that are null in every column, those aside that a default may have filled."""
    blank = np.ones(count, np.bool_)
    for field, column in zip(fields, columns, strict=True):
        if not field.has_default:
            blank &= pc.is_null(column).to_numpy(zero_copy_only=False)
            if not blank.any():
                break
    return np.flatnonzero(blank).tolist()


def _wraps_nothing(members: _Members) -> bool:
    """Whether this is Kafka Connect's envelope around no value, which is how it writes a deletion."""
    return set(members) == {"schema", "payload"} and bytes(members["payload"]) == b"null"


def _reason(members: _Members, fields: Sequence[Field]) -> str:
    if not members:
        return f"{_NONE}: it is an empty object"
    alike = {_squeezed(name): field.name for field in fields for name in (field.name, *field.event_names)}
    tellable = may_tell(fields)
    told = [key for key in members if tellable or key in _WORDS or _squeezed(key) in alike][:_TOLD]
    others = len(members) - len(told)
    listed = [*map(_shown, told), *([f"{others} other keys" if others > 1 else "another key"] if others else [])]
    hint = _hint(members.keys(), {key: alike[_squeezed(key)] for key in told if _squeezed(key) in alike})
    return f"{_NONE}, but {', '.join(listed)}{hint}"


def _hint(keys: Set[str], alike: Mapping[str, str]) -> str:
    if {"schema", "payload"} <= keys:
        return "; set schemas.enable=false in Kafka Connect's JsonConverter, which wraps the event"
    if "op" in keys and not keys.isdisjoint({"before", "after"}):
        return "; set ExtractNewRecordState in Debezium, which wraps the row"
    if "specversion" in keys:
        return "; a CloudEvent wraps its data"
    return next((f"; for {name} set physicalName: {_shown(key)}" for key, name in alike.items()), "")


def _shown(key: str) -> str:
    short = key[:_LONGEST]
    return short if short.isprintable() else ascii(short)


def _squeezed(name: str) -> str:
    """A name without what spellings differ in: orderId, ORDER_ID and order-id are alike."""
    return re.sub(r"[\W_]", "", name).casefold()
