"""The file proposes, the applied contract rules: what was published reads the same whatever becomes of the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st

from mesh_pipelines import read
from mesh_pipelines.errors import ApplyRefused, ContractInvalid, ContractNotApplied, RebuildRefused, TransformInvalid
from mesh_pipelines.lake import applied, compaction
from mesh_pipelines.lake.applied import APPLIED
from mesh_pipelines.observe.status import status
from mesh_pipelines.observe.store.records import Health
from mesh_pipelines.orchestration.definitions import domain_definitions
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts, execute
from mesh_pipelines.plan.draft import draft, plan
from mesh_pipelines.platform import Platform
from mesh_pipelines.repair.upkeep import rebuild
from mesh_pipelines.serve.query import query
from mesh_pipelines.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.timeout(280)]

JSON = "- {property: mesh.wireFormat, value: json}"
ORDERS = """
- {name: id, logicalType: string, primaryKey: true}
- {name: amount, logicalType: integer, physicalType: int}
- name: place
  logicalType: object
  properties:
    - {name: city, logicalType: string}
"""
ORDERS_NOW = """
- {name: id, logicalType: string, primaryKey: true}
- {name: total, logicalType: integer, customProperties: [{property: mesh.aliases, value: [amount]}]}
- name: place
  logicalType: object
  properties:
    - {name: city, logicalType: string}
    - {name: street, logicalType: string}
