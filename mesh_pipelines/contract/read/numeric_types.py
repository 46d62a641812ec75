"""Numbers by the words of databases: what ``physicalType`` says of a ``number`` or an ``integer``.

Those who write contracts from a database's catalog say ``number`` of every numeric column and leave the rest to the
physical type; read by the logical type alone, a key of whole numbers would be a double.
"""

from __future__ import annotations

import re

from mesh_pipelines.contract.model import FieldType, Kind

_INT = ("int", "integer", "int32")
_LONG = (
    *("long", "bigint", "int64", "int8", "int4", "int2", "int16", "smallint", "mediumint", "tinyint", "byteint"),
    *("short", "byte", "serial", "bigserial", "smallserial", "hugeint", "uint8", "uint16", "uint32"),
)
_WHOLE = re.compile(rf"({'|'.join((*_INT, *_LONG))})(\s*\(\s*\d{{1,3}}\s*\))?(\s+(?:un)?signed)?")
_DIGITS = re.compile(r"(decimal|numeric|dec|number|bignumeric)\s*\(\s*(\d{1,3}|\*)\s*(?:,\s*(\d{1,3})\s*)?\)")
_NO_DIGITS = ("decimal", "numeric", "dec", "number", "bignumeric")
# The digits that 64 bits have room for, whichever they are.
_IN_A_LONG = 18


def numeric_type(logical: str, physical: str) -> FieldType | None:
    """The type that a physical type in lower case gives a number or an integer; None where it says nothing of its own.

    ``decimal(p, s)`` of a number is not among them: it is the mesh's own word (``field_reader.py``).
    """
    if logical == "number" and (found := _WHOLE.fullmatch(physical)):
        fits = found[1] in _INT and not (found[3] or "").strip().startswith("un")
        return FieldType(Kind.INT if fits else Kind.LONG)
    found = _DIGITS.fullmatch(physical)
    if found is None or found[2] == "*":
        return None
    precision, scale = int(found[2]), int(found[3] or 0)
    if logical == "integer" and scale == 0:
        return FieldType(Kind.LONG)
    if logical != "number" or found[1] != "number" or not 1 <= precision <= 38 or scale > precision:
        return None
    if scale == 0 and precision <= _IN_A_LONG:
        return FieldType(Kind.LONG)
    return FieldType(Kind.DECIMAL, precision=precision, scale=scale)


def lacks_digits(physical: str) -> bool:
    """Whether it is a decimal that does not say how many digits it has."""
    found = _DIGITS.fullmatch(physical)
    return physical in _NO_DIGITS or (found is not None and found[2] == "*")
