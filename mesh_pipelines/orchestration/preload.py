"""What a run needs to have imported, imported once by the process that runs are forked from.

All modules that steps are made of, since they import their libraries when they first need them; without those of Great
Expectations, which cost more than all others together and serve few products.
"""

from __future__ import annotations

import importlib
import pkgutil

_PACKAGES = ("audit", "contract", "formats", "kafka", "lake", "pipeline", "rules", "serve", "sql")
_LIBRARIES = (
    "confluent_kafka.schema_registry",
    "dagster._cli.api",
    # What the registry's client makes its requests by; it imports that with its first client.
    "httpcore2",
    "mesh_pipelines.bounded_http",
    "mesh_pipelines.orchestration.definitions",
    "mesh_pipelines.orchestration.run_storage",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
)

for name in _PACKAGES:
    package = importlib.import_module(f"mesh_pipelines.{name}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
for library in _LIBRARIES:
    importlib.import_module(library)
