"""The schemas that a schema refers to, and those that they refer to, in the order in which they can be read.

Whoever may register a schema chooses its references, so they are as hostile as events: they may be missing, go in a
circle, or multiply with each step. Each subject's version is asked for once, within limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh_pipelines.formats.format import BrokenReferences

MAX_REFERENCES = 100
MAX_DEPTH = 16
# Of all texts together: what a single schema may have (``avro.schema.MAX_TEXT_BYTES``).
MAX_BYTES = 1 << 20
_SHOWN = 80

# Subject and version; -1 is the latest.
_Place = tuple[str, int]
Ask = Callable[[str, int], Any]


def follow(schema: Any, ask: Ask) -> tuple[tuple[str, str], ...]:
    """Name and text of each schema that one of the registry's client refers to, each before what refers to it.

    ``ask`` gives the schema of a subject's version, None where there is none.

    Raises:
        BrokenReferences: one is missing, they go in a circle, or they are more than the limits of this module.
    """
    if not schema.references:
        return ()
    following = _Following(ask)
    following.after(schema, ())
    return tuple(following.found.values())


class _Following:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._bytes = 0
        self.found: dict[_Place, tuple[str, str]] = {}

    def after(self, schema: Any, path: tuple[_Place, ...]) -> None:
        """Find what a schema refers to; ``path`` are those that led to it."""
        for reference in schema.references or ():
            place = (str(reference.subject), int(reference.version))
            if place in path:
                circle = " -> ".join(map(_named, (*path[path.index(place) :], place)))
                raise BrokenReferences(f"its references go in a circle: {circle}")
            if place not in self.found:
                self._take(str(reference.name), place, path)

    def _take(self, name: str, place: _Place, path: tuple[_Place, ...]) -> None:
        if len(path) >= MAX_DEPTH:
            raise BrokenReferences(f"its references go deeper than {MAX_DEPTH} levels, at {_named(place)}")
        found = self._ask(*place)
        if found is None or not isinstance(found.schema_str, str):
            raise BrokenReferences(f"it refers to {_named(place)}, which the registry does not have")
        self._bytes += len(found.schema_str)
        if self._bytes > MAX_BYTES:
            raise BrokenReferences(f"it and its references must have at most {MAX_BYTES:,} characters together")
        self.after(found, (*path, place))
        self.found[place] = (name, found.schema_str)
        if len(self.found) > MAX_REFERENCES:
            raise BrokenReferences(f"it must have at most {MAX_REFERENCES} references, theirs included")


def _named(place: _Place) -> str:
    subject, version = place
    shown = "".join(letter if letter.isprintable() else "?" for letter in subject[:_SHOWN])
    return f"subject {shown}, {'latest version' if version == -1 else f'version {version}'}"
