"""The fold against a reference of ten lines, over any interleaving, tombstones, batch splits and base rewrites."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.engine import create_view
from mesh_pipelines.errors import ConcurrentWriter, Unaudited
from mesh_pipelines.lake import compaction
from mesh_pipelines.lake.catalog import open_catalog
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.rewrite import Rewrite
from mesh_pipelines.positions import PartitionOffset, Position, Verdict, Version
from mesh_pipelines.settings import Settings
from tests.building import contract_text, log_row, log_table, written

CONTRACT = contract_text(
    "shop.orders",
    """
    - {name: id, logicalType: string, primaryKey: true}
    - {name: amount, logicalType: integer}
    """,
    settings="- {property: mesh.partitions, value: 3}",
)


@dataclass(frozen=True)
class Event:
    partition: int
    key: str
    amount: int | None
    fate: str = "ok"


EVENTS = st.lists(
    st.builds(
        Event,
        st.integers(0, 2),
        st.sampled_from("abcde"),
        st.none() | st.integers(0, 99),
        st.sampled_from(["ok", "ok", "ok", "undecodable", "diverted"]),
    ),
    max_size=40,
)


def product_of(folder: Path) -> DataProduct:
    return written(folder, CONTRACT)


def reference_fold(events: Iterable[tuple[int, int, int, Event]]) -> dict[str, int]:
    current: dict[str, int] = {}
    for _, _, _, event in sorted(events, key=lambda one: one[:3]):
        if event.fate != "ok":
            continue
        if event.amount is None:
            current.pop(event.key, None)
        else:
            current[event.key] = event.amount
    return current


def rows_of(product: DataProduct, events: list[tuple[int, int, int, Event]]) -> pa.Table:
    rows = [
        log_row(
            offset,
            {"id": event.key, "amount": event.amount},
            partition=partition,
            generation=generation,
            key=event.key.encode(),
            op="delete" if event.amount is None else "upsert",
            fate=event.fate,
        )
        for generation, partition, offset, event in events
    ]
    return log_table(product, rows)


def mending(chosen: set[tuple[int, int, int]]) -> Any:
    """Passes the quarantined events at these coordinates, and no other."""

    def mend(rows: pa.Table) -> pa.Table:
        at = zip(*(rows[name].to_pylist() for name in ("_generation", "_partition", "_offset")), strict=True)
        fates = ["ok" if one in chosen else fate for one, fate in zip(at, rows["_fate"].to_pylist(), strict=True)]
        return rows.set_column(
            rows.schema.get_field_index("_fate"), rows.schema.field("_fate"), pa.array(fates, rows["_fate"].type)
        )

    return mend


def read_anew(catalog: Any, product: DataProduct, events: list[tuple[int, int, int, Event]]) -> Position:
    """Rewrite the log by these events; gives where it stands then."""
    with closing(duckdb.connect()) as engine:
        rewrite = Rewrite(ProductTables(catalog, product), engine)
        rewrite.add(rows_of(product, events))
        differences = rewrite.compare()
        if not differences.none:
            rewrite.swap(differences)
    position = ProductTables(catalog, product).log.position()
    assert position
    return position


def read_state(catalog: Any, product: DataProduct, position: Position, **options: Any) -> dict[str, int]:
    version = Version(product.fqn, 1, "c", "1", "h", "now", 0, position=position)
    with closing(duckdb.connect()) as connection:
        create_view(connection, "state", ProductTables(catalog, product).state.sql(version, **options))
        rows = connection.sql("SELECT id, amount FROM state").fetchall()
    assert len(rows) == len(dict(rows))
    return dict(rows)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(
    batches=st.lists(
        st.tuples(EVENTS, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["", "", "same", "other"])),
        min_size=1,
        max_size=5,
    ),
    chance=st.randoms(use_true_random=False),
)
def test_state_equals_the_reference_fold(
    batches: list[tuple[list[Event], bool, bool, bool, str]], chance: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        product = product_of(Path(folder) / "assets")
        catalog = open_catalog(Settings(home=Path(folder)))
        ProductTables(catalog, product).create()
        log = ProductTables(catalog, product).log
        position = Position("cluster", "shop.orders", "topic-0")
        stored: Position | None = None
        history: list[tuple[int, int, int, Event]] = []
        marks: list[tuple[Position, dict[str, int]]] = []
        for events, rewrite, recreated, redrive, anew in batches:
            if recreated and stored:
                position = Position(
                    "cluster",
                    "shop.orders",
                    f"topic-{len(marks)}",
                    generation=position.generation + 1,
                    redrives=position.redrives,
                    rebuilds=position.rebuilds,
                )
            batch: list[tuple[int, int, int, Event]] = []
            for event in events:
                offset = position.next_offset(event.partition)
                batch.append((position.generation, event.partition, offset, event))
                # A gap now and then, as transaction markers and compaction leave them.
                position = position.advance({event.partition: PartitionOffset(offset + 1 + event.partition)})
            log.append(rows_of(product, batch), stored, position)
            stored = position
            history += batch
            marks.append((position, reference_fold(history)))
            if redrive:
                chosen = {at[:3] for at in history if at[3].fate != "ok" and chance.random() < 0.5}
                if log.redrive(mending(chosen)):
                    history = [(*at[:3], replace(at[3], fate="ok")) if at[:3] in chosen else at for at in history]
                    position = stored = replace(position, redrives=position.redrives + 1)
                    marks.append((position, reference_fold(history)))
                assert log.redrive(mending(set())) == 0
            if anew:
                history = [
                    (*at[:3], chance.choice([at[3], Event(at[3].partition, at[3].key, 100, "ok")]))
                    if anew == "other"
                    else at
                    for at in history
                ]
                position = stored = read_anew(catalog, product, history)
                marks.append((position, reference_fold(history)))
            if rewrite:
                with closing(duckdb.connect()) as engine:
                    ProductTables(catalog, product).base.rewrite(engine, position)
        assert log.rows() == len(history)
        assert log.fates().get("ok", 0) == sum(event.fate == "ok" for *_, event in history)
        assert log.position() == position
        for at, expected in marks:
            assert read_state(catalog, product, at) == expected
            assert read_state(catalog, product, at, from_log=True) == expected
        compaction.compact(ProductTables(catalog, product), "log")
        compaction.expire(ProductTables(catalog, product), keep=1, age_floor_s=0.0)
        assert log.position() == position
        for at, expected in marks:
            assert read_state(catalog, product, at) == expected


@pytest.fixture
def orders(tmp_path: Path) -> tuple[Any, DataProduct]:
    product = product_of(tmp_path / "assets")
    catalog = open_catalog(Settings(home=tmp_path))
    ProductTables(catalog, product).create()
    return catalog, product


def test_a_writer_that_stands_elsewhere_adds_nothing(orders: tuple[Any, DataProduct]) -> None:
    catalog, product = orders
    log = ProductTables(catalog, product).log
    start = Position("cluster", "shop.orders", "topic")
    after = start.advance({0: PartitionOffset(1)})
    batch = rows_of(product, [(0, 0, 0, Event(0, "a", 1))])
    log.append(batch, None, after)
    with pytest.raises(ConcurrentWriter):
        log.append(batch, None, after)
    assert (log.rows(), log.position()) == (1, after)


def test_a_lost_race_in_the_catalog_adds_nothing(orders: tuple[Any, DataProduct]) -> None:
    from mesh_pipelines.lake.commit import append

    catalog, product = orders
    batch = rows_of(product, [(0, 0, 0, Event(0, "a", 1))])
    first, second = ProductTables(catalog, product).load("log"), ProductTables(catalog, product).load("log")
    append(first, batch, {"mesh.position": "x"})
    with pytest.raises(ConcurrentWriter):
        append(second, batch, {"mesh.position": "y"})
    table = ProductTables(catalog, product).load("log")
    assert (table.scan().to_arrow().num_rows, table.properties["mesh.position"]) == (1, "x")


def test_publishing_needs_a_passing_verdict_for_exactly_this(orders: tuple[Any, DataProduct]) -> None:
    catalog, product = orders
    versions = ProductTables(catalog, product).versions
    position = Position("cluster", "shop.orders", "topic")
    candidate = Version(product.fqn, 1, "one", "1.0.0", product.contract_hash, "now", 0, position=position)
    verdict = Verdict("one", product.contract_hash, True, 1, 0, 0, 0, 0, "now")
    with pytest.raises(Unaudited):
        versions.publish("one", product.contract_hash, "2024-01-01T00:00:00+00:00")
    for wrong in (
        None,
        replace(verdict, passed=False, blocking=("a rule",)),
        replace(verdict, candidate_id="other"),
        replace(verdict, contract_hash="other"),
    ):
        versions.propose(replace(candidate, verdict=wrong))
        with pytest.raises(Unaudited):
            versions.publish("one", product.contract_hash, "2024-01-01T00:00:00+00:00")
    versions.propose(replace(candidate, verdict=verdict))
    with pytest.raises(Unaudited):
        versions.publish("one", "another contract", "2024-01-01T00:00:00+00:00")
    assert versions.published() is None
    done = versions.publish("one", product.contract_hash, "2024-01-01T00:00:00+00:00")
    assert versions.publish("one", product.contract_hash, "2025-01-01T00:00:00+00:00") == done
    assert versions.published() == versions.at(1) == done
    with pytest.raises(ConcurrentWriter):
        versions.propose(replace(candidate, candidate_id="late", verdict=verdict))
