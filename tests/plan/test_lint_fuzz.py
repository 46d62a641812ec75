"""Contracts made by mutation: whatever a person writes, lint ends, says what is wrong, and writes nothing elsewhere.

It goes on for ``FUZZ_SECONDS`` (a minute unless that is set); each case is named by a seed, which the failure tells.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from mesh_pipelines.contract.scaffold import scaffold
from mesh_pipelines.plan.lint import lint
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
# A text may take 3 seconds of CPU, a whole contract 4, what is loaded for it 4 more; a busy machine takes longer.
HANGS_S = 90.0
CALLS = ("date", "row", "struct", "decimal", "list", "map", "array", "timestamp", "varchar", "interval", "cast", "x.f")
PAIRS = (
    ("(", ")"),
    ("[", "]"),
    ("{'a': ", "}"),
    ("CASE WHEN ", " THEN 1 END"),
    ("NOT ", ""),
    ("- ", ""),
    ("(SELECT ", ")"),
)
WORDS = (
    "SELECT",
    "FROM",
    "WITH RECURSIVE",
    "OVER ()",
    "::",
    "->",
    "$1",
    "{object}",
    "'",
    '"',
    "--",
    "/*",
    "\\",
    "\x00",
)
SCALARS = (
    "1e400",
    ".nan",
    "-.inf",
    "!!python/object:os.system x",
    "*a",
    "&a [*a]",
    "0x" + "f" * 500,
    "1" * 5000,
    "~",
    "''",
)
SCALARS += (
    "2999-99-99",
    "[[[[[[[[]]]]]]]]",
    "{a: {a: {a: {}}}}",
    "|\n  x",
    "<<",
    "\U0001f4a9",
    "\u202e",
    "no",
    "%",
    "@platform",
)


def nested(chance: random.Random) -> str:
    """An expression that nests one thing, or several in turn."""
    kinds = [*PAIRS, *((f"{name}(", ")") for name in CALLS)]
    chosen = [chance.choice(kinds) for _ in range(chance.choice([1, 1, 2, 3]))]
    depth = chance.choice([3, 10, 30, 100, 1000, 10_000])
    steps = [chosen[number % len(chosen)] for number in range(depth)]
    return "".join(opened for opened, _ in steps) + "1" + "".join(closed for _, closed in reversed(steps))


def sql(chance: random.Random, sound: str) -> str:
    match chance.randrange(4):
        case 0:
            return f"SELECT {nested(chance)} AS shop_orders_rows FROM shop.orders"
        case 1:
            return f"WITH a AS (SELECT {nested(chance)}) SELECT count(*) AS shop_orders_rows FROM shop.orders, a"
        case 2:
            place = chance.randrange(len(sound))
            return sound[:place] + chance.choice(WORDS) * chance.choice([1, 2, 1000]) + sound[place:]
        case _:
            return " ".join(chance.choices([*WORDS, *sound.split()], k=chance.choice([5, 50, 5000])))


def contract(chance: random.Random, sound: str) -> str:
    lines = sound.splitlines()
    number = chance.randrange(len(lines))
    match chance.randrange(5):
        case 0 if ":" in lines[number]:
            lines[number] = f"{lines[number].partition(':')[0]}: {chance.choice(SCALARS)}"
        case 1:
            lines[number:number] = [lines[number]] * chance.choice([1, 3000])
        case 2:
            del lines[number]
        case 3:
            lines[number] = " " * chance.randrange(9) + lines[number].strip()
        case _:
            query = sql(chance, "SELECT count(*) FROM {object}").encode("unicode_escape").decode().replace('"', "'")
            rule = f'quality:\n  - {{name: q, type: sql, query: "{query}", mustBe: 0}}'
            return sound.replace("quality:", rule.replace("\n", "\n    "), 1)
    return "\n".join(lines)


@pytest.mark.slow
def test_lint_ends_and_says_what_is_wrong_whatever_is_written(tmp_path: Path) -> None:
    assets, home = tmp_path / "assets", tmp_path / "home"
    home.mkdir()
    scaffold(assets, "shop/orders")
    scaffold(assets, "shop/totals", inputs=("shop.orders",))
    files = [assets / "shop/orders/contract.yaml", assets / "shop/totals/contract.yaml"]
    transform = assets / "shop/totals/transform.sql"
    sound = {file: file.read_text() for file in (*files, transform)}
    settings = Settings(home=home, assets=assets)
    assert not any(one.faults for one in lint(Platform.open(settings)))
    first = int(os.environ.get("FUZZ_SEED", "0"))
    end, seed = time.monotonic() + SECONDS, first
    while time.monotonic() < end:
        chance = random.Random(seed)
        for file, text in sound.items():
            file.write_text(text)
        file = chance.choice([*files, transform, transform])
        text = sql(chance, sound[transform]) if file == transform else contract(chance, sound[file])
        file.write_text(text, encoding="utf-8")
        started = time.monotonic()
        found = lint(Platform.open(settings))
        assert time.monotonic() - started < HANGS_S, f"seed {seed}"
        assert {one.product for one in found} == {"shop.orders", "shop.totals"}, f"seed {seed}"
        assert all(fault.problem for one in found for fault in one.faults), f"seed {seed}"
        seed += 1
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert written <= {"assets", "home"}
    assert sorted(path.name for path in assets.rglob("*") if path.is_file()) == ["contract.yaml"] * 2 + [
        "transform.sql"
    ]
    print(f"{seed - first} contracts")
