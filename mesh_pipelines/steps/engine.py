"""The DuckDB connection the steps compute in: in memory, bounded, spilling under the home folder, no extensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    import duckdb


def connect(settings: Settings) -> duckdb.DuckDBPyConnection:
    """A fresh in-memory database; memory above ``MESH_MEMORY_LIMIT`` spills to files. UTC throughout."""
    import duckdb

    spill = settings.home / "spill"
    spill.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        config={
            "memory_limit": settings.memory_limit,
            "temp_directory": str(spill),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection
