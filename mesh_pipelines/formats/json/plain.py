"""Python values as JSON has them: ISO 8601 text, decimals as text, bytes in base64."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
from typing import Any


def plain(value: Any) -> Any:
    """A value as ``json.dumps`` takes it."""
    match value:
        case dt.datetime():
            text = value.isoformat()
            return text.replace("+00:00", "Z")
        case dt.date() | dt.time():
            return value.isoformat()
        case decimal.Decimal():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case list():
            return [plain(item) for item in value]
        case dict():
            return {name: plain(item) for name, item in value.items()}
        case _:
            return value
