"""What a product's tables say of its past that the history does not have yet: publications and audits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mesh_pipelines.audit import history
from mesh_pipelines.contract.model import DataProduct, Rule, RuleKind
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.standing import standings
from mesh_pipelines.observe.from_tables import News, news, with_times
from mesh_pipelines.observe.measure import Memory, Seen
from mesh_pipelines.observe.status import status_of
from mesh_pipelines.pipeline.level import Level
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Version
from mesh_pipelines.rules.results import Audit, State, result, verdict
from mesh_pipelines.settings import Settings
from tests.building import contract_text, land_rows, log_row, next_offset, publish_version, version_of, write_contract

RULE = Rule("id.required", RuleKind.ROW, "required", ("id",))
PROPERTIES = """
- {name: id, logicalType: string, primaryKey: true}
- {name: day, logicalType: date}
"""
LEVELS = """
slaProperties:
  - {property: freshness, value: 2, unit: d, element: day}
  - {property: retention, value: 9, unit: d}
"""


@pytest.fixture
def platform(local_settings: Settings) -> Platform:
    write_contract(local_settings.assets, contract_text("shop.orders", PROPERTIES, more=LEVELS))
    found = Platform.open(local_settings)
    found.tables_of(found.product("shop.orders")).create()
    return found


def orders(platform: Platform) -> DataProduct:
    return platform.product("shop.orders")


def publish(platform: Platform, *days: str) -> Version:
    """Land an event a day, audit and publish it."""
    tables: ProductTables = platform.tables_of(orders(platform))
    first = next_offset(tables)
    values = [{"id": day, "day": datetime.fromisoformat(day).date()} for day in days]
    rows = [log_row(first + n, one, key=one["id"].encode()) for n, one in enumerate(values)]
    number = tables.versions.next_number()
    version = replace(
        version_of(tables.product, number, land_rows(tables, rows)), rows=first + len(days), run=f"run{number}"
    )
    at = f"2024-01-01T00:00:{number:02}+00:00"
    said = verdict(tables.product, version.candidate_id, [result(RULE, State.PASS, version.rows)], at)
    audit = Audit(version.rows, (result(RULE, State.PASS, version.rows),), said)
    tables.checks.append(history.rows(tables.product, number, audit))
    return publish_version(tables, replace(version, verdict=said, created_at="2024-01-01T00:00:00+00:00"))


def seen(platform: Platform) -> Seen:
    product = orders(platform)
    level = Level(product, standings(platform.tables, [product])["shop.orders"])
    return Seen(level, status_of(level, datetime.now(UTC)))


def at(second: int) -> datetime:
    return datetime(2024, 1, 1, 0, 0, second, tzinfo=UTC)


def test_a_product_without_a_version_has_no_news(platform: Platform) -> None:
    assert news(platform, seen(platform), None, None) == News([], [])


def test_the_first_look_finds_everything(platform: Platform) -> None:
    publish(platform, "2024-01-01", "2024-01-02")
    publish(platform, "2024-01-03")
    found = news(platform, seen(platform), None, None)
    assert [(one.version, one.rows, one.new_rows, one.seconds, one.run) for one in found.publications] == [
        (1, 2, 2, 1.0, "run1"),
        (2, 3, 1, 2.0, "run2"),
    ]
    assert [[(one.rule, one.version, one.state, one.run) for one in audit] for audit in found.audits] == [
        [("id.required", 1, "pass", "run1")],
        [("id.required", 2, "pass", "run2")],
    ]


def test_what_is_known_is_not_read_again(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(platform, "2024-01-01")
    look = seen(platform)

    def unasked(_: DataProduct) -> ProductTables:
        raise AssertionError("a table was read")

    monkeypatch.setattr(platform, "tables_of", unasked)
    assert news(platform, look, at(1), at(1)) == News([], [])


def test_later_versions_are_told_without_the_first_that_is_known(platform: Platform) -> None:
    publish(platform, "2024-01-01")
    known = datetime.now(UTC) - timedelta(seconds=1)
    publish(platform, "2024-01-02")
    look = seen(platform)
    assert look.published
    # As it was published now, and not in the past of these tests.
    now = replace(look.level.standing, published=replace(look.published, published_at=datetime.now(UTC).isoformat()))
    look = replace(look, level=replace(look.level, standing=now))
    found = news(platform, look, None, known)
    assert [(one.version, one.new_rows) for one in found.publications] == [(2, 1)]


def test_the_newest_value_of_a_field_is_read_once_a_version(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(platform, "2024-01-05", "2024-01-02")
    memory = with_times(platform, seen(platform), Memory())
    # A day is over when it ends.
    assert memory.newest == {"day": datetime(2024, 1, 6, tzinfo=UTC)}
    assert memory.oldest is None
    look = seen(platform)
    kept = replace(memory, oldest=at(0), oldest_of=0)
    monkeypatch.setattr(platform, "tables_of", lambda _: pytest.fail("a table was read"))
    assert with_times(platform, look, kept) == kept


def test_another_version_is_read_anew(platform: Platform) -> None:
    publish(platform, "2024-01-05")
    memory = with_times(platform, seen(platform), Memory())
    publish(platform, "2024-02-01")
    again = with_times(platform, seen(platform), memory)
    assert again.newest == {"day": datetime(2024, 2, 2, tzinfo=UTC)}
    assert again.newest_of != memory.newest_of
