SELECT CAST(scheduled_at AS DATE) AS day, count(*) AS flights FROM operations.flights GROUP BY ALL
