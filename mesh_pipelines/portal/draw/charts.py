"""Charts as SVG, drawn on the server: no script, no style attribute, no other host; pure.

Shapes carry classes and take their colours from the page's stylesheet, so they follow light and dark. Every chart has a
title that says in words what it shows, for those who hear it; pages put the figures beside it as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup, escape

from mesh_pipelines.portal.text import compact


@dataclass(frozen=True)
class Day:
    """One day of a stack: parts from the bottom up, each (class, amount)."""

    day: date
    parts: tuple[tuple[str, float], ...]
    text: str


def sparkline(values: Sequence[float | None], title: str, *, kind: str = "", low: float | None = None) -> Markup:
    """A line of 120 x 28 without axes; gaps where there is no value. The scale's bottom is at most ``low``."""
    known = [value for value in values if value is not None]
    if not known:
        return Markup('<span class="none" title="{}">no data</span>').format(title)
    bottom, top = min(known) if low is None else min(low, *known), max(known)
    scale = _Scale(len(values), bottom, top, 120, 28, pad=2)
    return _svg((120, 28), f"spark {kind}", title, [_path(scale, values), *_lone(scale, values)], stretch=False)


def stack(days: Sequence[Day], title: str, *, height: int = 120, none: str = "") -> Markup:
    """Bars by day over the full width; each day's parts are stacked, with its text as a tip.

    ``none`` is said instead where all days are empty, which may be good news.
    """
    most = max((sum(amount for _, amount in day.parts) for day in days), default=0.0)
    if not days or (none and not most):
        return _empty(title, none)
    most = most or 1.0
    width = 720
    step = width / len(days)
    bar = max(1.0, min(step - 1.5, 26))
    shapes: list[Markup] = []
    for index, day in enumerate(days):
        x, y = index * step + (step - bar) / 2, float(height)
        inner: list[Markup] = []
        for kind, amount in day.parts:
            tall = amount / most * (height - 4)
            y -= tall
            inner.append(_rect(f"fill-{kind}", x, y, bar, tall))
        hit = _rect("hit", index * step, 0, step, height)
        shapes.append(Markup(f"<g><title>{escape(day.text)}</title>{hit}{''.join(inner)}</g>"))
    ends = (f"{days[0].day:%d %b}", f"{days[-1].day:%d %b}")
    return _figure(_svg((width, height), "stack", title, shapes), compact(most), ends)


@dataclass(frozen=True)
class Line:
    """A series over time: points of (place between 0 and 1, value), and what it must stay under, if anything.

    ``ends`` are the words under its two ends.
    """

    points: Sequence[tuple[float, float | None]]
    promised: float | None = None
    ends: tuple[str, str] = ("", "")


def line(series: Line, title: str, unit: Callable[[float], str] = compact, *, height: int = 140) -> Markup:
    """One line over the full width, with the promise as a dashed one; ``unit`` says its top value in words."""
    known = [value for _, value in series.points if value is not None]
    if not known:
        return _empty(title)
    width = 720
    top = max([*known, series.promised or 0]) * 1.08 or 1.0

    def x(place: float) -> float:
        return 4 + place * (width - 8)

    def y(value: float) -> float:
        return height - 4 - value / top * (height - 8)

    shapes: list[Markup] = []
    if series.promised is not None:
        at = _n(y(series.promised))
        shapes.append(Markup('<line class="promise" x1="0" x2="{}" y1="{}" y2="{}"/>').format(width, at, at))
    runs = _runs([(x(place), None if value is None else y(value)) for place, value in series.points])
    shapes.extend(_polyline(run) for run in runs)
    shapes.extend(_dot(*run[0]) for run in runs if len(run) == 1)
    return _figure(_svg((width, height), "line", title, shapes), unit(top), series.ends)


