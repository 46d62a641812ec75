"""Charts and drawings: well-formed, without scripts or styles, whatever they are given; and figures as text."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.portal import text
from mesh_pipelines.portal.draw import charts
from mesh_pipelines.portal.draw.lineage_graph import Graph, Node, draw

DAY = date(2026, 3, 4)
HOSTILE = "<script>pwned()</script>\"'&onload=x"
NUMBERS = st.none() | st.floats(-1e300, 1e300) | st.integers(-(10**18), 10**18)


def sound(drawing: str) -> ElementTree.Element:
    """The drawing's tree, which has no script, no style, no handler and no number that is none."""
    root = ElementTree.fromstring(f"<x>{drawing}</x>")
    for one in root.iter():
        assert one.tag not in ("script", "style", "foreignObject", "image", "use"), drawing
        for name, value in one.attrib.items():
            assert name != "style", drawing
            assert not name.startswith("on"), drawing
            assert not re.search(r"\b(nan|inf)\b", value) or name in ("aria-label", "title"), drawing
    return root


@given(st.lists(NUMBERS, max_size=50), st.none() | st.floats(-1e9, 1e9))
def test_sparklines(values: list[float | None], low: float | None) -> None:
    root = sound(charts.sparkline(values, HOSTILE, low=low))
    known = [value for value in values if value is not None]
    assert (root.find(".//span") is not None) == (not known)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.none() | st.floats(0, 1e300)), max_size=50), st.none() | st.floats(0, 1e9)
)
def test_lines(points: list[tuple[float, float | None]], promised: float | None) -> None:
    sound(charts.line(charts.Line(points, promised, (HOSTILE, "now")), HOSTILE))


@given(st.lists(st.lists(st.floats(0, 1e300), max_size=3), max_size=50))
def test_stacks_stay_inside_their_height(amounts: list[list[float]]) -> None:
    days = [
        charts.Day(DAY + timedelta(days=number), tuple(("bad", one) for one in parts), HOSTILE)
        for number, parts in enumerate(amounts)
    ]
    root = sound(charts.stack(days, HOSTILE, none="none"))
    for bar in root.iter("rect"):
        assert -0.2 <= float(bar.get("y", 0)) <= 120.2
        assert float(bar.get("y", 0)) + float(bar.get("height", 0)) <= 120.3


@given(st.lists(st.tuples(st.sampled_from(("good", "bad", "none")), st.text()), max_size=10))
def test_strips(states: list[tuple[str, str]]) -> None:
    # XML has no control characters; browsers take them, and show nothing.
    plain = [(kind, re.sub(r"[^\x20-\ud7ff\ue000-\ufffd]", "", words)) for kind, words in states]
    sound(charts.strip(plain, HOSTILE))


@pytest.mark.parametrize("share", [None, -3.0, 0.0, 0.5, 1.0, 7.0])
def test_meters_are_between_empty_and_full(share: float | None) -> None:
    filled = sound(charts.meter(share, HOSTILE)).findall(".//rect")[1].get("width")
    assert filled is not None
    assert 0 <= float(filled) <= 100


def test_gaps_break_a_line_and_a_lone_point_is_a_dot() -> None:
    root = sound(charts.sparkline([1, 2, None, 3, None, 4, 5], "t"))
    assert [len(line.get("points", "").split()) for line in root.iter("polyline")] == [2, 2]
    assert len(list(root.iter("circle"))) == 1
    [dot] = sound(charts.sparkline([7], "t")).iter("circle")
    assert dot.get("cx") == "2"


def test_a_chart_of_a_year_and_of_nothing() -> None:
    days = [charts.Day(DAY + timedelta(days=number), (("good", float(number)),), "d") for number in range(400)]
    assert len(list(sound(charts.stack(days, "t")).iter("g"))) == 400
    assert "no data yet" in charts.stack([], "t")
    assert "All well" in charts.stack([charts.Day(DAY, (), "d")], "t", none="All well")
    assert "no data yet" in charts.line(charts.Line([]), "t")


def graph(*edges: tuple[str, str]) -> Graph:
    names = sorted({name for edge in edges for name in edge})
    return Graph({name: Node(name, name, HOSTILE, "good", f"/{name}") for name in names}, frozenset(edges))


def boxes(drawing: str) -> dict[str, tuple[float, float]]:
    root = sound(drawing)
    found: dict[str, tuple[float, float]] = {}
    for node in root.iter("a"):
        rect = node.find("rect")
        assert rect is not None
        found[node.get("href", "")[1:]] = float(rect.get("x", 0)), float(rect.get("y", 0))
    return found


def test_arrows_lead_to_the_right_and_boxes_do_not_overlap() -> None:
    edges = [("a", "b"), ("b", "d"), ("a", "c"), ("c", "d"), ("a", "d")]
    place = boxes(draw(graph(*edges), HOSTILE))
    assert all(place[one][0] < place[two][0] for one, two in edges)
    assert len(set(place.values())) == 4


def test_a_cycle_is_drawn_and_ends() -> None:
    assert len(boxes(draw(graph(("a", "b"), ("b", "c"), ("c", "a")), "t"))) == 3
    assert len(boxes(draw(graph(("a", "a")), "t"))) == 1


def test_a_long_chain_is_drawn() -> None:
    chain = [f"n{number:04}" for number in reversed(range(1500))]
    place = boxes(draw(graph(*pairwise(chain)), "t"))
    assert [name for name, _ in sorted(place.items(), key=lambda one: one[1])] == chain


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 3))
def test_what_is_short_of_all_is_never_all(share: float, digits: int) -> None:
    assert not text.percent(share, digits).startswith("100")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (text.percent(None), "–"),
        (text.percent(1.0), "100 %"),
        (text.percent(0.99999), "99.9 %"),
        (text.percent(0.9999999, 0), "99 %"),
        (text.percent(0.5), "50 %"),
        (text.percent(0.005), "0.5 %"),
        (text.count(None), "–"),
        (text.count(1234567), "1,234,567"),
        (text.compact(None), "–"),
        (text.compact(987), "987"),
        (text.compact(12_345), "12.3 k"),
        (text.compact(999_999), "1 M"),
        (text.compact(1_234_567), "1.23 M"),
        (text.compact(999_999_999), "1 G"),
        (text.compact(0.25), "0.25"),
        (text.duration(None), "–"),
        (text.duration(0), "0 s"),
        (text.duration(0.4), "0.4 s"),
        (text.duration(9.99), "10 s"),
        (text.duration(59.7), "1 min"),
        (text.duration(3599.9), "1 h"),
        (text.duration(7500), "2 h 5 min"),
        (text.duration(86_399.9), "1 d"),
        (text.duration(864_000), "10 days"),
        (text.utc(None), "–"),
        (text.utc(datetime(2026, 11, 24, 13, 5, 9, tzinfo=UTC)), "2026-11-24 13:05:09 UTC"),
        (text.ago(None), "never"),
    ],
)
def test_figures_as_text(said: str, expected: str) -> None:
    assert said == expected


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3600, "just now"), (4, "just now"), (60, "1 minute ago"), (7200, "2 hours ago"), (86_400 * 400, "1 year ago")],
)
def test_how_long_ago(seconds: int, said: str) -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert text.ago(now - timedelta(seconds=seconds), now) == said
