"""What stands in front of values: the id of their writer's schema, in the forms that serializers write it in.

- 00 and 4 bytes of a number: Confluent's serializers, and Apicurio's by default.
- 01 and 16 bytes of a GUID: Confluent's serializers, into a header.
- 00 and 8 bytes of a number, the first four of them zero: Apicurio's serializers before release 3. It may be either of
  two numbers and does not say which, so it is named and not read.
- 03, 00 or 05, and 16 bytes of a UUID: AWS Glue's serializers. Glue alone knows the UUID, so it is named and not read.

No registry gives the number 0, so the first and the third cannot be mistaken for each other. A source puts the id of a
header in front of the value (``format.ID_HEADERS``), so that nothing behind it needs to know which way an id came: the
event is decoded, quarantined and redriven as if the producer had put it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.formats.decoded import FRAME_BYTES, buffers
from mesh_pipelines.formats.format import SchemaId

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NUMBER, _GUID, _GLUE = 0, 1, 3
_GUID_BYTES = 17
_GLUE_BYTES = 18
_LONG_BYTES = 9
_GLUE_PACKING = (0, 5)
# So many GUIDs of one batch are told apart, those of most values: each may be a question to the registry, and bytes
# that are no GUID differ in every value.
_GUIDS = 256


_NO_ID = (
    "no schema id: the value must begin with a zero byte and the four bytes of the id, or a header __value_schema_id "
    "must hold it (for Avro without a registry, set mesh.wireFormat to avro-plain)"
)
_LONG = (
    "begins like Apicurio's framing with a number of 8 bytes ({number}), which may be either of its two; have the "
    "producer write the one of 4 bytes: apicurio.registry.use-id=contentId, and apicurio.registry.as-confluent=true "
    "before release 3 or Default4ByteIdHandler as apicurio.registry.id-handler"
)
_TOO_MANY = (
    f"begins with one of more than {_GUIDS} GUIDs in one batch, and the registry was asked for the most frequent ones "
    "only (mesh quarantine redrive asks again)"
)
_OF_GLUE = (
    "has the framing of AWS Glue's serializers (schema version {version}), which only Glue knows; have the producer "
    "write with the serializer of a registry with Confluent's API"
)


@dataclass(frozen=True)
class Framed:
    """Values with the same id in front: which of the batch's they are, and how many bytes the id takes."""

    id: SchemaId
    wanted: Mask
    header_bytes: int


class Framing:
    """The framing of a batch's values. ``numbers`` has each one's id, -1 where it has no number."""

    def __init__(self, values: pa.LargeBinaryArray, pending: Mask) -> None:
        self._data, bounds = buffers(values)
        self._starts, self._sizes = bounds[:-1], np.diff(bounds)
        self.numbers = np.full(len(values), -1, np.int64)
        numbered = self._beginning(pending, _NUMBER, FRAME_BYTES)
        at = self._starts[numbered]
        self.numbers[numbered] = sum(
            self._data[at + place].astype(np.int64) << 8 * (4 - place) for place in range(1, 5)
        )
        numbered &= self.numbers != 0
        self.numbers[self.numbers == 0] = -1
        self._pending, self._numbered = pending, numbered
        self._left: Indices = np.zeros(0, np.int64)

    def parts(self) -> Iterator[Framed]:
        """The values by their id."""
        numbers = _distinct(self.numbers[self._numbered]).tolist()
        for number in numbers:
            wanted = self._numbered & (self.numbers == number) if len(numbers) > 1 else self._numbered
            yield Framed(number, wanted, FRAME_BYTES)
        if not self._numbered.all():
            yield from self._by_guid()

    def reasons(self) -> Iterator[tuple[int, str]]:
        """The values that have no id that can be read, by their index, and why; after ``parts``."""
        unnumbered = self._pending & ~self._numbered
        if not unnumbered.any():
            return
        for index in np.flatnonzero(unnumbered & ~self._beginning(unnumbered, _GUID, _GUID_BYTES)).tolist():
            yield index, self._reason(index)
        yield from ((index, _TOO_MANY) for index in self._left.tolist())

    def _by_guid(self) -> Iterator[Framed]:
        framed = self._beginning(self._pending & ~self._numbered, _GUID, _GUID_BYTES)
        if not framed.any():
            return
        rows = np.flatnonzero(framed)
        guids = self._data[self._starts[rows][:, None] + np.arange(1, _GUID_BYTES)]
        distinct, which, counts = np.unique(guids.view("V16").ravel(), return_inverse=True, return_counts=True)
        frequent = np.argsort(-counts, kind="stable")[:_GUIDS]
        self._left = rows[~np.isin(which, frequent)]
        for number in frequent.tolist():
            wanted = np.zeros(len(framed), np.bool_)
            wanted[rows[which == number]] = True
            yield Framed(UUID(bytes=distinct[number].tobytes()), wanted, _GUID_BYTES)

    def _beginning(self, among: Mask, byte: int, least: int) -> Mask:
        """Which of some values begin with a byte and have at least so many."""
        found = among & (self._sizes >= least)
        found[found] = self._data[self._starts[found]] == byte
        return found

    def _reason(self, index: int) -> str:
        start, size = int(self._starts[index]), int(self._sizes[index])
        front = self._data[start : start + min(size, _GLUE_BYTES)].tobytes()
        if size >= _LONG_BYTES and front[0] == _NUMBER and not any(front[1:FRAME_BYTES]):
            return _LONG.format(number=int.from_bytes(front[1:_LONG_BYTES], "big"))
        if size >= _GLUE_BYTES and front[0] == _GLUE and front[1] in _GLUE_PACKING:
            return _OF_GLUE.format(version=UUID(bytes=front[2:]))
        return _NO_ID


def _distinct(numbers: Indices) -> Indices:
    """The distinct numbers; only those that differ from the first are sorted, and they nearly always are few."""
    return np.concatenate([numbers[:1], np.unique(numbers[numbers != numbers[0]])]) if len(numbers) else numbers
