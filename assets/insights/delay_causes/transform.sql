SELECT
    flights.carrier,
    flights.flight,
    flights.origin,
    flights.scheduled_departure,
    flights.departure_delay,
    observations.origin IS NOT NULL AS has_weather,
    observations.wind_speed,
    observations.precip,
    observations.visib,
    CASE
        WHEN observations.origin IS NULL THEN 'unknown'
        WHEN observations.precip > 0 OR observations.wind_speed > 25 OR observations.visib < 3 THEN 'poor'
        ELSE 'fair'
    END AS weather
FROM operations.flights AS flights
LEFT JOIN weather.observations AS observations
    ON observations.origin = flights.origin
    AND observations.hour = date_trunc('hour', flights.scheduled_departure)
WHERE flights.departure_delay >= 15
