"""Both passes over New York's flights: as they are, and with a fault planted for every rule about rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from mesh_pipelines.audit.audit import Context, audit
from mesh_pipelines.contract.model import DataProduct, Kind, Rule, RuleKind
from mesh_pipelines.contract.read.load import load_products
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.demo import nyc
from mesh_pipelines.engine import View
from mesh_pipelines.gx.validate import validate_with_gx
from mesh_pipelines.rules.results import RuleResult, State
from mesh_pipelines.sql.quote import literal, quote

PRODUCTS = load_products(Path(__file__).parents[2] / "assets").products
STREAMED = [name for name in PRODUCTS if PRODUCTS[name].topic]
DERIVED = [name for name in PRODUCTS if PRODUCTS[name].transform]
JANUARY = {"operations.flights": "scheduled_departure", "weather.observations": "hour"}
KEPT = (State.PASS, State.VACUOUS)


@pytest.fixture(scope="module")
def january() -> Iterator[duckdb.DuckDBPyConnection]:
    """Every product as a table ``domain.name``: the last state of each key, of January."""
    with duckdb.connect() as connection:
        nyc.load_tables(connection)
        for name in STREAMED:
            _fold(connection, PRODUCTS[name])
        for name in DERIVED:
            _create(connection, PRODUCTS[name], PRODUCTS[name].transform.sql.rstrip().rstrip(";"))
        yield connection


def _fold(connection: duckdb.DuckDBPyConnection, product: DataProduct) -> None:
    connection.register("events", nyc.events(connection, product.fqn).rows)
    instant = JANUARY.get(product.fqn)
    within = f"WHERE {instant} < TIMESTAMPTZ '2013-02-01 00:00:00+00:00'" if instant else ""
    query = f"SELECT * FROM (SELECT row_number() OVER () AS number, * FROM events) {within}"
    if product.event_type.folds_by_key:
        key = ", ".join(quote(field.name) for field in product.key)
        query += f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY number DESC) = 1"
    _create(connection, product, query)
    connection.unregister("events")


def _create(connection: duckdb.DuckDBPyConnection, product: DataProduct, query: str) -> None:
    columns = ", ".join(
        f"CAST({quote(one.name)} AS {duckdb_type(one.type)}) AS {quote(one.name)}" for one in product.fields
    )
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(product.domain)}")
    connection.execute(f"CREATE TABLE {product.fqn} AS SELECT {columns} FROM ({query})")


def _as_file(connection: duckdb.DuckDBPyConnection, name: str, file: Path) -> View:
    connection.execute(f"COPY {name} TO {literal(str(file))}")
    return View(f"FROM read_parquet({literal(str(file))})", frozenset({str(file)}))


def _both(connection: duckdb.DuckDBPyConnection, product: DataProduct, folder: Path) -> dict[str, RuleResult]:
    """Our results of the relation ``candidate``, with which Great Expectations agrees in every rule."""
    inputs = {name: _as_file(connection, name, folder / f"{name}.parquet") for name in product.inputs}
    ours = audit(connection, "candidate", product, candidate_id="c", context=Context(inputs=inputs)).results
    theirs = validate_with_gx(connection, product)
    assert {one.rule: one.state in KEPT for one in theirs} == {one.rule: one.state in KEPT for one in ours}
    assert {one.rule: one.message for one in theirs if one.state is State.ERROR} == {}
    return {one.rule: one for one in ours}


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_both_passes_agree_on_the_data_and_on_a_planted_fault_for_every_rule(january, name, tmp_path):
    product = PRODUCTS[name]
    january.execute(f"CREATE OR REPLACE TABLE candidate AS FROM {name}")
    before = _both(january, product, tmp_path)
    assert not [one for one in before.values() if one.state is State.ERROR]
    planted = [rule for rule in product.rules if _plant(january, product, rule, number=product.rules.index(rule))]
    assert len(planted) >= sum(rule.kind is RuleKind.ROW for rule in product.rules)
    after = _both(january, product, tmp_path)
    for rule in planted:
        bad = (before[rule.id].bad or 0, after[rule.id].bad or 0)
        assert bad[1] > bad[0], rule.id
        if (rule.operator, rule.threshold) == ("mustBe", 0):
            assert after[rule.id].state in (State.FAIL, State.WARN), rule.id


def _plant(connection: duckdb.DuckDBPyConnection, product: DataProduct, rule: Rule, number: int) -> bool:
    """Break a rule in a row of its own; False for rules that are about no single row."""
    if rule.kind is RuleKind.UNIQUE:
        columns = ", ".join(map(quote, rule.fields))
        complete = " AND ".join(f"{quote(one)} IS NOT NULL" for one in rule.fields)
        connection.execute(
            f"INSERT INTO candidate ({columns}) SELECT {columns} FROM candidate WHERE {complete} LIMIT 1"
        )
        return True
    if rule.kind is not RuleKind.ROW:
        return False
    [column] = rule.fields
    where = f"rowid = (SELECT min(rowid) FROM candidate WHERE {quote(column)} IS NOT NULL AND rowid >= {number})"
    connection.execute(f"UPDATE candidate SET {quote(column)} = {_broken(product, rule)} WHERE {where}")
    return True


def _broken(product: DataProduct, rule: Rule) -> str:
    """A value that breaks the rule, as SQL."""
    field = next(one for one in product.fields if one.name == rule.fields[0])
    match rule.check:
        case "required" | "nullValues":
            return "NULL"
        case "minimum" | "exclusiveMinimum":
            return _beside(rule.arguments[rule.check], field.type.kind, "-")
        case "maximum" | "exclusiveMaximum":
            return _beside(rule.arguments[rule.check], field.type.kind, "+")
        case "minLength":
            return "''"
        case "maxLength":
            return literal("x" * (rule.arguments["maxLength"] + 1))
        case "pattern" | "invalidValues":
            return "'~ no such value'"
        case check:
            raise AssertionError(f"no way to break {check}")


def _beside(limit: object, kind: Kind, sign: str) -> str:
    if kind is Kind.TIMESTAMP:
        return f"TIMESTAMPTZ {literal(limit)} {sign} INTERVAL 1 DAY"
    return f"{limit} {sign} 1"
