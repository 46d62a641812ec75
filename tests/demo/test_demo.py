"""The demo's events against the files they are made from, and its products against plain DuckDB over those files."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mesh_pipelines import read
from mesh_pipelines.demo import nyc
from mesh_pipelines.demo.replay import replay
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

ASSETS = Path(__file__).parents[2] / "assets"
UNTIL = dt.date(2013, 1, 8)


@pytest.fixture(scope="module")
def source() -> Any:
    connection = duckdb.connect()
    nyc.load_tables(connection)
    flights = nyc.events(connection, "operations.flights")
    connection.register("arrow_events", flights.rows.append_column("event_time", flights.times))
    connection.execute("CREATE TABLE flight_events AS FROM arrow_events")
    connection.execute(
        "CREATE TABLE final AS SELECT * FROM flight_events QUALIFY row_number() OVER "
        "(PARTITION BY carrier, flight, origin, scheduled_departure ORDER BY event_time DESC, status = 'scheduled') = 1"
    )
    return connection


def one(connection: Any, sql: str) -> Any:
    [(value,)] = connection.sql(sql).fetchall()
    return value


def test_every_flight_is_scheduled_once_and_ends_as_the_source_says(source: Any) -> None:
    assert one(source, "SELECT count(*) FROM flight_events") == 1_001_615
    assert one(source, "SELECT count(*) FROM flight_events WHERE status = 'scheduled'") == 336_776
    assert one(source, "SELECT count(*) FROM final") == 336_776
    counts = dict(source.sql("SELECT status, count(*) FROM final GROUP BY 1").fetchall())
    assert counts == {"arrived": 328_063, "cancelled": 8_255, "departed": 458}
    assert one(source, "SELECT count(*) FROM final WHERE arrival <= departure") == 0
    assert one(source, "SELECT sum(departure_delay) FROM final") == one(source, "SELECT sum(dep_delay) FROM flights")
    assert one(source, "SELECT sum(arrival_delay) FROM final") == one(source, "SELECT sum(arr_delay) FROM flights")
    shown = "strftime(timezone('America/New_York', departure), '%H%M')::INTEGER"
    wrong = (
        "SELECT count(*) FROM final JOIN flights f ON (f.carrier, f.flight, f.origin) = (final.carrier, final.flight, "
        "final.origin) AND f.time_hour + to_minutes(f.minute) = scheduled_departure "
        f"WHERE {shown} <> dep_time % 2400"
    )
    assert one(source, wrong) == 0


def test_events_are_in_order_and_the_same_every_time(source: Any) -> None:
    times = nyc.events(source, "operations.flights").times
    assert times.equals(nyc.events(source, "operations.flights").times)
    values = times.cast("int64").to_numpy()
    assert (values[1:] >= values[:-1]).all()


@pytest.mark.services
@pytest.mark.slow
def test_products_equal_plain_duckdb_over_the_files(settings: Settings, source: Any) -> None:
    settings = settings.model_copy(update={"assets": ASSETS})
    platform = Platform.open(settings)
    assert not platform.broken
    apply_contracts(platform, platform.in_order)
    middle = replay(platform, until=dt.date(2013, 1, 3))
    assert [done.error for done in run(platform)] == [None] * 6
    rest = replay(platform, until=UNTIL)
    again = replay(platform, until=UNTIL)
    assert sum(again.produced.values()) == 0
    assert [done.error for done in run(platform)] == [None] * 6
    limit = f"TIMESTAMPTZ '{UNTIL} 00:00:00+00'"
    total = one(source, f"SELECT count(*) FROM flight_events WHERE event_time < {limit}")
    assert middle.produced["operations.flights"] + rest.produced["operations.flights"] == total

    source.execute("CREATE SCHEMA IF NOT EXISTS operations")
    source.execute("CREATE SCHEMA IF NOT EXISTS weather")
    source.execute(
        "CREATE OR REPLACE VIEW operations.flights AS SELECT * EXCLUDE (event_time) FROM flight_events "
        f"WHERE event_time < {limit} QUALIFY row_number() OVER (PARTITION BY carrier, flight, origin, "
        "scheduled_departure ORDER BY event_time DESC, status = 'scheduled') = 1"
    )
    source.execute(
        "CREATE OR REPLACE VIEW weather.observations AS SELECT origin, time_hour AS hour, wind_speed, precip, visib "
        f"FROM main.weather WHERE time_hour < {limit} AND coalesce(wind_speed, 0) <= 254"
    )
    for name in ("insights.punctuality", "insights.delay_causes"):
        sql = (ASSETS / name.replace(".", "/") / "transform.sql").read_text()
        expected = source.sql(re.sub(r"--.*", "", sql)).to_arrow_table()
        got = read(name, settings=settings).arrow().select(expected.column_names)
        source.register("got", got)
        source.register("expected", expected)
        assert got.num_rows == expected.num_rows > 0
        assert one(source, "SELECT count(*) FROM (FROM got EXCEPT ALL FROM expected)") == 0
    flights = read("operations.flights", settings=settings).arrow()
    source.register("got", flights)
    columns = ", ".join(flights.column_names)
    assert flights.num_rows == one(source, "SELECT count(*) FROM operations.flights")
    difference = f"SELECT {columns} FROM got EXCEPT ALL SELECT {columns} FROM operations.flights"
    assert one(source, f"SELECT count(*) FROM ({difference})") == 0
