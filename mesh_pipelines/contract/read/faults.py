"""Collecting faults: what is wrong, where in the file, and what to do.

Every reader of a part of the contract collects what it finds and goes on, so that a person fixes a file once and not
once for every fault in it. A promise that nothing here can check is a fault as well, unless the contract says that its
author knows: by ``mesh.notChecked`` on it or on anything around it. Then it is kept, to be shown as not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesh_pipelines.contract.read.document import Document, Where
from mesh_pipelines.errors import Fault

NOT_CHECKED = "mesh.notChecked"


class Faults:
    """The faults found in one document so far, with the path of each in the file.

    ``unchecked`` are the paths of promises that nothing here checks, each with what ``mesh.notChecked`` says of it.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: list[tuple[Where, Fault]] = []
        self.unchecked: list[tuple[Where, bool | str]] = []

    def add(self, where: Where, problem: str, fix: str) -> None:
        """Note a fault at a path of the document."""
        self._found.append((self._document.origin(where), self._document.fault(where, problem, fix)))

    def cannot_check(self, where: Where, problem: str, fix: str) -> None:
        """Note a promise that nothing here can check: a fault, unless the contract says that its author knows."""
        if said := self.mark_at(where):
            self.unchecked.append((where, said))
        else:
            self.add(where, problem, f"{fix}; or, if it is checked elsewhere, write {NOT_CHECKED}: true")

    def check_mark(self, value: Any, where: Where) -> None:
        """What ``mesh.notChecked`` may say."""
        if not isinstance(value, bool) and not (isinstance(value, str) and value.strip()):
            problem = f"{NOT_CHECKED} must be true, or text that says who checks it, got {value!r}"
            self.add(where, problem, "write true, or for instance: soda, every night")

    def besides(self, known: Iterable[Where]) -> list[Fault]:
        """The faults that do not merely follow from those already known, at these paths of the file.

        A fault inside a value that was left out, or about something around it, may be there only for its absence.
        """
        causes = list(known)
        return [fault for where, fault in self._found if not any(_touch(where, cause) for cause in causes)]

    def mark_at(self, where: Where) -> bool | str:
        """What the nearest ``mesh.notChecked`` of a path, or of what is around it, says; False where there is none."""
        around: Any = self._document.values
        found = mark_of(around)
        for part in where:
            around = _part(around, part)
            found = mark_of(around) or found
        return found


def mark_of(value: Any) -> bool | str:
    """What the custom properties of a part say: that it is not checked here, or who checks it; False for nothing."""
    entries = value.get("customProperties") if isinstance(value, Mapping) else None
    for entry in entries if isinstance(entries, list) else ():
        if entry.get("property") == NOT_CHECKED:
            said = entry.get("value")
            return said if isinstance(said, bool | str) else False
    return False


def _part(value: Any, part: str | int) -> Any:
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def _touch(one: Where, other: Where) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]