- {name: currency, logicalType: string, customProperties: [{property: mesh.default, value: EUR}]}
"""
CLICKS = """
- {name: page, logicalType: string}
- {name: ms, logicalType: integer}
"""
TOTALS = """
- {name: city, logicalType: string, primaryKey: true}
- {name: amount, logicalType: integer}
"""
DERIVED = "- {{property: mesh.inputs, value: [{}]}}"
SQL = "SELECT coalesce(place.city, '-') AS city, CAST(sum({}) AS BIGINT) AS amount FROM {} GROUP BY ALL"


@dataclass
class Mesh:
    """Three products with versions under two contracts each, and what each version read when it was published."""

    settings: Settings
    orders: str
    clicks: str
    totals: str
    contract: Callable[..., str]
    rows: dict[tuple[str, int], tuple[str, list[Any]]]

    @property
    def assets(self) -> Path:
        return self.settings.assets

    def read(self, name: str, version: int) -> tuple[str, list[Any]]:
        """Columns with types, and rows in an order of their own."""
        table = read(name, version=version, settings=self.settings).arrow()
        return str(table.schema), sorted(table.to_pylist(), key=repr)

    def check(self) -> None:
        for (name, version), before in self.rows.items():
            assert self.read(name, version) == before, f"{name} version {version} reads otherwise"


def send(settings: Settings, topic: str, rows: list[dict[str, Any]]) -> None:
    producer = Producer({"bootstrap.servers": settings.brokers})
    for row in rows:
        producer.produce(topic, key=str(row.get("id", "")), value=json.dumps(row))
    assert producer.flush(30) == 0


def publish_all(settings: Settings) -> Platform:
    platform = Platform.open(settings)
    apply_contracts(platform, platform.proposed.values())
    for one in run(platform):
        assert one.error is None, one.error
    return platform


@pytest.fixture
def mesh(settings: Settings, contract: Callable[..., str]) -> Mesh:
    orders = contract("orders", ORDERS, more=JSON)
    clicks = contract("clicks", CLICKS, kind="measurement", more=JSON)
    more = DERIVED.format(orders)
    kind = {"alignment": "aggregate-aligned", "more": more}
    totals = contract("totals", TOTALS, transform=SQL.format("amount", orders), **kind)
    made = Mesh(settings, orders, clicks, totals, contract, {})

    def note(platform: Platform) -> None:
        for name in (orders, clicks, totals):
            published = platform.tables_of(platform.product(name)).versions.published()
            assert published is not None
            made.rows[name, published.number] = made.read(name, published.number)

    platform = Platform.open(settings)
    apply_contracts(platform, platform.proposed.values())
    send(settings, orders, [{"id": str(n), "amount": n, "place": {"city": "Oslo"}} for n in range(5)])
    send(settings, clicks, [{"page": "/", "ms": n} for n in range(3)])
    note(publish_all(settings))
    contract("orders", ORDERS_NOW, more=JSON, version="1.1.0")
    contract(
        "clicks", f"{CLICKS}- {{name: agent, logicalType: string}}\n", kind="measurement", more=JSON, version="1.1.0"
    )
    contract("totals", TOTALS, transform=SQL.format("total + 1", orders), version="1.1.0", **kind)
    send(settings, orders, [{"id": "1", "total": 100, "place": {"city": "Bergen", "street": "B"}}])
    send(settings, clicks, [{"page": "/a", "ms": 9, "agent": "curl"}])
    note(publish_all(settings))
    assert len(made.rows) == 6
    assert "amount" in made.rows[orders, 1][0]
    assert "street" in made.rows[orders, 2][0]
    made.check()
    return made


def edit(mesh: Mesh, name: str, file: str, before: str, after: str) -> None:
    path = mesh.assets / name.replace(".", "/") / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


# An edit by name: a product, one of its files, what is replaced there by what.
EDITS = {
    "state becomes measurement": ("orders", "contract.yaml", "value: state", "value: measurement"),
    "measurement becomes state": ("clicks", "contract.yaml", "value: measurement", "value: state"),
    "a field is removed": ("clicks", "contract.yaml", "      - {name: ms, logicalType: integer}\n", ""),
    "a field is renamed": ("clicks", "contract.yaml", "name: ms", "name: millis"),
    "a field has another type": ("clicks", "contract.yaml", "ms, logicalType: integer", "ms, logicalType: string"),
    "a field is added": (
        "clicks",
        "contract.yaml",
        "- {name: ms",
        "- {name: a, logicalType: date}\n      - {name: ms",
    ),
    "a rule is added": (
        "orders",
        "contract.yaml",
        "    properties:\n      - {name: id",
        "    quality: [{metric: rowCount, mustBe: 77}]\n    properties:\n      - {name: id",
    ),
    "the key is another": ("totals", "contract.yaml", ", primaryKey: true", ""),
    "the topic is another": ("clicks", "contract.yaml", "mesh.wireFormat, value: json", "mesh.topic, value: elsewhere"),
    "the SQL is another": ("totals", "transform.sql", "total + 1", "total + 2"),
    "the SQL is broken": ("totals", "transform.sql", "SELECT", "DELETE"),
    "the contract is not YAML": ("orders", "contract.yaml", "schema:", "schema: ["),
}
# What is deleted, below the assets' folder.
DELETED = ("{orders}/contract.yaml", "{totals}/transform.sql", "{orders}", "")


def mutations(mesh: Mesh) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is done to the files, by name."""
    named = {"orders": mesh.orders, "clicks": mesh.clicks, "totals": mesh.totals}
    for name, (product, *what) in EDITS.items():
        yield name, partial(edit, mesh, named[product], *what)
    for pattern in DELETED:
        path = mesh.assets / pattern.format(**{key: fqn.replace(".", "/") for key, fqn in named.items()})
        yield f"{pattern or 'everything'} is gone", path.unlink if path.is_file() else partial(shutil.rmtree, path)


def test_old_versions_read_the_same_after_any_edit(mesh: Mesh, tmp_path: Path) -> None:
    sound = tmp_path / "sound"
    shutil.copytree(mesh.assets, sound)
    for name, mutate in mutations(mesh):
        mutate()
        mesh.check()
        platform = Platform.open(mesh.settings)
        for fqn in (mesh.orders, mesh.clicks, mesh.totals):
            assert platform.tables_of(platform.product(fqn)).versions.current().number == 2, name
        sums = query(
            mesh.settings,
            {fqn: platform.product(fqn) for fqn in (mesh.totals,)},
            platform.catalog,
            f"SELECT sum(amount) FROM {mesh.totals}",
        )
        assert sums.read_all().to_pylist() == [{"sum(amount)": 114}], name
        assert [one for one in run(platform) if one.published and one.published.changed] == [], name
        shutil.rmtree(mesh.assets, ignore_errors=True)
        shutil.copytree(sound, mesh.assets)


