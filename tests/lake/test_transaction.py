"""A transaction's metadata is what pyiceberg makes of the same updates, made once for what is staged."""

from __future__ import annotations

from typing import Any

import pytest
from pyiceberg.table import Transaction as IcebergTransaction

from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.transaction import Transaction
from mesh_pipelines.settings import Settings


@pytest.fixture
def table(local_settings: Settings) -> Any:
    import pyarrow as pa

    catalog = open_catalog(local_settings)
    catalog.create_namespace("shop")
    made = catalog.create_table(("shop", "orders"), pa.schema([("id", pa.int64())]))
    made.append(pa.table({"id": [1, 2]}))
    return made


def what(metadata: Any) -> Any:
    return metadata.model_copy(update={"last_updated_ms": 0})


def test_what_is_staged_is_seen_as_pyiceberg_sees_it(table: Any) -> None:
    ours, theirs = Transaction(table), IcebergTransaction(table)
    assert what(ours.table_metadata) == what(theirs.table_metadata)
    for name in ("first", "second"):
        ours.set_properties({name: "1"})
        theirs.set_properties({name: "1"})
        assert ours.table_metadata.properties[name] == "1"
        assert what(ours.table_metadata) == what(theirs.table_metadata)
        assert ours.table_metadata is ours.table_metadata
    assert "first" not in table.metadata.properties


def test_after_a_commit_it_sees_what_was_committed(table: Any) -> None:
    with Transaction(table) as opened:
        opened.set_properties({"first": "1"})
    assert table.metadata.properties["first"] == "1"
    assert what(opened.table_metadata) == what(table.metadata)
