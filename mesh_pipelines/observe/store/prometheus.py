"""The history as Prometheus metrics, in a registry of its own: asked for by many, computed from what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mesh_pipelines.contract.names import parts
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.records import Current, Incident, ObjectiveState

if TYPE_CHECKING:
    from prometheus_client import Metric

_LABELS = ("domain", "product")
# By name: what it says, and where it is in a product's current state.
_CURRENT = {
    "mesh_lag_offsets": ("Offsets that are not published yet: of the stream, or of what inputs have read.", "lag"),
    "mesh_versions_behind": ("Versions of its inputs that a derived product has not used yet.", "versions_behind"),
    "mesh_freshness_age_seconds": ("Age of the newest data that readers see.", "freshness_s"),
    "mesh_version": ("Number of the published version.", "version"),
    "mesh_rows": ("Rows of the published version.", "rows"),
    "mesh_quarantined_events": ("Events that are held back.", "quarantined"),
}
_RULES = (("pass", "rules_passed"), ("warn", "rules_warned"), ("fail", "rules_failed"))


def metrics_text(history: History) -> bytes:
    """The metrics of every product as it was last observed, in Prometheus' text format.

    Raises:
        StorageUnavailable: the history cannot be read.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(history))
    return generate_latest(registry)


class _Collector:
    """Makes the metrics when they are asked for."""

    def __init__(self, history: History) -> None:
        self._history = history

    def collect(self) -> Iterator[Metric]:
        """Every metric family."""
        current = self._history.current()
        yield from _of_current(current)
        rates = self._history.newest("landing_rate")
        yield _gauge("mesh_landing_rate_events_per_second", "Events landed a second.", _by_name(rates))
        yield from _of_objectives(self._history.objectives())
        yield _open_incidents(current, self._history.incidents(open_only=True, limit=-1))
        observed = self._history.observed_at()
        samples = [((), observed.timestamp())] if observed else []
        yield _gauge("mesh_observed_timestamp_seconds", "When the mesh was last observed.", samples, ())


def _of_current(current: list[Current]) -> Iterator[Metric]:
    for name, (text, attribute) in _CURRENT.items():
        values = ((parts(one.product), getattr(one, attribute)) for one in current)
        yield _gauge(name, text, values)
    published = ((parts(one.product), one.published_at and one.published_at.timestamp()) for one in current)
    yield _gauge("mesh_published_timestamp_seconds", "When the published version was published.", published)
    since = ((parts(one.product), one.behind_since and one.behind_since.timestamp()) for one in current)
    text = "The time since which the first of these versions waits; absent if none does."
    yield _gauge("mesh_behind_since_timestamp_seconds", text, since)
    healths = (((*parts(one.product), str(one.health)), 1) for one in current)
    yield _gauge("mesh_health", "1 for the health that a product has.", healths, (*_LABELS, "health"))
    rules = (((*parts(one.product), state), getattr(one, attribute)) for one in current for state, attribute in _RULES)
    yield _gauge("mesh_rules", "Rules of the newest audit by outcome.", rules, (*_LABELS, "state"))


def _of_objectives(states: list[ObjectiveState]) -> Iterator[Metric]:
    labels = (*_LABELS, "objective")
    for name, text, attribute in (
        ("mesh_objective_attainment_ratio", "Share of observations that met it, in its window.", "attainment"),
        ("mesh_objective_target_ratio", "Share of observations that have to meet it.", "target"),
        ("mesh_objective_budget_left_ratio", "Share of the error budget that is left.", "budget_left"),
    ):
        values = (((*parts(one.product), one.objective), getattr(one, attribute)) for one in states)
        yield _gauge(name, text, values, labels)
    met = (((*parts(one.product), one.objective), None if one.met is None else float(one.met)) for one in states)
    yield _gauge("mesh_objective_met", "1 if it is met now, else 0.", met, labels)
    burns = (
        ((*parts(one.product), one.objective, window), burn)
        for one in states
        for window, burn in (("1h", one.burn_1h), ("24h", one.burn_24h))
    )
    text = "How many times faster than allowed the error budget is used."
    yield _gauge("mesh_objective_burn_rate", text, burns, (*labels, "window"))


def _open_incidents(current: list[Current], incidents: list[Incident]) -> Metric:
    counts = {(one.product, severity): 0 for one in current for severity in ("bad", "warning")}
    for incident in incidents:
        key = (incident.product, incident.severity)
        counts[key] = counts.get(key, 0) + 1
    values = (((*parts(product), severity), count) for (product, severity), count in counts.items())
    return _gauge("mesh_incidents_open", "Incidents that are not over.", values, (*_LABELS, "severity"))


def _gauge(
    name: str,
    text: str,
    values: Iterable[tuple[tuple[str, ...], float | None]],
    labels: tuple[str, ...] = _LABELS,
) -> Metric:
    """A family of values by label; those that are not known are left out."""
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, text, labels=labels)
    for names, value in values:
        if value is not None:
            family.add_metric(names, value)
    return family


def _by_name(values: dict[str, float]) -> Iterator[tuple[tuple[str, ...], float]]:
    return ((parts(product), value) for product, value in values.items())
