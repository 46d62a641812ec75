"""A YAML file as plain values with the line each came from, read under limits.

YAML lets a few hundred bytes grow to gigabytes (aliases), keeps the last of two equal keys without a word, and can nest
deeper than a parser's stack. A contract needs none of that, so each is a fault with its line. Dates stay the text they
were written as: the standard's schema wants strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mesh_pipelines.errors import Fault

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}

Where = tuple[str | int, ...]


class FaultyDocument(Exception):
    """The file is no document that could be looked at further; ``faults`` say why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True)
class Document:
    """Decoded values, and the line (from 1) of each path into them."""

    file: Path
    values: Any
    lines: Mapping[Where, int] = field(default_factory=dict[Where, int])

    def line(self, where: Where) -> int:
        """The line of a path, or of the nearest thing around it; 0 where nothing is known."""
        for length in range(len(where), -1, -1):
            if where[:length] in self.lines:
                return self.lines[where[:length]]
        return 0

    def fault(self, where: Where, problem: str, fix: str) -> Fault:
        """A fault at a path of this document."""
        return Fault(self.file, self.line(where), dotted(where), problem, fix)


def dotted(where: Where) -> str:
    """A path as a person writes it: ``schema[0].properties[2].name``."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_document(file: Path) -> Document:
    """Read one YAML file.

    Raises:
        FaultyDocument: it cannot be read, is over a limit, or is not YAML.
    """
    text = read_text(file)
    try:
        _check_events(file, text)
        node = yaml.compose(text, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError) as error:
        raise FaultyDocument([_syntax_fault(file, error)]) from error
    reader = _Reader(file)
    values = reader.read(node, ()) if node is not None else None
    if reader.faults:
        raise FaultyDocument(reader.faults)
    return Document(file, values, reader.lines)


def read_text(file: Path) -> str:
    """The text of a file under the size limit.

    Raises:
        FaultyDocument: it is missing, too big, or not UTF-8.
    """
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise _refuse(file, 0, f"is {size:,} bytes long", f"keep it under {MAX_BYTES:,} bytes")
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise _refuse(file, 0, "does not exist", "create it, for instance by mesh init") from error
    except OSError as error:
        raise _refuse(file, 0, f"cannot be read: {error.strerror}", "check the file and its permissions") from error
    except UnicodeDecodeError as error:
        raise _refuse(file, 0, f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from error


def _check_events(file: Path, text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            raise _refuse(file, line, f"uses the alias *{event.anchor}", "write the value out; aliases are not read")
        if isinstance(event, NodeEvent) and event.anchor:
            raise _refuse(file, line, f"defines the anchor &{event.anchor}", "remove it; anchors are not read")
        if isinstance(event, CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _refuse(file, line, f"nests deeper than {MAX_DEPTH} levels", "flatten it")
        elif isinstance(event, CollectionEndEvent):
            depth -= 1


class _Reader:
    """Turns YAML nodes into values, noting lines and collecting faults."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: dict[Where, int] = {}
        self.faults: list[Fault] = []
        self._scalars = yaml.constructor.SafeConstructor()

    def read(self, node: Node, where: Where) -> Any:
        self.lines.setdefault(where, node.start_mark.line + 1)
        match node:
            case MappingNode():
                return dict(self._entries(node, where))
            case SequenceNode():
                return [self.read(item, (*where, index)) for index, item in enumerate(node.value)]
            case ScalarNode():
                return self._scalar(node, where)
            case _:
                raise TypeError(f"unknown YAML node {node}")

    def _entries(self, node: MappingNode, where: Where) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode) or not isinstance(key_node.value, str):
                self._fault(line, where, "has a key that is not text", "use a plain word as key")
                continue
            key: str = key_node.value
            if key in seen:
                self._fault(line, (*where, key), "is there twice", "keep one of them")
                continue
            seen.add(key)
            self.lines[(*where, key)] = line
            yield key, self.read(value_node, (*where, key))

    def _scalar(self, node: ScalarNode, where: Where) -> Any:
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        if node.tag not in _PLAIN_TAGS:
            self._fault(node.start_mark.line + 1, where, f"has the tag {node.tag}", "write a plain value")
            return None
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            self._fault(node.start_mark.line + 1, where, f"{node.value!r} is no value", "quote it if it is text")
            return None

    def _fault(self, line: int, where: Where, problem: str, fix: str) -> None:
        self.faults.append(Fault(self.file, line, dotted(where), problem, fix))


def _syntax_fault(file: Path, error: Exception) -> Fault:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return Fault(file, mark.line + 1 if mark else 0, "", f"is not YAML: {problem}", "mend the syntax")


def _refuse(file: Path, line: int, problem: str, fix: str) -> FaultyDocument:
    return FaultyDocument([Fault(file, line, "", problem, fix)])
