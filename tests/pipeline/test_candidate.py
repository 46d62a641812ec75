"""The counts that are added up against those of an audit of everything, and every version against the whole fold."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mesh_pipelines.audit.audit import Context, audit
from mesh_pipelines.contract.envelope import Fate
from mesh_pipelines.contract.read.load import load_product, read_files
from mesh_pipelines.engine import connect, create_view
from mesh_pipelines.errors import AuditDiffers, PartitionsAdded
from mesh_pipelines.kafka.continuity import go_on
from mesh_pipelines.lake import compaction
from mesh_pipelines.lake.base import DEAD_SHARE
from mesh_pipelines.lake.files import DataFiles
from mesh_pipelines.lake.log import Log
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.state import Base, bases_of
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.snapshot import Snapshot, snapshot
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import PartitionOffset, Position, Version
from mesh_pipelines.repair.upkeep import rebuild
from mesh_pipelines.sandbox.author import Allowance
from mesh_pipelines.settings import Settings
from tests.building import contract_text, log_row, log_table, write_contract

QUALITY = """
- {metric: rowCount, mustBeGreaterThan: 2}
- {type: sql, query: "SELECT sum(amount) FROM orders", mustBeLessThan: 500, name: total}
"""
PROPERTIES = """
- {name: id, logicalType: string, primaryKey: true, logicalTypeOptions: {pattern: "^[a-e]$"}}
- name: amount
  logicalType: integer
  required: true
  logicalTypeOptions: {minimum: 0, maximum: %s}
  quality:
    - {name: sevens, metric: missingValues, arguments: {missingValues: [7]}, mustBeLessThan: 9, unit: percent}
