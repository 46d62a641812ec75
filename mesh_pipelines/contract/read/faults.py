"""Collecting faults: what is wrong, where in the file, and what to do.

Every reader of a part of the contract collects what it finds and goes on, so that a person fixes a file once and not
once for every fault in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh_pipelines.contract.read.document import Document, Where
from mesh_pipelines.errors import Fault


class Faults:
    """The faults found in one document so far, with the path of each in the file."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: list[tuple[Where, Fault]] = []

    def add(self, where: Where, problem: str, fix: str) -> None:
        """Note a fault at a path of the document."""
        self._found.append((self._document.origin(where), self._document.fault(where, problem, fix)))

    def besides(self, known: Iterable[Where]) -> list[Fault]:
        """The faults that do not merely follow from those already known, at these paths of the file.

        A fault inside a value that was left out, or about something around it, may be there only for its absence.
        """
        causes = list(known)
        return [fault for where, fault in self._found if not any(_touch(where, cause) for cause in causes)]


def _touch(one: Where, other: Where) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]
