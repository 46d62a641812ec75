"""All metrics: those of this folder's modules, and those registered from elsewhere."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

from mesh_pipelines.contract.metrics.metric import Metric, Place, registered


def metrics() -> Mapping[str, Metric]:
    """Every metric by its name, in the order of the files and of what they hold."""
    _load()
    return dict(sorted(registered().items(), key=lambda item: type(item[1]).__module__))


def metric_of(check: str) -> Metric | None:
    """The metric that a rule checks; None for rules written as queries or expectations."""
    _load()
    return registered().get(check)


def in_quality() -> Mapping[str, Metric]:
    """The metrics that a contract may name under ``quality``."""
    return _at(Place.FIELD, Place.OBJECT)


def options() -> Mapping[str, Metric]:
    """The metrics that are keys of ``logicalTypeOptions``."""
    return _at(Place.OPTION)


def _at(*places: Place) -> Mapping[str, Metric]:
    return {name: metric for name, metric in metrics().items() if set(places) & set(metric.places)}


@cache
def _load() -> None:
    """Import the folder's modules, each of which registers its own."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")
