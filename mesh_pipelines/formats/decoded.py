"""What decoding gives, whatever the format: the columns of what could be decoded, and why the rest could not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.arrow_compute import pc
from mesh_pipelines.contract.model import Field

# The registry's framing in front of a value: a zero byte, and the schema's id in four more.
FRAME_BYTES = 5


@dataclass(frozen=True)
class Decoded:
    """``count`` values: those with an entry in ``faults`` (index to reason) have no row in ``columns``.

    A value that is null has a row of nulls, and so has one that only says that there is nothing: these are ``nothing``.
    """

    count: int
    columns: list[pa.Array]
    faults: dict[int, str]
    nothing: frozenset[int] = frozenset()

    @property
    def good(self) -> npt.NDArray[np.bool_]:
        """Which values have a row."""
        good = np.ones(self.count, np.bool_)
        good[list(self.faults)] = False
        return good

    def within(
        self, count: int, places: npt.NDArray[np.int64], faults: dict[int, str], nothing: Iterable[int] = ()
    ) -> Decoded:
        """These values as those at ``places`` (ascending) of ``count``, the others being ``faults``.

        ``nothing`` are further ones of the ``count`` that say that there is nothing.
        """
        own = {int(places[index]): reason for index, reason in self.faults.items()}
        silent = frozenset(int(places[index]) for index in self.nothing)
        return Decoded(count, self.columns, {**faults, **own}, silent.union(nothing))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Decoded:
        """Values decoded one part after the other, as one."""
        if len(parts) == 1:
            return parts[0]
        faults: dict[int, str] = {}
        nothing: set[int] = set()
        count = 0
        for part in parts:
            faults.update((count + index, reason) for index, reason in part.faults.items())
            nothing.update(count + index for index in part.nothing)
            count += part.count
        columns = [pa.concat_arrays(list(column)) for column in zip(*(part.columns for part in parts), strict=True)]
        return Decoded(count, columns, faults, frozenset(nothing))


class Reader(Protocol):
    """Decodes values of one format to a contract's columns. It can be pickled: a process of its own may decode."""

    @property
    def fields(self) -> Sequence[Field]:
        """The contract's fields."""
        ...

    def decode(self, values: pa.LargeBinaryArray, header_bytes: int = 0) -> Decoded:
        """Decode values; each has so many bytes in front that are not its own."""
        ...


def without_header(values: pa.LargeBinaryArray, header_bytes: int) -> pa.LargeBinaryArray:
    """The values without the bytes in front of them."""
    # Slicing with an open end fails on large arrays; replacing the header by nothing does the same.
    return pc.binary_replace_slice(values, 0, header_bytes, b"") if header_bytes else values


def spread(columns: Sequence[pa.Array], given: npt.NDArray[np.bool_]) -> list[pa.Array]:
    """Columns with a row for each value that was given, as columns with rows of nulls for the others."""
    if given.all():
        return list(columns)
    places = pa.array(np.cumsum(given) - 1, mask=~given)
    return [column.take(places) for column in columns]


def buffers(array: pa.LargeBinaryArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes of a binary array, and where each value starts and the last one ends in them."""
    _, offsets, data = array.buffers()
    content = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    if offsets is None or not offsets.size:
        return content, np.zeros(1, np.int64)
    return content, np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)
