"""Where a product's data come from and where they go: topics and products as a drawing, columns as a list; pure.

Layers by the longest way from a topic, so that every arrow leads to the right; within a layer in the order of what they
are made from, which keeps most arrows from crossing. A graph library was ruled out: a product's kin are dozens at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from markupsafe import Markup

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import TransformInvalid
from mesh_pipelines.portal.landscape import Landscape

_WIDE, _TALL, _GAP_X, _GAP_Y = 210, 54, 70, 18


@dataclass(frozen=True)
class Node:
    """A box: a product by its name, or the topic of one."""

    id: str
    label: str
    note: str
    kind: str
    url: str = ""


@dataclass(frozen=True)
class Graph:
    """Boxes, and arrows between their ids."""

    nodes: Mapping[str, Node]
    edges: frozenset[tuple[str, str]]


def graph_of(landscape: Landscape, fqn: str, url: Mapping[str, str]) -> Graph:
    """Everything a product is made from and everything made from it; ``url`` gives the products' pages."""
    names = (
        {fqn}
        | _reach(fqn, lambda name: _inputs(landscape, name))
        | _reach(fqn, lambda name: landscape.consumers.get(name, ()))
    )
    nodes: dict[str, Node] = {}
    edges: set[tuple[str, str]] = set()
    for name in names:
        entry = landscape.entries.get(name)
        product = entry.product if entry else None
        health = str(entry.current.health) if entry else "unknown"
        note = str(product.alignment) if product else "not readable" if entry else "not in this mesh"
        kind = f"{health}{' self' if name == fqn else ''}"
        nodes[name] = Node(name, name, note, kind, url.get(name, ""))
        if product and product.topic:
            topic = f"topic {product.topic.name}"
            nodes[topic] = Node(topic, product.topic.name, "topic", "topic")
            edges.add((topic, name))
        edges |= {(source, name) for source in _inputs(landscape, name) if source in names}
    return Graph(nodes, frozenset(edges))


def _inputs(landscape: Landscape, name: str) -> tuple[str, ...]:
    entry = landscape.entries.get(name)
    return entry.product.inputs if entry and entry.product else ()


def _reach(start: str, step: Callable[[str], Iterable[str]]) -> set[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        for name in step(todo.pop()):
            if name not in found:
                found.add(name)
                todo.append(name)
    return found


def draw(graph: Graph, title: str) -> Markup:
    """The graph as SVG."""
    layers = _layers(graph)
    columns: dict[int, list[str]] = defaultdict(list)
    for name in sorted(graph.nodes, key=lambda name: (layers[name], name)):
        columns[layers[name]].append(name)
    place: dict[str, tuple[float, float]] = {}
    tallest = max(map(len, columns.values()))
    for layer in sorted(columns):
        names = columns[layer]
        names.sort(
            key=lambda name: (_mean([place[one][1] for one, two in graph.edges if two == name and one in place]), name)
        )
        top = (tallest - len(names)) * (_TALL + _GAP_Y) / 2
        for number, name in enumerate(names):
            place[name] = layer * (_WIDE + _GAP_X) + 1, top + number * (_TALL + _GAP_Y) + 1
    width = max(columns) * (_WIDE + _GAP_X) + _WIDE + 2
    height = tallest * (_TALL + _GAP_Y) - _GAP_Y + 2
    shapes = [_arrow(place[one], place[two]) for one, two in sorted(graph.edges)]
    shapes += [_box(graph.nodes[name], *place[name]) for name in place]
    return Markup(
        '<svg class="chart graph" role="group" aria-label="{}" viewBox="0 0 {w} {h}" width="{w}" height="{h}">{}</svg>'
    ).format(title, Markup("").join(shapes), w=width, h=height)


def _layers(graph: Graph) -> dict[str, int]:
    """For each box the longest way to it; a cycle, which contracts never have, is entered somewhere."""
    before: dict[str, set[str]] = {name: set() for name in graph.nodes}
    for one, two in graph.edges:
        before[two].add(one)
    waiting, found = sorted(graph.nodes), dict[str, int]()
    while waiting:
        ready = {name for name in waiting if before[name] <= found.keys()} or {waiting[0]}
        for name in ready:
            found[name] = 1 + max((found[one] for one in before[name] if one in found), default=-1)
        waiting = [name for name in waiting if name not in ready]
    return found


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _arrow(one: tuple[float, float], two: tuple[float, float]) -> Markup:
    x1, y1, x2, y2 = one[0] + _WIDE, one[1] + _TALL / 2, two[0], two[1] + _TALL / 2
    bend = _GAP_X / 2 + (x2 - x1 - _GAP_X) / 2
    return Markup('<path class="edge" d="M{:.0f} {:.0f} C{:.0f} {:.0f} {:.0f} {:.0f} {:.0f} {:.0f}"/>').format(
        x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2
    )


def _box(node: Node, x: float, y: float) -> Markup:
    label = node.label if len(node.label) <= 27 else f"{node.label[:26]}…"
    inner = Markup(
        '<title>{}</title><rect x="{:.0f}" y="{:.0f}" width="{}" height="{}" rx="8"/>'
        '<text class="label" x="{:.0f}" y="{:.0f}">{}</text><text class="note" x="{:.0f}" y="{:.0f}">{}</text>'
    ).format(f"{node.label}, {node.note}", x, y, _WIDE, _TALL, x + 14, y + 23, label, x + 14, y + 41, node.note)
    if node.url:
        return Markup('<a class="node {}" href="{}">{}</a>').format(node.kind, node.url, inner)
    return Markup('<g class="node {}">{}</g>').format(node.kind, inner)


@dataclass(frozen=True)
class Column:
    """A field and the fields of inputs it is computed from; ``known`` is False where that cannot be told."""

    field: str
    sources: tuple[tuple[str, str], ...]
    known: bool = True


def columns_of(landscape: Landscape, product: DataProduct) -> tuple[Column, ...]:
    """For each field of a derived product what it is computed from; for a stream's, the topic's field."""
    if product.topic:
        return tuple(Column(field.name, ((product.topic.name, field.event_name),)) for field in product.fields)
    inputs = {
        name: entry.product for name in product.inputs if (entry := landscape.entries.get(name)) and entry.product
    }
    hashes = tuple(sorted((name, one.contract_hash) for name, one in inputs.items()))
    return _traced(_Inputs(product, inputs, (product.contract_hash, hashes)))


@dataclass(frozen=True)
class _Inputs:
    product: DataProduct
    inputs: Mapping[str, DataProduct]
    key: tuple[object, ...]

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Inputs) and other.key == self.key


@lru_cache(maxsize=2000)
def _traced(asked: _Inputs) -> tuple[Column, ...]:
    from mesh_pipelines.pipeline.transform import lineage

    try:
        found = lineage(asked.product, asked.inputs)
    except TransformInvalid:
        return tuple(Column(field.name, (), known=False) for field in asked.product.fields)
    return tuple(
        Column(field.name, tuple((one.product, one.column) for one in found.get(field.name, ())), field.name in found)
        for field in asked.product.fields
    )
