"""Which rows of a version's base, and of the tail behind it, were replaced: what makes reading a version a plain scan.

A version with a tail can always be read by joining base and tail, but that costs every reader the key column and a
hash of the tail. Publishing has to find the replaced rows anyway, for their rules' counts, so it writes down where they
are: a bit per row of each base file, and a bit per offset of each partition's tail, one after the other in one row of
bits, which is one small file beside the base.
It is a cache: a version whose overlay is gone is read by the join, to the same rows.

A key index (key to place, as merge-on-write stores have it) was ruled out: random keys touch all of its pages, so each
delta would rewrite it; the bits of a million rows are 125 KB before compression.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.contract.envelope import OFFSET, PARTITION
from mesh_pipelines.lake.files import DataFiles
from mesh_pipelines.local_path import local_path
from mesh_pipelines.sql.quote import literal

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

Bits = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

FOLDER = "overlay"
ROW = "file_row_number"


@dataclass(frozen=True)
class Stretch:
    """The bits of ``size`` offsets of a partition, from ``first``."""

    first: int
    size: int
    bits: Bits


@dataclass(frozen=True)
class Overlay:
    """The replaced rows: by base file, where a file has any, and by partition of the tail."""

    base: Mapping[str, Bits] = field(default_factory=dict[str, Bits])
    tail: Mapping[int, Stretch] = field(default_factory=dict[int, Stretch])

    def replaced(self, file: str, rows: Numbers) -> npt.NDArray[np.bool_]:
        """Which of these rows of a base file were replaced."""
        bits = self.base.get(file)
        return np.zeros(len(rows), np.bool_) if bits is None else _are_set(bits, rows)

    def with_base(self, file: str, size: int, rows: Numbers) -> Overlay:
        """This overlay with more replaced rows of a base file of ``size`` rows."""
        return Overlay({**self.base, file: _set(self.base.get(file), size, rows)}, self.tail)

    def with_tail(self, partition: int, first: int, size: int, current: Numbers, gone: Numbers) -> Overlay:
        """This overlay with a partition's tail reaching ``size`` offsets from ``first``.

        ``current`` are the new offsets that have their key's latest event, ``gone`` former ones that have it no more.
        Every other new offset, quarantined or never used, counts as replaced.
        """
        known = self.tail.get(partition)
        bits = np.full((size + 7) // 8, 0xFF, np.uint8)
        if known:
            bits[: len(known.bits)] = known.bits
        at = current - first
        np.bitwise_and.at(bits, at >> 3, (0xFF ^ (0x80 >> (at & 7))).astype(np.uint8))
        return Overlay(self.base, {**self.tail, partition: Stretch(first, size, _set(bits, size, gone - first))})

    def base_parts(self, data: DataFiles, files: Sequence[DataFile], columns: str, where: str) -> list[str]:
        """SELECTs of ``columns`` and each row's bit over base files, of the rows for which ``where`` holds."""
        starts, _, live = self._layout()
        marked = [file for file in files if file.file_path in self.base]
        whole = [file for file in files if file.file_path not in self.base]
        rows_of_marked = zip(marked, data.each_alone(marked, row_numbers=True), strict=True)
        bits = [(f"{starts[file.file_path]} + {ROW}", rows) for file, rows in rows_of_marked]
        bits += [(str(live), rows) for rows in data.each(whole)] if whole else []
        return [f"SELECT {columns}, {bit} AS bit FROM {rows} WHERE {where}" for bit, rows in bits]

    def tail_bit(self) -> str:
        """The bit of an event of the tail, as SQL; one outside of the tail counts as replaced."""
        starts, replaced, _ = self._layout()
        cases = " ".join(
            f"WHEN {PARTITION} = {number} AND {OFFSET} BETWEEN {one.first} AND {one.first + one.size - 1} "
            f"THEN {OFFSET} + {starts[number] - one.first}"
            for number, one in self.tail.items()
            if one.size
        )
        return f"CASE {cases} ELSE {replaced} END" if cases else str(replaced)

    def current_sql(self, parts: Sequence[str], columns: str, source: str | None) -> str:
        """A SELECT of ``columns`` over those rows of ``parts`` that were not replaced.

        ``source`` is SQL text after FROM for the overlay's rows; None where no row was replaced. One test over all the
        parts: a test in each of them cost more to plan than to carry out.
        """
        rows = f"SELECT {columns} FROM ({' UNION ALL '.join(parts)})"
        if source is None:
            return rows
        return f"{rows} WHERE get_bit((SELECT bits::BIT FROM {source} WHERE bits IS NOT NULL), bit::INTEGER) = 0"

    def _layout(self) -> tuple[dict[str | int, int], int, int]:
        """Where the bits of each file and partition start in the row of bits; then one that is set, and one not."""
        starts: dict[str | int, int] = {}
        at = 0
        for name, bits in [*self.base.items(), *((number, one.bits) for number, one in self.tail.items())]:
            starts[name] = at
            at += 8 * len(bits)
        return starts, at, at + 8

    def dead(self, file: str) -> int:
        """How many rows of a base file were replaced."""
        return int(np.unpackbits(self.base[file]).sum()) if file in self.base else 0

    def of(self, files: Iterable[str]) -> Overlay:
        """The part of this overlay that is about these base files."""
        return Overlay({file: self.base[file] for file in files if file in self.base})

    def to_arrow(self) -> pa.Table:
        """The overlay as rows: what the bits are about, in their order, and then all of them."""
        stretches = self.tail.values()
        rows: list[dict[str, Any]] = [{"file": file, "size": 8 * len(bits)} for file, bits in self.base.items()]
        rows += [{"partition": number, "first": one.first, "size": one.size} for number, one in self.tail.items()]
        bits = [*self.base.values(), *(one.bits for one in stretches), np.array([0xFF, 0], np.uint8)]
        rows.append({"bits": b"".join(one.tobytes() for one in bits)})
        return pa.Table.from_pylist(rows, schema=_schema())


