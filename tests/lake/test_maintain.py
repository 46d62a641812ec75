"""Upkeep: what any kept version reads stays as it is, and no file goes that anybody may still read."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.errors import TableDamaged, UnknownVersion, UsageError
from mesh_pipelines.lake import compaction
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.commit import current_files
from mesh_pipelines.lake.evolve import evolve
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.platform import operator
from mesh_pipelines.positions import Position, Version
from mesh_pipelines.serve.reading import Reading
from mesh_pipelines.settings import Settings
from tests.building import contract_text, land_rows, log_row, next_offset, publish_version, version_of, written

CLICKS = contract_text("shop.clicks", "- {name: page, logicalType: string}", kind="measurement")


@pytest.fixture
def clicks(tmp_path: Path) -> tuple[Any, DataProduct]:
    product = written(tmp_path / "assets", CLICKS)
    catalog = open_catalog(Settings(home=tmp_path))
    ProductTables(catalog, product).create()
    return catalog, product


def land(catalog: Any, product: DataProduct, commits: int, rows: int = 3) -> Position:
    tables = ProductTables(catalog, product)
    for _ in range(commits):
        first = next_offset(tables)
        land_rows(tables, [log_row(first + at, {"page": "/"}, key=None, op="append") for at in range(rows)])
    position = tables.log.position()
    assert position is not None
    return position


def publish(catalog: Any, product: DataProduct, position: Position) -> Version:
    tables = ProductTables(catalog, product)
    return publish_version(tables, version_of(product, tables.versions.next_number(), position))


def folder_of(catalog: Any, product: DataProduct, kind: Any = "log") -> Path:
    return Path(urlparse(ProductTables(catalog, product).load(kind).location()).path)


def test_a_file_stays_for_the_floor_after_nothing_names_it(clicks: tuple[Any, DataProduct]) -> None:
    catalog, product = clicks
    land(catalog, product, 5)
    data = set(folder_of(catalog, product).glob("data/**/*.parquet"))
    yesterday = time.time() - 86_400
    for file in data:
        os.utime(file, (yesterday, yesterday))
    compaction.compact(ProductTables(catalog, product), "log")
    # The files are old, but were replaced just now: who planned a moment ago still reads them.
    assert compaction.expire(ProductTables(catalog, product), keep=1).files == 0
    assert all(file.exists() for file in data)
    notes = folder_of(catalog, product) / "metadata" / "unnamed.json"
    seen = notes.read_text()
    assert compaction.expire(ProductTables(catalog, product), keep=1).files == 0
    compaction._write_notes(notes, {name: at - 3601 for name, at in compaction._read_notes(notes).items()})
    assert seen != notes.read_text()
    compaction.expire(ProductTables(catalog, product), keep=1)
    assert not any(file.exists() for file in data)
    assert (
        ProductTables(catalog, product).log.rows()
        == ProductTables(catalog, product).load("log").scan().to_arrow().num_rows
        == 15
    )


def test_a_writer_that_has_not_committed_loses_no_file(clicks: tuple[Any, DataProduct]) -> None:
    catalog, product = clicks
    land(catalog, product, 1)
    stray = folder_of(catalog, product) / "data" / "being-written.parquet"
    stray.write_bytes(b"not yet")
    other = folder_of(catalog, product) / "data" / "notes.txt"
    other.write_text("not ours")
    compaction.expire(ProductTables(catalog, product), keep=1)
    assert stray.exists()
    compaction.expire(ProductTables(catalog, product), keep=1, age_floor_s=0.0)
    assert not stray.exists()
    assert other.exists()


def test_the_position_survives_every_snapshot_but_one(clicks: tuple[Any, DataProduct]) -> None:
    catalog, product = clicks
    position = land(catalog, product, 12)
    compaction.compact(ProductTables(catalog, product), "log")
    compaction.expire(ProductTables(catalog, product), keep=1, age_floor_s=0.0)
    table = ProductTables(catalog, product).load("log")
    assert len(table.metadata.snapshots) == 1
    assert ProductTables(catalog, product).log.position() == position
    [snapshot] = table.metadata.snapshots
    assert snapshot.summary is not None
    assert Position.from_json(str(snapshot.summary["mesh.position"])) == position
    assert ProductTables(catalog, product).log.rows() == table.scan().to_arrow().num_rows == 36


def test_files_and_metadata_stay_bounded(clicks: tuple[Any, DataProduct]) -> None:
    catalog, product = clicks
    counts: list[tuple[int, int]] = []
    for _ in range(6):
        publish(catalog, product, land(catalog, product, 10))
        for kind in ("log", "versions", "checks"):
            compaction.compact(ProductTables(catalog, product), kind)
        compaction.expire(ProductTables(catalog, product), keep=1, age_floor_s=0.0)
        folder = folder_of(catalog, product)
        counts.append((len(list(folder.glob("data/**/*.parquet"))), len(list((folder / "metadata").iterdir()))))
    assert max(data for data, _ in counts) <= 15
    assert counts[-1][1] <= counts[1][1] + 5
    assert [version.number for version in ProductTables(catalog, product).versions.all()] == [1, 2, 3, 4, 5, 6]


def test_sizes_are_merged_by_fours(clicks: tuple[Any, DataProduct]) -> None:
    catalog, product = clicks
    land(catalog, product, 3)
    assert compaction.compact(ProductTables(catalog, product), "log").files_after == 3
    land(catalog, product, 1)
    assert compaction.compact(ProductTables(catalog, product), "log").files_after == 1
    land(catalog, product, 4)
    compaction.compact(ProductTables(catalog, product), "log")
    # One file of 12 rows and one of 12 more: a size of which there are two is left alone.
    assert sorted(file.record_count for file in current_files(ProductTables(catalog, product).load("log"))) == [12, 12]


def test_a_tag_is_kept_and_can_be_taken_away(clicks: tuple[Any, DataProduct]) -> None:
    catalog, product = clicks
    for _ in range(3):
        publish(catalog, product, land(catalog, product, 1))
    versions = ProductTables(catalog, product).versions
    versions.tag(1, "first")
    assert versions.tags() == {"first": 1}
    with pytest.raises(UsageError, match="version 1 has the tag first"):
        versions.tag(2, "first")
    versions.tag(2, "first", move=True)
    assert versions.tags() == {"first": 2}
    versions.tag(1, "first", move=True)
    with pytest.raises(UnknownVersion):
        versions.tag(9, "ninth")
    versions.untag("first")
    assert versions.tags() == {}
    with pytest.raises(UnknownVersion):
        versions.untag("first")
    assert [version.number for version in versions.all()] == [1, 2, 3]


def with_defaults(folder: Path, colour: str) -> DataProduct:
    """The clicks with columns that were added later, each with a default."""
    added = "".join(
        f"      - {{name: {name}, logicalType: {kind}, "
        f"customProperties: [{{property: mesh.default, value: {value}}}]}}\n"
        for name, kind, value in (
            ("colour", "string", colour),
            ("day", "date", '"2013-01-31"'),
            ("at", "timestamp", '"2013-01-31T12:00:00+02:00"'),
            ("clock", "time", '"13:45:00"'),
            ("price", 'number, physicalType: "decimal(5, 2)"', "1.5"),
            ("paid", "boolean", "true"),
        )
    )
    (folder / "contract.yaml").write_text(CLICKS + added)
    return load_product(folder)


def test_what_a_column_was_added_with_fills_old_rows_for_good(clicks: tuple[Any, DataProduct], tmp_path: Path) -> None:
    catalog, product = clicks
    version = publish(catalog, product, land(catalog, product, 4))
    product = with_defaults(tmp_path / "assets" / "shop" / "clicks", "red")
    evolve(ProductTables(catalog, product))
    filled = read(catalog, product, version)
    assert {row[1] for row in filled} == {"red"}
    assert None not in {value for row in filled for value in row}
    assert compaction.compact(ProductTables(catalog, product), "log").files_after == 1
    assert read(catalog, product, version) == filled
    later = with_defaults(tmp_path / "assets" / "shop" / "clicks", "blue")
    assert read(catalog, later, version) == filled


def read(catalog: Any, product: DataProduct, version: Version) -> list[Any]:
    return Reading(ProductTables(catalog, product), version).duckdb().fetchall()


def test_files_that_are_gone_or_torn_are_named(clicks: tuple[Any, DataProduct]) -> None:
    catalog, product = clicks
    publish(catalog, product, land(catalog, product, 4))
    upkeep = over_storage(compaction.compact)
    folder = folder_of(catalog, product)
    [torn, *_] = folder.glob("data/**/*.parquet")
    torn.write_bytes(torn.read_bytes()[:100])
    with pytest.raises(TableDamaged, match="Parquet"):
        upkeep(ProductTables(catalog, product), "log")
    torn.unlink()
    with pytest.raises(TableDamaged, match=torn.name):
        upkeep(ProductTables(catalog, product), "log")
    for metadata in folder.glob("metadata/*.json"):
        metadata.write_text("{")
    with pytest.raises(TableDamaged, match=r"shop\.clicks: the metadata of its table log"):
        upkeep(ProductTables(catalog, product), "log")


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_123)
    assert operator() == "2000000123"


NESTED = """\
      - name: lines
        logicalType: array
        items: {logicalType: object, properties: [{name: sku, logicalType: string}]}
      - {name: words, logicalType: array, items: {logicalType: string}}
      - name: address
        logicalType: object
        properties:
          - name: stops
            logicalType: array
            items: {logicalType: object, properties: [{name: at, logicalType: string}]}
      - name: tags
        logicalType: map
        map:
          key: {logicalType: string}
          value: {logicalType: object, properties: [{name: since, logicalType: string}]}
