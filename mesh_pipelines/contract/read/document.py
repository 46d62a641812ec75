"""A YAML file as plain values with the line each came from, read under limits.

YAML lets a few hundred bytes grow to gigabytes (aliases), keeps the last of two equal keys without a word, nests deeper
than a parser's stack, and reads ``no`` as a truth value or as Norway depending on the reader. A contract needs none of
that, so each is a fault with its line. Dates stay the text they were written as: the standard's schema wants strings.
A reader that keeps comments and round-trips (ruamel) was ruled out: it is pure Python, and nothing here writes YAML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from yaml.nodes import ScalarNode
from yaml.resolver import Resolver

from mesh_pipelines.contract.read.plain_file import NotPlain, read_plain
from mesh_pipelines.errors import Fault, printable

MAX_BYTES = 1024 * 1024
# Types nested to the limit take 26 levels; some parts of the standard's schema look at each level twice.
MAX_DEPTH = 32
# A contract of a thousand fields has about 15,000; checking 100,000 against the standard takes some seconds.
MAX_VALUES = 100_000
# Room for a sentence that lists every setting, and not for a value pasted into the wrong place.
_SENTENCE = 400
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER = Resolver()
_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_NUMBER_TO_SOME = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+|0o[0-7]+")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

Where = tuple[str | int, ...]


class FaultyDocument(Exception):
    """The file is not a document that can be read further; ``faults`` say why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True)
class Document:
    """Decoded values, and the line (from 1) of each path into them.

    ``origins`` leads from a path to the path in the file, where parts have been left out since it was read.
    """

    file: Path
    values: Any
    lines: Mapping[Where, int] = field(default_factory=dict[Where, int])
    origins: Mapping[Where, Where] = field(default_factory=dict[Where, Where])

    def origin(self, where: Where) -> Where:
        """The path in the file as it was read."""
        for length in range(len(where), 0, -1):
            if where[:length] in self.origins:
                return (*self.origins[where[:length]], *where[length:])
        return where

    def line(self, where: Where) -> int:
        """The line of a path, or of the nearest thing around it; 0 where nothing is known."""
        for length in range(len(where), -1, -1):
            if where[:length] in self.lines:
                return self.lines[where[:length]]
        return 0

    def fault(self, where: Where, problem: str, fix: str) -> Fault:
        """A fault at a path of this document."""
        line, path = self.line(where), dotted(self.origin(where))
        return Fault(self.file, line, path, printable(problem, _SENTENCE), printable(fix, _SENTENCE))

    def without(self, removed: Collection[Where]) -> Document:
        """The same document with some paths left out; what is left keeps its lines and origins."""
        lines: dict[Where, int] = {}
        origins: dict[Where, Where] = {}

        def copy(value: Any, old: Where, new: Where) -> Any:
            origins[new] = self.origin(old)
            if old in self.lines:
                lines[new] = self.lines[old]
            if isinstance(value, dict):
                return {
                    key: copy(item, (*old, key), (*new, key))
                    for key, item in value.items()
                    if (*old, key) not in removed
                }
            if isinstance(value, list):
                kept = [index for index in range(len(value)) if (*old, index) not in removed]
                return [copy(value[index], (*old, index), (*new, place)) for place, index in enumerate(kept)]
            return value

        values = copy(self.values, (), ())
        return Document(self.file, values, lines, origins)


