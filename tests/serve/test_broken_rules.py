"""What breaks the rules of a stored candidate, by kind of rule: rows, groups, a figure, and the cause on the stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from mesh_pipelines.cli.main import invoke
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import AuditBlocked, Unaudited, UsageError
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.platform import Platform
from mesh_pipelines.serve.broken_rules import failing, judged
from mesh_pipelines.serve.door import MASKED, Reader, Shelf
from mesh_pipelines.settings import Settings
from tests.building import contract_text, land_rows, log_row, next_offset, write_contract

QUALITY = """
- {metric: rowCount, mustBeGreaterThan: 2}
- {type: sql, query: "SELECT sum(amount) FROM orders", mustBeLessThan: -1000, name: total, severity: warning}
"""
PROPERTIES = """
- {name: id, logicalType: integer, primaryKey: true%s}
- {name: amount, logicalType: integer, logicalTypeOptions: {minimum: 0}%s}
- {name: label, logicalType: string, unique: true}
"""
Events = list[tuple[str, dict[str, Any]]]


class Orders:
    """One product's tables, without a broker."""

    def __init__(self, settings: Settings, more: str = "", amounts: str = "") -> None:
        write_contract(settings.assets, contract_text("shop.orders", PROPERTIES % (more, amounts), quality=QUALITY))
        self.platform = Platform.open(settings)
        assert not self.platform.broken
        self.platform.tables_of(self.product).create()

    @property
    def product(self) -> DataProduct:
        return self.platform.product("shop.orders")

    def judge(self, events: Events) -> None:
        """Land events, which are message keys and values, and audit a candidate."""
        tables = self.platform.tables_of(self.product)
        first = next_offset(tables)
        land_rows(tables, [log_row(first + at, value, key=key.encode()) for at, (key, value) in enumerate(events)])
        snapshot(self.platform, self.product)

    def shelf(self, reader: Reader = Reader.OWNER, number: int | None = None) -> Shelf:
        return Shelf(self.platform, self.product, judged(self.platform, self.product, number), reader)


def order(number: int, **values: Any) -> tuple[str, dict[str, Any]]:
    return str(number), {"id": number, "amount": number, "label": f"l{number}", **values}


FINE = [order(number) for number in range(1, 5)]
MISKEYED = [*FINE, ('{"id":1}', {"id": 1, "amount": 7, "label": "other"})]


@pytest.fixture
def orders(local_settings: Settings) -> Orders:
    return Orders(local_settings)


