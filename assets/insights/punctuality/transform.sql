-- Sums of whole minutes, divided once: the result does not depend on the order of the rows.
SELECT
    CAST(timezone('America/New_York', scheduled_departure) AS DATE) AS day,
    carrier,
    origin,
    count(*) AS flights,
    count_if(status = 'cancelled') AS cancelled,
    count_if(departure IS NOT NULL) AS departed,
    count_if(arrival IS NOT NULL) AS arrived,
    count_if(arrival_delay < 15) AS on_time,
    round(sum(departure_delay) / count(departure_delay), 2) AS mean_departure_delay,
    round(count_if(arrival_delay < 15) / nullif(count(arrival_delay), 0), 4) AS on_time_share
FROM operations.flights
GROUP BY ALL