def dotted(where: Where) -> str:
    """A path as a person writes it: ``schema[0].properties[2].name``."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." * bool(text) + printable(part)
    return text


def is_plain_text(text: str) -> bool:
    """Whether every reader takes a text that is written without quotes for text, and for this one."""
    tag = _RESOLVER.resolve(ScalarNode, text, (True, False)).removeprefix(_TAG)
    return tag in ("str", "timestamp") and not _NUMBER_TO_SOME.fullmatch(text)


def read_document(file: Path) -> Document:
    """Read one YAML file.

    Raises:
        FaultyDocument: it cannot be read, is over a limit, or is not YAML.
    """
    return parse_document(file, read_text(file))


def parse_document(file: Path, text: str) -> Document:
    """The document of a YAML text; ``file`` is where faults say it is.

    Raises:
        FaultyDocument: it is over a limit, or is not YAML.
    """
    reader = _Reader(file, yaml.parse(text, Loader=_LOADER))
    try:
        values = reader.read()
    except (yaml.YAMLError, ValueError) as error:
        raise FaultyDocument([_syntax_fault(file, error)]) from error
    if reader.faults:
        raise FaultyDocument(reader.faults)
    return Document(file, values, reader.lines)


def read_text(file: Path) -> str:
    """The text of a file under the size limit.

    Raises:
        FaultyDocument: it is missing, no plain file, too big, or not UTF-8.
    """
    try:
        content = read_plain(file, MAX_BYTES)
        if len(content) > MAX_BYTES:
            size = file.stat().st_size
            raise _refuse(file, 0, f"must be at most {MAX_BYTES:,} bytes, got {size:,}", "make it shorter")
        return content.decode("utf-8")
    except NotPlain as error:
        raise _refuse(file, 0, error.what, "put the file itself there") from error
    except FileNotFoundError as error:
        raise _refuse(file, 0, "does not exist", "create it, for instance with mesh init") from error
    except OSError as error:
        raise _refuse(file, 0, f"cannot be read: {error.strerror}", "check the file and its permissions") from error
    except UnicodeDecodeError as error:
        raise _refuse(file, 0, f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from error


class _Reader:
    """Turns the parser's events into values, noting lines and collecting faults.

    Nodes are not composed first: that would resolve aliases and recurse without a limit, and takes longer than parsing.
    """

    def __init__(self, file: Path, events: Iterator[Event]) -> None:
        self.file = file
        self.lines: dict[Where, int] = {}
        self.faults: list[Fault] = []
        self._events = events
        self._depth = self._values = 0

    def read(self) -> Any:
        """The values of the one document; None if there is none.

        Raises:
            FaultyDocument: it is over a limit, or something in it that is never read.
            YAMLError: it is not YAML.
        """
        values, documents = None, 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                if documents:
                    raise _refuse(self.file, _line(event), "starts a second document", "keep one document per file")
                values, documents = self._value(self._next(), ()), 1
        return values

    def _next(self) -> Event:
        event = next(self._events)
        if isinstance(event, NodeEvent):
            self._values += 1
            if event.anchor or self._values > MAX_VALUES:
                raise self._refusal(event)
        return event

    def _refusal(self, event: NodeEvent) -> FaultyDocument:
        line, name = _line(event), printable(str(event.anchor))
        if isinstance(event, AliasEvent):
            return _refuse(self.file, line, f"uses the alias *{name}", "write the value out; aliases are not read")
        if event.anchor:
            return _refuse(self.file, line, f"defines the anchor &{name}", "remove it; anchors are not read")
        return _refuse(self.file, line, f"holds more than {MAX_VALUES:,} values", "split the product")

    def _inside(self, start: Event) -> Iterator[Event]:
        """The first event of each part of a collection; each part is read to its end before the next is asked for."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refuse(self.file, _line(start), f"nests deeper than {MAX_DEPTH} levels", "flatten it")
        while not isinstance(event := self._next(), CollectionEndEvent):
            yield event
        self._depth -= 1

    def _value(self, event: Event, where: Where) -> Any:
        self.lines.setdefault(where, _line(event))
        if isinstance(event, ScalarEvent):
            return self._scalar(event, where)
        assert isinstance(event, CollectionStartEvent), f"unknown YAML event {event}"
        if event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            self._refuse_tag(event, event.tag, where)
        if isinstance(event, MappingStartEvent):
            return dict(self._entries(event, where))
        return [self._value(item, (*where, index)) for index, item in enumerate(self._inside(event))]

    def _entries(self, start: Event, where: Where) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for event in self._inside(start):
            line = _line(event)
            if not isinstance(event, ScalarEvent) or _UNPRINTABLE.search(event.value):
                self._fault(line, where, "has a key that is not text", "use a plain word as the key")
                self._skip(event)
                self._skip(self._next())
                continue
            key: str = event.value
            if key in seen:
                self._fault(line, (*where, key), "appears twice", "keep one of them")
                self._skip(self._next())
                continue
            seen.add(key)
            self.lines[(*where, key)] = line
            yield key, self._value(self._next(), (*where, key))

    def _skip(self, event: Event) -> None:
        if isinstance(event, CollectionStartEvent):
            for part in self._inside(event):
                self._skip(part)

    def _scalar(self, event: ScalarEvent, where: Where) -> Any:
        text: str = event.value
        tag = event.tag if event.tag not in (None, "!") else _RESOLVER.resolve(ScalarNode, text, event.implicit)
        match tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool" if text in _TRUTH:
                return _TRUTH[text]
            case "int" if _INTEGER.fullmatch(text):
                return int(text)
            case "float" if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
                return float(text)
            case "bool" | "int" | "float":
                self._refuse_ambiguous(event, where)
            case "str" | "timestamp" if _UNPRINTABLE.search(text):
                self._fault(_line(event), where, "contains control characters", "remove them")
            case "str" | "timestamp":
                if not event.style and _NUMBER_TO_SOME.fullmatch(text):
                    self._refuse_ambiguous(event, where)
                return text
            case _:
                self._refuse_tag(event, tag, where)
        return None

    def _refuse_tag(self, event: Event, tag: str, where: Where) -> None:
        problem = f"has the tag {printable(tag.removeprefix(_TAG))}"
        self._fault(_line(event), where, problem, "write a plain value, or quote it if it is text")

    def _refuse_ambiguous(self, event: ScalarEvent, where: Where) -> None:
        self._fault(
            _line(event),
            where,
            f"YAML readers disagree on what {printable(event.value)} is, or it is not a finite number",
            "quote it if it is text, otherwise write true, false or a plain decimal number",
        )

    def _fault(self, line: int, where: Where, problem: str, fix: str) -> None:
        self.faults.append(Fault(self.file, line, dotted(where), problem, fix))


def _line(event: Event) -> int:
    """The line an event begins on, from 1."""
    return event.start_mark.line + 1


def _syntax_fault(file: Path, error: Exception) -> Fault:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or error).partition("\n")[0]
    line = mark.line + 1 if mark else 0
    if "nesting depth" in problem:
        # Some releases of libyaml have a limit of their own, and reach it before the first event.
        return Fault(file, line, "", f"nests deeper than {MAX_DEPTH} levels", "flatten it")
    return Fault(file, line, "", f"is not valid YAML: {printable(problem, 160)}", "fix the syntax")


def _refuse(file: Path, line: int, problem: str, fix: str) -> FaultyDocument:
    return FaultyDocument([Fault(file, line, "", problem, fix)])
