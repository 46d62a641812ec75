"""What was measured over time: service levels, rule results by day, incidents, publications. One SQLite file."""
