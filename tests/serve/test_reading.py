"""Versions of a product as its readers get them: pinned, by number or time, and masked where a field is not public."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from mesh_pipelines.contract.types import arrow_schema
from mesh_pipelines.errors import NothingPublished, UnknownVersion, UsageError
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.positions import Version
from mesh_pipelines.serve.door import Reader, hidden, hidden_in, rows_view
from mesh_pipelines.serve.reading import Reading, read_version
from mesh_pipelines.settings import Settings
from tests.building import contract_text, land_rows, log_row, next_offset, publish_version, version_of, written

PROPERTIES = """
- {name: id, logicalType: string, primaryKey: true}
- {name: amount, logicalType: integer}
- {name: email, logicalType: string, classification: confidential}
"""


@pytest.fixture
def tables(local_settings: Settings) -> ProductTables:
    found = ProductTables(
        open_catalog(local_settings), written(local_settings.assets, contract_text("shop.orders", PROPERTIES))
    )
    found.create()
    return found


def land(tables: ProductTables, **amounts: int | None) -> Version:
    """Land an event a key, a tombstone for None, and publish a version of all."""
    first = next_offset(tables)
    rows = [
        log_row(
            first + at,
            {} if amount is None else {"id": key, "amount": amount, "email": f"{key}@example.com"},
            key=key.encode(),
            op="delete" if amount is None else "upsert",
        )
        for at, (key, amount) in enumerate(amounts.items())
    ]
    position = land_rows(tables, rows)
    return publish_version(tables, version_of(tables.product, tables.versions.next_number(), position))


def amounts(reading: Reading) -> dict[str, int]:
    return {row["id"]: row["amount"] for row in reading.arrow().to_pylist()}


def read(tables: ProductTables, **options: Any) -> dict[str, int]:
    return amounts(read_version(tables._catalog, tables.product, **options))


def test_before_a_version_there_is_nothing_to_read(tables: ProductTables) -> None:
    with pytest.raises(NothingPublished):
        read(tables)


def test_readers_see_the_published_version_or_the_one_they_ask_for(tables: ProductTables) -> None:
    land(tables, a=1, b=2)
    land(tables, b=3, c=4)
    land(tables, a=None)
    assert read(tables) == {"b": 3, "c": 4}
    assert read(tables, version=1) == {"a": 1, "b": 2}
    assert read(tables, version=2) == {"a": 1, "b": 3, "c": 4}
    with pytest.raises(UnknownVersion):
        read(tables, version=4)


@pytest.mark.parametrize(
    "as_of",
    ["2024-01-01T00:00:01Z", "2024-01-01T00:00:01.5+00:00", "2024-01-01", datetime(2024, 1, 1, 0, 0, 1, tzinfo=UTC)],
)
def test_a_moment_is_a_time_or_its_text(tables: ProductTables, as_of: Any) -> None:
    land(tables, a=1)
    land(tables, a=2)
    if as_of == "2024-01-01":
        with pytest.raises(UnknownVersion):
            read(tables, as_of=as_of)
    else:
        assert read(tables, as_of=as_of) == {"a": 1}


def test_what_cannot_be_asked_for(tables: ProductTables) -> None:
    land(tables, a=1)
    with pytest.raises(UsageError, match="not both"):
        read(tables, version=1, as_of="2024-01-01T00:00:01Z")
    with pytest.raises(UsageError, match="must be an ISO 8601 time, got 'yesterday'"):
        read(tables, as_of="yesterday")


def test_a_version_stays_what_it_was_when_it_was_pinned(tables: ProductTables) -> None:
    land(tables, a=1)
    pinned = read_version(tables._catalog, tables.product)
    land(tables, a=2)
    assert amounts(pinned) == {"a": 1}


def test_every_form_has_the_contracts_columns_and_types(tables: ProductTables) -> None:
    land(tables, a=1, b=2)
    reading = read_version(tables._catalog, tables.product)
    assert reading.arrow().schema == arrow_schema(tables.product)
    frame = reading.pandas()
    assert list(frame.columns) == ["id", "amount", "email"]
    assert sorted(frame["amount"].tolist()) == [1, 2]
    with duckdb.connect() as own:
        assert reading.duckdb(own).aggregate("sum(amount)").fetchall() == [(3,)]


def test_events_that_were_not_taken_over_are_in_no_version(tables: ProductTables) -> None:
    rows = [log_row(0, {"id": "a", "amount": 1}, key=b"a"), log_row(1, key=b"a", fate="undecodable")]
    position = land_rows(tables, rows)
    publish_version(tables, version_of(tables.product, 1, position))
    assert read(tables) == {"a": 1}


def test_an_order_of_partitions_and_generations_decides_and_not_that_of_landing(tables: ProductTables) -> None:
    later = log_row(0, {"id": "a", "amount": 2}, key=b"a", partition=1)
    earlier = log_row(0, {"id": "a", "amount": 1}, key=b"a", partition=0)
    land_rows(tables, [later])
    position = land_rows(tables, [earlier])
    publish_version(tables, version_of(tables.product, 1, position))
    assert read(tables) == {"a": 2}


def test_only_visitors_have_columns_hidden(tables: ProductTables) -> None:
    version = land(tables, a=1)
    for reader in Reader:
        found = Reading(tables, version, reader).arrow().to_pylist()
        email = None if reader is Reader.VISITOR else "a@example.com"
        assert found == [{"id": "a", "amount": 1, "email": email}]
        assert hidden(tables.product, reader) == (frozenset({"email"}) if email is None else frozenset())
    assert "email@" not in rows_view(tables, version, Reader.VISITOR).sql


def test_neither_contract_makes_public_what_the_other_hides(local_settings: Settings) -> None:
    def of(name: str, more: str) -> Any:
        return written(
            local_settings.assets / name, contract_text("shop.orders", f"- {{name: {more}}}", kind="measurement")
        )

    secret = of("secret", "mail, logicalType: string, classification: restricted")
    public = of("public", "mail, logicalType: string")
    renamed = of(
        "renamed",
        "address, logicalType: string, classification: restricted, "
        "customProperties: [{property: mesh.aliases, value: [mail]}]",
    )
    for ruling, own in ((secret, public), (public, secret), (renamed, public)):
        assert hidden_in(ruling, own, Reader.VISITOR) == {"mail"}
        assert hidden_in(ruling, own, Reader.OWNER) == frozenset()
    assert hidden_in(public, public, Reader.VISITOR) == frozenset()


def test_columns_of_the_log_come_before_the_contracts(tables: ProductTables) -> None:
    version = land(tables, a=1)
    sql = tables.state.sql(version, envelope=("_partition", "_offset"))
    with duckdb.connect() as engine:
        found: pa.Table = engine.sql(sql).to_arrow_table()
    assert found.column_names == ["_partition", "_offset", "id", "amount", "email"]
    assert found["_offset"].to_pylist() == [0]
