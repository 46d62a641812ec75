"""The whole audit beside the same rules written by hand: 25 rules over ten million rows of 12 columns.

By hand is what somebody would write in DuckDB over the very files: one SELECT that counts the rows breaking each row
rule, and a grouping for the unique key. Ours is the audit of a candidate as publishing runs it: states, verdict, and
its rules compiled from the contract. Both take turns in one process; the ratio of their CPU seconds is the figure.

    .venv/bin/python benchmarks/audit.py --rows 1000000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
from report import Report

from mesh_pipelines.audit.audit import audit
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.engine import connect
from mesh_pipelines.settings import Settings

ROWS_PER_FILE = 500_000
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: shop.orders
name: orders
domain: shop
version: "1.0.0"
status: active
team: {members: [{username: ann@example.com, role: owner}]}
customProperties:
  - {property: mesh.alignment, value: source-aligned}
  - {property: mesh.eventType, value: state}
schema:
  - name: orders
    quality: [{metric: rowCount, mustBeGreaterThan: 0}]
    properties:
      - {name: order_id, logicalType: string, primaryKey: true, required: true,
         logicalTypeOptions: {pattern: "^order-[0-9]+$", minLength: 7, maxLength: 40}}
      - {name: customer_id, logicalType: integer, required: true,
         logicalTypeOptions: {minimum: 0, maximum: 1000000}}
      - {name: status, logicalType: string, required: true, logicalTypeOptions: {minLength: 1},
         quality: [{metric: invalidValues, arguments: {validValues: [new, paid, sent, done]}, mustBe: 0}]}
      - {name: currency, logicalType: string, required: true, logicalTypeOptions: {minLength: 3, maxLength: 3}}
      - {name: amount_cents, logicalType: integer, required: true,
         logicalTypeOptions: {minimum: 0, maximum: 100000000}}
      - {name: items, logicalType: integer, logicalTypeOptions: {minimum: 0, maximum: 1000}}
      - {name: country, logicalType: string, logicalTypeOptions: {maxLength: 2}}
      - {name: note, logicalType: string, logicalTypeOptions: {maxLength: 200}}
      - {name: created_at, logicalType: timestamp, required: true}
      - {name: shipped_at, logicalType: timestamp}
      - {name: discount, logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 1}}
      - {name: gift, logicalType: boolean}
"""
BY_HAND = """\
SELECT count(*),
  count(*) FILTER (WHERE order_id IS NULL), count(*) FILTER (WHERE NOT regexp_matches(order_id, '^order-[0-9]+$')),
  count(*) FILTER (WHERE length(order_id) < 7), count(*) FILTER (WHERE length(order_id) > 40),
  count(*) FILTER (WHERE customer_id IS NULL), count(*) FILTER (WHERE customer_id < 0),
  count(*) FILTER (WHERE customer_id > 1000000),
  count(*) FILTER (WHERE status IS NULL), count(*) FILTER (WHERE length(status) < 1),
  count(*) FILTER (WHERE status NOT IN ('new', 'paid', 'sent', 'done')),
  count(*) FILTER (WHERE currency IS NULL), count(*) FILTER (WHERE length(currency) < 3),
  count(*) FILTER (WHERE length(currency) > 3),
  count(*) FILTER (WHERE amount_cents IS NULL), count(*) FILTER (WHERE amount_cents < 0),
  count(*) FILTER (WHERE amount_cents > 100000000),
  count(*) FILTER (WHERE items < 0), count(*) FILTER (WHERE items > 1000),
  count(*) FILTER (WHERE length(country) > 2), count(*) FILTER (WHERE length(note) > 200),
  count(*) FILTER (WHERE created_at IS NULL),
  count(*) FILTER (WHERE discount < 0), count(*) FILTER (WHERE discount > 1)
FROM orders
"""
UNIQUE_BY_HAND = """\
SELECT coalesce(sum(copies - 1), 0) FROM (
  SELECT count(*) AS copies FROM orders WHERE order_id IS NOT NULL GROUP BY order_id HAVING count(*) > 1)
"""


def generate(folder: Path, rows: int) -> None:
    """The orders as Parquet files, in order of their keys."""
    folder.mkdir(parents=True)
    with duckdb.connect() as engine:
        for start in range(0, rows, ROWS_PER_FILE):
            end = min(rows, start + ROWS_PER_FILE)
            engine.execute(
                f"""COPY (SELECT 'order-' || lpad(i::VARCHAR, 12, '0') AS order_id,
                (hash(i) % 100000)::BIGINT AS customer_id,
                list_extract(['new', 'paid', 'sent', 'done'], (hash(i + 1) % 4 + 1)::BIGINT) AS status,
                list_extract(['EUR', 'USD', 'GBP'], (hash(i + 2) % 3 + 1)::BIGINT) AS currency,
                (hash(i + 3) % 1000000)::BIGINT AS amount_cents, (hash(i + 4) % 20)::BIGINT AS items,
                list_extract(['DE', 'FR', 'US', 'IT'], (hash(i + 5) % 4 + 1)::BIGINT) AS country,
                'note ' || (hash(i + 6) % 100000) AS note,
                make_timestamptz((1700000000000000 + hash(i + 7) % 10000000000)::BIGINT) AS created_at,
                CASE WHEN i % 2 = 0 THEN make_timestamptz(1700000000000000 + i) END AS shipped_at,
                (hash(i + 8) % 100)::DOUBLE / 100 AS discount, i % 10 = 0 AS gift
                FROM range({start}, {end}) AS t(i))
                TO '{folder / f"{start}.parquet"}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"""
            )


def compare(folder: Path, rows: int, rounds: int) -> Report:
    """CPU seconds of both, in turns."""
    home = folder / "assets" / "shop" / "orders"
    home.mkdir(parents=True)
    (home / "contract.yaml").write_text(CONTRACT)
    product = load_product(home)
    generate(folder / "warehouse", rows)
    with closing(connect(Settings(home=folder))) as engine:
        engine.execute(f"CREATE VIEW orders AS FROM read_parquet('{folder / 'warehouse'}/*.parquet')")

        def ours() -> None:
            found = audit(engine, "orders", product, candidate_id="a benchmark")
            assert found.verdict.passed, found.verdict.blocking
            assert (found.rows, len(found.results)) == (rows, 25)

        def hand() -> None:
            engine.execute(BY_HAND).fetchall()
            engine.execute(UNIQUE_BY_HAND).fetchall()

        taken: dict[str, list[float]] = {"ours": [], "by hand": []}
        for _ in range(rounds):
            for name, work in (("ours", ours), ("by hand", hand)):
                taken[name].append(_cpu(work))
    report = Report("audit")
    for name, seconds in taken.items():
        report.add(f"25 rules, {rows:,} rows, {name}", *({"CPU s": one} for one in seconds))
    pairs = zip(taken["ours"], taken["by hand"], strict=True)
    report.ratio("CPU of ours to by hand", [ours / hand for ours, hand in pairs], "lower", 1.3)
    return report


def _cpu(work: Callable[[], None]) -> float:
    used = time.process_time()
    work()
    return time.process_time() - used


def main() -> None:
    """Parse the options and measure."""
    options = argparse.ArgumentParser(description="The whole audit beside the same rules by hand.")
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path, help="write the report there")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), given.rows, given.rounds).give(given.json)


if __name__ == "__main__":
    main()