def strip(states: Sequence[tuple[str, str]], title: str) -> Markup:
    """One square a day, coloured by state; each (class, text)."""
    if not states:
        return _empty(title)
    shapes = [
        Markup(
            f'<rect class="fill-{escape(kind)}" x="{index * 12}" y="0" width="10" height="22" rx="2">'
            f"<title>{escape(text)}</title></rect>"
        )
        for index, (kind, text) in enumerate(states)
    ]
    return _svg((len(states) * 12 - 2, 22), "strip", title, shapes, stretch=False)


def meter(share: float | None, title: str, *, kind: str = "good") -> Markup:
    """A bar of 100 x 8, filled by a share between 0 and 1; an overspent (negative) share is empty."""
    filled = max(0.0, min(1.0, share or 0.0)) * 100
    shapes = [
        Markup('<rect class="track" width="100" height="8" rx="4"/>'),
        Markup('<rect class="{}" width="{}" height="8" rx="4"/>').format(f"fill-{kind}", _n(filled)),
    ]
    return _svg((100, 8), "meter", title, shapes, stretch=False)


class _Scale:
    def __init__(self, count: int, bottom: float, top: float, width: int, height: int, *, pad: int) -> None:
        self._step = (width - 2 * pad) / max(1, count - 1)
        self._bottom, self._span = bottom, (top - bottom) or 1.0
        self._height, self._pad = height, pad

    def at(self, index: int, value: float) -> tuple[float, float]:
        inner = self._height - 2 * self._pad
        return self._pad + index * self._step, self._pad + inner - (value - self._bottom) / self._span * inner


def _path(scale: _Scale, values: Sequence[float | None]) -> Markup:
    points = [(index, value) for index, value in enumerate(values)]
    placed = [(scale.at(i, 0.0)[0], None) if value is None else scale.at(i, value) for i, value in points]
    return Markup("").join(_polyline(run) for run in _runs(placed) if len(run) > 1)


def _lone(scale: _Scale, values: Sequence[float | None]) -> list[Markup]:
    placed = [(scale.at(i, 0.0)[0], None) if value is None else scale.at(i, value) for i, value in enumerate(values)]
    return [_dot(*run[0]) for run in _runs(placed) if len(run) == 1]


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """Stretches of points without a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is not None:
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _polyline(run: Sequence[tuple[float, float]]) -> Markup:
    points = " ".join(f"{_n(x)},{_n(y)}" for x, y in run)
    return Markup(f'<polyline points="{points}"/>')


def _dot(x: float, y: float) -> Markup:
    return Markup('<circle class="dot" cx="{}" cy="{}" r="2.5"/>').format(_n(x), _n(y))


# A page has thousands of these, and ``Markup.format``, which escapes numbers too, takes ten times as long.
def _rect(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup(f'<rect class="{escape(kind)}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"/>')


def _figure(drawing: Markup, top: str, ends: tuple[str, str]) -> Markup:
    """A drawing between the words of its scale, which the drawing itself would stretch."""
    return Markup(
        '<div class="plot"><span class="top-value">{}</span>{}'
        '<div class="ends"><span>{}</span><span>{}</span></div></div>'
    ).format(top, drawing, *ends)


def _empty(title: str, none: str = "") -> Markup:
    return Markup('<p class="none">{}</p>').format(none or f"{title}: no data yet")


def _svg(size: tuple[int, int], kind: str, title: str, shapes: Sequence[Markup], *, stretch: bool = True) -> Markup:
    """A drawing of ``size``, its width and height; a word for screen readers is its title."""
    width, height = size
    attributes = Markup('viewBox="0 0 {w} {h}"').format(w=width, h=height)
    if not stretch:
        attributes += Markup(' width="{w}" height="{h}"').format(w=width, h=height)
    else:
        attributes += Markup(' preserveAspectRatio="none" height="{h}"').format(h=height)
    return (
        Markup('<svg class="chart {}" role="img" aria-label="{}" ').format(kind.strip(), title)
        + attributes
        + Markup(">")
        + Markup("").join(shapes)
        + Markup("</svg>")
    )


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
