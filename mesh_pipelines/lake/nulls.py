"""Null lists and maps stay null in pyiceberg's conversions.

Wherever it writes or reads rows, pyiceberg takes lists and maps of structs apart and puts them together from offsets
and values alone, and so turns what was null into what is empty. Writing data files without it was ruled out: all of
their statistics would have to be made here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def keep_nulls() -> None:
    """Fix the conversions for this process; those already fixed stay as they are."""
    from pyiceberg.io.pyarrow import ArrowProjectionVisitor

    for name in ("list", "map"):
        convert = getattr(ArrowProjectionVisitor, name)
        if not hasattr(convert, "__wrapped__"):
            setattr(ArrowProjectionVisitor, name, _keeping_nulls(convert))


def _keeping_nulls(convert: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(convert)
    def kept(visitor: Any, wanted: Any, before: pa.Array | None, *parts: Any) -> pa.Array | None:
        after = convert(visitor, wanted, before, *parts)
        if after is None or before is None or after.null_count == before.null_count:
            return after
        return _with_nulls_of(before, after)

    return kept


def _with_nulls_of(before: pa.Array, after: Any) -> pa.Array:
    import pyarrow as pa

    from mesh_pipelines.arrow_compute import pc

    if isinstance(after, pa.MapArray):
        entry = [after.type.key_field, after.type.item_field]
        values = pa.StructArray.from_arrays([after.keys, after.items], fields=entry)
    else:
        values = after.values
    validity, offsets = pc.is_valid(before).buffers()[1], after.buffers()[1]
    return pa.Array.from_buffers(after.type, len(after), [validity, offsets], children=[values])