- {name: label, logicalType: string, unique: true}
"""


@dataclass(frozen=True)
class Event:
    id: str
    amount: int | None
    label: str | None
    partition: int
    fate: Fate = Fate.OK
    key: str = ""
    dead: bool = False


AMOUNTS = st.sampled_from([None, -3, 7, 7, 20, 40, 60])
EVENTS = st.lists(
    st.builds(
        Event,
        id=st.sampled_from("abcdef"),
        amount=AMOUNTS,
        label=st.sampled_from([None, None, "x", "y", "z"]),
        # Mostly a key stays in its partition, as producers have it.
        partition=st.sampled_from([-1, -1, -1, -1, -1, 0, 1]),
        fate=st.sampled_from([Fate.OK] * 6 + [Fate.DIVERTED]),
        key=st.sampled_from(["", "", "", "", "other"]),
        dead=st.sampled_from([False, False, False, True]),
    ),
    max_size=5,
)
STEPS = st.sampled_from(
    ["land"] * 10
    + ["publish", "redrive", "contract", "rollback", "compact", "expire", "recreated", "repartitioned", "lost"]
)


class Mesh:
    """One product's tables, without a broker."""

    def __init__(self, folder: Path, kind: str, tail_rows: int) -> None:
        self.kind = kind
        self.settings = Settings(home=folder, assets=folder / "assets", base_tail_rows=tail_rows)
        self.maximum = 50
        self.promise(50)
        self.position = Position("cluster", "shop.orders", "topic")
        self.stored: Position | None = None
        self.seen: list[tuple[Version, list[Any]]] = []
        self.whole = 0

    def promise(self, maximum: int) -> None:
        """Apply a contract with this rule."""
        partitions = "- {property: mesh.partitions, value: 2}"
        text = contract_text("shop.orders", PROPERTIES % maximum, kind=self.kind, settings=partitions, quality=QUALITY)
        home = write_contract(self.settings.assets, text)
        self.product = load_product(home)
        self.platform = Platform(self.settings, {self.product.fqn: self.product})
        tables = self.platform.tables_of(self.product)
        tables.create()
        tables.apply(read_files(home), "a test")

    @property
    def log(self) -> Log:
        return self.platform.tables_of(self.product).log

    def land(self, events: list[Event]) -> None:
        rows = []
        for one in events:
            partition = one.partition if one.partition >= 0 else ord(one.id) % max(2, len(self.position.partitions))
            offset = self.position.next_offset(partition)
            live = "upsert" if self.kind == "state" else "append"
            dead = one.dead and self.kind == "state"
            rows.append(
                log_row(
                    offset,
                    {} if dead else {"id": one.id, "amount": one.amount, "label": one.label},
                    partition=partition,
                    generation=self.position.generation,
                    key=f"{one.key}{one.id}".encode(),
                    op="delete" if dead else live,
                    fate=one.fate,
                )
            )
            self.position = self.position.advance({partition: PartitionOffset(offset + 1)})
        self.log.append(log_table(self.product, rows), self.stored, self.position)
        self.stored = self.position

    def do(self, step: str, events: list[Event]) -> None:
        """One step of whoever works on a product."""
        catalog, versions = self.platform.catalog, self.platform.tables_of(self.product).versions
        match step:
            case "publish" if (newest := versions.newest()) and newest.verdict and newest.verdict.passed:
                if newest.contract_hash == self.product.contract_hash:
                    publish(self.platform, self.product)
            case "redrive":
                if self.log.redrive(_all_pass):
                    self.stored = self.position = self.log.position() or self.position
            case "contract":
                self.maximum = 80 - self.maximum
                self.promise(self.maximum)
            case "rollback" if len(versions.all()) > 1:
                versions.roll_back(1, "a test")
            case "compact":
                for table in ("log", "base") if self.kind == "state" else ("log",):
                    compaction.compact(ProductTables(catalog, self.product), table)
            case "expire":
                compaction.expire(ProductTables(catalog, self.product), keep=2, age_floor_s=0.0)
            case "recreated" if self.stored:
                self.position = Position(
                    "cluster",
                    "shop.orders",
                    "again",
                    generation=self.position.generation + 1,
                    redrives=self.position.redrives,
                )
            case "repartitioned" if self.stored:
                more = dict.fromkeys(range(len(self.position.partitions) + 1), PartitionOffset(0))
                end = replace(self.position, partitions={**more, **self.position.partitions})
                self.position = go_on(PartitionsAdded("shop.orders", ""), self.position, end, end, {})
            case "lost" if (newest := versions.newest()) and newest.overlay:
                Path(newest.overlay.removeprefix("file://")).unlink(missing_ok=True)
            case _:
                pass
        self.land(events)

    def check(self) -> Snapshot:
        """Take a snapshot, and hold it against an audit of everything, from the log."""
        taken = snapshot(self.platform, self.product)
        assert taken.candidate
        assert taken.audit
        with closing(connect(self.settings)) as engine:
            tables = self.platform.tables_of(self.product)
            create_view(engine, "all", tables.state.sql(taken.candidate, from_log=True))
            create_view(engine, "read", tables.state.sql(taken.candidate))
            rows = sorted(engine.execute('FROM "all"').fetchall(), key=repr)
            assert sorted(engine.execute("FROM read").fetchall(), key=repr) == rows
            context = Context(allowance=Allowance.of(self.settings))
            whole = audit(engine, "all", self.product, candidate_id=taken.candidate.candidate_id, context=context)
        assert [_said(one) for one in taken.audit.results] == [_said(one) for one in whole.results]
        assert (taken.audit.rows, taken.candidate.rows) == (whole.rows, len(rows))
        assert taken.audit.verdict.blocking == whole.verdict.blocking
        if taken.changed:
            assert [one.sample for one in taken.audit.results] == [one.sample for one in whole.results]
        self.seen.append((taken.candidate, rows))
        return taken

    def check_versions(self) -> None:
        """Every version that was ever seen still reads the same."""
        with closing(duckdb.connect()) as engine:
            for version, rows in self.seen:
                create_view(engine, "read", self.platform.tables_of(self.product).state.sql(version))
                assert sorted(engine.execute("FROM read").fetchall(), key=repr) == rows


def _said(result: Any) -> tuple[Any, ...]:
    return result.rule, result.state, result.rows, result.bad, result.measured


