"""Rules written as SQL: one SELECT over the product and its inputs, and nothing else.

The query runs as its author wrote it: only the names of its tables are replaced, at their places in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.sql.quote import quote
from mesh_pipelines.sql.select import NotReadable, Place, Select, read_select

_OBJECT = "__object__"
# The standard's placeholders and those of other tools: in quotes or with $, and a schema that goes before a table.
_PLACEHOLDER = re.compile(
    r"""["']?\$?\{schema\}["']?\s*\.\s*(?=[$"'{\w])|(["']?)\$?\{(object|table|model|schema|property|column|field)\}\1"""
)
_OF_OBJECT = ("object", "table", "model", "schema")


@dataclass(frozen=True)
class Reference:
    """A place in a query that names a product: "" for the rule's own. ``alias`` is how the rest of the query calls it.

    ``alias`` is "" where the author gave one.
    """

    product: str
    alias: str


Part: TypeAlias = str | Reference


@dataclass(frozen=True)
class Query:
    """A SELECT in pieces: its author's text, and between it the places that name a product.

    ``expressions`` are the names of its common table expressions; ``starts`` is where each part begins in the text as
    its author wrote it, with placeholders.
    """

    parts: tuple[Part, ...] = ()
    expressions: frozenset[str] = frozenset()
    starts: tuple[int, ...] = ()

    def bound(self, own: str, inputs: Mapping[str, str]) -> str:
        """The text over these relations, which are SQL and not quoted here; an input without one keeps its name."""
        return "".join(part if isinstance(part, str) else _named(part, own, inputs) for part in self.parts)

    def origin(self, offset: int, own: str, inputs: Mapping[str, str]) -> int:
        """Where in its author's text a character of the bound text comes from; of a name, where that begins."""
        for part, start in zip(self.parts, self.starts, strict=True):
            length = len(part if isinstance(part, str) else _named(part, own, inputs))
            if offset < length:
                return start + (offset if isinstance(part, str) else 0)
            offset -= length
        return self.starts[-1]

    @property
    def products(self) -> frozenset[str]:
        """The inputs that it reads."""
        return frozenset(part.product for part in self.parts if isinstance(part, Reference) and part.product)


def parse_query(text: str, product: DataProduct, field: str | None = None) -> Query:
    """A rule's query; ``{object}`` stands for the product, ``{property}`` for ``field``.

    Raises:
        Uncompilable: it is not one SELECT, or reads anything but the product and its declared inputs.
    """
    filled, placeholders = _fill(text, field)
    try:
        select = read_select(filled)
    except NotReadable as error:
        fix = (
            "write one SELECT over {object} or a declared input; if another engine runs it, write mesh.notChecked: true"
        )
        raise Uncompilable(f"the query {error}", fix) from error
    places = [*_tables(select, product), *_qualifiers(select, product)]
    named = {start for start, _, _ in places}
    # A placeholder anywhere else is a part of its own, so that what follows it is found in the author's text.
    places += [
        (start, end, filled[start:end])
        for start, end, _ in placeholders
        if start not in named and end <= len(select.text)
    ]
    pieces = list(_split(select.text, sorted(places, key=lambda place: place[0])))
    starts = tuple(_written_at(start, placeholders) for start, _ in pieces)
    return Query(tuple(part for _, part in pieces), select.expressions, starts)


# Where a placeholder was filled in, from and to, and how many characters longer than itself what stands there now is.
_Filled: TypeAlias = tuple[int, int, int]


def _fill(text: str, field: str | None) -> tuple[str, list[_Filled]]:
    """The text with its placeholders filled in, and where that was."""
    filled: list[_Filled] = []
    grown = 0

    def value(found: re.Match[str]) -> str:
        nonlocal grown
        if found[2] and found[2] not in _OF_OBJECT and field is None:
            raise Uncompilable(
                f"the query uses {found[0]}, but the rule is not under a property", "put the rule under a property"
            )
        name = "" if found[2] is None else _OBJECT if found[2] in _OF_OBJECT else quote(field or "")
        start, longer = found.start() + grown, len(name) - len(found[0])
        filled.append((start, start + len(name), longer))
        grown += longer
        return name

    return _PLACEHOLDER.sub(value, text), filled


def _written_at(offset: int, placeholders: list[_Filled]) -> int:
    """An offset into the filled text as one into the text as it was written."""
    return offset - sum(longer for _, end, longer in placeholders if end <= offset)


_Place: TypeAlias = tuple[int, int, Part]


def _tables(select: Select, product: DataProduct) -> Iterator[_Place]:
    """Where the query names a table, which must be a product it may read."""
    for table in select.tables:
        alias = product.name if table.name == _OBJECT else table.parts[-1]
        yield table.start, table.end, Reference(_readable(table, product), "" if table.aliased else alias)


def _readable(table: Place, product: DataProduct) -> str:
    if table.name in (_OBJECT, product.name, product.fqn):
        return ""
    if table.name not in product.inputs:
        raise Uncompilable(
            f"the query reads {table.name}, which is not an input", "read {object}, or add the product to mesh.inputs"
        )
    return table.name


def _qualifiers(select: Select, product: DataProduct) -> Iterator[_Place]:
    """Where a column is written ``domain.product.column``, or with a placeholder: the table is known by its alias."""
    for place in select.qualifiers:
        if place.name in (product.fqn, *product.inputs):
            yield place.start, place.end, quote(place.parts[-1])
        elif place.name == _OBJECT:
            yield place.start, place.end, quote(product.name)


def _split(text: str, places: list[_Place]) -> Iterator[tuple[int, Part]]:
    """The parts of the text, each with where it begins."""
    at = 0
    for start, end, part in places:
        yield at, text[at:start]
        yield start, part
        at = end
    yield at, text[at:]


def _named(reference: Reference, own: str, inputs: Mapping[str, str]) -> str:
    default = ".".join(quote(part) for part in reference.product.split("."))
    relation = inputs.get(reference.product, default) if reference.product else own
    return f"{relation} AS {quote(reference.alias)}" if reference.alias else relation
