"""YAML that somebody else wrote, changed in place and written again with its comments and its order.

The reader of contracts keeps neither, and refuses what readers disagree on; here anchors are written out, and text that
looks like something else is quoted. ruamel.yaml is what Great Expectations brings.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, ScalarString

from mesh_pipelines.contract.read.document import is_plain_text, printable
from mesh_pipelines.errors import UsageError

_WIDTH = 4096
_VERSION = re.compile(r"^version:\s*([^\s#]+)", re.MULTILINE)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str, name: str) -> list[CommentedMap]:
    """The documents of a file that are mappings.

    Raises:
        UsageError: it is not YAML.
    """
    try:
        documents: list[Any] = list(_yaml().load_all(text))
        return [plain(_with_version(one, text)) for one in documents if isinstance(one, CommentedMap)]
    except (YAMLError, ValueError, RecursionError, AttributeError, TypeError) as error:
        said = printable(str(getattr(error, "problem", None) or error).partition("\n")[0], 160)
        raise UsageError(f"{name} is not YAML: {said}", next_step="fix the file, then import it again") from error


def _with_version(document: CommentedMap, text: str) -> CommentedMap:
    """The document with its version as it is written: 1.10 is no number."""
    if isinstance(document.get("version"), int | float) and (found := _VERSION.search(text)):
        document["version"] = found[1]
    return document


def dump(document: CommentedMap) -> str:
    """The document as text; without its comments where they come to stand where none may."""
    text = _written(document)
    try:
        yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError:
        return _written(_bare(document))
    return text


def _written(document: Any) -> str:
    for token in _comments(document):
        # The library marks a comment that it has written, and writes none twice.
        if hasattr(token, "pre_done"):
            del token.pre_done
    out = io.StringIO()
    _yaml().dump(document, out)
    return out.getvalue()


def _comments(value: Any) -> Iterator[Any]:
    """The comments of a document, wherever the library keeps them."""
    if isinstance(value, CommentedMap | CommentedSeq):
        yield from _tokens([value.ca.comment, list(value.ca.items.values()), value.ca.end])
        for one in value.values() if isinstance(value, CommentedMap) else value:
            yield from _comments(one)


def _tokens(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for one in value:
            yield from _tokens(one)
    elif value is not None:
        yield value


def _bare(value: Any) -> Any:
    """A copy without comments."""
    if isinstance(value, dict):
        return CommentedMap((key, _bare(item)) for key, item in value.items())
    return CommentedSeq([_bare(item) for item in value]) if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """A copy in the values that a contract has, each part its own, with comments and order."""
    if isinstance(value, CommentedMap):
        copied = CommentedMap()
        for key, item in _entries(value):
            copied[key] = plain(item)
        return _with_comments(value, copied)
    if isinstance(value, CommentedSeq | list | tuple):
        items = CommentedSeq([plain(item) for item in value])
        return _with_comments(value, items) if isinstance(value, CommentedSeq) else items
    if isinstance(value, dict):
        return CommentedMap((str(key), plain(item)) for key, item in value.items())
    return _scalar(value)


def _entries(value: CommentedMap) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        yield str(key), item


def _with_comments(source: Any, copied: Any) -> Any:
    source.copy_attributes(copied)
    # Two copies that share their comments would lose each other's.
    copied._yaml_comment = deepcopy(source.ca)
    copied.yaml_set_anchor(None)
    # What was merged in is part of the copy now.
    if hasattr(copied, "_yaml_merge"):
        del copied._yaml_merge
    return copied


def _scalar(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, ScalarString) and "\n" in value:
        return type(value)(str(value))
    text = str(value)
    return text if is_plain_text(text) else DoubleQuotedScalarString(text)


def _yaml() -> YAML:
    both_ways = YAML(typ="rt")
    both_ways.width = _WIDTH
    both_ways.indent(mapping=2, sequence=4, offset=2)
    both_ways.allow_duplicate_keys = True
    # A date is text in a contract.
    both_ways.constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)
    both_ways.representer.ignore_aliases = lambda *_: True
    return both_ways
