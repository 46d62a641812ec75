"""The repair ladder, on a real broker: each rung has its fault planted, and what is derived from it converges.

Corrective event, redrive, rebuild from the log, rebuild from the topic, rollback. Redrive and rollback are also in
``test_pipeline``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from mesh_pipelines import read
from mesh_pipelines.errors import AuditBlocked, RebuildRefused, TableDamaged, UnknownVersion, VersionDiffers
from mesh_pipelines.lake import commit
from mesh_pipelines.lake.log import POSITION
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.observe.status import status
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.repair import upkeep
from mesh_pipelines.repair.from_topic import reread
from mesh_pipelines.repair.rollback import rollback
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services]

ORDERS = """
- {name: id, logicalType: string, primaryKey: true}
- {name: amount, logicalType: integer, required: true, logicalTypeOptions: {minimum: 0}}
"""
TOTALS = """
- {name: everything, logicalType: string, primaryKey: true}
- {name: amount, logicalType: integer}
"""
JSON = "- {property: mesh.wireFormat, value: json}\n- {property: mesh.partitions, value: 2}"


@dataclass
class Shop:
    """A product of orders, another of their total, and a producer that keeps what it sent."""

    settings: Settings
    orders: str
    totals: str

    def __post_init__(self) -> None:
        self.platform = Platform.open(self.settings)
        apply_contracts(self.platform, self.platform.in_order)
        self.product = self.platform.product(self.orders)
        self.catalog = self.platform.catalog
        self.sent: dict[str, int] = {}
        self._producer = Producer({"bootstrap.servers": self.settings.brokers})

    def send(self, **amounts: int) -> None:
        for key, amount in amounts.items():
            self._producer.produce(self.orders, key=key, value=json.dumps({"id": key, "amount": amount}))
        assert self._producer.flush(60) == 0
        self.sent |= amounts

    def run(self, **amounts: int) -> None:
        self.send(**amounts)
        errors = [done.error for done in run(self.platform)]
        assert errors == [None, None]

    def published(self, version: int | None = None) -> dict[str, int]:
        rows = read(self.orders, version=version, settings=self.settings).arrow().to_pylist()
        return {row["id"]: row["amount"] for row in rows}

    def total(self) -> int:
        [row] = read(self.totals, settings=self.settings).arrow().to_pylist()
        return row["amount"]

    def converged(self) -> bool:
        return self.published() == self.sent and self.total() == sum(self.sent.values())

    def files(self, kind: Any) -> list[Any]:
        table = ProductTables(self.catalog, self.product).load(kind)
        return sorted(commit.current_files(table), key=lambda file: file.file_path)

    def tamper(self, kind: Any, change: Callable[[pa.Table], pa.Table]) -> None:
        """Write a table's rows anew with a change, as a fault in another program would."""
        table = ProductTables(self.catalog, self.product).load(kind)
        rows = change(commit.rows_of(table, self.files(kind)).read_all())
        kept = {POSITION: table.properties[POSITION]}
        written = commit.write_files(table, rows.to_reader())
        commit.replace_files(table, self.files(kind), written, kept)


@pytest.fixture
def shop(settings: Settings, contract: Any) -> Shop:
    orders = contract("orders", ORDERS, more=JSON)
    totals = contract(
        "totals",
        TOTALS,
        domain="sales",
        alignment="aggregate-aligned",
        more=f"- {{property: mesh.inputs, value: [{orders}]}}",
        transform=f"SELECT 'all' AS everything, CAST(sum(amount) AS BIGINT) AS amount FROM {orders}",
    )
    return Shop(settings, orders, totals)


def doubled(rows: pa.Table) -> pa.Table:
    number = rows.schema.get_field_index("amount")
    return rows.set_column(number, rows.schema.field("amount"), pc.multiply(rows["amount"], 2))


