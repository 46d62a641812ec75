"""Text of contracts and data inside the Markdown that Dagster's UI shows; pure.

Dagster renders descriptions as Markdown, HTML in them included, and cleans what comes out in the browser. That is its
wall; this is ours: what is handed to it has no HTML, no picture and no link but bare addresses. Emphasis, lists, tables
and code stay. Characters are replaced by references and not escaped by backslashes, since a reference never means
structure, whatever stands before it; a reference inside of code is shown as it is typed, which is the price.
"""

from __future__ import annotations

import re

_STRUCTURE = str.maketrans({"<": "&#60;", "[": "&#91;"})
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
_TICKS = re.compile("`+")


def prose(text: str) -> str:
    """Markdown that others wrote, without what makes elements and links."""
    return text.translate(_STRUCTURE)


def cell(text: str) -> str:
    """The same for a cell of a table: one line, without what ends a cell."""
    return _CONTROLS.sub(" ", prose(text)).replace("|", "&#124;")


def code(text: str) -> str:
    """A text as it is, on one line, as code: between more backticks than it has in a row."""
    line = _CONTROLS.sub(" ", text) or " "
    fence = "`" * (1 + max(map(len, _TICKS.findall(line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"
