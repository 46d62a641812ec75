"""A contract's rules: compiled, run in one DuckDB pass, kept as history and as a Great Expectations suite."""
