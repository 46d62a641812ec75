"""What a page's queries of the history cost, in a mesh of many products after a year.

    python benchmarks/history.py --products 1000 --days 365

The past is made up (``synthetic.py``): five rules, two objectives and seven measures a product, by day. The ratio is a
product's page, all of its queries, beside the same page in a mesh of a tenth of the products: it must not grow.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from report import Report
from synthetic import synthetic

from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.prometheus import metrics_text

Query = Callable[[History, str], object]

YEAR = timedelta(days=365)


def of_product(now: datetime) -> Mapping[str, Query]:
    """The queries of a product's page."""
    since = (now - YEAR).date()
    return {
        "current": lambda history, name: history.current(name),
        "rule states": lambda history, name: history.rule_states(name),
        "days of its rules": lambda history, name: history.rule_days(name, since=since),
        "its days": lambda history, name: history.product_days(name, since=since),
        "samples": lambda history, name: history.samples(name, "freshness", since=now - YEAR),
        "days of a measure": lambda history, name: history.measure_days(name, "lag", since=since),
        "days of its objectives": lambda history, name: history.objective_days(name, since=since),
        "incidents": lambda history, name: history.incidents(name),
        "publications": lambda history, name: history.publications(name),
    }


def of_mesh(now: datetime) -> Mapping[str, Query]:
    """The queries of pages about all products."""
    since = (now - YEAR).date()
    return {
        "every product": lambda history, _: history.current(),
        "every objective": lambda history, _: history.objectives(),
        "days of the mesh": lambda history, _: history.mesh_days(since=since),
        "days of dimensions": lambda history, _: history.dimension_days(None, since=since),
        "today of every product": lambda history, _: history.product_days(since=now.date()),
        "open incidents": lambda history, _: history.incidents(open_only=True),
        "metrics": lambda history, _: metrics_text(history),
    }


def measure(folder: Path, products: int, days: int, rounds: int) -> Report:
    """Make both pasts and measure each query."""
    report, now = Report("history"), datetime.now(UTC)
    whole: dict[int, list[float]] = {}
    for count in (products, max(1, products // 10)):
        with closing(History(folder / f"{count}.db")) as history:
            name = synthetic(history, count, days, until=now)[count // 2]
            megabytes = (folder / f"{count}.db").stat().st_size / 1e6
            report.add(f"{count:,} products, {days} days", {"MB": round(megabytes, 1)})
            pages = {**of_product(now), **of_mesh(now)} if count == products else of_product(now)
            taken = {
                query: [_cpu(partial(call, history, name)) for _ in range(rounds)] for query, call in pages.items()
            }
            for query, milliseconds in taken.items():
                report.add(f"{count:,}: {query}", *({"CPU ms": one} for one in milliseconds))
            whole[count] = [sum(taken[query][number] for query in of_product(now)) for number in range(rounds)]
    large, small = whole.values()
    pairs = zip(sorted(large), sorted(small), strict=True)
    report.ratio("CPU of a product's page to a tenth of the products", [a / b for a, b in pairs], "lower", 1.5)
    return report


def _cpu(work: Callable[[], object]) -> float:
    used = time.process_time()
    work()
    return 1000 * (time.process_time() - used)


def main() -> None:
    """Parse the options and measure."""
    options = argparse.ArgumentParser(description="The cost of pages' queries of the history.")
    options.add_argument("--products", type=int, default=1000)
    options.add_argument("--days", type=int, default=365)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", type=Path, help="write the report there")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), given.products, given.days, given.rounds).give(given.json)


if __name__ == "__main__":
    main()