def test_old_versions_read_the_same_after_random_edits(mesh: Mesh, tmp_path: Path) -> None:
    sound = tmp_path / "sound"
    shutil.copytree(mesh.assets, sound)
    files = sorted(file.relative_to(sound) for file in sound.glob("*/*/*"))

    @tried(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(files), st.integers(0, 40), st.sampled_from(["drop", "twice", "swap", "cut"]))
    def mutated(file: Path, line: int, how: str) -> None:
        shutil.rmtree(mesh.assets)
        shutil.copytree(sound, mesh.assets)
        lines = (mesh.assets / file).read_text().splitlines(keepends=True)
        at = line % len(lines)
        changed = {
            "drop": [*lines[:at], *lines[at + 1 :]],
            "twice": [*lines[:at], lines[at], *lines[at:]],
            "swap": [*lines[:at], *reversed(lines[at : at + 2]), *lines[at + 2 :]],
            "cut": lines[:at],
        }[how]
        (mesh.assets / file).write_text("".join(changed))
        mesh.check()

    mutated()


def test_an_expired_derived_version_is_rebuilt_by_its_own_contract(mesh: Mesh) -> None:
    edit(mesh, mesh.totals, "transform.sql", "total + 1", "total + 1000")
    platform = Platform.open(mesh.settings)
    product = platform.product(mesh.totals)
    send(mesh.settings, mesh.orders, [{"id": "9", "total": 1}])
    assert all(one.error is None for one in run(platform))
    compaction.expire(platform.tables_of(product), keep=1)
    with pytest.raises(Exception, match="expired"):
        mesh.read(mesh.totals, 1)
    for number in (1, 2):
        assert rebuild(platform, product, number=number).identical is None
    mesh.check()


def test_a_version_whose_contract_was_not_kept_is_not_rebuilt_by_another(mesh: Mesh) -> None:
    platform = Platform.open(mesh.settings)
    product = platform.product(mesh.totals)
    tables = platform.tables_of(product)
    folder = Path(tables.load("versions").location().removeprefix("file://")) / "contracts"
    first = tables.versions.at(1)
    (folder / f"{first.contract_hash}.json").rename(folder / "away.json")
    applied._read.clear()
    with pytest.raises(RebuildRefused, match="not kept"):
        rebuild(platform, product, number=1)


def test_breaking_changes_are_refused_for_every_product(mesh: Mesh) -> None:
    breaking = {
        mesh.orders: ("id, logicalType: string, primaryKey: true", "id, logicalType: string, required: true", "key"),
        mesh.clicks: (
            "name: page, logicalType: string",
            "name: page, logicalType: string, required: true",
            "require page",
        ),
        mesh.totals: ("amount, logicalType: integer", "amount, logicalType: string", "amount from long to string"),
    }
    for name, (before, after, said) in breaking.items():
        edit(mesh, name, "contract.yaml", before, after)
        platform = Platform.open(mesh.settings)
        with pytest.raises((ApplyRefused, ContractInvalid, TransformInvalid), match=said):
            plan(platform, [platform.product(name)])
        edit(mesh, name, "contract.yaml", after, before)


def test_a_broken_contract_stops_its_own_product_and_what_derives_from_it(
    mesh: Mesh, contract: Callable[..., str]
) -> None:
    contract("visits", CLICKS, kind="measurement", more=JSON)
    edit(mesh, mesh.orders, "contract.yaml", "schema:", "schema: [")
    edit(mesh, mesh.totals, "transform.sql", "total + 1", "total + 2")
    edit(mesh, mesh.clicks, "contract.yaml", 'version: "1.1.0"', 'version: "1.2.0"')
    platform = Platform.open(mesh.settings)
    drafted = draft(platform, [*platform.proposed, *platform.broken])
    assert drafted.refused.keys() == {mesh.orders, mesh.totals}
    assert {action.product for action in drafted.actions} == {mesh.clicks, mesh.clicks.replace("clicks", "visits")}
    execute(platform, drafted.actions)
    assert platform.product(mesh.clicks).contract_version == "1.2.0"
    assert platform.product(mesh.totals).contract_version == "1.1.0"
    mesh.check()


