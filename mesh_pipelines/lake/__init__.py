"""Iceberg tables: log, base, versions; the fold, and reading a version."""
