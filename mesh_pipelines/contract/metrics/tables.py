"""The metrics as tables of the documentation, in Markdown: what stands in ``docs`` between two marks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mesh_pipelines.contract.metrics.metric import Place
from mesh_pipelines.contract.metrics.registry import in_quality, metrics
from mesh_pipelines.contract.model import RuleKind


def tables() -> Mapping[str, str]:
    """Each table by the name of its marks, ``<!-- name -->`` and ``<!-- end of name -->``."""
    return {"row metrics": _of_rows(), "metrics of rows together": _together(), "library metrics": _library()}


def replaced(text: str) -> str:
    """A page of the documentation with the tables it has marks for."""
    for name, table in tables().items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if begin in text:
            before, _, rest = text.partition(begin)
            text = f"{before}{begin}{table}{end}{rest.partition(end)[2]}"
    return text


def _of_rows() -> str:
    rows = [row for metric in metrics().values() if metric.kind is RuleKind.ROW for row in metric.measures]
    return _table(("check", "broken by a row whose value", "types"), rows)


def _together() -> str:
    rows = [row[:2] for metric in metrics().values() if metric.kind is not RuleKind.ROW for row in metric.measures]
    return _table(("check", "measures"), rows)


def _library() -> str:
    rows = [
        (f"`{metric.name}`", place, metric.takes.get(place, "none"), metric.summary)
        for metric in in_quality().values()
        for place in metric.places
        if place in (Place.FIELD, Place.OBJECT)
    ]
    return _table(("metric", "on", "arguments", "measures"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [f"| {' | '.join(line)} |" for line in (names, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(names), *lines[1:], ""])