"""


def test_null_lists_and_maps_stay_null_when_written_and_when_compacted(
    clicks: tuple[Any, DataProduct], tmp_path: Path
) -> None:
    (tmp_path / "assets" / "shop" / "clicks" / "contract.yaml").write_text(CLICKS.replace("v3.1.0", "v3.2.0") + NESTED)
    catalog, product = clicks[0], load_product(tmp_path / "assets" / "shop" / "clicks")
    evolve(ProductTables(catalog, product))
    sent = [
        {
            "lines": [{"sku": "a"}, {"sku": None}],
            "words": ["b"],
            "address": {"stops": [{"at": "c"}]},
            "tags": [("d", {"since": "e"})],
        },
        {"lines": None, "words": None, "address": {"stops": None}, "tags": None},
        {"lines": [], "words": [], "address": {"stops": []}, "tags": []},
        {"lines": [None], "words": [None], "address": None, "tags": [("f", None)]},
    ]
    for at in range(4):
        rows = [log_row(4 * at + n, row, key=None, op="append") for n, row in enumerate(sent)]
        land_rows(ProductTables(catalog, product), rows)
    position = ProductTables(catalog, product).log.position()
    assert position is not None
    version = publish(catalog, product, position)
    for _ in range(2):
        rows = (
            Reading(ProductTables(catalog, product), version)
            .arrow()
            .select(["lines", "words", "address", "tags"])
            .to_pylist()
        )
        assert sorted(map(repr, rows)) == sorted(map(repr, sent * 4))
        compaction.compact(ProductTables(catalog, product), "log")