def write(table: Table, overlay: Overlay) -> str:
    """Write an overlay beside the base table's files; gives its address."""
    import pyarrow.parquet as pq

    address = f"{table.location()}/{FOLDER}/{uuid.uuid4().hex}.parquet"
    with table.io.new_output(address).create() as stream:
        pq.write_table(overlay.to_arrow(), stream, compression="zstd", compression_level=1, use_dictionary=False)
    return address


def read(io: FileIO, address: str) -> Overlay | None:
    """The overlay at an address; None if it no longer exists, or has an earlier form."""
    import pyarrow.parquet as pq

    try:
        with io.new_input(address).open() as stream:
            *rows, last = pq.read_table(stream).to_pylist()
    except FileNotFoundError:
        return None
    if any(row["bits"] is not None for row in rows):
        return None
    bits, at = np.frombuffer(last["bits"], np.uint8), 0
    base: dict[str, Bits] = {}
    tail: dict[int, Stretch] = {}
    for row in rows:
        own = bits[at : at + (row["size"] + 7) // 8]
        at += len(own)
        if row["file"]:
            base[row["file"]] = own
        else:
            tail[row["partition"]] = Stretch(row["first"], row["size"], own)
    return Overlay(base, tail)


def source_of(address: str) -> str:
    """The rows of an overlay's file as SQL text after FROM."""
    return f"read_parquet({literal(local_path(address))})"


def _schema() -> pa.Schema:
    return pa.schema(
        [("file", pa.string()), ("partition", pa.int32()), ("first", pa.int64()), ("size", pa.int64())]
    ).append(pa.field("bits", pa.large_binary()))


def _set(bits: Bits | None, size: int, places: Numbers) -> Bits:
    """These bits, made longer to ``size`` and with those at ``places`` set; the first is a byte's highest."""
    grown = np.zeros((size + 7) // 8, np.uint8)
    if bits is not None:
        grown[: len(bits)] = bits
    np.bitwise_or.at(grown, places >> 3, (0x80 >> (places & 7)).astype(np.uint8))
    return grown


def _are_set(bits: Bits, places: Numbers) -> npt.NDArray[np.bool_]:
    return (bits[places >> 3] & (0x80 >> (places & 7)).astype(np.uint8)) != 0
