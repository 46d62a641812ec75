-- Sums of whole minutes, divided once: the result does not depend on the order of the rows.
SELECT
    CAST(timezone('America/New_York', scheduled_departure) AS DATE) AS day,
    carrier,
    origin,
    count(*) AS flights,
    count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
    count(*) FILTER (WHERE departure IS NOT NULL) AS departed,
    count(*) FILTER (WHERE arrival IS NOT NULL) AS arrived,
    count(*) FILTER (WHERE arrival_delay < 15) AS on_time,
    round(sum(departure_delay) / count(departure_delay), 2) AS mean_departure_delay,
    round(count(*) FILTER (WHERE arrival_delay < 15) / nullif(count(arrival_delay), 0), 4) AS on_time_share
FROM operations.flights
GROUP BY ALL
