"""One SELECT over published versions, in a DuckDB that can reach nothing else.

The versions are pinned before the query runs, so one query sees one state of every product. What it may name is decided
from its text, by ``sql/select.py``; what it can reach at all, by ``sandbox/``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import QueryInvalid, UnknownProduct
from mesh_pipelines.sandbox.author import Allowance, Author
from mesh_pipelines.serve.reading import read_version
from mesh_pipelines.settings import Settings
from mesh_pipelines.sql.select import NotReadable, Select, read_select

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog

_BATCH_ROWS = 50_000


def query(
    settings: Settings,
    products: Mapping[str, DataProduct],
    catalog: Catalog,
    sql: str,
    versions: Mapping[str, int] | None = None,
) -> pa.RecordBatchReader:
    """The rows of one SELECT over ``domain.product`` names, streamed.

    ``versions`` pins products to a version number; the others are read at their published version.

    Raises:
        QueryInvalid: it is not one SELECT, DuckDB refuses it, or it takes too long; the last two also while reading.
        UnknownProduct, NothingPublished, UnknownVersion: a product it names cannot be read.
    """
    pinned = versions or {}
    select = _select(sql)
    named = [_product(products, name) for name in sorted(select.names)]
    if unread := pinned.keys() - {product.fqn for product in named}:
        raise _invalid(f"a version was given for {', '.join(sorted(unread))}, which the query does not read")
    readings = [read_version(catalog, product, version=pinned.get(product.fqn)) for product in named]
    views = {(one.product.domain, one.product.name): one.view() for one in readings}
    author = Author(Allowance.of(settings), views, _invalid)
    return author.rows(select.text, select.names | select.expressions, "", _BATCH_ROWS)


def _select(sql: str) -> Select:
    try:
        return read_select(sql)
    except NotReadable as error:
        raise _invalid(f"the query {error}") from error


def _invalid(problem: str) -> QueryInvalid:
    return QueryInvalid(problem, next_step='mesh query "SELECT ... FROM domain.product"')


def _product(products: Mapping[str, DataProduct], name: str) -> DataProduct:
    if name in products:
        return products[name]
    if "." not in name:
        raise UnknownProduct(f"a product must be named as domain.product, got {name}", next_step="mesh status")
    near = difflib.get_close_matches(name, list(products), n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise UnknownProduct(f"no product is named {name}{hint}", next_step="mesh status")
