"""The history's upkeep, once a day: what is old is thinned, then dropped.

Daily sums are made as things happen; this only takes away. Kept are every sample of two days and one an hour of thirty,
ten-minute counts of objectives of a day, publications of thirty days and at least the last hundred of each product, and
everything by day for as long as is set. Contracts as they were are kept for good.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.times import SECOND, day_of, micros
from mesh_pipelines.observe.store.writer import SLOT_S

RAW_DAYS = 30
WHOLE_DAYS = 2
_PUBLICATIONS = 100
_TIDIED = "tidied_on"
_HOUR = 3600 * SECOND
_SERIES_AT_ONCE = 100


def tidy_daily(history: History, days: int, now: datetime) -> bool:
    """Tidy where that was not done today; gives whether it was done."""
    if history.noted(_TIDIED) == day_of(now).toordinal():
        return False
    tidy(history, days, now)
    with history.writing() as writer:
        writer.note(_TIDIED, day_of(now).toordinal())
    return True


def tidy(history: History, days: int, now: datetime) -> None:
    """Drop what is older than ``days`` days, and thin what is kept for less."""
    _thin_samples(history, now)
    raw, whole = micros(now - timedelta(days=RAW_DAYS)), (day_of(now) - timedelta(days=days)).toordinal()
    with history.transaction() as connection:
        slot = micros(now - timedelta(hours=25)) // (SLOT_S * SECOND)
        connection.execute("DELETE FROM objective_slots WHERE slot < ?", (slot,))
        connection.execute(
            "DELETE FROM publications WHERE at < ? AND version <= "
            "(SELECT max(version) - ? FROM publications AS newest WHERE newest.product = publications.product)",
            (raw, _PUBLICATIONS),
        )
        connection.execute(
            "DELETE FROM audits WHERE at < ? AND at < "
            "(SELECT max(at) FROM audits AS newest WHERE newest.product = audits.product)",
            (micros(now - timedelta(days=WHOLE_DAYS)),),
        )
    with history.transaction() as connection:
        for table in ("rule_days", "dimension_days", "product_days", "measure_days", "objective_days"):
            connection.execute(f"DELETE FROM {table} WHERE day < ?", (whole,))
        connection.execute("DELETE FROM incidents WHERE closed_at < ?", (micros(now - timedelta(days=days)),))
        connection.execute("DELETE FROM deliveries WHERE incident NOT IN (SELECT id FROM incidents)")
        connection.execute("DELETE FROM rules WHERE id NOT IN (SELECT rule FROM rule_days)")
    history.checkpoint()


def _thin_samples(history: History, now: datetime) -> None:
    """Keep the first sample of each hour; some series a transaction, so that nobody waits for all of them."""
    oldest, newest = micros(now - timedelta(days=RAW_DAYS)), micros(now - timedelta(days=WHOLE_DAYS))
    all_series = history.series()
    for begin in range(0, len(all_series), _SERIES_AT_ONCE):
        with history.transaction() as connection:
            for series in all_series[begin : begin + _SERIES_AT_ONCE]:
                connection.execute("DELETE FROM samples WHERE series = ? AND at < ?", (series, oldest))
                connection.execute(
                    "DELETE FROM samples WHERE series = ?1 AND at < ?2 AND EXISTS (SELECT 1 FROM samples AS earlier "
                    "WHERE earlier.series = ?1 AND earlier.at < samples.at "
                    "AND earlier.at >= samples.at - samples.at % ?3)",
                    (series, newest, _HOUR),
                )