def damage(file: Any) -> Path:
    path = Path(unquote(urlparse(file.file_path).path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_a_corrective_event_mends_what_a_producer_got_wrong(shop: Shop) -> None:
    shop.run(a=1, b=200)
    assert shop.total() == 201
    shop.run(b=2)
    assert shop.converged()
    assert shop.published(1) == {"a": 1, "b": 200}


def test_a_wrong_base_is_found_and_the_right_rows_published(shop: Shop) -> None:
    shop.platform.settings = shop.settings.model_copy(update={"base_tail_rows": 1})
    shop.run(a=1, b=2)
    shop.tamper("base", doubled)
    shop.run(c=3)
    wrong = {"a": 2, "b": 4, "c": 3}
    assert (shop.published(), shop.total()) == (wrong, 9)

    done = upkeep.rebuild(shop.platform, shop.product)
    assert (done.version, done.identical, done.missing, done.surplus, done.published_as) == (2, False, 2, 2, 3)
    shop.run()
    assert shop.converged()
    assert shop.published(2) == wrong
    assert shop.published(1) == {"a": 1, "b": 2}
    again = upkeep.rebuild(shop.platform, shop.product)
    assert (again.identical, again.published_as) == (True, None)
    old = upkeep.rebuild(shop.platform, shop.product, number=2)
    assert (old.identical, old.published_as) == (False, None)
    assert shop.published(2) == wrong
    shop.run(d=4)
    assert shop.converged()


def test_what_the_schedule_finds_is_an_error(shop: Shop) -> None:
    shop.platform.settings = shop.settings.model_copy(update={"base_tail_rows": 1})
    shop.run(a=1, b=2)
    assert upkeep.reconcile(shop.platform, shop.product).identical
    shop.tamper("base", doubled)
    shop.run(c=3)
    with pytest.raises(VersionDiffers, match="version 2 lacked 2 rows and had 2 wrong ones; readers now see version 3"):
        upkeep.reconcile(shop.platform, shop.product)
    shop.run()
    assert shop.converged()
    assert upkeep.reconcile(shop.platform, shop.product).identical


def test_a_damaged_base_is_made_again(shop: Shop) -> None:
    shop.platform.settings = shop.settings.model_copy(update={"base_tail_rows": 1})
    shop.run(a=1, b=2, c=3)
    assert shop.files("base")
    for file in shop.files("base"):
        damage(file)
    with pytest.raises(duckdb.Error):
        shop.published()
    done = upkeep.rebuild(shop.platform, shop.product)
    assert (done.identical, done.published_as) == (None, None)
    assert shop.converged()
    shop.run(d=4)
    assert shop.converged()


def test_a_wrong_result_of_a_derived_product_is_found(shop: Shop) -> None:
    shop.run(a=1, b=2)
    totals = shop.platform.product(shop.totals)
    tables = ProductTables(shop.catalog, totals)
    versions = tables.versions
    wrong = pa.table({"everything": ["all"], "amount": pa.array([5], pa.int64())}).to_reader()
    snapshot_id = tables.base.write_result(wrong)
    versions.restore(replace(versions.current(), base_snapshot_id=snapshot_id))
    assert shop.total() == 5
    done = upkeep.rebuild(shop.platform, totals)
    assert (done.identical, done.published_as) == (False, 2)
    assert shop.converged()


def test_events_another_program_took_from_the_log_come_back_from_the_topic(shop: Shop) -> None:
    shop.run(a=1, b=2, c=3)
    shop.run(d=4, e=5)
    landed = ProductTables(shop.catalog, shop.product).log.rows()
    table = ProductTables(shop.catalog, shop.product).load("log")
    kept = {POSITION: table.properties[POSITION]}
    commit.replace_files(table, shop.files("log")[:1], [], kept)
    shop.run(f=6)
    harmed = {number: shop.published(number) for number in (1, 2, 3)}
    assert not shop.converged()

    done = reread(shop.platform, shop.product)
    assert done.events == 6
    assert done.lacking in (2, 3)
    assert (done.changed, done.damaged, done.published_as) == (0, 0, 4)
    shop.run()
    assert shop.converged()
    assert ProductTables(shop.catalog, shop.product).log.fates() == {"ok": landed + 1, "undecodable": 0, "diverted": 0}
    assert {number: shop.published(number) for number in (1, 2, 3)} == harmed
    again = reread(shop.platform, shop.product)
    assert (again.lacking, again.changed, again.damaged, again.published_as) == (0, 0, 0, None)


def test_damaged_files_of_the_log_are_written_again_from_the_topic(shop: Shop) -> None:
    shop.run(a=1, b=2)
    shop.run(c=3)
    sound, damaged = shop.files("log")
    damage(damaged).unlink()
    with pytest.raises(TableDamaged):
        upkeep.rebuild(shop.platform, shop.product)
    done = reread(shop.platform, shop.product)
    assert (done.changed, done.damaged) == (0, 1)
    assert sound.file_path in {file.file_path for file in shop.files("log")}
    shop.run(d=4)
    assert shop.converged()
    assert shop.published(1) == {"a": 1, "b": 2}
    assert upkeep.rebuild(shop.platform, shop.product).identical


def test_wrong_events_in_the_log_are_replaced_and_old_versions_stay(shop: Shop) -> None:
    shop.run(a=1, b=2)
    shop.tamper("log", doubled)
    shop.run(c=3)
    wrong = {"a": 2, "b": 4, "c": 3}
    assert (shop.published(), shop.total()) == (wrong, 9)
    before = ProductTables(shop.catalog, shop.product).log.position()
    assert before

    done = reread(shop.platform, shop.product)
    assert (done.events, done.lacking, done.changed, done.published_as) == (3, 0, 2, 3)
    assert ProductTables(shop.catalog, shop.product).log.position() == replace(before, rebuilds=1)
    shop.run()
    assert shop.converged()
    for _ in range(2):
        assert shop.published(2) == wrong
        assert shop.published() == shop.sent
        shop.run(**{f"k{number}": number for number in range(5)})
        upkeep.compact(shop.platform, shop.product)
        upkeep.expire(shop.platform, shop.product, keep=1)
    assert upkeep.rebuild(shop.platform, shop.product).identical
    assert reread(shop.platform, shop.product).changed == 0


def test_landing_goes_on_while_the_topic_is_read_anew(shop: Shop) -> None:
    shop.run(a=1, b=2)
    shop.tamper("log", doubled)
    sent: list[str] = []

    def land_meanwhile(at: int, total: int) -> None:
        if len(sent) < 2:
            sent.append(f"k{len(sent)}")
            shop.run(**{sent[-1]: 7})

    done = reread(shop.platform, shop.product, on_progress=land_meanwhile)
    assert (done.events, done.changed) == (4, 2)
    shop.run()
    assert shop.converged()
    assert ProductTables(shop.catalog, shop.product).log.rows() == 4


def test_a_topic_that_has_less_than_the_log_is_not_read_anew(shop: Shop) -> None:
    shop.run(**{f"k{number}": number for number in range(20)})
    files = shop.files("log")
    log = ProductTables(shop.catalog, shop.product).log
    position = log.position()
    admin = AdminClient({"bootstrap.servers": shop.settings.brokers})
    [trimmed] = admin.delete_records([TopicPartition(shop.orders, 0, 3)]).values()
    trimmed.result(30)
    with pytest.raises(RebuildRefused, match="partition 0: 0 to 2"):
        reread(shop.platform, shop.product)
    assert (log.position(), shop.files("log")) == (position, files)
    assert shop.converged()


def test_a_repair_is_audited(shop: Shop) -> None:
    shop.run(a=1, b=2)
    shop.tamper("log", lambda rows: rows.filter(pc.not_equal(rows["id"], "b")))
    shop.run(c=3)
    folder = shop.settings.assets / shop.product.domain / "orders" / "contract.yaml"
    folder.write_text(folder.read_text().replace("{minimum: 0}", "{maximum: 1}"))
    stricter = Platform.open(shop.settings)
    apply_contracts(stricter, stricter.in_order)
    with pytest.raises(AuditBlocked):
        reread(stricter, stricter.product(shop.orders))
    assert shop.published() == {"a": 1, "c": 3}


def test_a_rollback_to_rows_that_expired_is_refused(shop: Shop) -> None:
    totals = shop.platform.product(shop.totals)
    for number in range(3):
        shop.run(a=number)
    upkeep.expire(shop.platform, totals, keep=1)
    with pytest.raises(UnknownVersion, match="expired"):
        rollback(shop.platform, totals, 1)
    assert shop.converged()
    upkeep.rebuild(shop.platform, totals, number=1)
    rollback(shop.platform, totals, 1)
    assert shop.total() == 0
    [of_totals, of_orders] = status(shop.platform)
    assert of_orders.problem is None
    assert "readers were taken back to version 1" in str(of_totals.problem)