@pytest.fixture
def command(
    orders: Orders, local_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs a command over the orders; gives its code and what it printed."""
    monkeypatch.setenv("MESH_HOME", str(local_settings.home))
    monkeypatch.setenv("MESH_ASSETS", str(local_settings.assets))

    def run(*arguments: str) -> tuple[int, str]:
        code = invoke(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_rows_that_break_a_rule_come_from_the_stored_candidate(orders: Orders) -> None:
    orders.judge([*FINE, order(5, amount=-5), order(6, amount=-6)])
    [total, *_] = [one for one in failing(orders.shelf()) if one.result.rule == "total"]
    [negative] = failing(orders.shelf(), "amount.minimum")
    assert (total.result.measured, total.result.threshold, total.rows) == (-1.0, "mustBeLessThan -1000", None)
    assert negative.rows
    assert negative.rows.columns == ("_partition", "_offset", "_timestamp", "id", "amount", "label")
    assert sorted(row[3:] for row in negative.rows.rows) == [(5, -5, "l5"), (6, -6, "l6")]
    [short] = failing(orders.shelf(), "amount.minimum", limit=1)
    assert short.rows
    assert (len(short.rows.rows), short.rows.more) == (1, True)


def test_rules_that_block_come_first_and_those_that_hold_only_when_named(orders: Orders) -> None:
    orders.judge([order(1, amount=-1), order(2)])
    assert [(one.result.rule, one.result.blocks) for one in failing(orders.shelf())] == [
        ("amount.minimum", True),
        ("rowCount", True),
        ("total", False),
    ]
    [held] = failing(orders.shelf(), "label.unique")
    assert (held.result.state, held.rows) == ("pass", None)


def test_what_has_to_be_unique_is_shown_as_groups(orders: Orders) -> None:
    orders.judge([*FINE, order(5, label="same"), order(6, label="same"), order(7, label="same"), order(8, label="l1")])
    [shared] = failing(orders.shelf(), "label.unique")
    assert shared.rows
    assert shared.rows.columns == ("label", "copies", "events", "keys")
    assert shared.rows.rows == (
        ("same", 3, ["0:4", "0:5", "0:6"], ["5", "6", "7"]),
        ("l1", 2, ["0:0", "0:7"], ["1", "8"]),
    )
    assert shared.cause == ""


def test_a_message_key_that_is_not_the_text_of_the_key_fields_is_named_as_the_cause(orders: Orders) -> None:
    orders.judge(MISKEYED)
    [broken] = failing(orders.shelf(), "key.unique")
    assert broken.cause == (
        "two keys on the topic, '1' and '{\"id\":1}', have the same id: "
        "the producer's message key is not the text of the key fields"
    )
    [masked] = failing(orders.shelf(Reader.VISITOR), "key.unique")
    assert masked.cause == broken.cause


def test_the_cause_names_no_key_that_is_not_public(local_settings: Settings) -> None:
    orders = Orders(local_settings, more=", classification: confidential")
    orders.judge(MISKEYED)
    [masked] = failing(orders.shelf(Reader.VISITOR), "key.unique")
    assert masked.rows
    assert masked.rows.rows == ((MASKED, 2, ["0:0", "0:4"], MASKED),)
    assert masked.cause.startswith("two keys on the topic have the same id: ")


def test_an_older_version_is_looked_into_by_its_number(orders: Orders) -> None:
    orders.judge(FINE)
    publish(orders.platform, orders.product)
    orders.judge([order(9, amount=-9)])
    assert [one.result.rule for one in failing(orders.shelf(number=1))] == ["total"]
    assert [one.result.rule for one in failing(orders.shelf())] == ["amount.minimum", "total"]


def test_a_rule_that_is_not_there_names_near_ones(orders: Orders) -> None:
    with pytest.raises(Unaudited, match="has no candidate yet"):
        judged(orders.platform, orders.product)
    orders.judge(FINE)
    with pytest.raises(UsageError, match=r"not audited by a rule amount.minimun; did you mean amount.minimum"):
        failing(orders.shelf(), "amount.minimun")


def test_a_blocked_publish_leads_to_the_rows(orders: Orders, command: Any) -> None:
    orders.judge([*FINE, order(5, amount=-5)])
    with pytest.raises(AuditBlocked) as blocked:
        publish(orders.platform, orders.product)
    assert blocked.value.next_step == "mesh failing shop.orders amount.minimum"
    code, said = command(*blocked.value.next_step.split()[1:])
    assert code == 0
    assert "fail: shop.orders version 1 amount.minimum (minimum): 1 of 5 rows, measured 1.00, promised mustBe 0" in said
    assert "-5" in said
    assert "next: fix the data at its source, then mesh run shop.orders" in said


def test_snapshot_prints_the_rows_that_block_it_and_why_keys_clash(orders: Orders, command: Any) -> None:
    orders.judge([*MISKEYED, *(order(number, amount=-number) for number in range(10, 17))])
    code, said = command("snapshot", "shop.orders")
    assert code == 1
    assert said.count("  0:") == 5
    assert "  0:5  id=10, amount=-10" in said
    assert "  2 rows have id=1: 0:0, 0:4" in said
    assert "  two keys on the topic, '1' and " in said
    assert "next: mesh failing shop.orders" in said


def test_programs_get_the_same_as_json(orders: Orders, command: Any) -> None:
    orders.judge([*FINE, order(5, amount=-5), order(6, amount=-6)])
    code, said = command("failing", "shop.orders", "--limit", "1", "--output", "json")
    assert code == 0
    found: list[Mapping[str, Any]] = json.loads(said)
    assert [(one["rule"], one["state"], one["bad"], one["more"]) for one in found] == [
        ("amount.minimum", "fail", 2, True),
        ("total", "warn", None, False),
    ]
    row = {"_partition": 0, "_offset": 4, "_timestamp": None, "id": 5, "amount": -5, "label": "l5"}
    assert found[0]["rows"] == [row]
    assert (found[1]["measured"], found[1]["promised"]) == (-1.0, "mustBeLessThan -1000")


def test_message_keys_are_not_shown_beside_anything_that_is_not_public(local_settings: Settings) -> None:
    orders = Orders(local_settings, amounts=", classification: confidential")
    orders.judge([("canary-1", order(1, label="same")[1]), ("canary-2", order(2, label="same")[1])])
    [shared] = failing(orders.shelf(Reader.VISITOR), "label.unique")
    assert shared.rows
    assert shared.rows.masked >= {"keys"}
    assert "canary" not in repr(shared)
    [owned] = failing(orders.shelf(), "label.unique")
    assert "canary-1" in repr(owned)
