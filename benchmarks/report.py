"""The one form in which every benchmark gives what it found, as JSON and as a table.

    {"benchmark": "land", "machine": {...}, "at": "2026-11-24T12:00:00+00:00",
     "rows": [{"name": ..., "figures": {...}, "spread": {figure: [least, most]}, "note": ...}],
     "ratios": {name: {"value": ..., "better": "higher" | "lower", "must": ..., "aim": ..., "spread": [least, most]}}}

``figures`` are medians over the rounds where there are several; ``spread`` and ``note`` are there where there is one.
Ratios are measured within a run, so they hold on another machine: ``must`` is what is asked for, ``aim`` what is
hoped for, null where nothing is said. This module needs nothing beyond Python, so peers in environments of their own
could use it as well.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal

Better = Literal["higher", "lower"]
Figure = float | int | str | bool


@dataclass(frozen=True)
class Ratio:
    """One ratio: its median, which way is better, what it must be and what it aims at."""

    value: float
    better: Better
    must: float | None
    aim: float | None
    spread: tuple[float, float]

    @property
    def verdict(self) -> str:
        """What the value says of ``must`` and ``aim``."""
        if self.must is None:
            return ""
        if self.aim is not None and self._reaches(self.aim):
            return "reaches its aim"
        return "holds" if self._reaches(self.must) else "MISSES what it must be"

    def _reaches(self, bound: float) -> bool:
        return self.value >= bound if self.better == "higher" else self.value <= bound


@dataclass
class Report:
    """What a benchmark found: rows of figures, and ratios between them."""

    benchmark: str
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    ratios: dict[str, Ratio] = field(default_factory=dict[str, Ratio])

    def add(self, name: str, *rounds: Mapping[str, Figure], note: str = "") -> None:
        """A row: the medians of what each round found, or what was found once; none and a note where it was not."""
        figures: dict[str, Figure] = {}
        spread: dict[str, list[float]] = {}
        for figure in rounds[0] if rounds else ():
            values = [one[figure] for one in rounds]
            numbers = [value for value in values if not isinstance(value, str | bool)]
            figures[figure] = median(numbers) if len(numbers) > 1 else values[0]
            if len(numbers) > 1 and min(numbers) < max(numbers):
                spread[figure] = [min(numbers), max(numbers)]
        row = {"name": name, "figures": figures, "spread": spread, "note": note}
        self.rows.append({key: value for key, value in row.items() if value or key in ("name", "figures")})

    def ratio(
        self,
        name: str,
        values: Sequence[float],
        better: Better = "higher",
        must: float | None = None,
        aim: float | None = None,
    ) -> None:
        """A ratio: the median of one value a round; none if there are no values."""
        if values:
            self.ratios[name] = Ratio(median(values), better, must, aim, (min(values), max(values)))

    def document(self) -> dict[str, Any]:
        """The report in the form above."""
        return {
            "benchmark": self.benchmark,
            "machine": machine(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "rows": self.rows,
            "ratios": {name: asdict(ratio) for name, ratio in self.ratios.items()},
        }

    def give(self, path: Path | None) -> None:
        """Print the table, and write the JSON where a path is given."""
        print(self.table())
        if path:
            path.write_text(json.dumps(self.document(), indent=2) + "\n", encoding="utf-8")

    def table(self) -> str:
        """Rows and ratios as text."""
        figures = list(dict.fromkeys(name for row in self.rows for name in row["figures"]))
        cells = [[self.benchmark, *figures]]
        cells += [[row["name"], *(_cell(row["figures"].get(name, "")) for name in figures)] for row in self.rows]
        widths = [max(len(line[at]) for line in cells) for at in range(len(figures) + 1)]
        lines = [
            "  ".join(
                cell.rjust(width) if at else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        ]
        lines += [f"{row['name']}: {row['note']}" for row in self.rows if row.get("note")]
        named = max((len(name) for name in self.ratios), default=0)
        for name, ratio in self.ratios.items():
            bounds = "" if ratio.must is None else f", must {_cell(ratio.must)}"
            bounds += "" if ratio.aim is None else f", aim {_cell(ratio.aim)}"
            lines.append(
                f"{name.ljust(named)}  {_cell(ratio.value)}  ({_cell(ratio.spread[0])} to {_cell(ratio.spread[1])}, "
                f"{ratio.better} is better{bounds}) {ratio.verdict}".rstrip()
            )
        return "\n".join(line.rstrip() for line in lines)


def machine() -> dict[str, Figure]:
    """What the figures were taken on."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0
    return {
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "load": round(load, 2),
    }


def _processor() -> str:
    """The processor's name; Python itself knows only its architecture on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _cell(value: Figure) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
