"""Rules written as SQL: one SELECT over the product and its inputs, and nothing else.

The query runs as its author wrote it: only the names of its tables are replaced, at their places in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.rules.refusal import Uncompilable
from mesh_pipelines.sql.quote import quote
from mesh_pipelines.sql.select import NotReadable, Place, Select, read_select

_OBJECT = "__object__"
_OBJECT_PLACEHOLDER = re.compile(r"\$?\{(?:object|table)\}")
_PROPERTY_PLACEHOLDER = re.compile(r"\$?\{(?:property|column)\}")


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

    ``expressions`` are the names of its common table expressions.
    """

    parts: tuple[Part, ...] = ()
    expressions: frozenset[str] = frozenset()

    def bound(self, own: str, inputs: Mapping[str, str]) -> str:
        """The text over these relations, which are SQL and not quoted here; an input without one keeps its name."""
        return "".join(part if isinstance(part, str) else _named(part, own, inputs) for part in self.parts)


def parse_query(text: str, product: DataProduct, field: str | None = None) -> Query:
    """A rule's query; ``{object}`` stands for the product, ``{property}`` for ``field``.

    Raises:
        Uncompilable: it is not one SELECT, or reads anything but the product and its declared inputs.
    """
    if _PROPERTY_PLACEHOLDER.search(text) and field is None:
        raise Uncompilable("the query speaks of {property}, of which there is none", "put the rule under a property")
    text = _OBJECT_PLACEHOLDER.sub(_OBJECT, text)
    if field is not None:
        text = _PROPERTY_PLACEHOLDER.sub(lambda _: quote(field), text)
    try:
        select = read_select(text)
    except NotReadable as error:
        raise Uncompilable(f"the query {error}", "write one SELECT over {object} or a declared input") from error
    places = sorted([*_tables(select, product), *_qualifiers(select, product)], key=lambda place: place[0])
    return Query(tuple(_split(select.text, places)), select.expressions)


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
        raise Uncompilable(f"the query reads {table.name}", "read {object}, or declare the product among mesh.inputs")
    return table.name


def _qualifiers(select: Select, product: DataProduct) -> Iterator[_Place]:
    """Where a column is written ``domain.product.column``, or with a placeholder: the table is known by its alias."""
    for place in select.qualifiers:
        if place.name in (product.fqn, *product.inputs):
            yield place.start, place.end, quote(place.parts[-1])
        elif place.name == _OBJECT:
            yield place.start, place.end, quote(product.name)


def _split(text: str, places: list[_Place]) -> Iterator[Part]:
    at = 0
    for start, end, part in places:
        yield text[at:start]
        yield part
        at = end
    yield text[at:]


def _named(reference: Reference, own: str, inputs: Mapping[str, str]) -> str:
    default = ".".join(quote(part) for part in reference.product.split("."))
    relation = inputs.get(reference.product, default) if reference.product else own
    return f"{relation} AS {quote(reference.alias)}" if reference.alias else relation