def test_what_is_not_applied_is_said(mesh: Mesh) -> None:
    names = (mesh.orders, mesh.clicks, mesh.totals)
    assert Platform.open(mesh.settings).unapplied(names) == {}
    edit(mesh, mesh.clicks, "contract.yaml", 'version: "1.1.0"', 'version: "1.2.0"')
    edit(mesh, mesh.orders, "contract.yaml", "schema:", "schema: [")
    shutil.rmtree(mesh.assets / mesh.totals.replace(".", "/"))
    platform = Platform.open(mesh.settings)
    said = platform.unapplied(names)
    assert said[mesh.clicks] == f"contract 1.2.0 is not applied: mesh plan {mesh.clicks}"
    assert said[mesh.orders].endswith("has 1 fault (mesh lint " + mesh.orders + "); contract 1.1.0 stays applied")
    assert said[mesh.totals].startswith("it has no contract file")
    assert platform.fileless.keys() == {mesh.totals}
    kept = platform.files_of(platform.product(mesh.clicks)).contract
    assert 'version: "1.1.0"' in kept, "the text that is shown is the one that rules"


def test_tables_of_before_contracts_were_kept_go_on(mesh: Mesh) -> None:
    platform = Platform.open(mesh.settings)
    tables = platform.tables_of(platform.product(mesh.clicks))
    with tables.load("versions").transaction() as transaction:
        transaction.remove_properties(APPLIED)
    folder = Path(tables.load("versions").location().removeprefix("file://")) / "contracts"
    shutil.rmtree(folder)
    applied._read.clear()
    older = Platform.open(mesh.settings)
    assert older.applied_hashes([mesh.clicks]) == {mesh.clicks: None}
    assert len(mesh.read(mesh.clicks, 2)[1]) == 4
    [done] = run(older, [mesh.clicks])
    assert done.error is None
    adopted = Platform.open(mesh.settings)
    assert adopted.applied_hashes([mesh.clicks]) == {mesh.clicks: adopted.proposed[mesh.clicks].contract_hash}


def test_tables_of_before_contracts_were_kept_ask_for_apply_where_the_file_differs(mesh: Mesh) -> None:
    platform = Platform.open(mesh.settings)
    with platform.tables_of(platform.product(mesh.clicks)).load("versions").transaction() as transaction:
        transaction.remove_properties(APPLIED)
    edit(mesh, mesh.clicks, "contract.yaml", 'version: "1.1.0"', 'version: "1.2.0"')
    [done] = run(Platform.open(mesh.settings), [mesh.clicks])
    assert isinstance(done.error, ContractNotApplied)
    publish_all(mesh.settings)


def test_status_and_dagster_say_what_is_not_applied_and_go_on(mesh: Mesh) -> None:
    edit(mesh, mesh.clicks, "contract.yaml", 'version: "1.1.0"', 'version: "1.2.0"')
    edit(mesh, mesh.orders, "contract.yaml", "schema:", "schema: [")
    shutil.rmtree(mesh.assets / mesh.totals.replace(".", "/"))
    found = {one.product: one for one in status(Platform.open(mesh.settings))}
    assert [str(one) for one in found[mesh.clicks].problems] == ["contract 1.2.0 is not applied"]
    assert found[mesh.clicks].is_well
    assert (found[mesh.orders].version, found[mesh.orders].health) == (2, Health.BAD)
    assert "1 fault in its contract" in str(found[mesh.orders].problem)
    assert "no contract file" in str(found[mesh.totals].problems[0])
    domain = mesh.orders.split(".")[0]
    specs = {
        one.key.to_user_string(): one for one in domain_definitions(domain, mesh.settings).resolve_all_asset_specs()
    }
    for name, said in ((mesh.clicks, "contract 1.2.0 is not applied"), (mesh.orders, "stays applied")):
        assert said in str(specs[name.replace(".", "/")].description)
    send(mesh.settings, mesh.orders, [{"id": "new", "total": 1}])
    [done] = run(Platform.open(mesh.settings), [mesh.orders])
    assert done.published is not None
    assert done.published.version.number == 3
