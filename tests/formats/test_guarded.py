"""Decoding under limits, by a reader that really crashes, hangs and eats memory where the value says so."""

from __future__ import annotations

import gc
import json
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.avro.reader import WriterSchema
from mesh_pipelines.formats.guarded import Guarded
from mesh_pipelines.formats.json.portable import JsonReader

TEXT = (Field("v", FieldType(Kind.STRING)),)

# The child process cannot import a module of tests, so the reader is sent to it as its source.
SOURCE = textwrap.dedent("""
    import ctypes
    import pyarrow as pa
    from mesh_pipelines.formats.decoded import Decoded

    class Reader:
        fields = ()

        def decode(self, values):
            for value in values.to_pylist():
                match value:
                    case b"crash":
                        ctypes.string_at(0)
                    case b"abort":
                        ctypes.CDLL(None).abort()
                    case b"hang":
                        while True:
                            pass
                    case b"eat":
                        bytearray(8 << 30)
                    case b"raise":
                        raise KeyError("no such thing")
                    case _:
                        pass
            return Decoded(len(values), [values.cast(pa.large_string())], {})
""")


class Hostile:
    fields: Sequence[Field] = TEXT

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return eval, (f"[space := {{}}, exec({SOURCE!r}, space)] and space['Reader']()",)

    def decode(self, values: pa.LargeBinaryArray) -> Any:
        raise AssertionError("this one is decoded in a process of its own only")


def values(*items: bytes) -> pa.LargeBinaryArray:
    return pa.array(items, pa.large_binary())


def living() -> set[int]:
    alive = psutil.Process().children()
    return {child.pid for child in alive if child.status() != psutil.STATUS_ZOMBIE}


@pytest.mark.parametrize(
    ("culprit", "reason"),
    [
        (b"crash", "SIGSEGV"),
        (b"abort", "SIGABRT"),
        (b"hang", "took more than 5 s"),
        (b"eat", "MemoryError"),
        (b"raise", "no such thing"),
    ],
)
def test_the_culprit_is_found_among_good_neighbours(culprit: bytes, reason: str) -> None:
    before = living()
    guarded = Guarded(deadline_s=5.0)
    found = guarded.decode(Hostile(), values(b"a", b"b", culprit, b"c"))
    assert list(found.faults) == [2]
    assert reason in found.faults[2]
    assert found.columns[0].to_pylist() == ["a", "b", "c"]
    again = guarded.decode(Hostile(), values(b"d"))
    assert again.columns[0].to_pylist() == ["d"]
    guarded.close()
    assert living() == before


def test_the_process_ends_with_what_started_it() -> None:
    before = living()
    guarded = Guarded()
    guarded.decode(Hostile(), values(b"a"))
    assert len(living() - before) == 1
    del guarded
    gc.collect()
    assert living() == before


def test_real_readers_decode_there_what_they_decode_here(native: bool) -> None:
    schema = {"type": "record", "name": "r", "fields": [{"name": "v", "type": "string"}]}
    guarded = Guarded()
    for reader, good in ((WriterSchema(json.dumps(schema), TEXT, native), b"\x02a"), (JsonReader(TEXT), b'{"v": "a"}')):
        # Used here first: what a reader keeps for itself need not travel.
        given = values(good, b"\x02\xff", good)
        here, there = reader.decode(given), guarded.decode(reader, given)
        assert here == there
        assert list(here.faults) == [1]
    guarded.close()