def _all_pass(rows: pa.Table) -> pa.Table:
    fates = pa.array([str(Fate.OK)] * rows.num_rows, rows["_fate"].type)
    return rows.set_column(rows.schema.get_field_index("_fate"), rows.schema.field("_fate"), fates)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(
    steps=st.lists(st.tuples(STEPS, EVENTS), min_size=4, max_size=9),
    kind=st.sampled_from(["state", "state", "state", "measurement"]),
    tail_rows=st.sampled_from([1, 10, 40]),
)
def test_what_is_added_up_is_what_an_audit_of_everything_finds(
    steps: list[tuple[str, list[Event]]], kind: str, tail_rows: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mesh = Mesh(Path(folder), kind, tail_rows)
        for step, events in steps:
            mesh.do(step, events)
            taken = mesh.check()
            event("whole" if taken.whole else "added" if taken.changed else "unchanged")
        mesh.check_versions()


def test_counts_are_added_only_to_those_they_belong_to(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, "state", 6)
    events = [Event(id, 20, None, -1) for id in "abcdeabc"]
    more = [Event("a", 60, "x", -1), Event("b", 7, None, -1, dead=True)]
    taken = []
    for step, landed in (("", events), ("", more), ("redrive", more), ("", more[:1]), ("contract", more[:1])):
        mesh.do(step, landed)
        taken.append(mesh.check())
    # The first makes the base, the last one another of other rules; nothing was there to redrive.
    assert [(one.whole, one.rewrote_base) for one in taken] == [
        (True, True),
        (False, False),
        (False, False),
        (False, False),
        (True, True),
    ]


@pytest.mark.parametrize("lost", [False, True])
def test_a_version_reads_the_same_without_its_overlay(tmp_path: Path, lost: bool) -> None:
    mesh = Mesh(tmp_path, "state", 6)
    mesh.do("", [Event(id, 20, None, -1) for id in "abcdeabc"])
    mesh.check()
    mesh.do("", [Event("a", 30, None, -1), Event("b", 7, None, -1, dead=True), Event("a", 31, None, -1)])
    taken = mesh.check()
    assert taken.candidate
    assert taken.candidate.overlay
    if lost:
        Path(taken.candidate.overlay.removeprefix("file://")).unlink()
    mesh.check_versions()
    mesh.do("", [Event("c", 1, None, -1)])
    assert mesh.check().whole == lost


def test_a_rebuild_compares_the_counts_with_an_audit_of_everything(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, "state", 6)
    mesh.do("", [Event(id, 20, None, -1) for id in "abcdeabc"])
    mesh.check()
    mesh.do("publish", [Event("a", 30, None, -1)])
    mesh.check()
    version = publish(mesh.platform, mesh.product).version
    assert rebuild(mesh.platform, mesh.product).identical
    assert version.bad
    # What an addition gone wrong would leave behind.
    wrong = {**version.bad, "amount.maximum": 3}
    mesh.platform.tables_of(mesh.product).versions.restore(replace(version, bad=wrong))
    with pytest.raises(AuditDiffers, match=r"amount\.maximum: 3, not 0"):
        rebuild(mesh.platform, mesh.product)
    newest = mesh.platform.tables_of(mesh.product).versions.current()
    assert (newest.number, newest.bad) == (version.number + 1, version.bad)


def grown(folder: Path) -> Mesh:
    """A product whose base has taken in a tail twice, one of its rows having replaced another."""
    mesh = Mesh(folder, "state", 3)
    mesh.do("", [Event(id, 20, None, -1) for id in "abcdefghij"])
    mesh.check()
    for landed in ("aabb", "aacc"):
        mesh.do("", [Event(id, 30, None, -1) for id in landed])
        assert mesh.check().rewrote_base
    return mesh


def base_of(mesh: Mesh) -> tuple[Base, list[Any]]:
    """The newest base and its files."""
    table = mesh.platform.tables_of(mesh.product).load("base")
    base = bases_of(table)[0]
    return base, DataFiles(table).at(base.snapshot_id)


def test_a_base_takes_in_a_tail_and_keeps_its_files(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, "state", 3)
    mesh.do("", [Event(id, 20, None, -1) for id in "abcdefghij"])
    mesh.check()
    before, files = base_of(mesh)
    mesh.do("", [Event("a", 30, None, -1), Event("b", 7, None, -1, dead=True), Event("a", 31, None, -1)])
    mesh.do("", [Event("a", 32, None, -1)])
    assert mesh.check().rewrote_base
    after, more = base_of(mesh)
    assert before.replaced is None
    assert after.replaced
    # The file of ten rows stays, with two dead ones; the row of a and the tombstone of b have files of their own.
    assert sorted(file.record_count for file in more) == [1, 1, 10]
    assert {file.file_path for file in files} < {file.file_path for file in more}
    mesh.check_versions()


def test_what_is_mostly_dead_is_written_anew(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, "state", 3)
    mesh.do("", [Event(id, 20, None, -1) for id in "abcdeabc"])
    mesh.check()
    for landed in ("abcd", "abcd", "abcd"):
        mesh.do("", [Event(id, 30, None, -1) for id in landed])
        assert mesh.check().rewrote_base
        _, files = base_of(mesh)
        assert sum(file.record_count for file in files) <= 5 * (1 + DEAD_SHARE)
    mesh.check_versions()


@pytest.mark.parametrize("then", ["read", "land"])
def test_a_base_that_lost_what_says_which_rows_are_dead(tmp_path: Path, then: str) -> None:
    mesh = grown(tmp_path)
    base, _ = base_of(mesh)
    assert base.replaced
    Path(base.replaced.removeprefix("file://")).unlink()
    mesh.check_versions()
    if then == "land":
        mesh.do("", [Event("e", 1, None, -1)])
        assert mesh.check().rewrote_base
        assert base_of(mesh)[0].replaced is None
        mesh.check_versions()


def test_upkeep_leaves_a_base_its_dead_rows(tmp_path: Path) -> None:
    mesh = grown(tmp_path)
    for step in ("compact", "expire"):
        mesh.do(step, [])
    assert mesh.check().candidate
    mesh.check_versions()


def test_all_rows_are_audited_again_when_a_share_of_them_came_in(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, "state", 1)
    mesh.do("", [Event(id, 20, None, -1) for id in "abcde"])
    mesh.check()
    taken = []
    for _ in range(4):
        mesh.do("", [Event("a", 30, None, -1), Event("b", 30, None, -1)])
        taken.append(mesh.check())
    assert all(one.rewrote_base for one in taken)
    assert [one.whole for one in taken] == [False, True, False, True]


def test_an_overlay_of_before_is_as_good_as_none(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, "state", 6)
    mesh.do("", [Event(id, 20, None, -1) for id in "abcdeabc"])
    mesh.check()
    mesh.do("", [Event("a", 30, None, -1)])
    version = mesh.check().candidate
    assert version
    assert version.overlay
    file = Path(version.overlay.removeprefix("file://"))
    rows = pq.read_table(file).to_pylist()
    # Each row had its own bits.
    former = [{**row, "bits": b"\x00"} for row in rows[:-1]]
    pq.write_table(pa.Table.from_pylist(former, schema=pq.read_schema(file)), file)
    mesh.check_versions()


def test_upkeep_removes_the_overlays_that_no_kept_version_has(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, "state", 20)
    mesh.do("", [Event(id, 20, None, -1) for id in "abcde" * 5])
    for _ in range(5):
        mesh.do("publish", [Event("a", 30, None, -1)])
        mesh.check()
    publish(mesh.platform, mesh.product)
    overlays = list(tmp_path.rglob("overlay/*.parquet"))
    compaction.expire(mesh.platform.tables_of(mesh.product), keep=2, age_floor_s=0.0)
    assert (len(overlays), len(list(tmp_path.rglob("overlay/*.parquet")))) == (4, 2)
    mesh.check_versions()
