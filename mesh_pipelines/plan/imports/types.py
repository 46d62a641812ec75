"""Types as other tools write them: a property's logical and physical type as ones that a column can have."""

from __future__ import annotations

import re

LOGICAL = ("string", "integer", "number", "boolean", "date", "time", "timestamp", "array", "object", "map")
# By what it is in the standard: the first word of a type, in lower case.
_WORDS = {
    "integer": """
        int integer bigint smallint tinyint mediumint hugeint long short serial bigserial byteint year
        int64 int32 int16 int8 int4 int2 uint8 uint16 uint32 uint64
    """,
    "number": """
        number decimal numeric dec fixed float double real float32 float64 float4 float8 bignumeric money smallmoney
    """,
    "boolean": "boolean bool bit logical",
    "date": "date",
    "time": "time",
    "timestamp": """
        timestamp timestamptz timestamp_tz timestamp_ntz timestamp_ltz datetime datetime2 smalldatetime datetimeoffset
        instant
    """,
    "array": "array list set repeated",
    "object": "object struct record row nested",
    "map": "map",
    "string": """
        string str text varchar char character nvarchar nchar varchar2 nvarchar2 clob uuid guid uniqueidentifier enum
        keyword email url uri json jsonb xml variant inet interval geography geometry objectid
        bytes binary varbinary blob bytea raw
    """,
}
_MEANS = {word: logical for logical, words in _WORDS.items() for word in words.split()}
_FIRST = re.compile(r"[a-z][a-z0-9_]*")


def logical_of(written: object) -> str | None:
    """The standard's type that a word for a type means: ``VARCHAR(20)``, ``timestamp without time zone``."""
    text = str(written or "").strip().lower()
    if text.endswith("[]"):
        return "array"
    found = _FIRST.match(text)
    return _MEANS.get(found[0]) if found else None
